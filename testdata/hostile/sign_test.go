package hostile

import (
	"bytes"
	"crypto/tls"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"gatehouse/privsep"
	"gatehouse/testdata/tree"
	"gatehouse/tickets"
)

const (
	serverContext = "TLS 1.3, server CertificateVerify\x00"
	clientContext = "TLS 1.3, client CertificateVerify\x00"
)

// verifyInput is what a TLS 1.3 CertificateVerify covers (RFC 8446, 4.4.3).
func verifyInput(context string, hash int) []byte {
	return append([]byte(strings.Repeat(" ", 64)+context), bytes.Repeat([]byte{0xa5}, hash)...)
}

// keyExchange is what a TLS 1.2 server signs (RFC 8422, 5.4).
func keyExchange(curve byte, point int) []byte {
	return append(append(bytes.Repeat([]byte{0x5a}, 64), 3, 0, curve, byte(point)), make([]byte, point)...)
}

// signCase spoils a SIGN that would be served.
type signCase struct {
	reason string // "": it is answered
	answer string // "signature" or "none"
	spoil  func(*villain, *privsep.Sign)
}

func input(b []byte) func(*villain, *privsep.Sign) {
	return func(_ *villain, s *privsep.Sign) { s.Input = b }
}

func scheme(n tls.SignatureScheme) func(*villain, *privsep.Sign) {
	return func(_ *villain, s *privsep.Sign) { s.Scheme = uint16(n) }
}

var signCases = map[string]signCase{
	"sound":     {"", "signature", func(*villain, *privsep.Sign) {}},
	"sound 384": {"", "signature", input(verifyInput(serverContext, 48))},

	// Tickets.
	"forged ticket":    {"ticket", "", func(_ *villain, s *privsep.Sign) { s.Ticket[31] ^= 1 }},
	"no ticket":        {"ticket", "", func(_ *villain, s *privsep.Sign) { s.Ticket = [32]byte{} }},
	"other connection": {"ticket", "", func(_ *villain, s *privsep.Sign) { s.UID++ }},
	"other listener":   {"ticket", "", func(_ *villain, s *privsep.Sign) { s.Listener = 0 }},
	"listener 65535":   {"ticket", "", func(_ *villain, s *privsep.Sign) { s.Listener = 65535 }},
	"made younger":     {"ticket", "", func(_ *villain, s *privsep.Sign) { s.Issued++ }},
	"from the future":  {"ticket", "", func(_ *villain, s *privsep.Sign) { s.Issued += 1 << 40 }},
	"under an own key": {"ticket", "", func(v *villain, s *privsep.Sign) {
		key := tickets.HandoffKey(v.boot.Key.Derive(tickets.HandoffPurpose))
		s.Ticket = tickets.Make(key, tickets.Handoff{UID: s.UID, CM: uint16(v.id.Index), Listener: s.Listener, Generation: v.boot.Generation, Issued: s.Issued})
	}},
	"of a plaintext connection": {"ticket", "", func(v *villain, s *privsep.Sign) {
		if h, err := v.handoff(false); err == nil {
			s.UID, s.Issued, s.Listener, s.Ticket = h.UID, h.Issued, h.Listener, h.Ticket
		}
	}},
	"replayed": {"replayed", "", func(v *villain, s *privsep.Sign) { v.pen.send(privsep.KindSign, s.Append(nil)) }},
	"old": {"", "none", func(v *villain, s *privsep.Sign) {
		for life := v.set.Settings.AuthTimeout + ticketGrace; ; {
			age := time.Duration(privsep.Uptime()-s.Issued) * time.Millisecond
			if age > life {
				break
			}
			<-time.After(life - age + time.Millisecond)
		}
	}},

	// What is to be signed.
	"digest 32":          {"purpose", "", input(make([]byte, 32))},
	"digest 48":          {"purpose", "", input(make([]byte, 48))},
	"nothing":            {"purpose", "", input(nil)},
	"one byte more":      {"purpose", "", input(verifyInput(serverContext, 33))},
	"one byte less":      {"purpose", "", input(verifyInput(serverContext, 31))},
	"hash of 20":         {"purpose", "", input(verifyInput(serverContext, 20))},
	"hash of 64":         {"malformed", "", input(verifyInput(serverContext, 64))},
	"client":             {"purpose", "", input(verifyInput(clientContext, 32))},
	"other padding":      {"purpose", "", input(append([]byte{0}, verifyInput(serverContext, 32)[1:]...))},
	"padding of 63":      {"purpose", "", input(verifyInput(serverContext, 33)[1:])},
	"no zero byte":       {"purpose", "", input(verifyInput(strings.Replace(serverContext, "\x00", " ", 1), 32))},
	"TLS 1.2 P-256":      {"purpose", "", input(keyExchange(23, 65))},
	"TLS 1.2 X25519":     {"purpose", "", input(keyExchange(29, 32))},
	"TLS 1.2 P-384":      {"malformed", "", input(keyExchange(24, 97))},
	"CMS":                {"purpose", "", input([]byte("\x31\x50\x30\x18\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x09\x03" + strings.Repeat("x", 115)))},
	"Ed25519 with P-256": {"scheme", "", scheme(tls.Ed25519)},
	"RSA with P-256":     {"scheme", "", scheme(tls.PSSWithSHA256)},
	"P-384 with P-256":   {"scheme", "", scheme(tls.ECDSAWithP384AndSHA384)},
	"PKCS1":              {"purpose", "", scheme(tls.PKCS1WithSHA256)},
	"ECDSA with SHA-1":   {"purpose", "", scheme(tls.ECDSAWithSHA1)},
	"scheme 0":           {"purpose", "", scheme(0)},

	// By which key.
	"key 0":  {"number", "", func(_ *villain, s *privsep.Sign) { s.Number = 0 }},
	"key 2":  {"number", "", func(_ *villain, s *privsep.Sign) { s.Number = 2 }},
	"key -1": {"number", "", func(_ *villain, s *privsep.Sign) { s.Number--; s.Number-- }},
}

