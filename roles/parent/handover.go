package parent

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"syscall"
	"time"

	"gatehouse/privsep"
	"gatehouse/tickets"
)

// handover is what a parent leaves to another binary that goes on in its
// process. The rest is in the registry, and with the children, which lose their
// parent for a moment and are adopted.
type handover struct {
	Version    int
	Lock       int    // fd of the runtime directory's lock, which is held all the time
	Made       bool   // that directory is the broker's
	Old        int    // fd of the binary that handed over, to go back to; -1: none
	Client     int    // fd of who asked for it, -1: nobody
	Back       string // why the other binary gave it back, "" on the way forward
	Files      []int  // fds of segments and listeners
	Children   []handedChild
	Keys       []handedKey
	Used       []uint64 // connections that have had their signature
	Started    time.Time
	Signatures uint64
	Unsigned   uint64
	Offences   []Offence

	lockFile *os.File // of Lock, so that nobody closes it
}

type handedChild struct {
	PID, PidFD, Memory int
	OwnNetwork         bool
}

// handedKey checks the tickets of a dispatcher that has ended.
type handedKey struct {
	Key   []byte
	Until time.Time
}

// handoverVersion is of the struct above.
const handoverVersion = 1

var errHandover = errors.New("what the parent before handed over makes no sense")

// takeHandover reads what was left for this process, nil if nothing was.
func takeHandover() (*handover, error) {
	b, err := privsep.Handover()
	if b == nil || err != nil {
		return nil, err
	}
	h := new(handover)
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(h); err != nil || h.Version != handoverVersion {
		return nil, errHandover
	}
	return h, nil
}

// lock is that of the runtime directory, nil if nothing was handed over.
func (h *handover) lock() *os.File {
	if h == nil {
		return nil
	}
	h.lockFile = os.NewFile(uintptr(h.Lock), "lock")
	return h.lockFile
}

// fds are all that must live through an exec.
func (h *handover) fds() []int {
	fds := slices.Concat([]int{h.Lock, h.Old, h.Client}, h.Files)
	for _, c := range h.Children {
		fds = append(fds, c.PidFD, c.Memory)
	}
	return slices.DeleteFunc(fds, func(fd int) bool { return fd < 0 })
}

// exec goes on as exe. It returns only with an error.
func (h *handover) exec(exe *os.File) error {
	b, err := json.Marshal(h)
	if err != nil {
		return err
	}
	return privsep.ExecInPlace(exe, b, h.fds())
}

// handOver collects what another binary needs to go on.
func (p *parent) handOver(old, client int, back string) *handover {
	h := &handover{Version: handoverVersion, Lock: int(p.dir.lock.Fd()), Made: p.dir.made, Old: old, Client: client, Back: back,
		Started: p.started, Signatures: p.signatures, Unsigned: p.unsigned, Offences: p.offenceList()}
	for _, s := range p.segments {
		h.Files = append(h.Files, int(s.rw.Fd()))
	}
	for _, l := range p.listeners {
		h.Files = append(h.Files, l.fd)
	}
	for _, c := range p.children {
		if c.proc != nil && c.alive() {
			h.Children = append(h.Children, handedChild{c.proc.PID, c.proc.PidFD, c.proc.MemoryFD(), c.proc.OwnNetwork})
		}
	}
	now := time.Now()
	for _, k := range p.dispatcherKeys {
		if k.until.IsZero() { // that of the present one it says itself
			k.until = now.Add(p.longestLife())
		}
		h.Keys = append(h.Keys, handedKey{k.key[:], k.until})
	}
	for _, half := range []map[uint64]struct{}{p.used.old, p.used.young} {
		for uid := range half {
			h.Used = append(h.Used, uid)
		}
	}
	return h
}

// execute hands over to exe. It returns only with an error, and all is as before.
// A signal that comes from now on until the other binary has begun is lost.
func (p *parent) execute(exe *os.File, h *handover) error {
	p.writeRegistry()
	if p.audit != nil {
		p.tellUses()
		p.audit.flush()
	}
	signal.Ignore(ourSignals...)
	err := h.exec(exe)
	p.notifySignals()
	return err
}

var ourSignals = []os.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGUSR1}

// receive takes over what was handed over, but for the processes.
func (p *parent) receive(h *handover) error {
	p.dir.made = h.Made
	p.started, p.signatures, p.unsigned = h.Started, h.Signatures, h.Unsigned
	for _, k := range h.Keys {
		if len(k.Key) != len(tickets.HandoffKey{}) {
			return errHandover
		}
		p.dispatcherKeys = append(p.dispatcherKeys, dispatcherKey{key: tickets.HandoffKey(k.Key), until: k.Until})
	}
	now := time.Now()
	for _, uid := range h.Used {
		p.used.use(uid, now, p.longestLife())
	}
	for _, o := range h.Offences {
		id, err := privsep.ParseID(o.Role)
		if err != nil {
			return errHandover
		}
		p.offences[offenceKey{id, offence{o.Kind, o.Reason}}] = o.Count
	}
	return nil
}

// rememberHanded is remember for a parent to which another one handed over:
// everything must be there.
func (p *parent) rememberHanded(h *handover) error {
	g, err := privsep.ReadRegistry(p.dir.file("registry"))
	if err != nil {
		return err
	}
	w := &past{registry: g, files: map[privsep.FileID]int{}}
	for _, fd := range h.Files {
		id, err := privsep.Stat(fd)
		if err != nil {
			return fmt.Errorf("%w: %v", errHandover, err)
		}
		w.files[id] = fd
	}
	for i := range g.Components {
		r := &g.Components[i]
		at := slices.IndexFunc(h.Children, func(c handedChild) bool { return c.PID == r.PID })
		if at < 0 {
			continue
		}
		hc := h.Children[at]
		c, err := privsep.Inherited(r, hc.PidFD, hc.Memory, hc.OwnNetwork)
		if err == nil {
			w.alive = append(w.alive, c)
		}
	}
	if g.Settings != p.settingsDigest() {
		return errors.New(settingsChanged)
	}
	if missing := w.missing(); missing != "" {
		return errors.New(missing)
	}
	p.past = w
	return nil
}
