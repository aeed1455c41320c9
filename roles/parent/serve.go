package parent

import (
	"crypto/rand"
	"encoding/base32"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"strings"
	"syscall"
	"time"

	"github.com/rs/zerolog"

	"gatehouse/privsep"
	"gatehouse/privsep/custody"
)

const sigKill = syscall.SIGKILL

// parent is all that the root process knows.
type parent struct {
	cfg      *Config // that which runs: Effective, and what reloads changed of it
	source   string  // where it came from
	settings privsep.Settings
	log      zerolog.Logger
	root     bool
	cms      int
	alone    bool // there is nothing but a tlsd
	started  time.Time
	began    uint64 // the same, as Uptime has it
	warnings []string
	exposed  string   // that of them which is about the configuration's file
	missing  []string // what the kernel does not give the roles
	told     bool     // about missing

	exe       *os.File
	dir       *runDir
	upgrade   *upgrade // nil: none is under way
	past      *past    // nil: nothing to go on with
	recalled  bool     // what an earlier parent has left is known
	leftAlone bool     // some of it that could not be looked at
	settled   bool     // it is known who is adopted: from now on everything is ours
	poll      *privsep.Poller
	children  []*child
	segments  []*segment
	listeners []bound
	ways      ways                       // nil: there is one tlsd, or none
	lastWay   uint64                     // number
	worn      [privsep.MaxTLSShards]bool // a tlsd has ended that had them
	control   *controlSocket
	signals   int // fd that becomes readable with a signal
	knock     int // its other end
	caught    chan os.Signal
	digests   chan digest
	digested  bool
	sum       [32]byte  // of exe, once digested
	audit     *auditLog // nil: there is none
	uses      usesOfKeys
	fatal     error // ends the broker: nothing may go on after it

	notify notifier
	up     bool // the start is over

	reloads     uint64 // that have changed something
	reloading   reloading
	held        []Held // what the file says otherwise, for the next start
	mostPayload Size   // that was in force since the start
	profiles    profileSet
	userSet     userSet
	lives       []life // of tickets, before auth_timeout changed

	networks       []privsep.Network // of all listeners there have been, by number
	credentials    []*credential     // the present one last
	credNumber     uint32            // of the last one
	dispatcherKeys []dispatcherKey
	used           usedTickets
	signatures     uint64
	unsigned       uint64
	transfers      transfers
	approval       approval
	inspections    inspections
	sharing        sharing
	showing        showing
	untidy, tidied time.Time // last use of a key, last sweep of the memory
	buf            []byte

	offences map[offenceKey]uint64
	unknown  []string // what this kernel does not say of a sender

	failed   []privsep.ID // never got ready
	stopping bool
	stopBy   time.Time
	hurried  bool // the cms have been told that time is up
	lastAsk  uint64
	lastKick uint64
	msg      privsep.Message
}

// Serve runs the broker until it is told to stop, and returns once nothing of
// it is left. source names the configuration in the log. Errors are those of
// the start; whatever happens later is logged and mended.
func Serve(cfg *Config, source, version string) error {
	privsep.RelaxTimers()
	// Children must come from a thread that does not end before them.
	runtime.LockOSThread()
	if err := privsep.TakeTitle(privsep.ID{Role: privsep.RoleParent}); err != nil {
		return err
	}
	if err := privsep.CloseRange(); err != nil {
		return err
	}
	// What signatures leave is erased when it is collected, and the more of it
	// there is the slower each gets.
	debug.SetGCPercent(50)
	h, err := takeHandover()
	if err != nil {
		return err
	}
	missing, err := custody.Harden()
	if err != nil {
		return goBack(h, err)
	}
	p := &parent{source: source, cfg: cfg.Effective(), root: os.Geteuid() == 0, started: time.Now(), began: privsep.Uptime(),
		offences: map[offenceKey]uint64{}}
	p.log = newLog(cfg)
	for _, m := range missing {
		p.warn("this machine keeps the parent's memory less well: " + m)
	}
	if err := p.prepare(version, h); err != nil {
		err = goBack(h, err)
		p.cleanUp()
		return err
	}
	p.log.Info().Str("version", version).Str("config", source).Int("pid", os.Getpid()).Strs("listen", p.addresses()).Msg("starting")
	if h == nil { // else it is an upgrade
		p.record(&auditStart{Version: version, PID: os.Getpid(), Config: source})
	}
	for _, w := range p.warnings {
		p.log.Warn().Msg(w)
	}
	p.recordCertificate()
	p.makePlaces()
	p.adoptAll() // with capabilities that confine gives up
	err = p.confine()
	if err == nil {
		p.digestExe()
		err = p.startAll()
	}
	if h != nil && err == nil {
		p.continueUpgrade(h)
	} else if h != nil {
		p.upgrade = &upgrade{client: h.Client, old: os.NewFile(uintptr(h.Old), "the binary before")}
		p.turnBack(err.Error())
	}
	if err == nil {
		err = p.run()
	}
	p.endAll()
	p.cleanUp()
	return err
}

