package store

import (
	"fmt"
	"iter"
	"slices"
	"sync/atomic"
)

// The connection table is one segment of the dispatcher's, ConnTable, and one
// of each cm's, ConnColumns, all with the same rows: row i is connection slot i.
// The dispatcher gives out a slot; the cm that closes the connection says so in
// ClosedUID; only then may the slot be given out again.

// MaxConns bounds the number of rows.
const MaxConns = 1 << 24

const (
	tableCounters = 1 * line
	tableRows     = 4 * line
	rowSize       = 64
)

func tableSize(max int) int { return tableRows + max*rowSize }

func inRange(kind string, max int) error {
	if max < 1 || max > MaxConns {
		return fmt.Errorf("%s of %d rows: out of range", kind, max)
	}
	return nil
}

// TableCounters are the dispatcher's own figures since the table was made. Only
// the dispatcher stores into them: from another mapping that ends the process.
type TableCounters struct {
	Accepted atomic.Uint64 // handed to a cm
	Refused  atomic.Uint64 // max_connections
	Limited  atomic.Uint64 // connect_rate
	Crowded  atomic.Uint64 // address_connections
	LastUID  atomic.Uint64 // connection UID given last
	Reached  atomic.Uint64 // rows from this one on were never in use
}

// ConnTable is the dispatcher's part of the connection table.
type ConnTable struct {
	counters *TableCounters
	rows     []ConnRow
}

// ConnTableSize returns the size in bytes of a ConnTable segment of max rows.
func ConnTableSize(max int) int { return tableSize(max) }

// NewConnTable opens the table in seg, writable for the dispatcher alone.
func NewConnTable(seg *Segment, max int) (*ConnTable, error) {
	if err := inRange("conntab", max); err != nil {
		return nil, err
	}
	if err := claim(seg, "conntab", tableSize(max), uint64(max), 0); err != nil {
		return nil, err
	}
	return &ConnTable{
		counters: overlay[TableCounters](seg, tableCounters),
		rows:     overlaySlice[ConnRow](seg, tableRows, max),
	}, nil
}

// Counters returns the dispatcher's figures.
func (t *ConnTable) Counters() *TableCounters { return t.counters }

// Len returns the number of rows.
func (t *ConnTable) Len() int { return len(t.rows) }

// Row returns row i, nil when there is none.
func (t *ConnTable) Row(i int) *ConnRow {
	if uint(i) >= uint(len(t.rows)) {
		return nil
	}
	return &t.rows[i]
}

// Reach notes that row i is about to be in use. Dispatcher only.
func (t *ConnTable) Reach(i int) {
	if n := uint64(i) + 1; n > t.counters.Reached.Load() {
		t.counters.Reached.Store(n)
	}
}

// Reached returns how many rows from the first on may be in use, or have been. To
// look at more would make their pages come to be.
func (t *ConnTable) Reached() int { return int(min(t.counters.Reached.Load(), uint64(len(t.rows)))) }

// ConnInfo is what the dispatcher knows of a connection.
type ConnInfo struct {
	UID      uint64 // never 0
	CM       uint16
	Listener uint16
	Port     uint16
	Unix     bool
	System   bool     // the console's, by a socket of the parent's making
	Addr     [16]byte // IPv4-mapped or IPv6, zero for a Unix socket
	Accepted int64    // Unix time in nanoseconds
	Process  ConnProcess
}

// ConnProcess is which process has connected to a Unix socket, as the kernel says; the
// inode is that of its pidfd.
type ConnProcess struct {
	PID, UID, GID uint32
	PidIno        uint64
}

// ConnRow is one row in shared memory.
type ConnRow struct {
	uid, place, addrHi, addrLo, accepted atomic.Uint64
	owner, group, pidIno                 atomic.Uint64
}

// Set fills the row; it shows only once it is whole. Dispatcher only.
func (r *ConnRow) Set(i *ConnInfo) {
	place := uint64(i.CM) | uint64(i.Listener)<<16 | uint64(i.Port)<<32
	if i.Unix {
		place |= 1 << 48
	}
	if i.System {
		place |= 1 << 49
	}
	r.uid.Store(0)
	r.place.Store(place)
	r.addrHi.Store(le.Uint64(i.Addr[:]))
	r.addrLo.Store(le.Uint64(i.Addr[8:]))
	r.accepted.Store(uint64(i.Accepted))
	r.owner.Store(uint64(i.Process.PID) | uint64(i.Process.UID)<<32)
	r.group.Store(uint64(i.Process.GID))
	r.pidIno.Store(i.Process.PidIno)
	r.uid.Store(i.UID)
}

// SetCM notes that the connection has moved to another cm. Dispatcher only.
func (r *ConnRow) SetCM(cm uint16) { r.place.Store(r.place.Load()&^0xffff | uint64(cm)) }

// Clear empties the row. Dispatcher only.
func (r *ConnRow) Clear() { r.uid.Store(0) }

// UID returns the connection in this row, 0 for none.
func (r *ConnRow) UID() uint64 { return r.uid.Load() }

// Get returns the row; false when it is empty or being changed.
func (r *ConnRow) Get() (ConnInfo, bool) {
	i := ConnInfo{UID: r.uid.Load()}
	place := r.place.Load()
	i.CM, i.Listener, i.Port, i.Unix = uint16(place), uint16(place>>16), uint16(place>>32), place>>48&1 == 1
	i.System = place>>49&1 == 1
	le.PutUint64(i.Addr[:], r.addrHi.Load())
	le.PutUint64(i.Addr[8:], r.addrLo.Load())
	i.Accepted = int64(r.accepted.Load())
	owner := r.owner.Load()
	i.Process = ConnProcess{PID: uint32(owner), UID: uint32(owner >> 32), GID: uint32(r.group.Load()), PidIno: r.pidIno.Load()}
	// A UID is never used twice: the same one before and after, the same row.
	if i.UID == 0 || r.uid.Load() != i.UID {
		return ConnInfo{}, false
	}
	return i, true
}

