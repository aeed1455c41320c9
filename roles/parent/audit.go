package parent

import (
	"cmp"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"time"
	"unicode/utf16"
	"unicode/utf8"

	"gatehouse/privsep"
)

// auditTime is how times are written, always UTC.
const auditTime = "2006-01-02T15:04:05.000Z"

// auditText is the line of an event. Whatever a client has put into it, it is ASCII and
// one line.
func auditText(to, broker string, e auditEvent) []byte {
	head, err := json.Marshal(auditHead{to == AuditStderr, time.Now().UTC().Format(auditTime), e.event(), broker})
	fields, failed := json.Marshal(e)
	if err != nil || failed != nil {
		return nil // no type above can fail
	}
	if len(fields) > 2 {
		head = append(append(head[:len(head)-1], ','), fields[1:]...)
	}
	return append(ASCIIJSON(head), '\n')
}

// ASCIIJSON escapes in a JSON text what a terminal could take for more than text.
func ASCIIJSON(b []byte) []byte {
	clean := true
	for _, c := range b {
		clean = clean && c < 0x7f
	}
	if clean {
		return b
	}
	out := make([]byte, 0, 2*len(b))
	for len(b) > 0 {
		r, n := utf8.DecodeRune(b)
		b = b[n:]
		switch {
		case r < 0x7f:
			out = append(out, byte(r))
		case r > 0xffff:
			hi, lo := utf16.EncodeRune(r)
			out = fmt.Appendf(out, `\u%04x\u%04x`, hi, lo)
		default:
			out = fmt.Appendf(out, `\u%04x`, r)
		}
	}
	return out
}

// record writes an event, if there is an audit log.
func (p *parent) record(e auditEvent) {
	if p.audit != nil {
		p.audit.add(e)
	}
}

// beginAudit opens the audit log of the configuration, if it has one.
func (p *parent) beginAudit() error {
	f, err := p.cfg.openAudit()
	if err != nil {
		return err
	}
	p.setAudit(f)
	return nil
}

// openAudit gives nil where there is to be none. An error is a *ConfigError.
func (c *Config) openAudit() (*os.File, error) {
	if c.Log.Audit == "" {
		return nil, nil
	}
	f, err := openAudit(c.Log.Audit)
	if err != nil {
		return nil, &ConfigError{Key: "log.audit", Text: err.Error()}
	}
	return f, nil
}

// setAudit goes on with f, the file of the configuration that is in force now.
func (p *parent) setAudit(f *os.File) {
	switch to := p.cfg.Log.Audit; {
	case f == nil:
		p.endAudit()
	case p.audit == nil:
		knock := p.knock
		p.audit = newAuditLog(to, p.cfg.Environment.Broker, f, func() { privsep.RawWrite(knock, []byte{auditKnock}) })
	default:
		p.audit.reopen(to, f)
	}
}

// turnAudit tells of a reload: where there is to be no audit log any more, at its end.
func (p *parent) turnAudit(r *revision) {
	e := &auditReload{Changed: keysOf(r.live)}
	if r.audit == nil {
		p.record(e)
	}
	p.setAudit(r.audit)
	if r.audit != nil {
		p.record(e)
	}
}

// recordCertificate tells of the one that is shown from now on.
func (p *parent) recordCertificate() {
	if c := p.credential(); c != nil {
		p.record(&auditCertificate{Number: c.number, Subject: c.leaf.Subject.String(), Serial: fmt.Sprintf("%x", c.leaf.SerialNumber),
			NotAfter: c.leaf.NotAfter.UTC().Format(auditTime)})
	}
}

// reopenAudit is for whoever has moved the file away, and has a configuration that
// cannot be read again.
func (p *parent) reopenAudit() {
	f, err := p.cfg.openAudit()
	if err != nil {
		p.log.Error().Err(err).Msg("audit log not opened again")
	} else if f != nil {
		p.setAudit(f)
	}
}

// auditFails says that the audit log cannot be written, or can be again.
func (p *parent) auditFails() {
	switch r := p.audit.report(); {
	case r == nil:
	case r.Error != "":
		p.log.Error().Bool("security", true).Str("error", r.Error).Uint64("lost", r.Lost).Msg("audit log not written")
	default:
		p.log.Warn().Uint64("lost", r.Lost).Msg("audit log written again")
	}
}

// endAudit has what is known written, as far as that does not take too long.
func (p *parent) endAudit() {
	if p.audit != nil {
		p.tellUses()
		p.audit.close()
		p.audit = nil
	}
}

// Names of keys in key_used.
const (
	keyServer = "tls_server"
	keyClient = "tls_client"
)

// useTime is how much of the use of a key is in one line: a line for each signature would
// be more than anybody reads.
const useTime = time.Minute

// keyUser is a process that uses a key.
type keyUser struct {
	key, role string
	pid       int
}

