package auth

import (
	"encoding/base64"
	"testing"
	"time"

	"github.com/nats-io/nkeys"

	"gatehouse/privsep"
	"gatehouse/roles/standin"
)

// patience is how long anything may take that must happen.
const patience = 20 * time.Second

// Hashes of "horse" and "battery": as cheap as there are.
const (
	horse   = "$argon2id$v=19$m=1024,t=1,p=1$c29tZXNhbHQ$+ZBx63iOJQl7cGEIS28lPx+fVIZl9idUMRS0/n+XnWI"
	battery = "$2b$04$cWZiR5Mk5O6IP1rTw4AYCeC0IgpHHtSpxxn/BurQtwEptLO8qnjfO"
)

const challenge = "mO9qYk1zXkqzJjTjJ8m0w3a2bRrQeX4T"

// rig is auth in a goroutine, with the ends of its channels.
type rig struct {
	t      *testing.T
	parent *privsep.Channel
	router *privsep.Channel
	ended  chan error
	tries  uint32
	lines  []privsep.LogLine
	msg    privsep.Message
}

// key is an nkey whose seed is always the same.
func key(t testing.TB, n byte) nkeys.KeyPair {
	t.Helper()
	k, err := nkeys.FromRawSeed(nkeys.PrefixByteUser, append(make([]byte, 31), n))
	must(t, err)
	return k
}

func public(t testing.TB, k nkeys.KeyPair) string {
	t.Helper()
	s, err := k.PublicKey()
	must(t, err)
	return s
}

func sign(t testing.TB, k nkeys.KeyPair, what string) string {
	t.Helper()
	b, err := k.Sign([]byte(what))
	must(t, err)
	return base64.RawURLEncoding.EncodeToString(b)
}

// people are the users of most tests.
func people(t testing.TB) []privsep.User {
	return []privsep.User{
		{Mark: 1, Name: "alice", Password: horse, Organisation: "ORGA", Profile: "desk"},
		{Mark: 2, Name: "bob", Password: battery},
		{Mark: 3, Name: "carol", NKey: public(t, key(t, 3)), Organisation: "ORGA"},
		{Mark: 4, Name: "dave", Password: horse, NKey: public(t, key(t, 4))},
		{Mark: 5, Password: battery, Profile: "robots"},
	}
}

func newRig(t *testing.T, users []privsep.User, change func(*privsep.Setup)) *rig {
	t.Helper()
	set := &privsep.Setup{Settings: standin.Settings(1), Users: users}
	set.Settings.Login.FailureRate, set.Settings.Login.FailureBurst = 1000, 1000
	if change != nil {
		change(set)
	}
	mine, theirs, err := privsep.Socketpair()
	must(t, err)
	k := privsep.NewKey()
	g := &rig{t: t, ended: make(chan error, 1), parent: privsep.NewChannel(mine, privsep.RoleParent, privsep.RoleAuth, k)}
	child := privsep.NewChannel(theirs, privsep.RoleAuth, privsep.RoleParent, k)
	g.parent.SetPhase(privsep.PhaseSetup)
	child.SetPhase(privsep.PhaseSetup)
	go func() {
		err := Run(nil, set, child)
		child.Close()
		g.ended <- err
	}()
	t.Cleanup(g.end)
	must(t, g.parent.RecvWait(&g.msg, patience))
	g.parent.SetPhase(privsep.PhaseRun)
	g.join()
	return g
}

// end closes both channels, after which auth is no more.
func (g *rig) end() {
	g.parent.Close()
	g.router.Close()
	select {
	case <-g.ended:
	case <-time.After(patience):
		g.t.Error("auth has not ended")
	}
}

// join gives auth another router.
func (g *rig) join() {
	g.t.Helper()
	if g.router != nil {
		g.router.Close()
	}
	ours, theirs, err := privsep.Socketpair()
	must(g.t, err)
	p := privsep.Peer{ID: privsep.ID{Role: privsep.RoleRouter}, Key: privsep.NewKey(), Generation: 1}
	g.router = privsep.NewChannel(ours, privsep.RoleRouter, privsep.RoleAuth, p.Key)
	g.router.SetPhase(privsep.PhaseRun)
	must(g.t, g.parent.SendWait(patience, privsep.KindPeer, p.Append(nil), theirs))
	privsep.CloseFD(theirs)
}

// send asks, as a client at an address that ends in host.
func (g *rig) send(host byte, json string) (try uint32) {
	g.t.Helper()
	g.tries++
	l := privsep.Login{ID: uint64(g.tries) << 10, Try: g.tries, Addr: addr(host), Challenge: challenge, JSON: []byte(json)}
	must(g.t, g.router.SendWait(patience, privsep.KindLogin, l.Append(nil)))
	return g.tries
}

func addr(host byte) [16]byte {
	return [16]byte{10: 0xff, 11: 0xff, 12: 192, 13: 0, 14: 2, 15: host}
}

func (g *rig) next() (v privsep.Verdict) {
	g.t.Helper()
	must(g.t, g.router.RecvWait(&g.msg, patience))
	must(g.t, v.Parse(g.msg.Payload))
	return v
}

// login asks and waits for the answer.
func (g *rig) login(host byte, json string) privsep.Verdict {
	g.t.Helper()
	try := g.send(host, json)
	v := g.next()
	if v.Try != try || v.ID != uint64(try)<<10 {
		g.t.Fatalf("asked %d, answered %d, %d", try, v.Try, v.ID)
	}
	return v
}

// stats asks for the counters: all that was said before is done then.
func (g *rig) stats() privsep.RoleStats {
	g.t.Helper()
	get := privsep.StatsGet{ID: 1}
	must(g.t, g.parent.SendWait(patience, privsep.KindStatsGet, get.Append(nil)))
	for {
		must(g.t, g.parent.RecvWait(&g.msg, patience))
		switch g.msg.Kind {
		case privsep.KindLog:
			l, err := privsep.DecodeLog(g.msg.Payload)
			must(g.t, err)
			g.lines = append(g.lines, l)
		case privsep.KindStats:
			_, s, err := privsep.ParseRoleStats(g.msg.Payload)
			must(g.t, err)
			return s
		}
	}
}

// users replaces them while auth runs.
func (g *rig) users(set uint32, all []privsep.User) {
	g.t.Helper()
	for i := range all {
		u := all[i]
		u.Set, u.Last = set, i == len(all)-1
		must(g.t, g.parent.SendWait(patience, privsep.KindUser, u.Append(nil)))
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
