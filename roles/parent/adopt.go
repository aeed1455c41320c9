package parent

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"slices"
	"time"

	"gatehouse/privsep"
	"gatehouse/store"
)

// past is what of a broker whose parent is no more can be gone on with.
type past struct {
	registry *privsep.Registry
	alive    []*privsep.Child
	files    map[privsep.FileID]int // segments and listeners, our copies
	numbers  []uint16               // of the listeners that the dispatcher may have
}

const (
	claimTime = 3 * time.Second // for all survivors together to answer
	endTime   = 5 * time.Second // for one that was killed
)

// remember finds what an earlier parent left. Nothing of it is changed yet but
// that strangers are ended: where a process is not what the registry says, and
// where not all that is needed can be had. Whatever is then still there will be
// adopted.
func (p *parent) remember() {
	g, err := privsep.ReadRegistry(p.dir.file("registry"))
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	if err != nil {
		p.leftAlone = true
		p.log.Error().Err(err).Msg("processes of an earlier parent, if there are any, are left to themselves")
		return
	}
	w := &past{registry: g, files: map[privsep.FileID]int{}}
	for i := range g.Components {
		p.recover(w, &g.Components[i])
	}
	if len(w.alive) == 0 {
		return
	}
	if reason := p.unusable(w); reason != "" {
		p.endPast(w, reason)
		return
	}
	p.past = w
}

// recover finds one process.
func (p *parent) recover(w *past, r *privsep.Record) {
	c, differs, err := privsep.Recover(r)
	if errors.Is(err, privsep.ErrNoProcess) {
		return
	}
	if err != nil {
		p.leftAlone = true
		p.log.Error().Str("role", r.ID.String()).Int("pid", r.PID).Err(err).Msg("not adopted, left alone")
		return
	}
	same := slices.IndexFunc(w.alive, func(o *privsep.Child) bool { return o.ID == c.ID })
	switch {
	case !p.root:
		differs = "without root it keeps what it has to itself"
	case differs == "" && same >= 0: // it had not yet taken over from the other
		differs = "there is another"
	}
	if differs != "" {
		p.endSurvivor(c, differs)
		return
	}
	w.alive = append(w.alive, c)
}

// unusable names what keeps all survivors from being adopted, "" if nothing
// does.
func (p *parent) unusable(w *past) string {
	if w.registry.Settings != p.settingsDigest() {
		return settingsChanged
	}
	wanted := map[privsep.FileID]bool{}
	for _, s := range w.registry.Segments {
		wanted[s.FileID] = true
	}
	for _, l := range w.registry.Listeners {
		wanted[l.FileID] = true
	}
	for _, c := range w.alive {
		got, err := c.TakeFDs(wanted)
		for id, fd := range got {
			w.files[id] = fd
		}
		if err != nil {
			return err.Error()
		}
	}
	return w.missing()
}

const settingsChanged = "the settings have changed"

// missing names a segment that cannot be had any more, "" if there is none.
func (w *past) missing() string {
	for _, s := range w.registry.Segments {
		if _, ok := w.files[s.FileID]; !ok {
			return fmt.Sprintf("nobody has segment %v of cm/%d any more", s.Kind, s.Index)
		}
	}
	return ""
}

// endPast ends all survivors; everything begins anew.
func (p *parent) endPast(w *past, reason string) {
	for _, c := range w.alive {
		p.endSurvivor(c, reason)
	}
	for _, fd := range w.files {
		privsep.CloseFD(fd)
	}
}

// endSurvivor ends one that cannot be adopted, and waits for it: what it holds
// is needed.
func (p *parent) endSurvivor(c *privsep.Child, reason string) {
	p.log.Warn().Str("role", c.ID.String()).Int("pid", c.PID).Str("reason", reason).Msg("not adopted, ended")
	p.record(&auditAdoptionRefused{Role: c.ID.String(), PID: c.PID, Reason: reason})
	if err := c.Signal(sigKill); err != nil {
		p.log.Error().Str("role", c.ID.String()).Err(err).Msg("kill")
	} else if !c.AwaitEnd(endTime) {
		p.log.Error().Str("role", c.ID.String()).Msg("it does not end")
	}
	c.Forget()
}

// settingsDigest covers what holds from the start on (liveness): where that has
// changed nobody can be gone on with. The rest the adopted are told.
func (p *parent) settingsDigest() [32]byte {
	return sha256.Sum256(fmt.Appendf(nil, "%q %v %v", p.cfg.frozen(), p.root, p.alone))
}

