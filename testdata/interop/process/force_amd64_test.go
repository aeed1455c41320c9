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

// replaceCall stops a thread where it begins to wait for events, as any role's
// does all the time, gives the system call another number and lets go: the
// kernel asks the filter after the tracer.
func replaceCall(pid int, nr uint64) error {
	if err := syscall.PtraceAttach(pid); err != nil {
		return err
	}
	for {
		var ws syscall.WaitStatus
		if _, err := syscall.Wait4(pid, &ws, 0, nil); err != nil {
			return err
		}
		if !ws.Stopped() {
			return fmt.Errorf("pid %d ended on its own: %#x", pid, ws)
		}
		signal := ws.StopSignal()
		switch signal {
		case syscall.SIGTRAP:
			replaced, err := replaceWait(pid, nr)
			if err != nil || replaced {
				return err
			}
			signal = 0
		case syscall.SIGSTOP: // of the attachment
			signal = 0
		}
		if err := syscall.PtraceSyscall(pid, int(signal)); err != nil {
			return err
		}
	}
}

// replaceWait does it if the thread enters a wait and lets go of it; else the
// thread is still held.
func replaceWait(pid int, nr uint64) (bool, error) {
	var regs syscall.PtraceRegs
	if err := syscall.PtraceGetRegs(pid, &regs); err != nil {
		return false, err
	}
	entry := -int64(regs.Rax) == int64(syscall.ENOSYS) // at the exit it is the result
	if !entry || regs.Orig_rax != syscall.SYS_EPOLL_WAIT && regs.Orig_rax != syscall.SYS_EPOLL_PWAIT {
		return false, nil
	}
	regs.Orig_rax = nr
	if err := syscall.PtraceSetRegs(pid, &regs); err != nil {
		return false, err
	}
	return true, syscall.PtraceDetach(pid)
}
