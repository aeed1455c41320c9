package privsep

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func poller(t testing.TB) *Poller {
	t.Helper()
	p, err := NewPoller()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

func doorbell(t testing.TB) (a, b int) {
	t.Helper()
	a, b, err := Doorbell()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeFD(a); closeFD(b) })
	return a, b
}

// news waits for exactly one fd's.
func news(t *testing.T, p *Poller) Ready {
	t.Helper()
	for range 50 { // a signal of the Go runtime ends a Wait empty
		r, err := p.Wait(5 * time.Second)
		if err != nil || len(r) > 1 {
			t.Fatalf("%+v %v", r, err)
		}
		if len(r) == 1 {
			return r[0]
		}
	}
	t.Fatal("nothing")
	return Ready{}
}

func quiet(t *testing.T, p *Poller) {
	t.Helper()
	for _, d := range []time.Duration{0, time.Microsecond, time.Millisecond, 5 * time.Millisecond} {
		if r, err := p.Wait(d); err != nil || len(r) != 0 {
			t.Fatalf("%v: %+v %v", d, r, err)
		}
	}
}

func TestPoller(t *testing.T) {
	noLeak(t)
	p := poller(t)
	a, b := doorbell(t)
	const token = 0xfedcba9876543210
	if err := p.Add(a, token, In); err != nil {
		t.Fatal(err)
	}
	quiet(t, p)
	ring(t, b)
	want := Ready{Token: token, In: true}
	for range 2 { // a level stays
		if got := news(t, p); got != want {
			t.Fatalf("%+v", got)
		}
	}
	if err := p.Mod(a, token+1, Out); err != nil {
		t.Fatal(err)
	}
	if got := news(t, p); got != (Ready{Token: token + 1, Out: true}) {
		t.Fatalf("%+v", got)
	}
	if err := p.Mod(a, token, In|Edge); err != nil {
		t.Fatal(err)
	}
	if got := news(t, p); got != want {
		t.Fatalf("%+v", got)
	}
	quiet(t, p) // an edge does not
	ring(t, b)
	if got := news(t, p); got != want {
		t.Fatalf("%+v", got)
	}
	if err := unix.Shutdown(b, unix.SHUT_WR); err != nil {
		t.Fatal(err)
	}
	if got := news(t, p); !got.Hup || !got.In || got.Token != token {
		t.Fatalf("%+v", got)
	}
	if err := p.Del(a); err != nil {
		t.Fatal(err)
	}
	quiet(t, p)
	if err := p.Del(a); !errors.Is(err, unix.ENOENT) {
		t.Fatalf("%v", err)
	}
}

func ring(t testing.TB, fd int) {
	t.Helper()
	if n, errno := RawWrite(fd, []byte{1}); n != 1 || errno != 0 {
		t.Fatal(n, errno)
	}
}

// A hang-up is told whatever the mode.
func TestPollerHangUp(t *testing.T) {
	p := poller(t)
	a, b, err := Doorbell()
	if err != nil {
		t.Fatal(err)
	}
	defer closeFD(a)
	if err := p.Add(a, 7, 0); err != nil {
		t.Fatal(err)
	}
	quiet(t, p)
	closeFD(b)
	if got := news(t, p); !got.Hup || got.Token != 7 {
		t.Fatalf("%+v", got)
	}
}

// Wait sleeps as long as it was told to, no less, and returns what comes in
// any of its stages.
func TestPollerTimes(t *testing.T) {
	p := poller(t)
	a, b := doorbell(t)
	if err := p.Add(a, 1, In|Edge); err != nil {
		t.Fatal(err)
	}
	for _, d := range []time.Duration{0, 500 * time.Microsecond, 2 * time.Millisecond, 7 * time.Millisecond} {
		start, calls := time.Now(), 0
		for left := d; left >= 0 && calls < 50; left = d - time.Since(start) {
			if r, err := p.Wait(left); err != nil || len(r) != 0 {
				t.Fatalf("%v: %+v %v", d, r, err)
			}
			calls++ // more than one where the Go runtime sent itself a signal
		}
		if calls == 50 {
			t.Fatalf("%v: %d calls in %v", d, calls, time.Since(start))
		}
	}
	for _, after := range []time.Duration{0, time.Millisecond, 10 * time.Millisecond} {
		time.AfterFunc(after, func() { RawWrite(b, []byte{1}) })
		r, err := p.Wait(-1)
		for calls := 0; err == nil && len(r) == 0 && calls < 50; calls++ {
			r, err = p.Wait(-1)
		}
		if err != nil || len(r) != 1 {
			t.Fatalf("%v: %+v %v", after, r, err)
		}
	}
}