// prepare makes everything that can fail before the first child is started.
func (p *parent) prepare(version string, h *handover) error {
	if err := privsep.CheckBuild(); err != nil {
		return err
	}
	if !p.root {
		p.warnings = append(p.warnings, "not root: all roles run under this uid, without an empty root directory")
	}
	if open := openness(p.cfg); open != "" {
		p.warnings = append(p.warnings, open)
	}
	if far := p.cfg.Console.far(); far != "" {
		p.warnings = append(p.warnings, far)
	}
	if p.exposed = p.cfg.Exposed(p.source); p.exposed != "" {
		p.warnings = append(p.warnings, p.exposed)
	}
	if err := privsep.CheckKernel(); err != nil {
		return err
	}
	if p.inspections.lacks = privsep.CheckPeerProcess(); p.inspections.lacks != "" {
		p.warn("roles are known by pid, start time and uid alone: this kernel has no " + p.inspections.lacks)
	}
	for _, text := range p.inspections.hinders(p.cfg) {
		if text != "" {
			p.warnings = append(p.warnings, text)
		}
	}
	if err := privsep.RaiseFileLimit(); err != nil {
		p.warnings = append(p.warnings, err.Error())
	}
	var err error
	if p.notify, err = openNotify(); err != nil {
		p.warn("the service manager is told nothing: " + err.Error())
	}
	if p.dir, err = openRunDir(p.cfg.Privsep.RuntimeDir, h.lock()); err != nil {
		return err
	}
	if p.exe, err = privsep.OpenProgram("/proc/self/exe"); err != nil {
		return err
	}
	if p.poll, err = privsep.NewPoller(); err != nil {
		return err
	}
	if err := p.watchSignals(); err != nil {
		return err
	}
	if err := located(p.beginAudit(), p.source); err != nil {
		return err
	}
	p.alone = p.cfg.alone()
	if p.cms = p.cfg.CM.Count; p.alone {
		p.cms = 0
	}
	own := p.cfg.TLS.Cert != ""
	if err := develop(p.cfg); err != nil {
		return err
	}
	f, err := p.cfg.readFiles(nil)
	if err != nil {
		return located(err, p.source)
	}
	if err := p.recall(h); err != nil { // it may end processes
		return err
	}
	p.recalled = true
	if f.cred != nil {
		if !own {
			p.warn("TLS with a certificate made for development: " + p.cfg.TLS.Cert)
		}
		p.firstCredential(f.cred)
	}
	p.transfers.key = f.transfer
	if err := p.listen(); err != nil {
		return err
	}
	if p.control, err = openControl(p.dir.file("control"), p.poll); err != nil {
		return err
	}
	p.settings = p.makeSettings(version)
	p.setProfiles(p.cfg.Profiles)
	p.setApproval(f.approval)
	p.setUsers(p.cfg, f.issuers, f.directory)
	p.setSharing(f.shared)
	p.settings.ServerID = newServerID()
	if p.past != nil {
		p.settings.ServerID = p.past.registry.ServerID
	}
	if err := p.makeWays(); err != nil {
		return err
	}
	return p.makeSegments()
}

// makeSettings is what the roles may know of the configuration.
func (p *parent) makeSettings(version string) privsep.Settings {
	c := p.cfg
	s := privsep.Settings{
		Live: p.liveSettings(c), MaxControlLine: int(c.Limits.MaxControlLine),
		MaxConnections: c.Limits.MaxConnections, CMs: 2 * p.cms, Serving: p.cms,
		Arena: int(c.Store.Arena), Ring: int(c.Store.Ring), Journal: int(c.Store.Journal),
		Environment: c.Environment.Name, Broker: c.Environment.Broker, Version: version, TLSPorts: c.ports(),
		Release: c.TLS.KeyUse == KeyUseRelease, Trap: c.Privsep.Seccomp == SeccompTrap,
	}
	if p.root {
		s.Root = p.dir.file("empty")
	}
	return s
}

// newServerID is random, in the shape that nats-server's have: 'N' and 55 more
// of base 32.
func newServerID() string {
	var b [35]byte
	rand.Read(b[:])
	return "N" + strings.TrimRight(base32.StdEncoding.EncodeToString(b[:]), "=")[:55]
}

// watchSignals turns signals into bytes on a socket, so that they are events
// like all others.
func (p *parent) watchSignals() error {
	a, b, err := privsep.Doorbell()
	if err != nil {
		return err
	}
	p.signals, p.knock = a, b
	if err := p.poll.Add(a, tokenSignal, privsep.In); err != nil {
		return err
	}
	p.caught = make(chan os.Signal, 8)
	p.notifySignals()
	go func() {
		for s := range p.caught {
			privsep.RawWrite(b, []byte{byte(s.(syscall.Signal))})
		}
	}()
	return nil
}

func (p *parent) notifySignals() { signal.Notify(p.caught, ourSignals...) }

// recall finds what there is to go on with.
func (p *parent) recall(h *handover) error {
	if h == nil {
		p.remember()
		return nil
	}
	if err := p.receive(h); err != nil {
		return err
	}
	return p.rememberHanded(h)
}