// segment gives a segment of the past, nil if there is none.
func (w *past) segment(kind privsep.SegmentKind, index, size int) (*os.File, error) {
	if w == nil {
		return nil, nil
	}
	for _, s := range w.registry.Segments {
		if fd, ok := w.files[s.FileID]; ok && s.Kind == kind && s.Index == index {
			return store.Reopen(fd, "gatehouse-"+kind.String(), size)
		}
	}
	return nil, nil
}

// listeners gives those of the past that the dispatcher has, if it lives, and the
// networks of all that ever were; of what is not known any more NetNone.
func (w *past) listeners() (all []bound, networks []privsep.Network) {
	if w == nil {
		return nil, nil
	}
	networks = make([]privsep.Network, w.registry.Numbered)
	// Of a removal the dispatcher may not have heard: it is told again of what is
	// not there.
	for n := max(0, len(networks)-tellAgain); n < len(networks); n++ {
		w.numbers = append(w.numbers, uint16(n))
	}
	w.registry.Listeners = slices.DeleteFunc(w.registry.Listeners, func(l privsep.ListenerRecord) bool {
		fd, ok := w.files[l.FileID]
		if !ok || int(l.Number) >= len(networks) {
			return false // the dispatcher died, or had not got this one yet
		}
		b := bound{fd: fd, id: l.FileID, number: l.Number, network: l.Network, asked: l.Asked, address: l.Address}
		if l.Network.Local() {
			b.path = l.Address
		} else if ap, err := netip.ParseAddrPort(l.Address); err == nil {
			b.at(ap)
		}
		networks[l.Number] = l.Network
		all, w.numbers = append(all, b), append(w.numbers, l.Number)
		delete(w.files, l.FileID)
		return true
	})
	return all, networks
}

// tellAgain bounds how many listeners an adopted dispatcher is told of at once.
const tellAgain = 100

// address is where a listener of the past was that was asked for like b.
func (w *past) address(b *bound) (ap netip.AddrPort) {
	if w == nil || b.path != "" {
		return ap
	}
	for i, l := range w.registry.Listeners {
		if l.Network == b.network && l.Asked == b.asked {
			ap, _ = netip.ParseAddrPort(l.Address)
			w.registry.Listeners = slices.Delete(w.registry.Listeners, i, i+1) // one for each
			break
		}
	}
	return ap
}

// number goes on with the numbers of certificates: that of the past if it is the
// same one.
func (w *past) number(c *credential) uint32 {
	switch {
	case w == nil:
		return 1
	case w.registry.Certificate > 0 && w.registry.Chain == c.digest():
		return w.registry.Certificate
	}
	return w.registry.Certificate + 1
}

// record is the last that there is of a component, zero if there is none.
func (w *past) record(id privsep.ID) (r privsep.Record) {
	if w == nil {
		return r
	}
	for _, c := range w.registry.Components {
		if c.ID == id && c.Generation > r.Generation {
			r = c
		}
	}
	return r
}

// spares tells that what lies in the runtime directory is still that of an
// earlier parent, for the next one if this one fails.
func (p *parent) spares() bool {
	if p.dir != nil && !p.recalled {
		_, err := os.Lstat(p.dir.file("registry"))
		return err == nil
	}
	return (p.past != nil || p.leftAlone) && !p.settled
}

// adoptAll takes over those who have survived. One that does not answer as it
// should is ended, and is started like those that had died.
func (p *parent) adoptAll() {
	p.settled = true
	w := p.past
	if w == nil {
		return
	}
	var claimed []*child
	for _, s := range w.alive {
		c := p.placeOf(s)
		if c == nil {
			p.endSurvivor(s, "there is no such component any more")
			continue
		}
		c.proc, c.generation = s, s.Record.Generation
		ch, err := s.Claim(p.dir.door(c.id, c.generation), c.generation)
		if err != nil {
			p.disown(c, err.Error())
			continue
		}
		c.ch = ch
		claimed = append(claimed, c)
	}
	end := time.Now().Add(claimTime)
	facts := map[*child]*privsep.Adopted{}
	for _, c := range claimed {
		a, reason := p.answer(c, max(time.Until(end), 0))
		if reason != "" {
			p.disown(c, reason)
			continue
		}
		facts[c] = a
	}
	for _, c := range claimed {
		if a := facts[c]; a != nil {
			p.adopt(c, a)
		}
	}
	begun := p.goOnChanging(facts)
	p.writeRegistry()
	p.rejoin(facts)
	for _, ch := range begun {
		p.turn(ch)
	}
	for _, fd := range w.files {
		privsep.CloseFD(fd)
	}
	w.files = nil
}

