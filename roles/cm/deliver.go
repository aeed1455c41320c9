package cm

import (
	"gatehouse/store"
)

// instructionBatch bounds the instructions taken before output is written.
const instructionBatch = 4096

// instructions carries out what the router says and tells whether there was any.
func (m *cm) instructions() (bool, error) {
	m.hurry = false
	for n := 0; n < instructionBatch && !m.hurry; n++ {
		rec, err := m.in.Next()
		if err != nil {
			return false, err
		}
		if rec == nil {
			return n > 0, nil
		}
		if err := m.instruction(rec); err != nil {
			return false, err
		}
	}
	return true, nil
}

func (m *cm) instruction(rec []byte) error {
	switch store.Kind(rec) {
	case store.KindDeliver:
		return m.deliver(rec)
	case store.KindSend:
		return m.sendTo(rec)
	case store.KindSession:
		return m.session(rec)
	case store.KindHold:
		return m.hold(rec)
	case store.KindResume:
		return m.unhold(rec)
	case store.KindNewRouter:
		return m.newRouter(rec)
	case store.KindArriving:
		return m.announced(rec)
	case store.KindMoved:
		return m.movedTo(rec)
	case store.KindGreeting:
		return m.greeting(rec)
	case store.KindChallenges:
		return m.takeChallenges(rec)
	}
	return store.ErrCorrupt
}

// deliver copies one body to the output of its recipients on this cm, then
// reports it as finished.
func (m *cm) deliver(rec []byte) error {
	ins := &m.ins
	if err := ins.Parse(rec); err != nil {
		return err
	}
	if int(ins.Arena) >= len(m.views) {
		return store.ErrCorrupt
	}
	if len(ins.Recipients) > 0 {
		body, err := m.views[ins.Arena].Body(ins.Handle)
		if err != nil {
			return err
		}
		if err := m.toRecipients(ins, body); err != nil {
			return err
		}
	}
	if ins.Flags&store.DeliverMore == 0 {
		m.returns.Done(int(ins.Arena), ins.Seq)
	}
	return nil
}

func (m *cm) toRecipients(ins *store.InsDeliver, body []byte) error {
	payload := body[max(ins.HeaderLen, 0):]
	headers := m.headersFor(ins, body[:len(body)-len(payload)])
	for rest := ins.Recipients; len(rest) > 0; {
		slot, gen, sid, tail, ok := store.NextRecipient(rest)
		if !ok {
			return store.ErrCorrupt
		}
		rest = tail
		c := m.lookup(slot, gen)
		if c == nil || c.has(flagClosing) {
			continue
		}
		n := 0
		switch {
		case !c.has(flagHeaders):
			n = len(payload)
			m.writeMsg(c, ins.Subject, sid, ins.Reply, -1, payload)
		case headers == nil:
			n = len(body)
			m.writeMsg(c, ins.Subject, sid, ins.Reply, int(ins.HeaderLen), body)
		default:
			n = len(headers) + len(payload)
			m.writeParts(c, ins.Subject, sid, ins.Reply, headers, payload)
		}
		m.outMsgs++
		m.outBytes += uint64(n)
		c.sent.msgs++
		c.sent.bytes += uint64(n)
	}
	return nil
}

var crlf = []byte("\r\n")

func (m *cm) sendTo(rec []byte) error {
	var s store.InsSend
	if err := s.Parse(rec); err != nil {
		return err
	}
	c := m.lookup(s.Slot, s.Gen)
	if c == nil || c.has(flagClosing) {
		return nil
	}
	if len(s.Data) > 0 {
		c.greet(len(s.Data))
		m.write3(c, s.Data, nil, nil)
	}
	if s.Flags&store.FlagClose != 0 {
		m.remain(c) // its MOVE came too late
		c.forgetLogin()
		c.flags |= flagClosing | flagFailed
		m.touch(c) // the flush sees to the rest
	}
	return nil
}

func (m *cm) hold(rec []byte) error {
	var h store.InsHold
	if err := h.Parse(rec); err != nil {
		return err
	}
	if c := m.lookup(h.Slot, h.Gen); c != nil {
		c.flags |= flagHeld
	}
	return nil
}

func (m *cm) unhold(rec []byte) error {
	var h store.InsResume
	if err := h.Parse(rec); err != nil {
		return err
	}
	if c := m.lookup(h.Slot, h.Gen); c != nil {
		c.flags &^= flagHeld
		m.queue(c)
	}
	return nil
}
