package parent

import (
	"cmp"
	"errors"
	"slices"

	"github.com/rs/zerolog"

	"gatehouse/privsep"
)

// offence is a message that no sound role sends: it is refused, and its sender
// is ended.
type offence struct {
	kind   string // of the message, "" where there was none to be read
	reason string // one word
}

func (o *offence) Error() string { return o.kind + " refused: " + o.reason }

// impostor is the reason of who speaks on a channel that is another's.
const impostor = "impostor"

// offenceOf says in one word what err, from a child's channel or from what
// handled its message, holds against the child.
func offenceOf(err error, m *privsep.Message) offence {
	var own *offence
	var permit *privsep.PermitError
	var stranger *privsep.ImpostorError
	switch {
	case errors.As(err, &own):
		return *own
	case errors.As(err, &permit):
		return offence{permit.Kind.String(), permit.Reason}
	case errors.As(err, &stranger):
		return offence{"", impostor}
	case errors.Is(err, privsep.ErrForged):
		return offence{"", "forged"}
	case errors.Is(err, privsep.ErrReplayed):
		return offence{"", "replayed"}
	case errors.Is(err, privsep.ErrTruncated):
		return offence{"", "truncated"}
	case m.Kind != privsep.KindNone:
		return offence{m.Kind.String(), "malformed"}
	}
	return offence{"", "malformed"}
}

// offenceKey is what offences are counted by.
type offenceKey struct {
	role privsep.ID
	offence
}

// punish ends a child that broke the role protocol. Nothing is said to it.
func (p *parent) punish(c *child, err error) {
	p.charge(c, offenceOf(err, &p.msg)).Err(err).Msg("role broke the protocol")
	p.dropChannel(c)
	p.kill(c)
}

// charge counts an offence and begins its line in the log.
func (p *parent) charge(c *child, o offence) *zerolog.Event {
	p.offences[offenceKey{c.id, o}]++
	if o.reason == impostor {
		p.record(&auditImpostor{Role: c.id.String(), PID: c.proc.PID})
	} else {
		p.record(&auditOffence{Role: c.id.String(), PID: c.proc.PID, Kind: o.kind, Reason: o.reason})
	}
	return p.log.Error().Bool("security", true).Str("role", c.id.String()).Int("pid", c.proc.PID).
		Str("kind", o.kind).Str("reason", o.reason)
}

// offenceList is the count of all there were, for the operator.
func (p *parent) offenceList() []Offence {
	list := []Offence{}
	for k, n := range p.offences {
		list = append(list, Offence{Role: k.role.String(), Kind: k.kind, Reason: k.reason, Count: n})
	}
	slices.SortFunc(list, func(a, b Offence) int {
		return cmp.Or(cmp.Compare(a.Role, b.Role), cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Reason, b.Reason))
	})
	return list
}
