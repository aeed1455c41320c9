package console

import (
	"gatehouse/privsep"
	"gatehouse/store"
)

// view is the shared memory of others: the words in it are theirs.
type view struct {
	table    *store.ConnTable
	columns  []*store.ConnColumns
	sessions *store.Sessions
	ring     int // bytes
}

func newView(set *privsep.Setup) (*view, error) {
	rows := set.Settings.Places()
	v := &view{ring: set.Settings.Ring}
	seg, err := privsep.TakeSegment(set, privsep.SegConnTable, 0, store.Map)
	if err != nil {
		return nil, err
	}
	if v.table, err = store.NewConnTable(seg, rows); err != nil {
		return nil, err
	}
	for i := range set.Settings.CMs {
		seg, err := privsep.TakeSegment(set, privsep.SegConnColumns, i, store.Map)
		if err != nil {
			return nil, err
		}
		c, err := store.NewConnColumns(seg, rows)
		if err != nil {
			return nil, err
		}
		v.columns = append(v.columns, c)
	}
	seg, err = privsep.TakeSegment(set, privsep.SegSessions, 0, store.Map)
	if err != nil {
		return nil, err
	}
	v.sessions, err = store.NewSessions(seg, rows)
	return v, err
}

// totals are the figures of all cms together, and of the router.
type totals struct {
	Connections   uint64 `json:"connections"`
	Subscriptions uint64 `json:"subscriptions"`
	InMsgs        uint64 `json:"in_msgs"`
	OutMsgs       uint64 `json:"out_msgs"`
	InBytes       uint64 `json:"in_bytes"`
	OutBytes      uint64 `json:"out_bytes"`
	SlowConsumers uint64 `json:"slow_consumers"`
	Violations    uint64 `json:"permission_violations"`
	Logins        uint64 `json:"logins"`
	LoginsRefused uint64 `json:"logins_refused"`
}

func (v *view) totals() (t totals) {
	for _, col := range v.columns {
		c := col.Counters()
		t.Connections += c.Open.Load()
		t.InMsgs += c.InMsgs.Load()
		t.OutMsgs += c.OutMsgs.Load()
		t.InBytes += c.InBytes.Load()
		t.OutBytes += c.OutBytes.Load()
		t.SlowConsumers += c.SlowConsumers.Load()
	}
	r := v.sessions.Counters()
	t.Subscriptions, t.Violations, t.Logins = r.Subscriptions.Load(), r.Violations.Load(), r.Logins.Load()
	for i := range r.Refused {
		t.LoginsRefused += r.Refused[i].Load()
	}
	return t
}
