package auth

import (
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"gatehouse/privsep"
	"gatehouse/roles/auth/cms/cmstest"
)

// withDirectory is a setup with one that has a server, of which the test says what
// becomes of connections to it.
func withDirectory(timeout time.Duration) func(*privsep.Setup) {
	return func(s *privsep.Setup) {
		s.CA = cmstest.Root("root", cmstest.Key("p256")).PEM()
		s.Directory = &privsep.Directory{Number: 3, Mark: 77, CA: uint32(len(s.CA)), Servers: []string{"ldaps://localhost:1"},
			UserDN: "uid={user},dc=a", Timeout: timeout, Links: 2}
		s.Settings.AuthTimeout = patience
	}
}

// dial takes the next DIAL, beside whatever else is said.
func (g *rig) dial() (d privsep.Dial) {
	g.t.Helper()
	for {
		must(g.t, g.parent.RecvWait(&g.msg, patience))
		if g.msg.Kind == privsep.KindDial {
			must(g.t, d.Parse(g.msg.Payload))
			return d
		}
	}
}

func (g *rig) noDial(d privsep.Dial) {
	g.t.Helper()
	no := privsep.DialFailed{ID: d.ID, Errno: 111}
	must(g.t, g.parent.SendWait(patience, privsep.KindDialFailed, no.Append(nil)))
}

// A directory that cannot be reached is nobody's fault, whose login fails for it: the log
// says why, and nobody is kept out for it later. The list has its own.
func TestDirectoryUnreachable(t *testing.T) {
	g := newRig(t, people(t), func(s *privsep.Setup) {
		withDirectory(time.Second)(s)
		s.Settings.Login.FailureBurst, s.Settings.Login.FailureRate = 5, 1
	})
	d := g.dial() // the probe
	if d.Number != 3 || d.Server != 0 {
		t.Errorf("dials %+v", d)
	}
	g.noDial(d)
	for range 20 {
		if v := g.login(1, `{"user":"dora","pass":"horse"}`); v.OK || v.Reason != privsep.ReasonDirectoryDown && v.Reason != privsep.ReasonDirectoryUnreachable || v.Credential != privsep.CredentialPassword {
			t.Errorf("%+v", v)
		}
	}
	if v := g.login(1, `{"user":"alice","pass":"horse"}`); !v.OK {
		t.Errorf("%+v", v)
	}
	if v := g.login(1, `{"user":"alice","pass":"battery"}`); v.Reason != privsep.ReasonWrongPassword {
		t.Errorf("%+v", v)
	}
	s := g.stats()
	if privsep.DirectoryState(s.Directory) != privsep.DirectoryDown || privsep.Reason(s.DirectoryReason) != privsep.ReasonDirectoryUnreachable || s.DirectoryAsked == 0 || s.DirectoryAsked != s.DirectoryFailed {
		t.Errorf("%+v", s)
	}
	if !slices.ContainsFunc(g.lines, func(l privsep.LogLine) bool {
		return strings.HasPrefix(text(&l), "error directory does not answer") && strings.Contains(text(&l), "connection refused")
	}) {
		t.Error("no line says why")
	}
}

// A directory that says nothing keeps nobody waiting but those who ask it.
func TestDirectoryHangs(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer l.Close()
	g := newRig(t, people(t), withDirectory(patience))
	answer := func() {
		d := g.dial()
		fd, err := privsep.ConnectTCP(l.Addr().(*net.TCPAddr).AddrPort())
		must(t, err)
		yes := privsep.Dialed{ID: d.ID}
		must(t, g.parent.SendWait(patience, privsep.KindDialed, yes.Append(nil), fd))
		privsep.CloseFD(fd)
	}
	answer()
	first := g.send(1, `{"user":"dora","pass":"horse"}`)
	answer()
	second := g.send(2, `{"user":"dora","pass":"horse"}`)
	answer()
	third := g.send(3, `{"user":"dora","pass":"horse"}`) // beyond the links
	for range 10 {
		if v := g.login(1, `{"user":"alice","pass":"horse"}`); !v.OK {
			t.Errorf("%+v", v)
		}
	}
	if s := g.stats(); s.LoginsWaiting != 3 || s.DirectoryAsked != 2 {
		t.Errorf("%+v", s)
	}
	for range 3 { // probe and two logins, then what they leave
		c, err := l.Accept()
		must(t, err)
		c.Close()
	}
	for range 3 {
		if v := g.next(); !slices.Contains([]uint32{first, second, third}, v.Try) || v.OK {
			t.Errorf("%+v", v)
		}
	}
}

// The directory goes when it is said so, and whoever waits for it is told.
func TestDirectoryGoes(t *testing.T) {
	g := newRig(t, people(t), withDirectory(time.Second))
	g.noDial(g.dial())
	none := privsep.Directory{Number: 4}
	fd, err := privsep.Parcel("directory", nil)
	must(t, err)
	must(t, g.parent.SendWait(patience, privsep.KindDirectory, none.Append(nil), fd))
	privsep.CloseFD(fd)
	if s := g.stats(); s.Directory == 0 {
		t.Error("it went before the users")
	}
	g.users(2, people(t))
	if s := g.stats(); s.Directory != 0 {
		t.Errorf("%+v", s)
	}
	if v := g.login(1, `{"user":"dora","pass":"horse"}`); v.Reason != privsep.ReasonUnknownUser {
		t.Errorf("%+v", v)
	}
}