// ticketGrace is what the parent gives a ticket beyond auth_timeout.
const ticketGrace = time.Second

// handoff waits for a connection of one sort.
func (v *villain) handoff(secure bool) (privsep.ConnHandoff, error) {
	if err := v.meet(); err != nil {
		return privsep.ConnHandoff{}, err
	}
	for {
		var m privsep.Message
		if err := v.disp.RecvWait(&m, -1); err != nil {
			return privsep.ConnHandoff{}, err
		}
		var h privsep.ConnHandoff
		if err := h.Parse(m.Payload); err != nil || h.TLS == secure {
			return h, err
		}
		m.CloseFDs()
	}
}

// sound is a SIGN that a sound cm would send.
func (v *villain) sound() (privsep.Sign, error) {
	h, err := v.handoff(true)
	return privsep.Sign{ID: 1, Number: 1, Scheme: uint16(tls.ECDSAWithP256AndSHA256), Listener: h.Listener, UID: h.UID,
		Issued: h.Issued, Ticket: h.Ticket, Input: verifyInput(serverContext, 32)}, err
}

// signCase sends signCases[S].
func (v *villain) signCase() error {
	s, err := v.sound()
	if err != nil {
		return err
	}
	signCases[v.plan.S].spoil(v, &s)
	return v.sign(s)
}

// sign sends s, and says what is answered.
func (v *villain) sign(s privsep.Sign) error {
	return v.askSigned(privsep.KindSign, s.Append(nil), privsep.KindSigned, func(payload []byte) ([]byte, error) {
		var answer privsep.Signed
		err := answer.Parse(payload)
		return answer.Signature, err
	})
}

// askSigned asks for a signature in one of the ways that there are, and says whether one
// came.
func (v *villain) askSigned(kind privsep.Kind, payload []byte, answers privsep.Kind, read func([]byte) ([]byte, error)) error {
	v.pen.send(kind, payload)
	for {
		if err := v.receive(); err != nil {
			return nil // refused: the end is near
		}
		if v.msg.Kind == answers {
			break
		}
	}
	signature, err := read(v.msg.Payload)
	if err != nil {
		return err
	}
	got := "signature"
	if len(signature) == 0 {
		got = "none"
	}
	v.say(attempt, got, nil)
	return v.finish()
}

// leak says a ticket aloud.
func (v *villain) leak() error {
	s, err := v.sound()
	if err != nil {
		return err
	}
	v.say(attempt, hex.EncodeToString(s.Ticket[:]), fmt.Errorf("%d %d %d", s.UID, s.Listener, s.Issued))
	return v.finish()
}

// foreign signs with a ticket of another's, S.
func (v *villain) foreign() error {
	s, err := v.sound()
	if err != nil {
		return err
	}
	var other privsep.Sign
	if err := json.Unmarshal([]byte(v.plan.S), &other); err != nil {
		return err
	}
	s.UID, s.Listener, s.Issued, s.Ticket = other.UID, other.Listener, other.Issued, other.Ticket
	return v.sign(s)
}

// floodSigns asks 10,000 times with a ticket that is too old to be an offence.
func (v *villain) floodSigns() error {
	s, err := v.sound()
	if err != nil {
		return err
	}
	signCases["old"].spoil(v, &s)
	for range 10_000 {
		s.ID++
		if v.pen.send(privsep.KindSign, s.Append(nil)) != nil {
			return nil
		}
		for v.ch.Recv(&v.msg) == nil {
		}
	}
	return v.finish()
}

// knock makes connections of both sorts that never say a word, until it is told
// to stop: every cm gets some.
func (b *broker) knock() (stop func()) {
	end := make(chan struct{})
	var done sync.WaitGroup
	done.Go(func() {
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		var open []net.Conn
		for {
			for _, addr := range []string{b.tls, b.addr} {
				if c, err := net.DialTimeout("tcp", addr, patience); err == nil {
					open = append(open, c)
				}
			}
			for len(open) > 100 {
				open[0].Close()
				open = open[1:]
			}
			select {
			case <-end:
				for _, c := range open {
					c.Close()
				}
				return
			case <-tick.C:
			}
		}
	})
	return func() { close(end); done.Wait() }
}

