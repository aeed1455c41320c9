package parent

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/rs/zerolog"

	"gatehouse/privsep"
	"gatehouse/privsep/custody"
)

// reload.go is SIGHUP: the configuration, certificates and key are read again,
// all of it, and then either all of it or nothing holds. liveness says which
// options a running broker takes over.

// reloading is a reload that the roles have been told of.
type reloading struct {
	ask  uint64 // answered by a role that has taken it over; 0: none is under way
	by   time.Time
	line func(*zerolog.Event) // what is said of it
}

// reloadTime is how long the roles may take, all together.
const reloadTime = 5 * time.Second

// revision is a configuration that can no longer fail.
type revision struct {
	cfg       *Config
	source    string
	live      []difference
	held      []difference
	listeners []bound
	*files
	audit *os.File // nil: there is to be none
}

// reload takes over what the configuration says now. What is wrong with it is
// one line of the log, and changes nothing.
func (p *parent) reload() {
	if p.stopping {
		p.log.Warn().Msg("reload refused: the broker is stopping")
		return
	}
	p.endReload()
	p.notify.reloading()
	r, err := p.revise()
	switch {
	case errors.Is(err, custody.ErrIdentity):
		p.fatal = err
	case err != nil:
		p.log.Error().Err(err).Msg("reload failed: everything stays as it is")
		p.reopenAudit()
		p.record(&auditReloadFailed{Reason: err.Error()})
		p.notify.failed(p.up, err)
	default:
		p.apply(r)
	}
}

// revise does everything of a reload that can fail.
func (p *parent) revise() (r *revision, err error) {
	file, keys, source, err := p.readAgain()
	if err != nil {
		return nil, err
	}
	e := file.Effective()
	if err := develop(e); err != nil {
		return nil, err
	}
	r = &revision{cfg: p.cfg.takeLive(e), source: source}
	r.live, r.held = differences(p.cfg, e)
	bad := func(e *ConfigError) *ConfigError {
		if e.File = source; source == BuiltIn {
			e.File = ""
		}
		if e.Line == 0 {
			e.Line = keys.line(e.Key)
		}
		return e
	}
	var broken *ConfigError
	if errors.As(r.cfg.check(keys.without(startOnly()...)), &broken) {
		// The file is sound, so it is what runs on that does not go with it.
		broken.Text += ", and " + keysOf(r.held) + " will change at the next start only"
		return nil, bad(broken)
	}
	if p.alone && r.cfg.listens() {
		return nil, bad(&ConfigError{Key: "listen.tcp", Text: "clients need a whole broker, which a tlsd that runs alone becomes at the next start only"})
	}
	var key string
	if r.listeners, key, err = p.listenersOf(r.cfg); err != nil {
		return nil, bad(&ConfigError{Key: key, Text: err.Error() + p.inTheWay(r.cfg, err)})
	}
	if r.files, err = r.cfg.readFiles(nil); err == nil {
		if r.audit, err = r.cfg.openAudit(); err != nil {
			r.files.close()
		}
	}
	if err != nil {
		p.closeFresh(r.listeners)
		if errors.As(err, &broken) {
			return nil, bad(broken)
		}
		return nil, err
	}
	return r, nil
}

// discard lets go of a revision that is not to be.
func (p *parent) discard(r *revision) {
	p.closeFresh(r.listeners)
	r.files.close()
	if r.audit != nil && r.audit != os.Stderr {
		r.audit.Close()
	}
}

// readAgain reads the configuration from where it came from.
func (p *parent) readAgain() (cfg *Config, keys *written, source string, err error) {
	source = p.source
	if source == BuiltIn {
		source = DefaultPath
	}
	cfg, keys, err = loadConfig(source)
	if p.source == BuiltIn && errors.Is(err, fs.ErrNotExist) {
		return builtIn(), nil, BuiltIn, nil
	}
	return cfg, keys, source, err
}

// inTheWay adds what an operator can do about an address that the running
// listeners keep.
func (p *parent) inTheWay(cfg *Config, err error) string {
	if !errors.Is(err, syscall.EADDRINUSE) {
		return ""
	}
	for _, b := range p.listeners {
		if b.path == "" && strings.Contains(err.Error(), fmt.Sprintf(":%d:", b.port)) && !slices.Contains(cfg.Listen.TCP, b.asked) && !slices.Contains(cfg.Listen.TLS, b.asked) {
			return ": this broker's own " + b.address + " is closed by a first reload and the new one opened by a second"
		}
	}
	return ""
}

