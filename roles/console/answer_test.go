package console

import (
	"cmp"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"gatehouse/privsep"
	"gatehouse/store"
)

func TestHealth(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	for _, c := range []struct {
		from, to string
		want     string
	}{
		{"", "", `{"status":"ok"}`},
		{`"role":"router","state":"running"`, `"role":"router","state":"stalled"`, "router is stalled"},
		{`"role":"cm/0","state":"running"`, `"role":"cm/0","state":"backoff"`, "cm/0 is backoff"},
		{`"role":"cm/0","state":"running"`, `"role":"cm/0","state":"starting"`, "no cm is running"},
		{`"role":"cm/0","state":"running"`, `"role":"cm/1","state":"running"`, `{"status":"ok"}`},
	} {
		g.say(strings.Replace(wholeStatus, c.from, c.to, 1))
		g.forget()
		status, body := g.get("/healthz")
		if ok := strings.Contains(c.want, "ok"); (status == http.StatusOK) != ok || !strings.Contains(body, c.want) {
			t.Errorf("%q: %d %s, want %s", c.to, status, body, c.want)
		}
	}
	g.say("")
	g.forget()
	if status, body := g.get("/healthz"); status != 503 || !strings.Contains(body, "the parent does not answer") {
		t.Errorf("without a word: %d %s", status, body)
	}
}

// forget waits until a new question may be asked.
func (g *rig) forget() {
	timer := time.NewTimer(fresh + 20*time.Millisecond)
	<-timer.C
}

// However many ask, the parent is not asked more often than the rules allow.
func TestStatusIsAskedSeldom(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	began := time.Now()
	for range 200 {
		var e struct {
			Stale  bool
			Status struct{ Broker string }
			Varz   varz
			Router figures
		}
		if g.json("/statusz", &e); e.Stale || e.Status.Broker != "b" || e.Varz.ServerID != "DEBUG" || e.Varz.Mem != 100 {
			t.Fatalf("%+v", e)
		}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if most := 1 + int(time.Since(began)/fresh); g.asked > most {
		t.Errorf("asked %d times, %d may be", g.asked, most)
	}
}

func TestConnz(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	for i := range 10 {
		uid := uint64(i + 1)
		g.connect(i%2, i, uid, store.SessionInfo{Subscriptions: uint32(i * 7 % 10), User: fmt.Sprint("u", i%3), Name: "n\"\xff<b>", Lang: "go", Version: "1"})
		row := g.columns[i%2].Row(i)
		row.InMsgs.Store(uint64(i * 3 % 10))
		row.OutMsgs.Store(uint64(i * 9 % 10))
		row.InBytes.Store(uint64(i * 3 % 10))
		row.OutBytes.Store(uint64(i * 9 % 10))
		row.SetBusy(uint64(i*7%10), 0, 0)
	}
	g.columns[1].Row(9).ClosedUID.Store(10) // the dispatcher has not noticed
	g.columns[1].Row(9).UID.Store(0)
	g.table.Row(8).Set(&store.ConnInfo{UID: 50, CM: 0, Accepted: 1}) // nobody else has heard of it
	var z connz
	for sort, of := range map[string]func(*connInfo) int{
		"":           func(c *connInfo) int { return int(c.CID) },
		"cid":        func(c *connInfo) int { return int(c.CID) },
		"start":      func(c *connInfo) int { return int(c.CID) },
		"subs":       func(c *connInfo) int { return -int(c.Subscriptions) },
		"pending":    func(c *connInfo) int { return -int(c.Pending) },
		"msgs_to":    func(c *connInfo) int { return -int(c.OutMsgs) },
		"msgs_from":  func(c *connInfo) int { return -int(c.InMsgs) },
		"bytes_to":   func(c *connInfo) int { return -int(c.OutBytes) },
		"bytes_from": func(c *connInfo) int { return -int(c.InBytes) },
		"last":       func(c *connInfo) int { return -int(c.LastActivity.UnixNano()) },
		"idle":       func(c *connInfo) int { return int(c.LastActivity.UnixNano()) },
		"uptime":     func(c *connInfo) int { return -int(c.Start.UnixNano()) },
		"rtt":        func(c *connInfo) int { return int(c.CID) },
	} {
		g.json("/connz?sort="+sort, &z)
		if z.Total != 9 || z.Count != 9 || !slices.IsSortedFunc(z.Connections, func(a, b connInfo) int { return cmp.Compare(of(&a), of(&b)) }) {
			t.Errorf("sort %q: %+v", sort, z)
		}
	}
	g.json("/connz?cid=4&auth=1", &z)
	if c := z.Connections[0]; z.Count != 1 || c.CID != 4 || c.IP != "192.0.2.1" || c.Port != 3 || c.Name != "n\"\ufffd<b>" || c.User != "u0" || c.CM != "cm/1" || c.Uptime != "4m0s" {
		t.Errorf("%+v", z)
	}
	seen := map[uint64]bool{}
	for offset := 0; offset < 12; offset += 4 {
		g.json(fmt.Sprintf("/connz?limit=4&offset=%d", offset), &z)
		for _, c := range z.Connections {
			seen[c.CID] = true
		}
	}
	if len(seen) != 9 {
		t.Errorf("pages have %v", seen)
	}
	for query, want := range map[string]int{"user=u1": 3, "acc=other": 0, "acc=$G": 9, "state=closed": 0, "state=any": 9, "state=closed&sort=stop": 0, "offset=100": 0, "limit=-1": 9} {
		if g.json("/connz?"+query, &z); z.Count != want {
			t.Errorf("%s: %d, want %d", query, z.Count, want)
		}
	}
	for _, query := range []string{"sort=none", "sort=stop", "state=x", "limit=x", "offset=1e9", "cid=-1", "auth=perhaps"} {
		if status, _ := g.get("/connz?" + query); status != 400 {
			t.Errorf("%s: %d", query, status)
		}
	}
}

// Rows change while they are read; what is shown of one connection is never another's.
func TestConnzWhileRowsChange(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for uid := uint64(1); ; uid++ {
			select {
			case <-stop:
				return
			default:
			}
			slot := int(uid % 8)
			g.connect(0, slot, uid, store.SessionInfo{Name: fmt.Sprint(uid), User: fmt.Sprint(uid)})
		}
	}()
	for range 100 {
		var z connz
		g.json("/connz?auth=1", &z)
		for _, c := range z.Connections {
			if name := fmt.Sprint(c.CID); c.Name != "" && c.Name != name || c.User != c.Name {
				t.Errorf("%d is called %q, %q", c.CID, c.Name, c.User)
			}
		}
	}
	close(stop)
	<-done
}

