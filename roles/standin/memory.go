package standin

import (
	"fmt"
	"os"
	"time"

	"gatehouse/privsep"
	"gatehouse/store"
)

// Settings gives small settings for a role on its own, with n cms around it.
func Settings(n int) privsep.Settings {
	return privsep.Settings{
		Live: privsep.Live{
			MaxPayload: 256 << 10, MaxPending: 8 << 20,
			AuthTimeout: 2 * time.Second, PingInterval: 2 * time.Minute, PingMax: 2,
			WriteDeadline: 10 * time.Second, StallTimeout: 10 * time.Second, Host: "127.0.0.1",
			Login:          privsep.LoginSettings{Hashes: 2, Memory: 256 << 20, FailureRate: 2, FailureBurst: 10, Backoff: time.Minute},
			TLSD:           privsep.TLSDSettings{MaxSessions: 64, MaxCallers: 256, UIDSessions: 64, UIDCallers: 256, UIDMemory: 64 << 20},
			RequestTimeout: 30 * time.Second, SessionIdle: 5 * time.Minute,
		},
		MaxControlLine: 4 << 10, MaxConnections: 64, CMs: n, Serving: n, Arena: 1 << 20, Ring: 1 << 20, Journal: 16 << 20,
		Environment: "debug", Broker: "debug", Version: "debug", ServerID: "DEBUG",
	}
}

// Memory is the shared memory of a broker with the given settings.
type Memory struct {
	cfg   privsep.Settings
	files map[place]files
	maps  []*store.Segment // of the stand-ins
}

type place struct {
	kind  privsep.SegmentKind
	index int
}

// files are the two ways to map a segment.
type files struct {
	size   int
	rw, ro *os.File
}

// New makes all segments. Close gives them back.
func New(cfg privsep.Settings) (*Memory, error) {
	m := &Memory{cfg: cfg, files: make(map[place]files)}
	ring := store.RingDataSize(cfg.Ring)
	sizes := map[privsep.SegmentKind]int{
		privsep.SegRingUpData: ring, privsep.SegRingUpHead: store.RingHeadSize,
		privsep.SegRingDownData: ring, privsep.SegRingDownHead: store.RingHeadSize,
		privsep.SegArena:       store.ArenaSize(cfg.Arena),
		privsep.SegReturns:     store.ReturnsSize(cfg.CMs, store.Slots(cfg.Arena)),
		privsep.SegConnColumns: store.ConnColumnsSize(cfg.Places()),
		privsep.SegNamed:       store.NamedSize(store.Slots(cfg.Arena)),
	}
	err := m.create(place{privsep.SegConnTable, 0}, store.ConnTableSize(cfg.Places()))
	if err == nil {
		err = m.create(place{privsep.SegState, 0}, store.StateSize(cfg.Journal))
	}
	if err == nil {
		err = m.create(place{privsep.SegSessions, 0}, store.SessionsSize(cfg.Places()))
	}
	for i := range cfg.CMs {
		for kind, size := range sizes {
			if err == nil {
				err = m.create(place{kind, i}, size)
			}
		}
	}
	if err != nil {
		m.Close()
		return nil, err
	}
	return m, nil
}

func (m *Memory) create(p place, size int) error {
	rw, err := store.Create("gatehouse-standin-"+p.kind.String(), size)
	if err != nil {
		return err
	}
	ro, err := store.ReadOnly(rw)
	if err != nil {
		rw.Close()
		return err
	}
	m.files[p] = files{size, rw, ro}
	return nil
}

// Close ends the stand-ins' mappings, after which their Ends and Columns must
// not be used. What a role has mapped stays, as with a real parent.
func (m *Memory) Close() {
	for _, s := range m.maps {
		_ = s.Unmap() // fails for what is not mapped alone
	}
	m.maps = nil
	for _, f := range m.files {
		f.rw.Close()
		f.ro.Close()
	}
	clear(m.files)
}

func (m *Memory) mapped(kind privsep.SegmentKind, index int, writable bool) (*store.Segment, error) {
	f, ok := m.files[place{kind, index}]
	if !ok {
		return nil, fmt.Errorf("no segment %v of cm/%d", kind, index)
	}
	file := f.ro
	if writable {
		file = f.rw
	}
	s, err := store.Map(int(file.Fd()), f.size, writable)
	if err == nil {
		m.maps = append(m.maps, s)
	}
	return s, err
}

// Ends are the rings between a cm and the router as one of the two has them.
type Ends struct {
	Out *store.Producer
	In  *store.Consumer
}

// CMEnds gives the ends that cm i holds: records out, instructions in.
func (m *Memory) CMEnds(i int) (Ends, error) {
	return m.ends(i, privsep.SegRingUpData, privsep.SegRingUpHead, privsep.SegRingDownData, privsep.SegRingDownHead)
}

// RouterEnds gives the ends that the router holds towards cm i: instructions
// out, records in.
func (m *Memory) RouterEnds(i int) (Ends, error) {
	return m.ends(i, privsep.SegRingDownData, privsep.SegRingDownHead, privsep.SegRingUpData, privsep.SegRingUpHead)
}

func (m *Memory) ends(i int, outData, outHead, inData, inHead privsep.SegmentKind) (e Ends, err error) {
	var segs [4]*store.Segment
	for k, s := range []struct {
		kind   privsep.SegmentKind
		writes bool
	}{{outData, true}, {outHead, false}, {inData, false}, {inHead, true}} {
		if segs[k], err = m.mapped(s.kind, i, s.writes); err != nil {
			return Ends{}, err
		}
	}
	if e.Out, err = store.NewProducer(segs[0], segs[1]); err != nil {
		return Ends{}, err
	}
	e.In, err = store.NewConsumer(segs[2], segs[3])
	return e, err
}

// Named gives the router's words on the arena of cm i; writable as the router has
// them, else as that cm does.
func (m *Memory) Named(i int, writable bool) (*store.Named, error) {
	s, err := m.mapped(privsep.SegNamed, i, writable)
	if err != nil {
		return nil, err
	}
	return store.NewNamed(s, store.Slots(m.cfg.Arena))
}

// Table gives the dispatcher's part of the connection table, to write.
func (m *Memory) Table() (*store.ConnTable, error) {
	s, err := m.mapped(privsep.SegConnTable, 0, true)
	if err != nil {
		return nil, err
	}
	return store.NewConnTable(s, m.cfg.Places())
}

// Sessions gives the router's word on connections; writable as the router has it, else
// as the console does.
func (m *Memory) Sessions(writable bool) (*store.Sessions, error) {
	s, err := m.mapped(privsep.SegSessions, 0, writable)
	if err != nil {
		return nil, err
	}
	return store.NewSessions(s, m.cfg.Places())
}

// Columns gives cm i's part of the connection table; writable as that cm has
// it, else as the dispatcher does.
func (m *Memory) Columns(i int, writable bool) (*store.ConnColumns, error) {
	s, err := m.mapped(privsep.SegConnColumns, i, writable)
	if err != nil {
		return nil, err
	}
	return store.NewConnColumns(s, m.cfg.Places())
}
