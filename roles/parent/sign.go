package parent

import (
	"crypto/tls"
	"slices"
	"time"

	"gatehouse/privsep"
	"gatehouse/privsep/custody"
	"gatehouse/tickets"
)

// ticketGrace is how long after auth_timeout a handoff ticket is still known, so
// that a busy moment does not make an offender of anybody.
const ticketGrace = time.Second

// dispatcherKey checks the tickets of one life of the dispatcher.
type dispatcherKey struct {
	key   tickets.HandoffKey
	of    *child
	until time.Time // zero: that life lasts
}

// newDispatcherKey follows a new life of a dispatcher.
func (p *parent) newDispatcherKey(channel privsep.Key, c *child) {
	p.expireDispatcherKey(c)
	key := tickets.HandoffKey(channel.Derive(tickets.HandoffPurpose))
	p.dispatcherKeys = append(p.dispatcherKeys, dispatcherKey{key: key, of: c})
}

// expireDispatcherKey follows the end of a process. What it handed over is still
// good for as long as a handshake may take.
func (p *parent) expireDispatcherKey(c *child) {
	now := time.Now()
	kept := p.dispatcherKeys[:0]
	for _, k := range p.dispatcherKeys {
		if k.of == c && k.until.IsZero() {
			k.until = now.Add(p.longestLife())
		}
		if k.until.IsZero() || now.Before(k.until) {
			kept = append(kept, k)
		}
	}
	p.dispatcherKeys = kept
}

// adoptDispatcherKey takes the word of a dispatcher whose tickets are under way.
// What one before it, of which nothing is known, has handed over gets no
// signature any more, and is no offence.
func (p *parent) adoptDispatcherKey(key privsep.Key, c *child) {
	p.dispatcherKeys = append(p.dispatcherKeys, dispatcherKey{key: tickets.HandoffKey(key), of: c})
}

// isForgotten tells that a ticket may be of a dispatcher that died before this
// process began.
func (p *parent) isForgotten(s *privsep.Sign) bool {
	return p.past != nil && s.Issued < p.began
}

// usedTickets remembers the connections for which the key has been used, for as
// long as their tickets would be good: two halves, of which the older is
// forgotten whenever the younger is a ticket's life old.
type usedTickets struct {
	young, old map[uint64]struct{}
	since      time.Time
}

// use reports whether connection uid has not used the key before.
func (u *usedTickets) use(uid uint64, now time.Time, life time.Duration) bool {
	if u.young == nil || now.Sub(u.since) > life {
		u.old, u.young, u.since = u.young, map[uint64]struct{}{}, now
	}
	_, again := u.young[uid]
	_, before := u.old[uid]
	u.young[uid] = struct{}{}
	return !again && !before
}

// sign serves one handshake of a cm: a signature for a ticket, once, over what a
// TLS 1.3 server signs and nothing else. An error is an offence.
func (p *parent) sign(c *child, m *privsep.Message) error {
	var s privsep.Sign
	if err := s.Parse(m.Payload); err != nil {
		return err
	}
	now := time.Now()
	answer := privsep.Signed{ID: s.ID}
	switch reason := p.maySign(c, &s, now); reason {
	case "":
		answer.Signature = p.signature(c, &s)
	case late:
	default:
		return &offence{m.Kind.String(), reason}
	}
	if len(answer.Signature) > 0 {
		p.signatures++
		c.signatures++
	} else {
		p.unsigned++
	}
	p.usedKey(keyServer, c, len(answer.Signature) > 0)
	p.untidy = now
	p.send(c, privsep.KindSigned, answer.Append(p.buf[:0]))
	return nil
}

// late is the one reason that is no offence: a moment may have been too busy.
const late = "late"

// maySign names what speaks against a signature, "" if there is nothing.
func (p *parent) maySign(c *child, s *privsep.Sign, now time.Time) string {
	cred := p.credential()
	switch {
	case cred == nil, p.cfg.TLS.KeyUse != KeyUseSign:
		return "key_use"
	case !c.signPace.Take(p.cfg.TLS.SignRate, now):
		return "rate"
	case s.Number > cred.number || s.Number == 0:
		return "number"
	case custody.CheckServerInput(tls.SignatureScheme(s.Scheme), s.Input) != nil:
		return "purpose"
	case !p.hasScheme(s):
		return "scheme"
	case p.isForgotten(s) && !p.genuine(c, s):
		return late
	case p.isUnknown(s.Listener):
		return late
	case !p.isTLS(s.Listener) || !p.genuine(c, s) || s.Issued > privsep.Uptime():
		return "ticket"
	case p.isLate(s):
		return late
	case !p.used.use(s.UID, now, p.longestLife()):
		return "replayed"
	}
	return ""
}

// hasScheme tells whether the key asked for signs by that scheme; one that has
// been retired does not matter any more.
func (p *parent) hasScheme(s *privsep.Sign) bool {
	cred := p.byNumber(s.Number)
	return cred == nil || slices.Contains(cred.key.Schemes(), tls.SignatureScheme(s.Scheme))
}

func (p *parent) isTLS(listener uint16) bool {
	return int(listener) < len(p.networks) && p.networks[listener] == privsep.NetTLS
}

// isUnknown tells of a listener that was removed before this process began.
func (p *parent) isUnknown(listener uint16) bool {
	return int(listener) < len(p.networks) && p.networks[listener] == privsep.NetNone
}

// genuine tells whether a dispatcher of ours handed this connection to this very
// process.
func (p *parent) genuine(c *child, s *privsep.Sign) bool {
	h := tickets.Handoff{UID: s.UID, CM: uint16(c.id.Index), Listener: s.Listener, Generation: c.generation, Issued: s.Issued}
	for _, k := range p.dispatcherKeys {
		if tickets.Verify(k.key, s.Ticket, h) {
			return true
		}
	}
	return false
}

// isLate tells that a handshake can no longer be in time: its ticket is past.
func (p *parent) isLate(s *privsep.Sign) bool {
	return privsep.Uptime()-s.Issued > uint64(p.lifeOf(s.Issued)/time.Millisecond)
}

// signature signs, or gives nil for what is no offence but cannot be done.
func (p *parent) signature(c *child, s *privsep.Sign) []byte {
	cred := p.byNumber(s.Number)
	if cred == nil {
		return nil // replaced meanwhile
	}
	b, err := cred.key.Sign(tls.SignatureScheme(s.Scheme), s.Input)
	if err != nil {
		p.log.Error().Str("role", c.id.String()).Err(err).Msg("signature failed")
		return nil
	}
	return b
}

const (
	// tidyAfter is how long after the last signature of a burst the memory is
	// swept, tidyAtMost how long a burst may last before it is all the same.
	tidyAfter  = 50 * time.Millisecond
	tidyAtMost = 5 * time.Second
)

// tidy has what signing left in memory erased once there is time for it.
func (p *parent) tidy(now time.Time) {
	if p.untidy.IsZero() {
		return
	}
	if now.Sub(p.untidy) < tidyAfter && now.Sub(p.tidied) < tidyAtMost {
		return
	}
	custody.Tidy()
	p.untidy, p.tidied = time.Time{}, now
}
