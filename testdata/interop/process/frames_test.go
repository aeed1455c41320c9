package process

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	tlsd "gatehouse/roles/tlsd/client"
	"gatehouse/roles/tlsd/protocol"
)

var frames = flag.Int("frames", 2000, "frames of each of the writers that share a session")

// framesEnv has the test binary be a writer of frames: socket, address, its number, and
// how many, or 0: in small pieces, until it is killed.
const framesEnv = "GATEHOUSE_TLSD_FRAMES"

// doomed is the first number of those that are killed, whose frames are long.
const doomed = 1000

// frameOf is the n-th frame of a writer.
func frameOf(writer, n int) []byte {
	size := 8 + (writer*31+n*17)%300
	if writer >= doomed {
		size += 20 << 10
	}
	frame := binary.BigEndian.AppendUint32(nil, uint32(size))
	frame = binary.BigEndian.AppendUint32(frame, uint32(writer))
	frame = binary.BigEndian.AppendUint32(frame, uint32(n))
	for len(frame) < 4+size {
		frame = append(frame, byte(writer+n+len(frame)))
	}
	return frame
}

// readFrame reads one of at most 64 KiB.
func readFrame(r io.Reader) ([]byte, error) {
	head := make([]byte, 4)
	if _, err := io.ReadFull(r, head); err != nil {
		return nil, err
	}
	size := binary.BigEndian.Uint32(head)
	if size > 64<<10 {
		return nil, fmt.Errorf("a frame of %d bytes", size)
	}
	frame := append(head, make([]byte, size)...)
	_, err := io.ReadFull(r, frame[4:])
	return frame, err
}

// callFrames is such a process's life.
func callFrames(words []string) error {
	writer, err := strconv.Atoi(words[2])
	if err != nil {
		return err
	}
	count, err := strconv.Atoi(words[3])
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	conn, err := tlsd.Dial(ctx, words[1], tlsd.Options{Socket: words[0], Session: "framed", ServerName: "localhost", Mode: protocol.Framed})
	if err != nil {
		return err
	}
	if count == 0 {
		return dribble(conn, writer)
	}
	sent := make(chan error, 1)
	go func() {
		for n := range count {
			if _, err := conn.Write(frameOf(writer, n)); err != nil {
				sent <- err
				return
			}
		}
		sent <- nil
	}()
	r := bufio.NewReader(conn)
	for n := range count {
		got, err := readFrame(r)
		if err != nil || !bytes.Equal(got, frameOf(writer, n)) {
			return fmt.Errorf("writer %d, frame %d: %d bytes are another, %v", writer, n, len(got), err)
		}
	}
	if err := <-sent; err != nil {
		return err
	}
	return conn.Close()
}

// dribble writes frames piece by piece, and says with a byte when one has begun and
// when it is whole.
func dribble(conn net.Conn, writer int) error {
	go io.Copy(io.Discard, conn)
	for n := 0; ; n++ {
		frame := frameOf(writer, n)
		for first := true; len(frame) > 0; first = false {
			piece := min(len(frame), 512)
			if _, err := conn.Write(frame[:piece]); err != nil {
				return err
			}
			frame = frame[piece:]
			if first {
				os.Stdout.WriteString("(")
			}
		}
		os.Stdout.WriteString(")")
	}
}

func (sh *sharing) writer(number, count int) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), framesEnv+"="+strings.Join([]string{sh.socket, sh.addr, strconv.Itoa(number), strconv.Itoa(count)}, "|"))
	return cmd
}

// frameServer sends frames back, and holds each against what its writer must have sent
// next.
type frameServer struct {
	mu     sync.Mutex
	shakes int
	next   map[int]int // by writer
	faults []string
}

func (f *frameServer) serve(conn *tls.Conn) {
	defer conn.Close()
	if conn.Handshake() != nil {
		return
	}
	f.mu.Lock()
	f.shakes++
	f.mu.Unlock()
	for r := bufio.NewReader(conn); ; {
		frame, err := readFrame(r)
		if err != nil {
			if err != io.EOF {
				f.fault(err.Error())
			}
			return
		}
		f.take(frame)
		if _, err := conn.Write(frame); err != nil {
			return
		}
	}
}

func (f *frameServer) take(frame []byte) {
	if len(frame) < 12 {
		f.fault(fmt.Sprintf("%d bytes", len(frame)))
		return
	}
	writer, n := int(binary.BigEndian.Uint32(frame[4:])), int(binary.BigEndian.Uint32(frame[8:]))
	f.mu.Lock()
	next := f.next[writer]
	f.next[writer]++
	f.mu.Unlock()
	if n != next || !bytes.Equal(frame, frameOf(writer, n)) {
		f.fault(fmt.Sprintf("writer %d, frame %d: %d bytes, at %d", writer, n, len(frame), next))
	}
}

func (f *frameServer) fault(text string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.faults = append(f.faults, text)
}

// serveFrames starts one for tlsd.
func (sh *sharing) serveFrames() *frameServer {
	sh.t.Helper()
	pair, err := sh.ca.Server("P-256")
	must(sh.t, err)
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{pair.TLS()}})
	must(sh.t, err)
	sh.t.Cleanup(func() { l.Close() })
	f := &frameServer{next: map[int]int{}}
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go f.serve(conn.(*tls.Conn))
		}
	}()
	sh.turnTo(l.Addr().String())
	return f
}

// life runs a writer until it is killed, at any moment after its first piece, and tells
// whether that was in the middle of a frame.
func life(cmd *exec.Cmd) (amid bool, err error) {
	out, err := cmd.StdoutPipe()
	if err != nil {
		return false, err
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		return false, err
	}
	said := make([]byte, 1)
	if _, err = io.ReadFull(out, said); err == nil {
		<-time.After(time.Duration(rand.Int64N(int64(20 * time.Millisecond))))
	}
	cmd.Process.Kill()
	rest, _ := io.ReadAll(out)
	cmd.Wait()
	said = append(said, rest...)
	return said[len(said)-1] == '(', err
}

// 8 processes share a session, each with frames of its own, and others beside them are
// killed at random, most in the middle of a frame: what comes to the server is whole and
// in order, and each has its answers.
func TestFramedByProcesses(t *testing.T) {
	t.Parallel()
	sh := share(t, settings{}, "", "")
	server := sh.serveFrames()
	sh.start()
	var writers, dying sync.WaitGroup
	for w := range 8 {
		writers.Go(func() {
			if out, err := sh.writer(w, *frames).CombinedOutput(); err != nil {
				t.Errorf("%v: %s", err, out)
			}
		})
	}
	done := make(chan struct{})
	var lives, amid [2]int
	for m := range lives {
		dying.Go(func() {
			for {
				in, err := life(sh.writer(doomed+m+len(lives)*lives[m], 0))
				if err != nil {
					t.Error(err)
					return
				}
				if lives[m]++; in {
					amid[m]++
				}
				select {
				case <-done:
					return
				default:
				}
			}
		})
	}
	writers.Wait()
	close(done)
	dying.Wait()
	server.mu.Lock()
	defer server.mu.Unlock()
	t.Logf("%d writers killed, %d in the middle of a frame", lives[0]+lives[1], amid[0]+amid[1])
	if server.shakes != 1 || len(server.faults) > 0 || amid[0]+amid[1] == 0 {
		t.Errorf("%d handshakes, faults: %q", server.shakes, server.faults)
	}
	for w := range 8 {
		if n := server.next[w]; n != *frames {
			t.Errorf("%d frames of writer %d have come", n, w)
		}
	}
}
