package cm

import (
	"testing"

	"gatehouse/privsep"
	"gatehouse/roles/standin"
	"gatehouse/store"
)

// loopless is a cm that nothing runs: its loop's steps are the test's to take.
func loopless(t testing.TB, cms int) (*cm, *standin.Memory) {
	t.Helper()
	cfg := standin.Settings(cms)
	cfg.Ring = 4 << 20
	mem, err := standin.New(cfg)
	must(t, err)
	t.Cleanup(mem.Close)
	child, parent, err := mem.Child(privsep.ID{Role: privsep.RoleCM})
	must(t, err)
	m, err := newCM(child.Boot, child.Setup, child.Parent)
	must(t, err)
	t.Cleanup(func() {
		m.closeTLS()
		m.poll.Close()
		child.Parent.Close()
		parent.Close()
	})
	return m, mem
}

// mute is a connection whose output stays here.
func (m *cm) mute(slot uint32, flags connFlags) *conn {
	c := &conn{fd: -1, slot: slot, gen: 1, row: m.columns.Row(int(slot)), flags: flags | flagBlocked | flagDirty}
	m.conns[slot] = c
	m.live++
	return c
}

func benchDeliver(b *testing.B, headerLen int32, body string, change func(*store.InsDeliver)) {
	m, _ := loopless(b, 2)
	ins := &store.InsDeliver{Handle: store.Handle{Seq: 1, Len: uint32(len(body))}, HeaderLen: headerLen, Subject: []byte("px.equity.DE.SAP")}
	var conns []*conn
	for i := range uint32(16) {
		conns = append(conns, m.mute(i, flagHeaders))
		ins.Recipients = store.AppendRecipient(ins.Recipients, i, 1, []byte("12"))
	}
	if change != nil {
		change(ins)
	}
	bytes := []byte(body)
	b.ReportAllocs()
	for n := 0; b.Loop(); n++ {
		if err := m.toRecipients(ins, bytes); err != nil { // not must, which takes its time
			b.Fatal(err)
		}
		if n%16 == 0 {
			for _, c := range conns {
				m.dropOutput(c)
			}
		}
	}
}

const (
	benchBody = "0123456789abcdef"
	benchHead = "NATS/1.0\r\nContent-Type: application/json\r\n\r\n"
)

// A message to 16 readers.
func BenchmarkDeliver(b *testing.B) { benchDeliver(b, -1, benchBody, nil) }
func BenchmarkDeliverHeaders(b *testing.B) {
	benchDeliver(b, int32(len(benchHead)), benchHead+benchBody, nil)
}

// The same from another cm, and with its sender.
func BenchmarkDeliverForeign(b *testing.B) {
	benchDeliver(b, int32(len(benchHead)), benchHead+benchBody, func(ins *store.InsDeliver) { ins.Arena = 1 })
}
func BenchmarkDeliverFrom(b *testing.B) {
	benchDeliver(b, int32(len(benchHead)), benchHead+benchBody, func(ins *store.InsDeliver) { ins.From = []byte("acme/pricer/1") })
}

func benchInput(b *testing.B, op string) {
	m, mem := loopless(b, 1)
	named, err := mem.Named(0, true)
	must(b, err)
	router, err := mem.RouterEnds(0)
	must(b, err)
	c := m.mute(0, flagHeaders|flagConnected)
	c.parser.SetHeaders(true)
	in := []byte(op)
	work := make([]byte, len(in))
	b.ReportAllocs()
	for b.Loop() {
		copy(work, in)
		m.parse(c, work)
		if m.full {
			b.Fatal("full")
		}
		if m.inMsgs%256 != 0 {
			continue
		}
		m.out.Publish()
		for rec, err := router.In.Next(); rec != nil || err != nil; rec, err = router.In.Next() {
			if err != nil {
				b.Fatal(err)
			}
		}
		router.In.Release()
		for seq := named.Last() + 1; seq <= m.inMsgs; seq++ {
			named.Set(seq, 0)
			named.Commit(seq)
		}
		m.arena.Reclaim()
	}
}

func BenchmarkInputPub(b *testing.B) { benchInput(b, "PUB px.equity.DE.SAP 16\r\n"+benchBody+"\r\n") }
func BenchmarkInputHPub(b *testing.B) {
	benchInput(b, "HPUB px.equity.DE.SAP 44 60\r\n"+benchHead+benchBody+"\r\n")
}
