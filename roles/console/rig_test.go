package console

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"gatehouse/privsep"
	"gatehouse/roles/standin"
	"gatehouse/store"
)

// rig is a console with a parent that answers, and shared memory to write.
type rig struct {
	t        *testing.T
	mem      *standin.Memory
	table    *store.ConnTable
	columns  []*store.ConnColumns
	sessions *store.Sessions
	addr     string // of its TCP listener
	path     string // of its Unix socket
	parent   *privsep.Channel
	ended    chan error
	answered chan struct{} // closed when the parent hears nothing any more

	sending sync.Mutex

	mu     sync.Mutex
	status string // what the parent says; "": nothing
	asked  int
	logs   []string

	leave []func() // for when the console has ended
}

const wholeStatus = `{"version":"v","environment":"local","broker":"b","server_id":"DEBUG","started":"2026-01-02T03:04:05Z","root":true,
"processes":[{"role":"parent","state":"running","memory":100,"cpu_seconds":1},{"role":"router","state":"running","restarts":2},
{"role":"dispatcher","state":"running"},{"role":"cm/0","state":"running","signatures":3},{"role":"console","state":"running"}],
"arenas":[{"cm":0,"size":1048576,"used":10,"bodies":1}],
"offences":[{"role":"cm/0","kind":"SIGN","reason":"rate","count":2}],
"key":{"signatures":5,"refused":1,"not_after":"2030-01-01T00:00:00Z"},"transfer":{"signed":6,"refused":2},"identity":{"signed":7}}`

func newRig(t *testing.T) *rig {
	t.Helper()
	cfg := standin.Settings(2)
	cfg.ConsoleNames = []string{"watch.example"}
	g := &rig{t: t, ended: make(chan error, 1), answered: make(chan struct{}), status: wholeStatus}
	var err error
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	g.mem, err = standin.New(cfg)
	must(err)
	g.table, err = g.mem.Table()
	must(err)
	for i := range cfg.CMs {
		c, err := g.mem.Columns(i, true)
		must(err)
		c.Counters().Epoch.Store(uint64(time.Now().UnixNano()))
		g.columns = append(g.columns, c)
	}
	g.sessions, err = g.mem.Sessions(true)
	must(err)
	tcp, addr, err := privsep.ListenTCP(netip.MustParseAddrPort("127.0.0.1:0"))
	must(err)
	g.addr, g.path = addr.String(), filepath.Join(t.TempDir(), "s")
	local, err := privsep.ListenUnix(g.path, 0o600)
	must(err)
	child, parent, err := g.mem.Child(privsep.ID{Role: privsep.RoleConsole},
		privsep.ListenerFD{Listener: privsep.Listener{Number: 1, Network: privsep.NetConsole, Address: g.addr}, FD: tcp},
		privsep.ListenerFD{Listener: privsep.Listener{Number: 2, Network: privsep.NetConsoleUnix, Address: g.path}, FD: local})
	must(err)
	privsep.CloseFD(tcp)
	privsep.CloseFD(local)
	g.parent = parent
	ready := make(chan struct{})
	go g.answer(ready)
	go func() {
		err := Run(child.Boot, child.Setup, child.Parent)
		child.Parent.Close()
		g.ended <- err
	}()
	<-ready
	t.Cleanup(g.stop)
	return g
}

// send is the parent's, on whatever goroutine.
func (g *rig) send(k privsep.Kind, payload []byte, fds ...int) error {
	g.sending.Lock()
	defer g.sending.Unlock()
	return g.parent.Send(k, payload, fds...)
}

// answer is the parent.
func (g *rig) answer(ready chan struct{}) {
	defer close(g.answered)
	var m privsep.Message
	for {
		if err := g.parent.RecvWait(&m, -1); err != nil {
			return
		}
		switch m.Kind {
		case privsep.KindSetupDone:
			g.parent.SetPhase(privsep.PhaseRun)
			close(ready)
		case privsep.KindStatusGet:
			var get privsep.StatusGet
			g.mu.Lock()
			g.asked++
			text := g.status
			g.mu.Unlock()
			if get.Parse(m.Payload) != nil || text == "" {
				continue
			}
			fd, err := privsep.Parcel("status", []byte(text))
			if err != nil {
				panic(err)
			}
			answer := privsep.StatusText{ID: get.ID, Size: uint32(len(text))}
			g.send(privsep.KindStatus, answer.Append(nil), fd)
			privsep.CloseFD(fd)
		case privsep.KindLog:
			if l, err := privsep.DecodeLog(m.Payload); err == nil {
				g.mu.Lock()
				g.logs = append(g.logs, l.Event)
				g.mu.Unlock()
			}
		}
	}
}