// Of ten thousand connections a page takes its time, and not more.
func TestConnzOfMany(t *testing.T) {
	const n = 10_000
	table, columns, sessions := heapRows(t, n)
	v := &view{table: table, columns: []*store.ConnColumns{columns, columns}, sessions: sessions}
	for i := range n {
		table.Reach(i)
		table.Row(i).Set(&store.ConnInfo{UID: uint64(i + 1), Accepted: int64(i)})
		columns.Row(i).UID.Store(uint64(i + 1))
		sessions.Row(i).Set(&store.SessionInfo{UID: uint64(i + 1), Name: "pricer/1"})
	}
	q := &connQuery{sort: "bytes_to", limit: usualLimit}
	began := time.Now()
	const times = 10
	for range times {
		if all := v.find(q); len(all) != n {
			t.Fatalf("%d found", len(all))
		}
	}
	t.Logf("%v to find %d", time.Since(began)/times, n)
}

func heapRows(t *testing.T, n int) (*store.ConnTable, *store.ConnColumns, *store.Sessions) {
	t.Helper()
	segment := func(size int) *store.Segment {
		f, err := store.Create("test", size)
		if err == nil {
			t.Cleanup(func() { f.Close() })
			var s *store.Segment
			if s, err = store.Map(int(f.Fd()), size, true); err == nil {
				t.Cleanup(func() { s.Unmap() })
				return s
			}
		}
		t.Fatal(err)
		return nil
	}
	table, err1 := store.NewConnTable(segment(store.ConnTableSize(n)), n)
	columns, err2 := store.NewConnColumns(segment(store.ConnColumnsSize(n)), n)
	sessions, err3 := store.NewSessions(segment(store.SessionsSize(n)), n)
	if err := cmp.Or(err1, err2, err3); err != nil {
		t.Fatal(err)
	}
	return table, columns, sessions
}

func TestFigures(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	c := g.sessions.Counters()
	c.Refused[privsep.ReasonRate].Store(4)
	c.Refused[255].Store(1) // of a router that was taken over
	c.Inserts.Store(7)
	c.Subscriptions.Store(5)
	for _, n := range []uint64{1, 2, 3, 4, 1 << 50} {
		c.BatchMessages.Observe(n)
	}
	var z subsz
	if g.json("/subsz", &z); z.Count != 5 || z.Inserts != 7 || z.Removes != 2 {
		t.Errorf("%+v", z)
	}
	_, text := g.get("/metrics")
	for _, line := range []string{
		`gatehouse_login_refusals_total{reason="rate"} 4`,
		`gatehouse_router_batch_messages_bucket{le="2"} 2`,
		`gatehouse_router_batch_messages_bucket{le="4"} 4`,
		`gatehouse_router_batch_messages_bucket{le="65536"} 4`,
		`gatehouse_router_batch_messages_bucket{le="+Inf"} 5`,
		`gatehouse_router_batch_messages_count 5`,
		`gatehouse_process_restarts_total{role="router"} 2`,
		`gatehouse_process_signatures_total{role="cm/0"} 3`,
		`gatehouse_key_signatures_total{purpose="tls_server"} 5`,
		`gatehouse_key_signatures_total{purpose="ticket"} 6`,
		`gatehouse_key_signatures_total{purpose="tls_client"} 7`,
		`gatehouse_protocol_offences_total{role="cm/0",kind="SIGN",reason="rate"} 2`,
		`gatehouse_arena_used_bytes{cm="0"} 10`,
		`gatehouse_parent_up 1`,
	} {
		if !strings.Contains(text, line+"\n") {
			t.Errorf("no %s in\n%s", line, text)
		}
	}
}