// apply makes a revision what runs. The router hears of it first: a cm may send
// at once what a larger limit allows.
func (p *parent) apply(r *revision) {
	p.noteLife(r.cfg.Limits.AuthTimeout)
	before, hindered, far := openness(p.cfg), p.inspections.hinders(p.cfg), p.cfg.Console.far()
	p.cfg, p.source = r.cfg, r.source
	p.log = newLog(r.cfg)
	p.tellUses() // of the keys before
	p.turnAudit(r)
	p.warnInstead(before, openness(p.cfg))
	p.hinderedInstead(hindered)
	p.warnInstead(far, p.cfg.Console.far())
	before, p.exposed = p.exposed, p.cfg.Exposed(p.source)
	p.warnInstead(before, p.exposed)
	p.setListeners(r.listeners)
	p.settings.Live = p.liveSettings(r.cfg)
	p.setProfiles(r.cfg.Profiles)
	p.setApproval(r.approval)
	p.setUsers(r.cfg, r.issuers, r.directory)
	p.setSharing(r.shared)
	p.setCredential(r.cred)
	p.recordCertificate()
	p.setTransferKey(r.transfer)
	p.reloads++
	p.writeRegistry() // before anybody acts by it
	for _, first := range []bool{true, false} {
		for _, c := range p.children {
			if (c.id.Role == privsep.RoleRouter) != first || c.state != running || c.standsBy() {
				continue
			}
			if p.resettle(c); r.cred != nil {
				p.sendCredential(c)
			}
		}
	}
	p.held = nil
	for _, d := range r.held {
		p.held = append(p.held, Held{Key: d.key, Running: d.running, File: d.file})
	}
	p.reloading = reloading{ask: p.askAll(), by: time.Now().Add(reloadTime), line: func(e *zerolog.Event) {
		e.Str("changed", keysOf(r.live))
		if r.cred != nil {
			e.Uint32("number", r.cred.number).Str("subject", r.cred.leaf.Subject.String()).Time("not_after", r.cred.leaf.NotAfter)
		}
		e.Msg("reloaded")
	}}
}

// resettle gives a child what has changed since it was told last. One that is
// starting gets it when it is ready; one that stands by, for which a first word
// means that its turn has come, gets it then.
func (p *parent) resettle(c *child) {
	p.giveApproval(c)
	if c.reloads == p.reloads {
		return
	}
	c.reloads = p.reloads
	if c.id.Role == privsep.RoleRouter {
		p.giveProfiles(c)
	}
	p.giveUsers(c)
	p.giveSharing(c)
	p.giveWays(c)
	p.send(c, privsep.KindSettings, p.settings.Live.Append(nil))
	p.giveListeners(c)
}

// askAll asks all roles for their counters, and thereby whether they have done
// what they were told before.
func (p *parent) askAll() uint64 {
	p.lastAsk++
	get := privsep.StatsGet{ID: p.lastAsk}
	for _, c := range p.children {
		p.send(c, privsep.KindStatsGet, get.Append(nil))
	}
	return p.lastAsk
}

// reloadByTime says that a reload is over once every role has taken it, or that
// one has not in time.
func (p *parent) reloadByTime(now time.Time) {
	if p.reloading.ask != 0 && (p.allAnswered(p.reloading.ask) || now.After(p.reloading.by)) {
		p.endReload()
	}
}

func (p *parent) endReload() {
	r := p.reloading
	if r.ask == 0 {
		return
	}
	p.reloading = reloading{}
	for _, c := range p.children {
		if c.state == running && c.statsID < r.ask {
			p.log.Warn().Str("role", c.id.String()).Msg("role has been told of the reload and has not answered yet")
		}
	}
	r.line(p.log.Info())
	for _, h := range p.held {
		p.log.Warn().Str("key", h.Key).Str("running", h.Running).Str("file", h.File).Msg("takes effect at the next start")
	}
	p.notify.ready(p.up, p.stateText())
}

// life is how long the tickets were good that were issued up to a moment.
type life struct {
	until uint64 // Uptime of that moment
	long  time.Duration
}

// noteLife keeps the rule for the tickets that there are when auth_timeout
// changes: none is cut short, and none that is past comes back.
func (p *parent) noteLife(next time.Duration) {
	if next != p.cfg.Limits.AuthTimeout {
		p.lives = append(p.lives, life{privsep.Uptime(), p.cfg.Limits.AuthTimeout + ticketGrace})
	}
}

// lifeOf gives the life of a ticket by when it was issued.
func (p *parent) lifeOf(issued uint64) time.Duration {
	for _, l := range p.lives {
		if issued <= l.until {
			return l.long
		}
	}
	return p.cfg.Limits.AuthTimeout + ticketGrace
}

// longestLife bounds the lives of all tickets that can still be good.
func (p *parent) longestLife() time.Duration {
	now := privsep.Uptime()
	p.lives = slices.DeleteFunc(p.lives, func(l life) bool { return now-l.until > uint64(l.long/time.Millisecond) })
	longest := p.cfg.Limits.AuthTimeout + ticketGrace
	for _, l := range p.lives {
		longest = max(longest, l.long)
	}
	return longest
}
