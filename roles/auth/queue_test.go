package auth

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"gatehouse/privsep"
	"gatehouse/wire"
)

// line is a queue on its own, with a clock that the test turns.
type line struct {
	*queue
	t   fataler
	now time.Time
	id  uint64
}

type fataler interface {
	Helper()
	Fatalf(string, ...any)
	Errorf(string, ...any)
}

func newLine(t fataler, rate, burst int) *line {
	return &line{t: t, now: time.Unix(1e9, 0),
		queue: newQueue(&privsep.LoginSettings{FailureRate: rate, FailureBurst: burst, Backoff: 8 * time.Second})}
}

// at is an address of IPv4.
func at(host byte) privsep.Origin { return originOf(&privsep.Login{Addr: addr(host)}) }

// try makes an attempt of somebody at an address.
func (l *line) try(host byte, who uint64) *attempt {
	l.id++
	return &attempt{id: l.id, checker: checkerOf(&attempt{connect: wire.Connect{User: "u"}}), origin: at(host), class: slow, who: who, came: l.now, size: 100}
}

// add wants an attempt taken in.
func (l *line) add(host byte, who uint64) *attempt {
	l.t.Helper()
	t := l.try(host, who)
	if out, reason := l.queue.add(t, l.now); out != nil {
		l.t.Fatalf("refused: %v", reason)
	}
	return t
}

// refused wants an attempt not looked at.
func (l *line) refused(host byte, who uint64, want privsep.Reason) {
	l.t.Helper()
	t := l.try(host, who)
	if out, reason := l.queue.add(t, l.now); out != t || reason != want {
		l.t.Errorf("%v, want %v", reason, want)
	}
}

// check runs one from beginning to end.
func (l *line) check(host byte, who uint64, ok bool) {
	l.t.Helper()
	t := l.add(host, who)
	if got := l.start(); got != t {
		l.t.Fatalf("another's turn")
	}
	l.ended(t, ok, l.now)
}

func (l *line) start() *attempt {
	l.t.Helper()
	t, reason := l.next(slow, l.now)
	if reason != privsep.ReasonNone {
		l.t.Fatalf("refused in its turn: %v", reason)
	}
	if t != nil {
		l.began(t)
	}
	return t
}

// Whoever has much waiting waits for himself.
func TestTurns(t *testing.T) {
	l := newLine(t, 1000, 1000)
	for range 100 {
		l.add(1, 1)
	}
	for who := range uint64(3) {
		l.add(2, 10+who)
		l.add(2, 10+who)
	}
	l.add(3, 1)
	var hosts []byte
	for range 10 {
		a := l.start()
		hosts = append(hosts, a.origin[15])
		l.ended(a, true, l.now)
	}
	if want := []byte{1, 2, 3, 1, 2, 1, 2, 1, 2, 1}; !slices.Equal(hosts, want) {
		t.Errorf("turns of %v, want %v", hosts, want)
	}
	var who []uint64
	for range 4 {
		a := l.start()
		if l.ended(a, true, l.now); a.origin[15] == 2 {
			who = append(who, a.who)
		}
	}
	if !slices.Equal(who, []uint64{11, 12}) {
		t.Errorf("turns of %v within an address", who)
	}
}

// An address has so many failures; who has logged in from there before does not pay
// for others, and other addresses do not either.
func TestFailureRate(t *testing.T) {
	l := newLine(t, 2, 10)
	l.check(1, 1, true)
	for who := range uint64(10) {
		l.check(1, 100+who, false)
	}
	l.refused(1, 200, privsep.ReasonRate)
	l.refused(1, 100, privsep.ReasonRate)
	l.check(1, 1, true)
	l.check(2, 200, true)
	l.now = l.now.Add(500 * time.Millisecond)
	l.check(1, 201, false)
	l.refused(1, 202, privsep.ReasonRate)
	l.now = l.now.Add(time.Hour)
	for who := range uint64(10) {
		l.check(1, 300+who, false)
	}
	l.refused(1, 400, privsep.ReasonRate)
}

// Logins that succeed cost nothing, however many there are.
func TestSuccessIsFree(t *testing.T) {
	l := newLine(t, 1, 3)
	for who := range uint64(1000) {
		l.check(1, who, true)
		l.check(1, who, true)
	}
}