// usesOfKeys counts since the last lines.
type usesOfKeys struct {
	by    map[keyUser]*auditKeyUsed
	since time.Time // zero: there are none
}

// usedKey counts one signature for c, or that it got none.
func (p *parent) usedKey(key string, c *child, signed bool) {
	if p.audit == nil {
		return
	}
	w := &p.uses
	if w.since.IsZero() {
		w.since, w.by = time.Now(), map[keyUser]*auditKeyUsed{}
	}
	who := keyUser{key, c.id.String(), c.proc.PID}
	u := w.by[who]
	if u == nil {
		u = &auditKeyUsed{Key: key, Role: who.role, PID: who.pid, Since: w.since.UTC().Format(auditTime)}
		w.by[who] = u
	}
	if signed {
		u.Signed++
	} else {
		u.Refused++
	}
}

// tellUses writes what keys were used for since it did so last.
func (p *parent) tellUses() {
	var all []*auditKeyUsed
	for _, u := range p.uses.by {
		all = append(all, u)
	}
	p.uses = usesOfKeys{}
	slices.SortFunc(all, func(a, b *auditKeyUsed) int {
		return cmp.Or(cmp.Compare(a.Key, b.Key), cmp.Compare(a.Role, b.Role), a.PID-b.PID)
	})
	for _, u := range all {
		p.record(u)
	}
}

func (p *parent) usesByTime(now time.Time) {
	if due := p.usesDue(); !due.IsZero() && !now.Before(due) {
		p.tellUses()
	}
}

// usesDue is when the next such lines are due, zero: never.
func (p *parent) usesDue() time.Time {
	if p.uses.since.IsZero() {
		return time.Time{}
	}
	return p.uses.since.Add(useTime)
}

// Events of an AUDIT: auth's, and the router's.
const (
	loginTold   = "login"
	refusalTold = "login refused"
	denialTold  = "not permitted"
)

// auditFrom takes what auth says of a login, or the router of what a profile does not
// allow.
func (p *parent) auditFrom(c *child, m *privsep.Message) error {
	line, err := privsep.DecodeLog(m.Payload)
	if err != nil {
		return err
	}
	denial := line.Event == denialTold
	if denial != (c.id.Role == privsep.RoleRouter) || !denial && line.Event != loginTold && line.Event != refusalTold {
		return privsep.ErrShape
	}
	if p.audit == nil {
		return nil // it has not heard of that yet
	}
	p.audit.missed(uint64(line.Dropped))
	if denial {
		e := &auditDenied{Omitted: uint64(line.Dropped)}
		e.take(line.Fields)
		p.record(e)
		return nil
	}
	refused := &auditLoginRefused{auditLogin: auditLogin{Omitted: uint64(line.Dropped)}}
	refused.take(line.Fields)
	if line.Event == refusalTold {
		p.record(refused)
		return nil
	}
	login := refused.auditLogin
	p.record(&auditLoginAccepted{login})
	if login.Ticket != "" {
		p.record(&auditTicketUsed{Ticket: login.Ticket, CID: login.CID, User: login.User, From: login.From})
	}
	return nil
}

// take reads the fields of an AUDIT of the router's.
func (d *auditDenied) take(fields []privsep.Field) {
	texts := map[privsep.LogKey]*string{
		privsep.KeyUser: &d.User, privsep.KeyOrganisation: &d.Organisation, privsep.KeyProfile: &d.Profile,
		privsep.KeyReason: &d.What, privsep.KeySubject: &d.About,
	}
	for _, f := range fields {
		switch text := texts[f.Key]; {
		case text != nil && !f.Number:
			*text = f.Text
		case f.Key == privsep.KeyCID && f.Number:
			d.CID = uint64(f.Int)
		case f.Key == privsep.KeyN && f.Number && f.Int > 0:
			d.Omitted += uint64(f.Int)
		}
	}
}

// take reads the fields of an AUDIT of auth's.
func (l *auditLoginRefused) take(fields []privsep.Field) {
	texts := map[privsep.LogKey]*string{
		privsep.KeyAddr: &l.Addr, privsep.KeyKind: &l.Kind, privsep.KeyUser: &l.User, privsep.KeyOrganisation: &l.Organisation,
		privsep.KeyProfile: &l.Profile, privsep.KeySubject: &l.Subject, privsep.KeyExecutable: &l.Executable, privsep.KeyTicket: &l.Ticket,
		privsep.KeyFrom: &l.From, privsep.KeyReason: &l.Reason, privsep.KeyErr: &l.Error,
	}
	for _, f := range fields {
		switch text := texts[f.Key]; {
		case text != nil && !f.Number:
			*text = f.Text
		case f.Key == privsep.KeyCID && f.Number:
			l.CID = uint64(f.Int)
		case f.Key == privsep.KeyUID && f.Number:
			l.UID = &f.Int
		}
	}
}
