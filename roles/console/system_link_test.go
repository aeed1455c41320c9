package console

import (
	"bufio"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"gatehouse/privsep"
	"gatehouse/roles/standin"
)

// linkRig is a console where somebody may ask for the state of the broker, and its parent.
type linkRig struct {
	t      *testing.T
	live   privsep.Live
	parent *privsep.Channel
	ended  chan error
}

func newLinkRig(t *testing.T) *linkRig {
	t.Helper()
	cfg := standin.Settings(1)
	cfg.System = true
	mem, err := standin.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(mem.Close)
	child, parent, err := mem.Child(privsep.ID{Role: privsep.RoleConsole})
	if err != nil {
		t.Fatal(err)
	}
	g := &linkRig{t: t, live: cfg.Live, parent: parent, ended: make(chan error, 1)}
	go func() { g.ended <- Run(child.Boot, child.Setup, child.Parent) }()
	g.hear(privsep.KindSetupDone)
	parent.SetPhase(privsep.PhaseRun)
	t.Cleanup(func() {
		parent.Send(privsep.KindShutdown, new(privsep.Shutdown).Append(nil))
		if err := <-g.ended; err != nil {
			t.Error(err)
		}
		parent.Close()
		child.Parent.Close()
	})
	return g
}

// hear waits for a message of a kind, whatever comes before it.
func (g *linkRig) hear(k privsep.Kind) {
	g.t.Helper()
	for {
		var m privsep.Message
		if err := g.parent.RecvWait(&m, 10*time.Second); err != nil {
			g.t.Fatalf("%v: %v", k, err)
		}
		if m.Kind == k {
			return
		}
	}
}

// connect gives the console a connection, and the cm's end of it.
func (g *linkRig) connect() *os.File {
	g.t.Helper()
	mine, theirs, err := privsep.Connection()
	if err != nil {
		g.t.Fatal(err)
	}
	f := privsep.Stream(mine)
	g.t.Cleanup(func() { f.Close() })
	f.SetDeadline(time.Now().Add(10 * time.Second))
	if err := g.parent.Send(privsep.KindSystemConn, nil, theirs); err != nil {
		g.t.Fatal(err)
	}
	privsep.CloseFD(theirs)
	return f
}

// The console asks for a connection, answers there, asks for another one when it has
// ended, and lets go of it when nobody may ask any more.
func TestSystemLink(t *testing.T) {
	g := newLinkRig(t)
	for range 2 {
		g.hear(privsep.KindSystemGet)
		f := g.connect()
		second := g.connect() // is of no use
		if n, err := second.Read(make([]byte, 1)); n != 0 || err != io.EOF {
			t.Fatalf("a second connection: %d, %v", n, err)
		}
		io.WriteString(f, "INFO {}\r\nMSG $SYS.REQ.SERVER.PING.IDZ 1 r 0\r\n\r\n")
		in := bufio.NewReader(f)
		for _, want := range []string{"CONNECT ", "SUB $SYS.REQ.> console 1", "PUB r ", `{"host":`} {
			if line, err := in.ReadString('\n'); err != nil || !strings.HasPrefix(line, want) {
				t.Fatalf("%q, %v, want %s", line, err, want)
			}
		}
		f.Close()
	}
	g.hear(privsep.KindSystemGet)
	f := g.connect()
	g.live.System = false
	if err := g.parent.Send(privsep.KindSettings, g.live.Append(nil)); err != nil {
		t.Fatal(err)
	}
	if n, err := f.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		t.Fatalf("nobody may ask any more: %d, %v", n, err)
	}
}