// placeOf finds the place that a survivor has.
func (p *parent) placeOf(s *privsep.Child) *child {
	for _, c := range p.children {
		if uid, _ := p.ids(c); c.id == s.ID && uid == s.Record.UID {
			return c
		}
	}
	return nil
}

// disown ends a survivor that was to be adopted.
func (p *parent) disown(c *child, reason string) {
	if c.ch != nil {
		c.ch.Close()
		c.ch = nil
	}
	proc := c.proc
	c.proc, c.state = nil, gone
	p.endSurvivor(proc, reason)
	privsep.RemoveSocket(p.dir.door(c.id, c.generation))
}

// answer waits for what a survivor says to a new parent; reason is what speaks
// against it.
func (p *parent) answer(c *child, timeout time.Duration) (a *privsep.Adopted, reason string) {
	var m privsep.Message
	if err := c.ch.RecvWait(&m, timeout); err != nil {
		return nil, "no answer: " + err.Error()
	}
	a = new(privsep.Adopted)
	switch err := a.Parse(m.Payload); {
	case err != nil:
		return nil, err.Error()
	case a.Version != privsep.Version:
		return nil, fmt.Sprintf("version %d of the role protocol, not %d", a.Version, privsep.Version)
	case a.Layout != store.LayoutVersion && c.id.Role.Maps(): // the others have none
		return nil, fmt.Sprintf("version %d of the shared memory, not %d", a.Layout, store.LayoutVersion)
	case a.Generation != c.generation:
		return nil, "another generation"
	case a.Leaving:
		return nil, "it is about to end"
	case len(a.Peers) > len(p.children):
		return nil, "more peers than there are"
	}
	if differs := p.unconfined(c); differs != "" {
		return nil, "not confined: " + differs
	}
	return a, ""
}

// adopt makes a survivor a child of ours.
func (p *parent) adopt(c *child, a *privsep.Adopted) {
	err := p.poll.Add(c.ch.FD(), c.token, privsep.In)
	if err == nil {
		err = p.poll.Add(c.proc.PidFD, c.token+1, privsep.In)
	}
	if err != nil {
		p.disown(c, err.Error())
		return
	}
	c.ch.SetPhase(privsep.PhaseRun)
	c.state, c.everRan, c.adopted = running, true, true
	c.started, c.walls = privsep.StartedAt(c.proc.Record.StartTime), a.Sandbox
	c.certificate = a.Certificate
	c.reloads = p.reloads - 1 // what has changed is not known: it is told everything
	if c.id.Role == privsep.RoleDispatcher || c.id.Role == privsep.RoleConsole {
		c.listens = p.past.numbers
	}
	if c.id.Role == privsep.RoleDispatcher {
		p.adoptDispatcherKey(privsep.Key(a.Handoff), c)
	}
	p.noteMissing(c)
	p.log.Info().Str("role", c.id.String()).Int("pid", c.proc.PID).Int("uid", c.proc.Record.UID).Msg("role adopted")
	p.record(&auditRoleAdopted{Role: c.id.String(), PID: c.proc.PID, UID: c.proc.Record.UID})
}

// rejoin tells the adopted what they have missed: who has ended, who has come,
// and the certificate if it is a new one.
func (p *parent) rejoin(facts map[*child]*privsep.Adopted) {
	for _, c := range p.children { // the router first
		if c.state == running {
			p.resettle(c)
		}
	}
	for _, c := range p.children {
		if c.id.Role != privsep.RoleCM {
			continue
		}
		if c.state != running {
			if c.generation > 0 {
				p.tellGone(c)
			}
			continue
		}
		if cred := p.credential(); cred != nil && c.certificate != cred.number {
			p.sendCredential(c)
		}
		for o, a := range facts {
			knows := c.id.Index < len(a.Peers) && a.Peers[c.id.Index] == c.generation
			switch {
			case knows || o.state != running:
			case o.id.Role == privsep.RoleDispatcher && c.leaves():
			case o.id.Role == privsep.RoleDispatcher:
				p.joinPeers(o, c)
			case o.id.Role == privsep.RoleRouter:
				gone := privsep.CMGone{CM: c.id.Index, Generation: c.generation - 1}
				p.send(o, privsep.KindCMGone, gone.Append(nil))
				p.joinBells(o, c)
			}
			p.tellRetiring(o, c)
		}
	}
	// What was asked on the way that they had is asked again.
	router := p.find(privsep.ID{Role: privsep.RoleRouter})
	for _, role := range []privsep.Role{privsep.RoleAuth, privsep.RoleConsole} {
		if c := p.find(privsep.ID{Role: role}); router != nil && c != nil {
			p.joinPeers(router, c)
		}
	}
}