// join gives the console a router, which answers as answer says.
func (g *rig) join(answer func(*privsep.SubsGet) *privsep.Subs) {
	g.t.Helper()
	ours, theirs, err := privsep.Socketpair()
	if err != nil {
		g.t.Fatal(err)
	}
	p := privsep.Peer{ID: privsep.ID{Role: privsep.RoleRouter}, Key: privsep.NewKey(), Generation: 1}
	router := privsep.NewChannel(ours, privsep.RoleRouter, privsep.RoleConsole, p.Key)
	router.SetPhase(privsep.PhaseRun)
	if err := g.send(privsep.KindPeer, p.Append(nil), theirs); err != nil {
		g.t.Fatal(err)
	}
	privsep.CloseFD(theirs)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		var m privsep.Message
		for router.RecvWait(&m, -1) == nil {
			var get privsep.SubsGet
			if get.Parse(m.Payload) != nil {
				return
			}
			if a := answer(&get); a != nil {
				router.Send(privsep.KindSubs, a.Append(nil))
			}
		}
	}()
	g.leave = append(g.leave, func() { <-ended; router.Close() })
}

func (g *rig) say(status string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.status = status
}

// stop has the console finish, and wants it to do so.
func (g *rig) stop() {
	var now privsep.Shutdown
	g.send(privsep.KindShutdown, now.Append(nil))
	select {
	case err := <-g.ended:
		if err != nil {
			g.t.Errorf("ended with %v", err)
		}
	case <-time.After(10 * time.Second):
		g.t.Error("it does not end")
	}
	<-g.answered
	g.parent.Close()
	g.mem.Close()
	for _, f := range g.leave {
		f()
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.logs) > 0 {
		g.t.Errorf("it has logged %q", g.logs)
	}
}

// connect shows a connection of cm.
func (g *rig) connect(cm, slot int, uid uint64, session store.SessionInfo) {
	info := store.ConnInfo{UID: uid, CM: uint16(cm), Port: uint16(slot), Accepted: time.Now().UnixNano() - int64(uid)*int64(time.Minute),
		Addr: netip.MustParseAddr("192.0.2.1").As16()}
	g.table.Reach(slot)
	g.table.Row(slot).Set(&info)
	g.columns[cm].Row(slot).UID.Store(uid)
	session.UID = uid
	g.sessions.Row(slot).Set(&session)
}

// http gives a client for one of the two listeners.
func (g *rig) http(local bool) *http.Client {
	t := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		if local {
			return new(net.Dialer).DialContext(ctx, "unix", g.path)
		}
		return new(net.Dialer).DialContext(ctx, "tcp", g.addr)
	}}
	g.t.Cleanup(t.CloseIdleConnections)
	return &http.Client{Transport: t, Timeout: 10 * time.Second}
}

// get asks over the Unix socket.
func (g *rig) get(path string) (status int, body string) {
	g.t.Helper()
	r, err := g.http(true).Get("http://console" + path)
	if err != nil {
		g.t.Fatal(err)
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		g.t.Fatal(err)
	}
	return r.StatusCode, string(b)
}

// json asks for an object.
func (g *rig) json(path string, into any) {
	g.t.Helper()
	status, body := g.get(path)
	if err := json.Unmarshal([]byte(body), into); status != http.StatusOK || err != nil {
		g.t.Fatalf("%s: %d %v\n%s", path, status, err, body)
	}
}

// tcp is a raw connection.
func (g *rig) tcp() net.Conn {
	g.t.Helper()
	c, err := net.Dial("tcp", g.addr)
	if err != nil {
		g.t.Fatal(err)
	}
	g.t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(20 * time.Second))
	return c
}

// hungUp tells whether a connection was closed by the console.
func hungUp(c net.Conn) bool {
	_, err := io.ReadAll(c)
	var late net.Error
	return err == nil || !errors.As(err, &late) || !late.Timeout()
}