// A signal ends a Wait early and empty, not with an error.
func TestPollerSignal(t *testing.T) {
	p := poller(t)
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		tid := unix.Gettid()
		stop := time.AfterFunc(20*time.Millisecond, func() { _ = unix.Tgkill(unix.Getpid(), tid, unix.SIGURG) })
		defer stop.Stop()
		if r, err := p.Wait(10 * time.Second); err != nil || len(r) != 0 {
			t.Errorf("%+v %v", r, err)
		}
	}()
	select {
	case <-done:
	case <-time.After(8 * time.Second):
		t.Fatal("the signal did not end it")
	}
}

func TestPollerErrors(t *testing.T) {
	p := poller(t)
	if err := p.Add(-1, 0, In); !errors.Is(err, unix.EBADF) {
		t.Fatal(err)
	}
	p.Close()
	if _, err := p.Wait(0); !errors.Is(err, unix.EBADF) {
		t.Fatal(err)
	}
}

func TestRawReadWrite(t *testing.T) {
	a, b := doorbell(t)
	buf := make([]byte, 16)
	if n, errno := RawRead(a, buf); n != -1 || errno != syscall.EAGAIN {
		t.Fatal(n, errno)
	}
	x, y := []byte("one "), []byte("two")
	iov := make([]Iovec, 2)
	iov[0].Base, iov[1].Base = &x[0], &y[0]
	iov[0].SetLen(len(x))
	iov[1].SetLen(len(y))
	if n, errno := RawWritev(b, iov); n != 7 || errno != 0 {
		t.Fatal(n, errno)
	}
	if n, errno := RawRead(a, buf); n != 7 || errno != 0 || string(buf[:n]) != "one two" {
		t.Fatal(n, errno, string(buf))
	}
	if err := unix.Shutdown(b, unix.SHUT_RDWR); err != nil {
		t.Fatal(err)
	}
	if n, errno := RawRead(a, buf); n != 0 || errno != 0 {
		t.Fatal(n, errno)
	}
	if n, errno := RawWrite(a, buf); n != -1 || errno != syscall.EPIPE {
		t.Fatal(n, errno)
	}
}

// childPong answers rings on the doorbell that comes with DOORBELL, until it
// hangs up. CMs is its Poller's short wait.
func childPong(_ *Boot, ch *Channel, log *Logger, s *Settings) error {
	var m Message
	if err := ch.RecvWait(&m, 5*time.Second); err != nil || m.Kind != KindDoorbell {
		return fmt.Errorf("no doorbell: %v %w", m.Kind, err)
	}
	log.Info("child ready")
	p, err := NewPoller()
	if err != nil {
		return err
	}
	p.short = s.CMs
	runtime.LockOSThread()
	return pingPong(p, m.FDs[0], 1<<62, false)
}

// pingPong answers n rings on fd, after a first one of its own if it serves.
func pingPong(p *Poller, fd, n int, serve bool) error {
	if err := p.Add(fd, 0, In); err != nil {
		return err
	}
	b := make([]byte, 8)
	for range n {
		if serve {
			if _, errno := RawWrite(fd, b[:1]); errno != 0 {
				return errno
			}
		}
		for {
			r, err := p.Wait(-1)
			if err != nil {
				return err
			}
			if len(r) == 0 {
				continue
			}
			if r[0].Hup {
				return nil
			}
			break
		}
		if _, errno := RawRead(fd, b); errno != 0 {
			return errno
		}
		if !serve {
			if _, errno := RawWrite(fd, b[:1]); errno != 0 {
				return errno
			}
		}
	}
	return nil
}

// pollers are the ways to wait that are measured: by Wait's law, and without
// its raw part.
var pollers = []struct {
	name  string
	short int
}{{"raw", shortWait}, {"scheduler", 0}}