// TestSigner asks for every signature that a sound cm does not ask for.
func TestSigner(t *testing.T) {
	t.Parallel()
	var jobs []job
	for name, c := range signCases {
		j := job{role: "cm", plan: plan{Stage: stageRun, Do: "sign", S: name}}
		if c.reason != "" {
			j.kind, j.reason = "SIGN", c.reason
		} else {
			j.check = said(c.answer)
		}
		jobs = append(jobs, j)
	}
	slices.SortFunc(jobs, func(a, b job) int { return strings.Compare(a.plan.S, b.plan.S) })
	campaignWith(t, jobs, settings{tls: newIdentity(t, "P-256", "sign"), limits: "auth_timeout = \"500ms\""}, (*broker).knock)
}

// said wants a villain to have been given this answer.
func said(answer string) func(*testing.T, *broker, int) {
	return func(t *testing.T, b *broker, pid int) {
		t.Helper()
		got := b.log.Where(func(l *tree.Line) bool { return l.PID() == pid && l.Str("message") == attempt })
		if len(got) != 1 || got[0].Str("reason") != answer {
			t.Errorf("answered %v, want %s", got, answer)
		}
	}
}

// TestForeignTickets: a ticket is good for one cm, and for one life of it.
func TestForeignTickets(t *testing.T) {
	t.Parallel()
	id := newIdentity(t, "P-256", "sign")
	b := startBroker(t, settings{cms: 3, tls: id, limits: "auth_timeout = \"500ms\""})
	defer b.knock()()
	a := newAction(t, b)
	a.queues["cm/0"] = []job{{role: "cm", plan: plan{Stage: stageRun, Do: "leak"}}}
	a.commit([]string{"cm/0"})
	leaked := b.log.Where(func(l *tree.Line) bool { return l.Str("message") == attempt })
	if len(leaked) != 1 {
		t.Fatalf("leaked: %v", leaked)
	}
	var s privsep.Sign
	_, err := fmt.Sscanf(leaked[0].Str("err"), "%d %d %d", &s.UID, &s.Listener, &s.Issued)
	must(t, err)
	_, err = hex.Decode(s.Ticket[:], []byte(leaked[0].Str("reason")))
	must(t, err)
	text, err := json.Marshal(s)
	must(t, err)
	use := job{role: "cm", plan: plan{Stage: stageRun, Do: "foreign", S: string(text)}, kind: "SIGN", reason: "ticket"}
	a.queues["cm/0"] = append(a.queues["cm/0"], use)
	a.queues["cm/1"] = []job{use}
	a.commit([]string{"cm/0", "cm/1"})
	a.judge()
	// A key that has been replaced does not sign, which is no offence.
	must(t, b.cmd.Process.Signal(syscall.SIGHUP))
	await(t, "a second key", func() bool { return b.status().Key.Number == 2 })
	await(t, "the end of the first", func() bool { return len(secretMappings(t, b.pid)) == 1 })
	a.queues["cm/2"] = []job{{role: "cm", plan: plan{Stage: stageRun, Do: "sign", S: "sound"}, check: said("none")}}
	a.commit([]string{"cm/2"})
	a.judge()
}

// TestFloodBesideHandshakes: while one cm sends 10,000 messages, others make
// handshakes as if nothing were.
func TestFloodBesideHandshakes(t *testing.T) {
	id := newIdentity(t, "P-256", "sign")
	b := startBroker(t, settings{cms: 3, tls: id, limits: "auth_timeout = \"500ms\""})
	stop := make(chan struct{})
	var times []time.Duration
	var made atomic.Int64
	var failed int
	var done sync.WaitGroup
	done.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			if took, err := b.handshake(id, time.Second); err == nil {
				times = append(times, took)
				made.Add(1)
			} else {
				failed++ // it was handed to the villain
			}
		}
	})
	quiet := b.knock()
	a := newAction(t, b)
	for range 10 { // a busy machine makes fewer handshakes beside one pair of floods
		a.queues["cm/0"] = append(a.queues["cm/0"], job{role: "cm", plan: plan{Stage: stageRun, Do: "flood of signs"}, kind: "SIGN", reason: "rate"})
		a.queues["cm/1"] = append(a.queues["cm/1"], job{role: "cm", plan: plan{Stage: stageRun, Do: "frame", S: "10000 LOG"}, kind: "LOG", reason: "rate"})
		a.commit([]string{"cm/0", "cm/1"})
		if made.Load() >= 20 {
			break
		}
	}
	quiet()
	close(stop)
	done.Wait()
	a.judge()
	if len(times) < 20 {
		t.Fatalf("%d handshakes, %d failed", len(times), failed)
	}
	slices.Sort(times)
	t.Logf("%d handshakes beside the floods: p50 %v, p99 %v, most %v; %d were handed to a villain", len(times),
		times[len(times)/2], times[len(times)*99/100], times[len(times)-1], failed)
	if p99 := times[len(times)*99/100]; p99 > 500*time.Millisecond {
		t.Errorf("p99 of handshakes is %v", p99)
	}
}
