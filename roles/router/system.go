package router

import (
	"encoding/json"
	"time"

	"gatehouse/store"
	"gatehouse/wire"
)

// system.go is about who asks for the state of the broker ($SYS.REQ.), and who answers:
// the console, which is a client like others but for three things. That a connection is
// the console's the dispatcher says, which has it from the parent; no login and no
// configuration makes one. It is the only one that hears these requests, and it may do
// nothing else but answer them. Who a client is the router tells by itself.

// consoleProfile is the one of the console.
var consoleProfile = &profile{subscribe: rights{allow: [][]byte{[]byte("$SYS.REQ.>")}}, modes: modeBit(store.ModeBroadcast),
	responses: 1, stamp: true, weight: 1}

// ofConsole tells whether a connection is the console's.
func (r *router) ofConsole(s *session) bool {
	row, ok := r.rowOf(s)
	return ok && row.System
}

// mayAsk tells whether a profile allows a message on a subject of the broker's state; of
// others it says nothing.
func (f *profile) mayAsk(subject []byte) bool {
	return string(subject) == wire.UserInfo || f.system && !anyMatches(f.publish.deny, subject)
}

// system deals with a message on such a subject, and tells whether that was all. If not,
// it goes to the console: its sender may ask, and listens for the answer itself, since
// what he may not publish on the console must not do for him. To others it seems that
// nobody is there, as to the users of nats-server's usual accounts.
func (r *router) system(l *link, s *session, p *store.RecPub) bool {
	user := string(p.Subject) == wire.UserInfo
	allowed := user || s.prof.system
	if !allowed {
		r.violation(s, "publish", p.Subject)
	}
	listens := len(p.Reply) > 0 && r.listens(s, p.Reply) != nil
	if allowed && !user && listens {
		return false
	}
	r.messages++
	r.answerPub(s, p)
	l.name(p.Seq, 0)
	switch {
	case user && listens:
		r.tellUser(s, p)
	case !user && s.noResponders && len(p.Reply) > 0:
		r.noResponders(s, p)
	}
	return true
}

// tellUser tells a client who it is here, and what it may do.
func (r *router) tellUser(s *session, p *store.RecPub) {
	r.answers++
	a := wire.UserInfoAnswer{
		Server: wire.ServerInfo{Name: r.cfg.Broker, Host: r.cfg.Host, ID: r.cfg.ServerID, Version: wire.ServerVersion,
			Seq: r.answers, Time: time.Now().UTC().Format(time.RFC3339Nano)},
		Data: wire.User{User: s.identity().user, Account: wire.GlobalAccount, Permissions: r.permissions(s.prof)},
	}
	body, err := json.Marshal(a)
	if err != nil {
		return // nothing in it can fail
	}
	l, need := s.cm, len(body)+r.size.answers
	if need > r.size.half {
		return
	}
	if !l.out.Fits(need, r.size.most) {
		r.await(l, need)
	}
	if t := r.listens(s, p.Reply); t != nil {
		r.buf = wire.AppendMsg(r.buf[:0], p.Reply, t.sid, nil, 0, len(body))
		r.buf = append(append(r.buf, body...), "\r\n"...)
		r.tellOn(t)
	}
}

// permissions are a profile's, nil: everything is allowed.
func (r *router) permissions(f *profile) *wire.Permissions {
	p := wire.Permissions{Publish: f.publish.permission(), Subscribe: f.subscribe.permission()}
	if f.responses != 0 {
		p.Responses = &wire.ResponsePermission{Max: f.responses, Expires: int64(r.cfg.RequestTimeout)}
	}
	if p == (wire.Permissions{}) {
		return nil
	}
	return &p
}

// permission is rights in the words of nats-server, where no list allows everything.
func (g *rights) permission() *wire.SubjectPermission {
	if g.all && len(g.deny) == 0 {
		return nil
	}
	p := &wire.SubjectPermission{Deny: texts(g.deny)}
	if !g.all {
		p.Allow = texts(g.allow)
	}
	if !g.all && len(g.allow) == 0 {
		p.Deny = []string{">"}
	}
	return p
}

func texts(list [][]byte) (out []string) {
	for _, b := range list {
		out = append(out, string(b))
	}
	return out
}