// startPong starts a child that answers rings, and gives our end.
func startPong(b *testing.B, short int) (s *started, fd int) {
	b.Helper()
	s = startChild(b, self(b), Boot{ID: ID{RoleCM, 0}}, Settings{Environment: "pong", CMs: short})
	ours, theirs, err := Doorbell()
	if err != nil {
		b.Fatal(err)
	}
	if err := s.ch.Send(KindDoorbell, (&DoorbellEnd{}).Append(nil), theirs); err != nil {
		b.Fatal(err)
	}
	closeFD(theirs)
	s.ready(b)
	return s, ours
}

// BenchmarkPingPong is one round between two processes over a doorbell, both
// with the same Poller.
func BenchmarkPingPong(b *testing.B) {
	for _, way := range pollers {
		b.Run(way.name, func(b *testing.B) {
			s, fd := startPong(b, way.short)
			p := poller(b)
			p.short = way.short
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			cpu, switches := schedstat(b, s.PID)
			b.ResetTimer()
			if err := pingPong(p, fd, b.N, true); err != nil {
				b.Fatal(err)
			}
			b.StopTimer()
			reportChild(b, s.PID, cpu, switches)
			closeFD(fd)
		})
	}
}

// BenchmarkPaced is what a wake-up costs the woken process, all its threads,
// when it comes after a pause: child-ns of processor and context switches.
func BenchmarkPaced(b *testing.B) {
	for _, pause := range []time.Duration{20e3, 200e3, 1e6, 3e6, 15e6} {
		for _, way := range pollers {
			b.Run(pause.String()+"/"+way.name, func(b *testing.B) {
				s, fd := startPong(b, way.short)
				runtime.LockOSThread()
				defer runtime.UnlockOSThread()
				ts := unix.NsecToTimespec(pause.Nanoseconds())
				cpu, switches := schedstat(b, s.PID)
				for b.Loop() {
					_ = unix.Nanosleep(&ts, nil)
					ring(b, fd)
					if err := waitFD(fd, false, -1); err != nil {
						b.Fatal(err)
					}
					DrainBell(fd)
				}
				reportChild(b, s.PID, cpu, switches)
				closeFD(fd)
			})
		}
	}
}

// schedstat gives a process's processor time in nanoseconds and its context
// switches, summed over its threads.
func schedstat(b *testing.B, pid int) (cpu, switches uint64) {
	b.Helper()
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	if err != nil || len(files) == 0 {
		b.Skipf("SKIP needs schedstat: %v", err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		var run, wait, slices uint64
		if _, scanErr := fmt.Sscan(string(text), &run, &wait, &slices); err != nil || scanErr != nil {
			b.Fatal(err, scanErr)
		}
		cpu += run
		switches += slices
	}
	return cpu, switches
}

func reportChild(b *testing.B, pid int, cpu, switches uint64) {
	b.Helper()
	cpuEnd, switchesEnd := schedstat(b, pid)
	b.ReportMetric(float64(cpuEnd-cpu)/float64(b.N), "child-ns/op")
	b.ReportMetric(float64(switchesEnd-switches)/float64(b.N), "switches/op")
}

// BenchmarkRawRead is what one read that finds nothing costs, raw and through
// the scheduler.
func BenchmarkRawRead(b *testing.B) {
	fd, _ := doorbell(b)
	buf := make([]byte, 8)
	b.Run("raw", func(b *testing.B) {
		for b.Loop() {
			RawRead(fd, buf)
		}
	})
	b.Run("scheduler", func(b *testing.B) {
		for b.Loop() {
			_, _ = unix.Read(fd, buf)
		}
	})
}

// A Poller that shares its thread tells the same, and is told while it waits.
func TestPollerShare(t *testing.T) {
	p := poller(t)
	if err := p.Share(); err != nil {
		t.Fatal(err)
	}
	a, b := doorbell(t)
	if err := p.Add(a, 7, In); err != nil {
		t.Fatal(err)
	}
	quiet(t, p)
	for range 100 {
		go Ring(b)
		if e := news(t, p); e.Token != 7 || !e.In {
			t.Fatalf("%+v", e)
		}
		if e := news(t, p); e.Token != 7 { // still
			t.Fatalf("%+v", e)
		}
		DrainBell(a)
		quiet(t, p)
	}
	ShutdownWrite(b)
	if e := news(t, p); !e.Hup {
		t.Fatalf("%+v", e)
	}
}