// Subscriptions come from the router, a page at a time, once for all who ask.
func TestSubscriptions(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	if status, _ := g.get("/subsz?subs=1"); status != 503 {
		t.Errorf("without a router: %d", status)
	}
	var pages atomic.Int64
	g.join(func(get *privsep.SubsGet) *privsep.Subs {
		pages.Add(1)
		uid := uint64(get.From + 1)
		p := &privsep.Subs{ID: get.ID, Next: get.From + 1, List: []privsep.Sub{{UID: uid, Subject: fmt.Sprintf("s.%d", uid), Queue: "q", SID: "1", Max: 5, Delivered: 2},
			{UID: uid, Subject: "all.>", SID: "2"}}}
		if p.Next == 3 {
			p.Next = 0
		}
		return p
	})
	for uid := range uint64(3) {
		g.connect(0, int(uid), uid+1, store.SessionInfo{})
	}
	var z subsz
	var c connz
	for range 10 {
		g.json("/subsz?subs=1&offset=1&limit=2", &z)
		g.json("/connz?subs=1&cid=2", &c)
	}
	if n := pages.Load(); n != 3 {
		t.Errorf("%d pages were asked for", n)
	}
	if z.Total != 6 || len(z.List) != 2 || z.List[0].Subject != "all.>" || z.List[1] != (subDetail{"$G", "s.2", "q", "1", 2, 5, 2}) {
		t.Errorf("%+v", z)
	}
	if got := c.Connections[0].Subs; len(got) != 2 || got[0] != "s.2" {
		t.Errorf("%+v", c)
	}
	if g.json("/connz?subs=detail&cid=3", &c); len(c.Connections[0].Details) != 2 || c.Connections[0].Details[0].CID != 3 {
		t.Errorf("%+v", c)
	}
	if g.json("/subsz?subs=true&test=all.a", &z); z.Total != 3 {
		t.Errorf("%+v", z)
	}
	if status, _ := g.get("/subsz?subs=1&test=all.*"); status != 400 {
		t.Errorf("a pattern for a subject: %d", status)
	}
}

// A router that was taken over delays who asks for subscriptions, and nobody else.
func TestHostileRouter(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string]func(*privsep.SubsGet) *privsep.Subs{
		"round and round": func(get *privsep.SubsGet) *privsep.Subs { return &privsep.Subs{ID: get.ID, Next: 1} },
		"another's":       func(get *privsep.SubsGet) *privsep.Subs { return &privsep.Subs{ID: get.ID + 1} },
		"nothing":         func(*privsep.SubsGet) *privsep.Subs { return nil },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := newRig(t)
			g.join(answer)
			if status, _ := g.get("/connz?subs=1"); status != 503 {
				t.Errorf("%d", status)
			}
			if status, _ := g.get("/connz"); status != 200 {
				t.Errorf("without: %d", status)
			}
		})
	}
}

func TestSince(t *testing.T) {
	for d, want := range map[time.Duration]string{-1: "0s", 59 * time.Second: "59s", time.Hour: "1h0m0s", 25*time.Hour + time.Second: "1d1h0m1s",
		366 * 24 * time.Hour: "1y1d0h0m0s"} {
		if got := since(d); got != want {
			t.Errorf("%v: %s, want %s", d, got, want)
		}
	}
}

// FuzzQuery: what a query asks for is within bounds, or it is refused.
func FuzzQuery(f *testing.F) {
	for _, s := range []string{"", "limit=10&offset=5", "sort=subs&state=any", "cid=1&auth=1", "limit=99999999999999999999", "limit=-5&offset=-5", "%zz", "sort=stop&state=closed"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, query string) {
		q, err := parseConnQuery(&http.Request{URL: &url.URL{RawQuery: query}})
		if err != nil {
			return
		}
		if q.limit < 1 || q.limit > mostLimit || q.offset < 0 || sorts[q.sort] == nil {
			t.Errorf("%q: %+v", query, q)
		}
	})
}
