package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"gatehouse.test/interop/certs"
	tlsd "gatehouse/roles/tlsd/client"
	"gatehouse/roles/tlsd/protocol"
	"gatehouse/testdata/tree"
)

// soak.go is the long run of tlsd: many sessions for a long time, each used again and
// again by callers that come and go, in every mode; a tenth of them end each time and
// are made anew. Memory, descriptors and threads must not grow, and what the server
// sends back must be what was sent to it.

const (
	soakCallers = 8
	soakLooks   = 20                    // at the process, in the whole time
	soakGap     = 50 * time.Millisecond // between two calls of a caller, on average
	soakLine    = 4000                  // longest that is sent, in bytes
)

// soak is such a run.
type soak struct {
	*broker
	addr   string // of the server
	socket string
	n      int // sessions
	seed   uint64
	turns  []sync.Mutex // of raw sessions, whose callers would read each other's answers

	shakes, calls, over, failed atomic.Int64
	first                       atomic.Pointer[error] // that failed
}

// look is what the process has at one moment.
type look struct {
	at           time.Duration
	calls        int64
	kib          int // resident
	fds, threads int
}

// soakTLSD runs it, and tells whether all was well.
func soakTLSD(ctx context.Context, o options, out io.Writer) (bool, error) {
	if err := tree.RaiseFileLimit(); err != nil {
		return false, err
	}
	s, err := newSoak(o)
	if err != nil {
		return false, err
	}
	defer s.remove()
	if err := s.serve(o.patience); err != nil {
		return false, err
	}
	pids := s.roles("tlsd")
	if len(pids) != 1 {
		return false, fmt.Errorf("tlsd is %v", pids)
	}
	before, err := lookAt(pids[0])
	if err != nil {
		return false, err
	}
	looks, err := s.load(ctx, o.soak, pids[0])
	if err != nil {
		return false, err
	}
	return s.judge(out, before, looks), nil
}

func newSoak(o options) (*soak, error) {
	dir, err := os.MkdirTemp("", "ght")
	if err != nil {
		return nil, err
	}
	s := &soak{broker: &broker{dir: dir, run: filepath.Join(dir, "run"), config: filepath.Join(dir, "broker.toml"),
		exe: filepath.Join(dir, "gatehouse")}, socket: filepath.Join(dir, "tlsd"), n: o.sessions, seed: o.seed, turns: make([]sync.Mutex, o.sessions)}
	if err := s.prepare(o.builds[0]); err != nil {
		s.remove()
		return nil, err
	}
	return s, nil
}

// prepare writes what the broker needs, and starts the server.
func (s *soak) prepare(exe string) error {
	ca, err := certs.NewAuthority("authority")
	if err != nil {
		return err
	}
	pair, err := ca.Server("P-256")
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	s.addr = l.Addr().String()
	go s.answer(tls.NewListener(l, &tls.Config{Certificates: []tls.Certificate{pair.TLS()}}))
	text := fmt.Sprintf("[tlsd]\nsocket = %q\nports = [%d]\nca = \"ca.pem\"\nmax_sessions = %d\nuid_sessions = %[3]d\n"+
		"[[tls_session]]\nname = \"*\"\nremote = %[4]q\nopen = [\"root\"]\n[privsep]\nruntime_dir = %[5]q\nuid_base = 67000\n[log]\nformat = \"json\"\n",
		s.socket, l.Addr().(*net.TCPAddr).Port, s.n+soakCallers, s.addr, s.run)
	return errors.Join(os.Chmod(s.dir, 0o755), copyFile(exe, s.exe), ca.Write(filepath.Join(s.dir, "ca.pem")),
		os.WriteFile(s.config, []byte(text), 0o644))
}

// answer sends back each line.
func (s *soak) answer(l net.Listener) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer conn.Close()
			if conn.(*tls.Conn).Handshake() != nil {
				return
			}
			s.shakes.Add(1)
			for r := bufio.NewReaderSize(conn, soakLine+1); ; {
				line, err := r.ReadSlice('\n')
				if err != nil {
					return
				}
				if _, err := conn.Write(line); err != nil {
					return
				}
			}
		}()
	}
}

// load has all sessions be opened, and then the callers call for a time.
func (s *soak) load(ctx context.Context, span time.Duration, pid int) (looks []look, err error) {
	rng := rand.New(rand.NewPCG(s.seed, 0))
	for i := range s.n {
		s.call(i, rng)
	}
	ctx, stop := context.WithTimeout(ctx, span)
	defer stop()
	var all sync.WaitGroup
	defer all.Wait()
	began := time.Now()
	for i := range soakCallers {
		rng := rand.New(rand.NewPCG(s.seed, uint64(i+1)))
		all.Go(func() {
			for ctx.Err() == nil {
				s.call(rng.IntN(s.n), rng)
				select {
				case <-time.After(time.Duration(rng.ExpFloat64() * float64(soakGap))):
				case <-ctx.Done():
				}
			}
		})
	}
	every := time.NewTicker(span / soakLooks)
	defer every.Stop()
	for ctx.Err() == nil {
		select {
		case <-every.C:
		case <-ctx.Done():
			all.Wait()
		}
		l, err := lookAt(pid)
		if err != nil {
			return nil, err
		}
		l.at, l.calls = time.Since(began), s.calls.Load()
		looks = append(looks, l)
	}
	return looks, nil
}

