package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"time"

	"gatehouse.test/interop/torture/client"
	"gatehouse.test/interop/torture/ledger"
	"github.com/nats-io/nats.go"
)

// tap dials for nats.go and tells of the socket, so that its cm can be found.
type tap struct {
	at     client.Address
	dialed func(net.Conn)
}

func (t *tap) Dial(_, _ string) (net.Conn, error) {
	conn, err := net.Dial(t.at.Network, t.at.Addr)
	if err == nil {
		t.dialed(conn)
	}
	return conn, err
}

// joinNats opens a connection of nats.go, which must not come back by itself.
func (c *cell) joinNats(name string) (*link, *nats.Conn) {
	kind := c.pick(c.rand)
	k := c.newLink(kind, c.name+" "+name+" of nats.go")
	t, url := &tap{at: c.at[kind], dialed: k.dialed}, "nats://localhost"
	greeted := make(chan bool, 1)
	opts := []nats.Option{nats.NoReconnect(), nats.UserInfo(client.User, client.User), nats.SetCustomDialer(t), nats.Timeout(c.patience), nats.PingInterval(time.Hour),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
			if _, ok := errors.AsType[*net.OpError](err); !ok { // that is an end, and told as such
				c.blame(broken, 1, "%s %s: nats.go says: %v", c.name, name, err)
			}
		}),
		nats.ClosedHandler(func(nc *nats.Conn) {
			if <-greeted {
				k.end(fmt.Errorf("nats.go says: %w", nc.LastError()))
				c.halt()
			}
		})}
	if t.at.TLS != nil {
		url = "tls://localhost"
		opts = append(opts, nats.Secure(&tls.Config{RootCAs: t.at.TLS.RootCAs, ServerName: t.at.TLS.ServerName}))
	}
	began := time.Now()
	nc, err := nats.Connect(url, opts...)
	if err != nil {
		greeted <- false
		k.refused(began, err)
		c.halt()
		return nil, nil
	}
	k.greeted()
	greeted <- true
	c.links = append(c.links, k)
	return k, nc
}

// natsgo is a publisher, subscribers and a group, all of nats.go.
func natsgo(l *load, r *rand.Rand, life time.Duration) {
	c := l.newCell("natsgo", r)
	var conns []*nats.Conn
	closeAll := func() {
		for i, nc := range conns {
			c.links[i].closing.Store(true)
			nc.Close()
			<-c.links[i].ended
		}
	}
	for i := range 4 {
		_, nc := c.joinNats(fmt.Sprint("client", i))
		if nc == nil {
			closeAll()
			return
		}
		conns = append(conns, nc)
	}
	st := c.stream(c.links[0], c.name)
	for i, nc := range conns[1:] {
		s := c.sink(c.links[i+1], []string{"", "group", "group"}[i], st)
		if _, err := nc.QueueSubscribe(c.name, s.group, func(m *nats.Msg) { s.take(frameOf(m)) }); err != nil || !flush(c, nc, c.links[i+1]) {
			closeAll()
			return
		}
	}
	p := c.publisher(c.links[0], st)
	c.live(life, func() { p.runNats(conns[0], st) })
	c.settle()
	for i, nc := range conns {
		flush(c, nc, c.links[i])
	}
	c.account()
	closeAll()
}

func frameOf(m *nats.Msg) *client.Frame {
	f := &client.Frame{Subject: []byte(m.Subject), Reply: []byte(m.Reply), Body: m.Data}
	if v := m.Header.Get("Torture"); v != "" {
		f.Header = []byte("NATS/1.0\r\nTorture: " + v + "\r\n\r\n")
	}
	return f
}

// runNats is run through nats.go.
func (p *publisher) runNats(nc *nats.Conn, s *stream) {
	for p.cell.await() {
		for range 1 + p.rand.IntN(p.batch) {
			size, seq := p.size(p.rand), s.sent.Add(1)
			p.cell.under.Add(int64(size) * s.fanout)
			m := &nats.Msg{Subject: s.subject, Data: ledger.Append(nil, ledger.Mark{Stream: s.id, Seq: seq}, size)}
			if s.headers {
				m.Header = nats.Header{"Torture": {fmt.Sprintf("%d/%d", s.id, seq)}}
			}
			if nc.PublishMsg(m) != nil {
				return
			}
		}
		if p.rand.IntN(p.fenceEvery) == 0 && !p.flushed(nc, s) {
			return
		}
		if p.gap > 0 {
			select {
			case <-time.After(time.Duration(p.rand.ExpFloat64() * float64(p.gap))):
			case <-p.cell.over:
			}
		}
	}
	p.flushed(nc, s)
}

func (p *publisher) flushed(nc *nats.Conn, s *stream) bool {
	sent := s.sent.Load()
	if !flush(p.cell, nc, p.link) {
		return false
	}
	s.fenced.Store(sent)
	p.cell.moved.Add(1)
	return true
}

// flush is sync through nats.go.
func flush(c *cell, nc *nats.Conn, k *link) bool {
	ctx, cancel := context.WithTimeout(context.Background(), c.patience)
	defer cancel()
	err := nc.FlushWithContext(ctx)
	if err == context.DeadlineExceeded && !k.over() {
		c.blame(broken, 1, "%s: no PONG for %v", k.name, c.patience)
	}
	return err == nil
}