// No more run at a time than may fail, and of one who is not known only a few.
func TestRunning(t *testing.T) {
	l := newLine(t, 1, 5)
	for who := range uint64(4) {
		for range 4 {
			l.add(1, who)
		}
	}
	var began []*attempt
	for a := l.start(); a != nil; a = l.start() {
		began = append(began, a)
	}
	if len(began) != 5 {
		t.Errorf("%d run", len(began))
	}
	for _, a := range began {
		l.ended(a, false, l.now)
	}
	if a, reason := l.next(slow, l.now); a == nil || reason != privsep.ReasonRate {
		t.Errorf("then %v", reason)
	}
	l = newLine(t, 1000, 1000)
	for range 10 {
		l.add(1, 1)
	}
	for n := 0; ; n++ {
		if l.start() == nil {
			if n != freeFailures {
				t.Errorf("%d of one", n)
			}
			break
		}
	}
}

// Who fails again and again is not looked at for a while, each time longer, and only
// where he failed.
func TestBackoff(t *testing.T) {
	l := newLine(t, 1000, 1000)
	for range freeFailures - 1 {
		l.check(1, 1, false)
	}
	for _, wait := range []time.Duration{1, 2, 4, 8, 8, 8} {
		l.check(1, 1, false)
		l.refused(1, 1, privsep.ReasonBackoff)
		l.check(1, 2, true)
		l.check(2, 1, true)
		l.now = l.now.Add(wait*time.Second - 1)
		l.refused(1, 1, privsep.ReasonBackoff)
		l.now = l.now.Add(1)
	}
	l.check(1, 1, true)
	l.check(1, 1, false)
	l.check(1, 1, true)
}

// Of too much, what gives way is the newest of the address that has most.
func TestCrowded(t *testing.T) {
	l := newLine(t, 1000, 1000)
	const size = mostBytes / 8
	var last *attempt
	for range 7 {
		last = l.try(1, 1)
		last.size = size
		if out, _ := l.queue.add(last, l.now); out != nil {
			t.Fatal("refused")
		}
		l.now = l.now.Add(1)
	}
	for host := byte(2); host < 5; host++ {
		a := l.try(host, 1)
		a.size = size
		out, reason := l.queue.add(a, l.now)
		switch {
		case host == 2 && out != nil:
			t.Errorf("%d is refused", host)
		case host > 2 && (out == nil || out.origin[15] != 1 || reason != privsep.ReasonCrowded):
			t.Errorf("%+v gives way to %d: %v", out, host, reason)
		case host == 3 && out != last:
			t.Error("not the newest")
		}
	}
	a := l.try(9, 1)
	a.size = mostBytes
	if out, _ := l.queue.add(a, l.now); out != a {
		t.Errorf("%+v gives way", out)
	}
	if l.bytes > mostBytes || l.waiting != 8 {
		t.Errorf("%d bytes of %d wait", l.bytes, l.waiting)
	}
}

// An IPv4 address is one, of IPv6 a /64, and at Unix sockets each uid.
func TestOrigin(t *testing.T) {
	six := func(low, high byte) [16]byte { return [16]byte{0: 0x20, 1: 1, 7: low, 15: high} }
	ip := func(a [16]byte) privsep.Login { return privsep.Login{Addr: a} }
	local := func(uid uint32) privsep.Login {
		return privsep.Login{Unix: true, Process: privsep.Process{UID: uid}}
	}
	for _, tt := range []struct {
		a, b  privsep.Login
		equal bool
	}{
		{ip(addr(1)), ip(addr(1)), true},
		{ip(addr(1)), ip(addr(2)), false},
		{ip(six(1, 1)), ip(six(1, 2)), true},
		{ip(six(1, 1)), ip(six(2, 1)), false},
		{local(0), local(0), true},
		{local(0), local(1000), false},
		{local(0), ip([16]byte{}), false},
	} {
		if got := originOf(&tt.a) == originOf(&tt.b); got != tt.equal {
			t.Errorf("%v and %v: %v", tt.a.Addr, tt.b.Addr, got)
		}
	}
}