// makePlaces makes the places for all processes, of which none is there yet. Half
// of them stay vacant, and those of auth and the console as long as nobody needs them. Without a
// listener for clients there are none but those of tlsd.
func (p *parent) makePlaces() {
	add := func(id privsep.ID, s state, second bool) {
		r := p.past.record(id)
		p.children = append(p.children, &child{id: id, state: s, second: second, token: tokenChild + 2*uint64(len(p.children)),
			generation: r.Generation, restarts: r.Restarts, everRan: r.Generation > 0})
	}
	if p.cfg.TLSD.Socket != "" {
		defer func() {
			for i := range p.cfg.TLSD.Shards {
				add(privsep.ID{Role: privsep.RoleTLSD, Index: i}, gone, false)
				add(privsep.ID{Role: privsep.RoleTLSD, Index: i}, vacant, true)
			}
		}()
	}
	if p.alone {
		return
	}
	add(privsep.ID{Role: privsep.RoleRouter}, gone, false)
	add(privsep.ID{Role: privsep.RoleDispatcher}, gone, false)
	auth := vacant
	if p.settings.Auth {
		auth = gone
	}
	add(privsep.ID{Role: privsep.RoleAuth}, auth, false)
	for i := range p.cms {
		add(privsep.ID{Role: privsep.RoleCM, Index: i}, gone, false)
	}
	for i := range p.cms {
		add(privsep.ID{Role: privsep.RoleCM, Index: p.cms + i}, vacant, false)
	}
	add(privsep.ID{Role: privsep.RoleRouter}, vacant, true)
	add(privsep.ID{Role: privsep.RoleDispatcher}, vacant, true)
	add(privsep.ID{Role: privsep.RoleAuth}, vacant, true)
	console := vacant
	if p.cfg.watched() {
		console = gone
	}
	add(privsep.ID{Role: privsep.RoleConsole}, console, false)
	add(privsep.ID{Role: privsep.RoleConsole}, vacant, true)
}

// startAll starts every role that is not there and waits until all are ready. One that does not
// get ready is the start's error.
func (p *parent) startAll() error {
	for _, c := range p.children {
		if c.state == running || c.state == vacant {
			continue
		}
		if err := p.start(c); err != nil {
			return fmt.Errorf("start %v: %w", c.id, err)
		}
	}
	for _, what := range p.unknown {
		p.warn("this kernel does not give the parent " + what + ": a sender is known by pid and uid")
		p.log.Warn().Msg(p.warnings[len(p.warnings)-1])
	}
	for !p.allRunning() || !p.digested {
		if err := p.step(); err != nil {
			return err
		}
		if len(p.failed) > 0 {
			return fmt.Errorf("start %v: it ended before it was ready (its last words are above)", p.failed[0])
		}
		if p.stopping {
			return nil
		}
	}
	p.tellMissing()
	p.up = true
	p.notify.ready(p.up, p.stateText())
	p.log.Info().Int("cms", p.cms).Strs("listen", p.addresses()).Strs("console", p.addressesOf(true)).Msg("ready")
	return nil
}

func (p *parent) allRunning() bool {
	for _, c := range p.children {
		if c.state != running && c.state != vacant {
			return false
		}
	}
	return true
}

// addresses are where processes other than the console are reached.
func (p *parent) addresses() []string { return p.addressesOf(false) }

func (p *parent) addressesOf(console bool) []string {
	as := []string{}
	for _, l := range p.listeners {
		if (l.acceptor() == privsep.RoleConsole) == console {
			as = append(as, l.address)
		}
	}
	return as
}

// endAll makes sure that no child is left.
func (p *parent) endAll() {
	p.stopping = true
	for _, c := range p.children {
		if c.alive() {
			p.kill(c)
		}
	}
	for p.anyAlive() {
		if err := p.step(); err != nil {
			return
		}
	}
}

func (p *parent) cleanUp() {
	p.endAudit()
	p.closeListeners()
	if p.control != nil {
		p.control.close()
	}
	switch {
	case p.dir == nil:
	case p.spares():
		p.dir.lock.Close() // the next parent needs what is there
	default:
		p.dir.close()
	}
}

// digest is what the executable holds, for the instantiation records.
type digest struct {
	sum [32]byte
	err error
}

// digestExe reads the executable on a thread of its own and at low priority:
// the roles can start, and whoever shares the machine can work, meanwhile.
func (p *parent) digestExe() {
	p.digests = make(chan digest, 1)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with its priority
		privsep.Background()
		sum, err := privsep.Digest(p.exe)
		p.digests <- digest{sum, err}
		privsep.RawWrite(p.knock, []byte{0})
	}()
}

// hasDigest completes the records of those that were started before.
func (p *parent) hasDigest() {
	d := <-p.digests
	p.digested = true
	if d.err != nil {
		p.log.Warn().Err(d.err).Msg("registry without digest")
		return
	}
	p.sum = d.sum
	for _, c := range p.children {
		if c.proc != nil && !c.adopted {
			c.proc.Record.SHA256 = d.sum
		}
	}
	p.writeRegistry()
}
