package tlsd

import (
	"io"
	"syscall"
	"time"

	"gatehouse/privsep"
)

// tlsd is the loop: the parent's channel and new callers. What goes on between
// callers and servers is the hub's.
type tlsd struct {
	cfg      *privsep.Settings
	parent   *privsep.Channel
	poll     *privsep.Poller
	listener int // -1: no more callers
	path     string
	ways     []int // to other tlsds
	bell     int   // the hub has nothing left
	hub      *hub
	coming   privsep.TLSPolicySet
	walls    privsep.Sandbox

	listening bool      // the poller watches the listener
	pause     time.Time // when to accept again, zero: now
	stopBy    time.Time // when a stop is over, zero: there is none
	until     time.Time // when an orphan stops, zero: there is a parent
	msg       privsep.Message
}

const (
	tokenParent = iota
	tokenBell
	tokenListener
	tokenWay // and the fd
)

// run serves until the parent says stop and the last caller has gone, or time is up.
func (t *tlsd) run() error {
	t.listen(true)
	for !t.over() {
		ready, err := t.poll.Wait(t.timeout())
		if err != nil {
			return err
		}
		for _, e := range ready {
			if err := t.event(e); err != nil {
				return err
			}
		}
		if !t.pause.IsZero() && !time.Now().Before(t.pause) {
			t.pause = time.Time{}
			t.listen(true)
		}
	}
	t.hub.endAll("stop")
	if t.parent.Orphaned() {
		return nil
	}
	return t.parent.Send(privsep.KindDrained, nil)
}

func (t *tlsd) event(e privsep.Ready) error {
	switch {
	case e.Token == tokenListener:
		t.accept()
		return nil
	case e.Token == tokenBell:
		privsep.DrainBell(t.bell)
		return nil
	case e.Token >= tokenWay:
		t.takeOver(int(e.Token - tokenWay))
		return nil
	case t.parent.Orphaned():
		t.heard()
		return nil
	}
	return t.fromParent()
}

// acceptTurn is how many callers are taken before anything else has its turn.
const acceptTurn = 64

// breath is how long nobody is accepted when there are no descriptors left.
const breath = 100 * time.Millisecond

func (t *tlsd) accept() {
	for range acceptTurn {
		fd, _, errno := privsep.Accept(t.listener)
		switch errno {
		case 0:
			t.hub.admit(fd, nil)
		case syscall.EAGAIN:
			return
		case syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM:
			t.listen(false)
			t.pause = time.Now().Add(breath)
			return
		}
	}
}

// listen has callers come, or wait.
func (t *tlsd) listen(yes bool) {
	if t.listener < 0 || yes == t.listening {
		return
	}
	var err error
	if yes {
		err = t.poll.Add(t.listener, tokenListener, privsep.In)
	} else {
		err = t.poll.Del(t.listener)
	}
	if err != nil {
		t.hub.log.Error("poll", privsep.Err(err))
		return
	}
	t.listening = yes
}

func (t *tlsd) fromParent() error {
	for {
		err := t.parent.Recv(&t.msg)
		switch {
		case err == privsep.ErrAgain:
			return nil
		case err == io.EOF:
			return t.lost()
		case err != nil:
			return err
		}
		if err := t.handle(&t.msg); err != nil {
			return err
		}
	}
}

func (t *tlsd) handle(m *privsep.Message) error {
	switch m.Kind {
	case privsep.KindTLSPolicy:
		all, whole, err := t.coming.Take(m)
		if whole {
			t.hub.setPolicies(all)
		}
		return err
	case privsep.KindShard:
		f, err := privsep.TakeShard(m)
		if err != nil {
			return err
		}
		return t.shard(f)
	case privsep.KindTLSSigned:
		return t.hub.parent.signed(m)
	case privsep.KindInspected:
		return t.hub.parent.inspected(m)
	case privsep.KindSettings:
		if err := t.cfg.Live.Parse(m.Payload); err != nil {
			return err
		}
		t.hub.setLimits(t.cfg.TLSD)
		t.hub.log.SetLevel(t.cfg.LogLevel)
	case privsep.KindStatsGet:
		return privsep.AnswerStats(t.parent, m, t.hub.stats())
	case privsep.KindShutdown:
		return t.stop(m)
	}
	return nil
}

// stop takes no more callers, and waits for those that there are.
func (t *tlsd) stop(m *privsep.Message) error {
	var s privsep.Shutdown
	if err := s.Parse(m.Payload); err != nil {
		return err
	}
	t.listen(false)
	t.unwatch()
	if t.listener >= 0 {
		privsep.CloseFD(t.listener)
		t.listener = -1
	}
	t.stopBy = time.Now().Add(s.Drain)
	t.hub.close()
	return nil
}

// over tells whether there is nothing left to do.
func (t *tlsd) over() bool {
	now := time.Now()
	switch {
	case !t.stopBy.IsZero():
		return t.hub.deserted() || !now.Before(t.stopBy)
	case !t.until.IsZero():
		return !now.Before(t.until)
	}
	return false
}

// timeout is how long there is nothing to do but for what comes.
func (t *tlsd) timeout() time.Duration {
	next := time.Duration(-1)
	for _, at := range []time.Time{t.pause, t.stopBy, t.until} {
		if at.IsZero() {
			continue
		}
		if d := max(time.Until(at), 0) + time.Millisecond; next < 0 || d < next {
			next = d
		}
	}
	return next
}
