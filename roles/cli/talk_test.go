package cli_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// talking is the key of a script's conversations by name.
type talking struct{}

// talk is a conversation in lines: with a program over its standard streams,
// or with a server over TCP.
type talk struct {
	in    io.WriteCloser
	lines chan string // closed at the end
	cmd   *exec.Cmd   // nil for TCP
}

func (k *talk) follow(r io.Reader) {
	for b := bufio.NewReader(r); ; {
		line, err := b.ReadString('\n')
		if line != "" {
			k.lines <- strings.TrimRight(line, "\r\n")
		}
		if err != nil {
			close(k.lines)
			return
		}
	}
}

// next gives the next line; false: there is none any more.
func (k *talk) next() (string, bool, error) {
	select {
	case line, ok := <-k.lines:
		return line, ok, nil
	case <-time.After(patience):
		return "", false, fmt.Errorf("no line and no end in %s", patience)
	}
}

func talkOf(ts *testscript.TestScript, name string) *talk {
	k := ts.Value(talking{}).(map[string]*talk)[name]
	if k == nil {
		ts.Fatalf("nobody to talk to as %s", name)
	}
	return k
}

// talk NAME PROGRAM ARGS... | talk NAME ADDRESS: begins a conversation.
func cmdTalk(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: talk NAME PROGRAM ARGS... | talk NAME ADDRESS")
	}
	k := &talk{lines: make(chan string, 10000)}
	if strings.Contains(args[1], ":") {
		conn, err := net.Dial("tcp", args[1])
		ts.Check(err)
		ts.Defer(func() { conn.Close() })
		k.in = conn
		go k.follow(conn)
	} else {
		k.start(ts, args[1:])
	}
	ts.Value(talking{}).(map[string]*talk)[args[0]] = k
}

func (k *talk) start(ts *testscript.TestScript, args []string) {
	path, err := exec.LookPath(args[0])
	ts.Check(err)
	k.cmd = exec.Command(path, args[1:]...)
	k.cmd.Dir = ts.MkAbs(".")
	k.cmd.Stderr = os.Stderr
	k.in, err = k.cmd.StdinPipe()
	ts.Check(err)
	out, err := k.cmd.StdoutPipe()
	ts.Check(err)
	ts.Check(k.cmd.Start())
	ts.Defer(func() { k.cmd.Process.Kill() })
	go k.follow(out)
}

// say NAME TEXT: sends TEXT and a line end, CRLF over TCP.
func cmdSay(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: say NAME TEXT")
	}
	k := talkOf(ts, args[0])
	end := "\n"
	if k.cmd == nil {
		end = "\r\n"
	}
	_, err := io.WriteString(k.in, args[1]+end)
	ts.Check(err)
}

// hear [-mixed] NAME PATTERN...: the next lines must match the patterns, one each and in
// full; with -mixed in any order, as what comes by several ways. Named groups of them
// become variables.
func cmdHear(ts *testscript.TestScript, neg bool, args []string) {
	mixed := len(args) > 0 && args[0] == "-mixed"
	if mixed {
		args = args[1:]
	}
	if neg || len(args) < 2 {
		ts.Fatalf("usage: hear [-mixed] NAME PATTERN...")
	}
	k := talkOf(ts, args[0])
	for left := slices.Clone(args[1:]); len(left) > 0; {
		line, ok, err := k.next()
		ts.Check(err)
		if !ok {
			ts.Fatalf("%s has ended, want a line like %s", args[0], left[0])
		}
		choice := left[:1]
		if mixed {
			choice = left
		}
		i := slices.IndexFunc(choice, func(pattern string) bool { return matches(ts, pattern, line) })
		if i < 0 {
			ts.Fatalf("%s: %s\nis not like %s", args[0], line, strings.Join(choice, "\nnor "))
		}
		left = slices.Delete(left, i, i+1)
	}
}

// matches tells whether a line is like a pattern, and sets the variables of its groups.
func matches(ts *testscript.TestScript, pattern, line string) bool {
	re, err := regexp.Compile("^(?:" + pattern + ")$")
	ts.Check(err)
	found := re.FindStringSubmatch(line)
	for i, name := range re.SubexpNames() {
		if name != "" && found != nil {
			ts.Setenv(name, found[i])
		}
	}
	return found != nil
}

// bye [-closed] NAME: says no more and waits for the end, up to which nothing
// may come; a program must succeed. With -closed it is the other side that ends
// the conversation.
func cmdBye(ts *testscript.TestScript, neg bool, args []string) {
	closed := len(args) == 2 && args[0] == "-closed"
	if closed {
		args = args[1:]
	}
	if neg || len(args) != 1 {
		ts.Fatalf("usage: bye [-closed] NAME")
	}
	k := talkOf(ts, args[0])
	if tcp, ok := k.in.(*net.TCPConn); ok && !closed {
		ts.Check(tcp.CloseWrite())
	} else if !closed {
		ts.Check(k.in.Close())
	}
	line, ok, err := k.next()
	ts.Check(err)
	if ok {
		ts.Fatalf("%s: %s\nwhere the end was expected", args[0], line)
	}
	if k.cmd != nil {
		ts.Check(k.cmd.Wait())
	}
}