// CMCounters are one cm's figures since its columns were made. Only that cm
// stores into them, once per batch.
type CMCounters struct {
	Open, Opened, Closed               atomic.Uint64
	SlowConsumers, AuthTimeouts, Stale atomic.Uint64
	InMsgs, OutMsgs, InBytes, OutBytes atomic.Uint64
	ArenaSize, ArenaUsed, ArenaBodies  atomic.Uint64
	ArenaFull, RingFull, Malformed     atomic.Uint64
	// Dispatcher is the generation of the dispatcher whose channel the cm reads:
	// it has taken all that earlier ones had handed to it.
	Dispatcher atomic.Uint64
	Moved      atomic.Uint64 // to its successor
	Epoch      atomic.Uint64 // of its clock: Unix time in nanoseconds
}

// ColumnRow is a cm's view of one connection; counts in messages and bytes.
type ColumnRow struct {
	ClosedUID atomic.Uint64 // the last connection of this slot that the cm has closed
	UID       atomic.Uint64 // the connection that the cm has now, 0 for none
	InMsgs    atomic.Uint64
	OutMsgs   atomic.Uint64
	InBytes   atomic.Uint64
	OutBytes  atomic.Uint64
	busy      atomic.Uint64 // see SetBusy
	MovedUID  atomic.Uint64 // the last connection of this slot that has moved to its successor
}

// pendingBits are for bytes in ColumnRow.busy, suiteBits for a place among suites; the
// rest is seconds of the cm's clock.
const (
	pendingBits = 36
	suiteBits   = 4
	secondShift = pendingBits + suiteBits
)

// suites are the cipher suites of TLS that a connection may have, by their numbers (RFC
// 8446, B.4; RFC 5289; RFC 7905; RFC 8422), what has none in front.
var suites = [1 << suiteBits]uint16{0, 0x1301, 0x1302, 0x1303, 0xc02b, 0xc02c, 0xc02f, 0xc030, 0xcca8, 0xcca9, 0xc009, 0xc00a, 0xc013, 0xc014}

// SetBusy notes how many bytes wait for the client to read, in which second of the cm's
// clock something came from it last, and the number of its cipher suite, 0 without TLS. Its
// cm only.
func (r *ColumnRow) SetBusy(pending, second uint64, suite uint16) {
	place := max(slices.Index(suites[:], suite), 0)
	r.busy.Store(min(pending, 1<<pendingBits-1) | uint64(place)<<pendingBits | second<<secondShift)
}

// Suite returns the number of the cipher suite, 0 without TLS and for one that is not
// known here.
func (r *ColumnRow) Suite() uint16 { return suites[r.busy.Load()>>pendingBits&(1<<suiteBits-1)] }

// Pending returns how many bytes wait for the client to read.
func (r *ColumnRow) Pending() uint64 { return r.busy.Load() & (1<<pendingBits - 1) }

// LastIn returns the second of its cm's clock in which something came from the client
// last, as far as it has come by now, a second of the same clock.
func (r *ColumnRow) LastIn(now uint64) uint64 {
	const wrap = 1 << (64 - secondShift)
	ago := (now - r.busy.Load()>>secondShift) % wrap
	return now - min(ago, now)
}

// ConnColumns is one cm's part of the connection table.
type ConnColumns struct {
	counters *CMCounters
	rows     []ColumnRow
	used     []span // of rows
}

// ConnColumnsSize returns the size in bytes of a ConnColumns segment of max rows.
func ConnColumnsSize(max int) int { return tableSize(max) }

// NewConnColumns opens the columns in seg, writable for their cm alone.
func NewConnColumns(seg *Segment, max int) (*ConnColumns, error) {
	if err := inRange("conncol", max); err != nil {
		return nil, err
	}
	if err := own(seg, "conncol", tableSize(max), uint64(max), 0); err != nil {
		return nil, err
	}
	t := &ConnColumns{
		counters: overlay[CMCounters](seg, tableCounters),
		rows:     overlaySlice[ColumnRow](seg, tableRows, max),
		used:     []span{{0, max}},
	}
	if seg.used != nil {
		t.used = t.used[:0]
	}
	for _, b := range seg.used {
		t.used = append(t.used, span{rowAt(b.lo, max), rowAt(b.hi+rowSize-1, max)})
	}
	return t, nil
}

// rowAt is the row that byte off is in, or the first or the end of rows so many.
func rowAt(off, rows int) int { return min(max((off-tableRows)/rowSize, 0), rows) }

// Used gives the rows that were ever written, and some that were not; all, if the
// segment was not mapped by MapUsed.
func (t *ConnColumns) Used() iter.Seq2[int, *ColumnRow] {
	return func(yield func(int, *ColumnRow) bool) {
		for _, s := range t.used {
			for i := s.lo; i < s.hi; i++ {
				if !yield(i, &t.rows[i]) {
					return
				}
			}
		}
	}
}

// Counters returns the cm's figures.
func (t *ConnColumns) Counters() *CMCounters { return t.counters }

// Len returns the number of rows.
func (t *ConnColumns) Len() int { return len(t.rows) }

// Row returns row i, nil when there is none.
func (t *ConnColumns) Row(i int) *ColumnRow {
	if uint(i) >= uint(len(t.rows)) {
		return nil
	}
	return &t.rows[i]
}