// What is forgotten is what nobody needs, and memory has a bound.
func TestSweep(t *testing.T) {
	l := newLine(t, 1000, 1000)
	l.check(1, 1, true)
	l.check(1, 2, false)
	l.check(2, 1, false)
	busy := l.add(3, 1)
	l.now = l.now.Add(remembered + time.Second)
	l.sweep(l.now)
	if len(l.sources) != 2 || l.lanes != 2 || l.sources[at(1)].lanes[1] == nil {
		t.Errorf("%d addresses, %d lanes are left", len(l.sources), l.lanes)
	}
	if l.start() != busy {
		t.Error("who waits was forgotten")
	}
	for i := range mostSources + 100 {
		a := l.try(0, 1)
		a.origin = privsep.Origin{0: 1, 13: byte(i >> 16), 14: byte(i >> 8), 15: byte(i)}
		if out, _ := l.queue.add(a, l.now); out != nil {
			t.Fatal("refused")
		}
		l.began(firstOf(l, slow))
		l.ended(a, false, l.now)
	}
	if len(l.sources) > mostSources {
		t.Errorf("%d addresses are remembered", len(l.sources))
	}
}

func firstOf(l *line, c class) *attempt {
	a, _ := l.next(c, l.now)
	return a
}

// Late ones leave wherever they wait, and the others keep their turns.
func TestDrop(t *testing.T) {
	l := newLine(t, 1000, 1000)
	for host := range byte(3) {
		l.add(host, 1)
		l.add(host, 2)
	}
	l.now = l.now.Add(time.Second)
	kept := l.add(1, 1)
	if n := len(l.drop(l.now)); n != 6 {
		t.Errorf("%d are dropped", n)
	}
	if l.start() != kept || l.start() != nil || l.bytes != 0 || l.waiting != 0 {
		t.Errorf("left: %+v", l.queue)
	}
	l.add(5, 5)
	if n := len(l.drop(time.Time{})); n != 1 || l.waiting != 0 || l.start() != nil {
		t.Errorf("%d are dropped", n)
	}
}

// Law: whatever somebody does at one address, with any names and at any pace, one who
// knows his password is looked at, at another address, as soon as those who began
// before have ended, and is never refused. And no address has more failures looked
// at than it may.
func TestNobodyIsLockedOut(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const burst, rate = 4, 2
		l := newLine(t, rate, burst)
		began := l.now
		var running []*attempt
		failed := 0
		for range rapid.IntRange(1, 300).Draw(t, "steps") {
			switch rapid.IntRange(0, 4).Draw(t, "do") {
			case 0, 1:
				l.queue.add(l.try(66, rapid.Uint64Range(0, 5).Draw(t, "who")), l.now)
			case 2:
				if len(running) < 2 {
					if a, reason := l.next(slow, l.now); a != nil && reason == privsep.ReasonNone {
						l.began(a)
						running = append(running, a)
					}
				}
			case 3:
				if len(running) > 0 {
					l.ended(running[0], false, l.now)
					running = running[1:]
					failed++
				}
			case 4:
				l.now = l.now.Add(time.Duration(rapid.IntRange(0, 1500).Draw(t, "ms")) * time.Millisecond)
			}
		}
		if most := burst + int(rate*l.now.Sub(began).Seconds()) + 1; failed > most {
			t.Fatalf("%d failures are looked at, %d may", failed, most)
		}
		for _, a := range running {
			l.ended(a, false, l.now)
		}
		for who := range uint64(6) {
			mine := l.add(1, who)
			for n := 0; ; n++ {
				a, reason := l.next(slow, l.now)
				if a == mine && reason == privsep.ReasonNone {
					l.began(a)
					l.ended(a, true, l.now)
					break
				}
				if a == nil || n > 300 {
					t.Fatalf("it is not the turn of %d", who)
				}
				if reason == privsep.ReasonNone {
					if l.began(a); n > 1 {
						t.Fatalf("%d waits for more than a turn", who)
					}
					l.ended(a, false, l.now)
				}
			}
		}
	})
}

// A name that nobody has costs what a user's hash costs, always that of the same user,
// and over many names those of all.
func TestUnknownNamesCostTheSame(t *testing.T) {
	all := people(t)
	a, err := newUsers(all, nil, approval{})
	must(t, err)
	b, err := newUsers(all, nil, approval{})
	must(t, err)
	count := map[string]int{}
	for i := range 3000 {
		name := fmt.Sprint("nobody", i)
		h := a.hashFor(name)
		if again := b.hashFor(name); again.Text() != h.Text() {
			t.Fatalf("%s costs another hash in another process", name)
		}
		count[h.Text()]++
	}
	if n := count[horse]; len(count) != 2 || n < 1800 || n > 2200 { // two of three users
		t.Errorf("hashes are taken %v times", count)
	}
	if a.hashFor("carol") == nil || a.hashFor("bob").Text() != battery {
		t.Error("a user's hash is another's")
	}
}
