package process

import (
	"fmt"
	"runtime"
	"syscall"
)

// force makes a role's first thread make another system call than the one that
// it is about to make, as code that took the role over would.
func (b *broker) force(role string, nr uint64) {
	b.t.Helper()
	pid := b.processes()[role]
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // the tracer is a thread
		defer runtime.UnlockOSThread()
		done <- replaceCall(pid, nr)
	}()
	must(b.t, <-done)
	b.deaths++
}

// replaceCall stops a thread where it enters its next system call, gives the
// call another number and lets go: the kernel asks the filter after the tracer.
func replaceCall(pid int, nr uint64) error {
	if err := syscall.PtraceAttach(pid); err != nil {
		return err
	}
	signal := 0 // to be passed on
	for entered := false; !entered; {
		var ws syscall.WaitStatus
		if _, err := syscall.Wait4(pid, &ws, 0, nil); err != nil {
			return err
		}
		if !ws.Stopped() {
			return fmt.Errorf("pid %d ended on its own: %#x", pid, ws)
		}
		switch sig := ws.StopSignal(); sig {
		case syscall.SIGTRAP:
			entered = true
			continue
		case syscall.SIGSTOP: // of the attachment
			signal = 0
		default:
			signal = int(sig)
		}
		if err := syscall.PtraceSyscall(pid, signal); err != nil {
			return err
		}
	}
	var regs syscall.PtraceRegs
	if err := syscall.PtraceGetRegs(pid, &regs); err != nil {
		return err
	}
	regs.Orig_rax = nr
	if err := syscall.PtraceSetRegs(pid, &regs); err != nil {
		return err
	}
	return syscall.PtraceDetach(pid)
}
