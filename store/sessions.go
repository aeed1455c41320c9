package store

import (
	"math/bits"
	"sync/atomic"
)

// The sessions segment is the router's, for those who watch: what it knows of each
// connection, by the same rows as the connection table, and its own figures. Nothing is
// decided by it, and a new router goes on with it.

const (
	sessionRows    = 8192
	sessionTexts   = MaxSessionUser + MaxSessionName + MaxSessionLang + MaxSessionVersion
	sessionRowSize = 3*8 + sessionTexts
)

// Bounds of the texts of a SessionInfo, in bytes: what is longer is cut.
const (
	MaxSessionUser    = 64
	MaxSessionName    = 96
	MaxSessionLang    = 24
	MaxSessionVersion = 48
)

// SessionCounters are the router's figures since the segment was made. The router alone
// stores into them.
type SessionCounters struct {
	Sessions, Subscriptions atomic.Uint64 // that there are
	Inserts                 atomic.Uint64 // of subscriptions, ever
	Messages, Delivered     atomic.Uint64
	Violations              atomic.Uint64 // of permissions
	Logins                  atomic.Uint64 // that succeeded
	BatchMessages           Histogram     // messages routed in one go
	BatchTime               Histogram     // what that took, in nanoseconds
	Refused                 [numRefused]atomic.Uint64
	Rings                   [MaxCMs]RingFill
}

// RingFill is what of a cm's rings is not taken yet, in bytes, as the router saw it last.
type RingFill struct{ Up, Down atomic.Uint64 }

// numRefused is for any value of privsep.Reason.
const numRefused = 256

// NumBuckets is the number of buckets of a Histogram.
const NumBuckets = 40

// Histogram counts values by their size: in bucket i are those up to 1<<i that are in
// none before, in the last one all others.
type Histogram struct {
	Sum     atomic.Uint64
	Buckets [NumBuckets]atomic.Uint64
}

// Observe counts a value. One goroutine's at a time.
func (h *Histogram) Observe(v uint64) {
	b := &h.Buckets[bucketOf(v)]
	b.Store(b.Load() + 1)
	h.Sum.Store(h.Sum.Load() + v)
}

func bucketOf(v uint64) int {
	if v == 0 {
		return 0
	}
	return min(bits.Len64(v-1), NumBuckets-1)
}

// Sessions is the segment.
type Sessions struct {
	counters *SessionCounters
	rows     []SessionRow
}

// SessionsSize returns the size in bytes of a segment of max rows.
func SessionsSize(max int) int { return sessionRows + max*sessionRowSize }

// NewSessions opens the segment, writable for the router alone.
func NewSessions(seg *Segment, max int) (*Sessions, error) {
	if err := inRange("session", max); err != nil {
		return nil, err
	}
	if err := claim(seg, "session", SessionsSize(max), uint64(max), 0); err != nil {
		return nil, err
	}
	return &Sessions{
		counters: overlay[SessionCounters](seg, line),
		rows:     overlaySlice[SessionRow](seg, sessionRows, max),
	}, nil
}

// Counters returns the router's figures.
func (t *Sessions) Counters() *SessionCounters { return t.counters }

// Row returns row i, nil when there is none.
func (t *Sessions) Row(i int) *SessionRow {
	if uint(i) >= uint(len(t.rows)) {
		return nil
	}
	return &t.rows[i]
}

// SessionInfo is what the router knows of a connection. The texts are the client's own
// but for User, which it has proved.
type SessionInfo struct {
	UID                       uint64 // never 0
	Subscriptions             uint32
	TLS                       bool
	Admitted                  bool // it has logged in, or need not
	User, Name, Lang, Version string
}

const (
	sessionTLS = 1 << iota
	sessionAdmitted
)

// SessionRow is one row in shared memory.
type SessionRow struct {
	uid, subscriptions atomic.Uint64
	shape              atomic.Uint64 // lengths of the texts u8 each, flags u8, then which Set it was
	text               [sessionTexts / 8]atomic.Uint64
}

// Set fills the row; it shows only once it is whole. Router only.
func (r *SessionRow) Set(i *SessionInfo) {
	var text [sessionTexts]byte
	shape, at := (r.shape.Load()>>40+1)<<40, 0
	for k, t := range [...]struct {
		s    string
		most int
	}{{i.User, MaxSessionUser}, {i.Name, MaxSessionName}, {i.Lang, MaxSessionLang}, {i.Version, MaxSessionVersion}} {
		n := copy(text[at:at+t.most], t.s)
		shape |= uint64(n) << (8 * k)
		at += n
	}
	if i.TLS {
		shape |= sessionTLS << 32
	}
	if i.Admitted {
		shape |= sessionAdmitted << 32
	}
	r.uid.Store(0)
	for w := 0; w < at; w += 8 {
		r.text[w/8].Store(le.Uint64(text[w:]))
	}
	r.shape.Store(shape)
	r.subscriptions.Store(uint64(i.Subscriptions))
	r.uid.Store(i.UID)
}

// SetSubscriptions notes how many there are now. Router only.
func (r *SessionRow) SetSubscriptions(n int) { r.subscriptions.Store(uint64(n)) }

// Clear empties the row. Router only.
func (r *SessionRow) Clear() { r.uid.Store(0) }

// UID returns the connection in this row, 0 for none.
func (r *SessionRow) UID() uint64 { return r.uid.Load() }

// Subscriptions returns how many the connection in this row has.
func (r *SessionRow) Subscriptions() uint32 { return uint32(r.subscriptions.Load()) }

// Get returns the row; false when it is empty or being changed.
func (r *SessionRow) Get() (SessionInfo, bool) {
	i := SessionInfo{UID: r.uid.Load()}
	if i.UID == 0 {
		return i, false
	}
	shape := r.shape.Load()
	i.Subscriptions = r.Subscriptions()
	i.TLS, i.Admitted = shape>>32&sessionTLS != 0, shape>>32&sessionAdmitted != 0
	var text [sessionTexts]byte
	var lens [4]int
	n := 0
	for k := range lens {
		lens[k] = int(shape >> (8 * k) & 0xff)
		n += lens[k]
	}
	if n > sessionTexts {
		return SessionInfo{}, false
	}
	for w := 0; w < n; w += 8 {
		le.PutUint64(text[w:], r.text[w/8].Load())
	}
	at := 0
	for k, p := range [...]*string{&i.User, &i.Name, &i.Lang, &i.Version} {
		*p = string(text[at : at+lens[k]])
		at += lens[k]
	}
	// A UID is never used twice, but its row may be filled again.
	if r.uid.Load() != i.UID || r.shape.Load() != shape {
		return SessionInfo{}, false
	}
	return i, true
}
