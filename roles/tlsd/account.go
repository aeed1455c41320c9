package tlsd

import "sync/atomic"

// account is what one uid has. It is the hub's but for bytes.
type account struct {
	uid               int
	sessions, callers int
	bytes             atomic.Int64
	limit             *atomic.Int64
	handshakes        chan struct{} // has room for as many as may be under way
	looks             chan struct{} // the same of callers that are looked at
}

func newAccount(uid int, limit *atomic.Int64) *account {
	return &account{uid: uid, limit: limit, handshakes: make(chan struct{}, uidHandshakes), looks: make(chan struct{}, uidLooks)}
}

// charge takes n bytes, unless there would be too many.
func (a *account) charge(n int) bool {
	if a.bytes.Add(int64(n)) <= a.limit.Load() {
		return true
	}
	a.bytes.Add(-int64(n))
	return false
}

func (a *account) refund(n int) { a.bytes.Add(-int64(n)) }

// settle forgets an account of somebody who has nothing here. The caller holds the
// lock.
func (h *hub) settle(a *account) {
	if a.callers == 0 && a.sessions == 0 {
		delete(h.accounts, a.uid)
	}
}