// call is one caller's life, with the i-th session.
func (s *soak) call(i int, rng *rand.Rand) {
	line := make([]byte, rng.IntN(soakLine))
	for k := range line {
		line[k] = byte('a' + rng.IntN(26))
	}
	line = append(line, '\n')
	name := "s" + strconv.Itoa(i)
	var err error
	switch kind := i % 10; {
	case kind == 0: // goes without a word, which ends the session
		err = s.byHand("Session: "+name+"\n\n", line)
		s.over.Add(1)
	case kind < 4:
		err = s.byClient(tlsd.Options{Session: name}, line)
	case kind < 6:
		s.turns[i].Lock()
		defer s.turns[i].Unlock()
		err = s.byClient(tlsd.Options{Session: name, Mode: protocol.Raw}, line)
	default:
		err = s.byHand("Session: "+name+"\nMode: framed\nFrame: line\n\n", line)
	}
	s.calls.Add(1)
	if err != nil {
		err = fmt.Errorf("session %s: %w", name, err)
		s.failed.Add(1)
		s.first.CompareAndSwap(nil, &err)
	}
}

func (s *soak) byClient(o tlsd.Options, line []byte) error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	o.Socket, o.ServerName = s.socket, "localhost"
	conn, err := tlsd.Dial(ctx, s.addr, o)
	if err != nil {
		return err
	}
	return errors.Join(exchange(conn, conn, line), conn.Close())
}

// byHand says head and line in one, as short callers do.
func (s *soak) byHand(head string, line []byte) error {
	conn, err := net.Dial("unix", s.socket)
	if err != nil {
		return err
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "CONNECT "+s.addr+" "+protocol.Name+"\nSNI: localhost\n"+head); err != nil {
		return err
	}
	in := bufio.NewReaderSize(conn, 64<<10)
	for first := true; ; first = false {
		text, err := in.ReadString('\n')
		switch {
		case err != nil:
			return err
		case first && !strings.HasPrefix(text, protocol.Name+" 200 "):
			return errors.New(text)
		case text == "\r\n":
			return exchange(conn, in, line)
		}
	}
}

func exchange(to net.Conn, from io.Reader, line []byte) error {
	to.SetDeadline(time.Now().Add(30 * time.Second))
	if _, err := to.Write(line); err != nil {
		return err
	}
	got := make([]byte, len(line))
	if _, err := io.ReadFull(from, got); err != nil {
		return err
	}
	if !bytes.Equal(got, line) {
		return errors.New("another line came back")
	}
	return nil
}

// lookAt looks at a process.
func lookAt(pid int) (l look, err error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return l, err
	}
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		switch f[0] {
		case "VmRSS:":
			l.kib, err = strconv.Atoi(f[1])
		case "Threads:":
			l.threads, err = strconv.Atoi(f[1])
		}
		if err != nil {
			return l, err
		}
	}
	fds, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	l.fds = len(fds)
	return l, err
}

// judge prints what was seen. Memory may be a twentieth more in the end than after a
// quarter of the time, when the heap has got to its size, and the descriptors are the
// sessions' that there are.
func (s *soak) judge(out io.Writer, before look, looks []look) bool {
	fmt.Fprintf(out, "%d sessions; before them %d KiB, %d descriptors, %d threads\n", s.n, before.kib, before.fds, before.threads)
	for _, l := range looks {
		fmt.Fprintf(out, "%8v  %8d calls  %7d KiB  %5d descriptors  %3d threads\n", l.at.Round(time.Second), l.calls, l.kib, l.fds, l.threads)
	}
	fmt.Fprintf(out, "%d handshakes, %d of them for sessions whose caller had gone without a word; %d calls failed\n", s.shakes.Load(), s.over.Load(), s.failed.Load())
	if err := s.first.Load(); err != nil {
		fmt.Fprintf(out, "the first: %v\n", *err)
	}
	quarter, last := looks[len(looks)/4], looks[len(looks)-1]
	ok := s.failed.Load() == 0
	for _, fault := range []struct {
		is   bool
		text string
	}{
		{last.kib > quarter.kib+quarter.kib/20, "memory has grown"},
		{last.fds > before.fds+s.n, "descriptors are left"},
		{last.threads > quarter.threads+soakCallers, "threads are left"},
		{s.shakes.Load() > int64(s.n)+s.over.Load(), "sessions have ended that nobody had ended"},
	} {
		if fault.is {
			fmt.Fprintln(out, fault.text)
			ok = false
		}
	}
	return ok
}
