package console

import (
	"cmp"
	"crypto/tls"
	"errors"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"gatehouse/store"
)

// connz has the names of nats-server's /connz.
type connz struct {
	ServerID    string     `json:"server_id"`
	Now         time.Time  `json:"now"`
	Count       int        `json:"num_connections"`
	Total       int        `json:"total"`
	Offset      int        `json:"offset"`
	Limit       int        `json:"limit"`
	Connections []connInfo `json:"connections"`
}

type connInfo struct {
	CID           uint64    `json:"cid"`
	Kind          string    `json:"kind"`
	Type          string    `json:"type"`
	IP            string    `json:"ip"`
	Port          int       `json:"port"`
	Start         time.Time `json:"start"`
	LastActivity  time.Time `json:"last_activity"`
	Uptime        string    `json:"uptime"`
	Idle          string    `json:"idle"`
	Pending       uint64    `json:"pending_bytes"`
	InMsgs        uint64    `json:"in_msgs"`
	OutMsgs       uint64    `json:"out_msgs"`
	InBytes       uint64    `json:"in_bytes"`
	OutBytes      uint64    `json:"out_bytes"`
	Subscriptions uint32    `json:"subscriptions"`
	Name          string    `json:"name,omitempty"`
	Lang          string    `json:"lang,omitempty"`
	Version       string    `json:"version,omitempty"`
	User          string    `json:"authorized_user,omitempty"`
	Account       string    `json:"account,omitempty"`

	TLSVersion string `json:"tls_version,omitempty"`
	TLSCipher  string `json:"tls_cipher_suite,omitempty"`

	Subs    []string    `json:"subscriptions_list,omitempty"`
	Details []subDetail `json:"subscriptions_list_detail,omitempty"`

	// Beside those of nats-server.
	CM   string `json:"cm"`
	TLS  bool   `json:"tls"`
	Unix bool   `json:"unix"`
	PID  uint32 `json:"pid,omitempty"` // at the other end of a Unix socket
	UID  uint32 `json:"uid,omitempty"`
}

// Bounds of one answer.
const (
	usualLimit = 1024 // as nats-server's
	mostLimit  = 16384
)

// account is what nats-server calls that of clients without one.
const account = "$G"

// seen is a connection as it is sorted.
type seen struct {
	slot      int
	info      store.ConnInfo
	last      int64 // Unix time in nanoseconds
	pending   uint64
	in, out   uint64
	inB, outB uint64
	subs      uint32
	suite     uint16 // of TLS, 0: none
}

// connQuery is what was asked for.
type connQuery struct {
	cid           uint64
	sort          string
	state         string
	user, account string
	auth          bool
	subs, detail  bool
	limit, offset int
}

// sorts are the orders there are: cid and start from the first on, the others from the
// largest, as nats-server has it; but of uptime the smallest.
var sorts = map[string]func(a, b *seen) int{
	"cid":        byCID,
	"start":      byCID,
	"subs":       largest(func(s *seen) uint64 { return uint64(s.subs) }),
	"pending":    largest(func(s *seen) uint64 { return s.pending }),
	"msgs_to":    largest(func(s *seen) uint64 { return s.out }),
	"msgs_from":  largest(func(s *seen) uint64 { return s.in }),
	"bytes_to":   largest(func(s *seen) uint64 { return s.outB }),
	"bytes_from": largest(func(s *seen) uint64 { return s.inB }),
	"last":       largest(func(s *seen) uint64 { return uint64(s.last) }),
	"idle":       func(a, b *seen) int { return cmp.Or(cmp.Compare(a.last, b.last), byCID(a, b)) },
	"uptime":     func(a, b *seen) int { return cmp.Or(cmp.Compare(b.info.Accepted, a.info.Accepted), byCID(a, b)) },
	"rtt":        byCID, // nobody measures it
	"stop":       byCID, // of closed ones, of which none are kept
	"reason":     byCID,
}

func byCID(a, b *seen) int { return cmp.Compare(a.info.UID, b.info.UID) }

func largest(of func(*seen) uint64) func(a, b *seen) int {
	return func(a, b *seen) int { return cmp.Or(cmp.Compare(of(b), of(a)), byCID(a, b)) }
}

func (s *server) connz(w http.ResponseWriter, r *http.Request) {
	q, err := parseConnQuery(r)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	now := time.Now().UTC()
	z := connz{ServerID: s.cfg.ServerID, Now: now, Offset: q.offset, Limit: q.limit, Connections: []connInfo{}}
	if q.state != "closed" {
		all := s.view.find(q)
		z.Total = len(all)
		slices.SortFunc(all, func(a, b *seen) int { return sorts[q.sort](a, b) })
		from := min(q.offset, len(all))
		for _, c := range all[from:min(from+q.limit, len(all))] {
			z.Connections = append(z.Connections, s.view.describe(c, now, q.auth))
		}
		if q.subs || q.detail {
			l, err := s.subs.all(r.Context().Done())
			if err != nil {
				http.Error(w, err.Error(), http.StatusServiceUnavailable)
				return
			}
			l.into(z.Connections, q.detail)
		}
		z.Count = len(z.Connections)
	}
	answer(w, http.StatusOK, &z)
}

func parseConnQuery(r *http.Request) (*connQuery, error) {
	v := r.URL.Query()
	q := &connQuery{sort: v.Get("sort"), state: strings.ToLower(v.Get("state")), user: v.Get("user"), account: v.Get("acc")}
	var err error
	if q.limit, q.offset, err = parsePage(r); err != nil {
		return nil, err
	}
	if text := v.Get("cid"); text != "" {
		if q.cid, err = strconv.ParseUint(text, 10, 64); err != nil {
			return nil, badValue("cid")
		}
	}
	if q.auth, err = parseFlag(v.Get("auth"), "auth"); err != nil {
		return nil, err
	}
	if q.detail = strings.EqualFold(v.Get("subs"), "detail"); !q.detail {
		if q.subs, err = parseFlag(v.Get("subs"), "subs"); err != nil {
			return nil, err
		}
	}
	if q.sort == "" {
		q.sort = "cid"
	}
	switch q.state {
	case "", "open":
		q.state = "open"
	case "closed", "any", "all":
	default:
		return nil, badValue("state")
	}
	if sorts[q.sort] == nil || (q.sort == "stop" || q.sort == "reason") && q.state != "closed" {
		return nil, badValue("sort")
	}
	return q, nil
}

func badValue(param string) error { return errors.New("no such value of " + param) }

func parseFlag(text, param string) (bool, error) {
	if text == "" {
		return false, nil
	}
	v, err := strconv.ParseBool(text)
	if err != nil {
		return false, badValue(param)
	}
	return v, nil
}

// parsePage reads which part of a list is wanted.
func parsePage(r *http.Request) (limit, offset int, err error) {
	for param, p := range map[string]*int{"limit": &limit, "offset": &offset} {
		if text := r.URL.Query().Get(param); text != "" {
			if *p, err = strconv.Atoi(text); err != nil {
				return 0, 0, badValue(param)
			}
		}
	}
	if limit <= 0 {
		limit = usualLimit
	}
	return min(limit, mostLimit), max(offset, 0), nil
}

// find gives what there is of what is asked for. The rows are the dispatcher's; what is
// another connection's by now counts for nothing.
func (v *view) find(q *connQuery) (all []*seen) {
	if q.account != "" && q.account != account {
		return nil
	}
	epochs := make([]int64, len(v.columns))
	now := time.Now().UnixNano()
	for i, c := range v.columns {
		epochs[i] = int64(c.Counters().Epoch.Load())
	}
	for i := range v.table.Reached() {
		info, ok := v.table.Row(i).Get()
		if !ok || info.System || q.cid != 0 && info.UID != q.cid || int(info.CM) >= len(v.columns) {
			continue
		}
		c := &seen{slot: i, info: info, last: info.Accepted}
		row, closed := v.column(i, &info)
		if closed {
			continue
		}
		if row != nil {
			c.pending, c.suite = row.Pending(), row.Suite()
			c.in, c.out, c.inB, c.outB = row.InMsgs.Load(), row.OutMsgs.Load(), row.InBytes.Load(), row.OutBytes.Load()
			c.last = max(c.last, lastIn(row, epochs[info.CM], now))
		}
		if row := v.sessions.Row(i); row != nil && row.UID() == info.UID {
			c.subs = row.Subscriptions()
		}
		if q.user != "" {
			if session, ok := v.sessions.Row(i).Get(); !ok || session.UID != info.UID || session.User != q.user {
				continue
			}
		}
		all = append(all, c)
	}
	return all
}

// column finds what a cm says of a connection: that which has it, or its successor. One
// that is closed the dispatcher may still have.
func (v *view) column(slot int, info *store.ConnInfo) (row *store.ColumnRow, closed bool) {
	n := len(v.columns)
	for _, cm := range []int{int(info.CM), (int(info.CM) + n/2) % n} {
		row := v.columns[cm].Row(slot)
		switch {
		case row == nil:
		case row.UID.Load() == info.UID:
			info.CM = uint16(cm)
			return row, false
		case row.ClosedUID.Load() == info.UID:
			return nil, true
		}
	}
	return nil, false
}

// lastIn is when something came from a client last, in Unix time; epoch is of its cm's
// clock.
func lastIn(row *store.ColumnRow, epoch, now int64) int64 {
	if epoch <= 0 || epoch > now {
		return 0
	}
	return epoch + int64(row.LastIn(uint64((now-epoch)/int64(time.Second))))*int64(time.Second)
}

// tlsVersion is that of a cipher suite, as nats-server names it: those of 1.3 are of no
// other version (RFC 8446, B.4), and older ones than 1.2 are never agreed on.
func tlsVersion(suite uint16) string {
	if suite>>8 == 0x13 {
		return "1.3"
	}
	return "1.2"
}

// describe says all that is known of a connection.
func (v *view) describe(c *seen, now time.Time, auth bool) connInfo {
	start, last := time.Unix(0, c.info.Accepted).UTC(), time.Unix(0, c.last).UTC()
	i := connInfo{CID: c.info.UID, Kind: "Client", Type: "nats", Port: int(c.info.Port), Start: start, LastActivity: last,
		Uptime: since(now.Sub(start)), Idle: since(now.Sub(last)), Pending: c.pending, InMsgs: c.in, OutMsgs: c.out, InBytes: c.inB, OutBytes: c.outB,
		Subscriptions: c.subs, Account: account, CM: "cm/" + strconv.Itoa(int(c.info.CM)), Unix: c.info.Unix}
	if !c.info.Unix {
		i.IP = netip.AddrFrom16(c.info.Addr).Unmap().String()
	} else {
		i.PID, i.UID = c.info.Process.PID, c.info.Process.UID
	}
	if c.suite != 0 {
		i.TLSVersion, i.TLSCipher = tlsVersion(c.suite), tls.CipherSuiteName(c.suite)
	}
	if s, ok := v.sessions.Row(c.slot).Get(); ok && s.UID == c.info.UID {
		i.Name, i.Lang, i.Version, i.TLS = s.Name, s.Lang, s.Version, s.TLS
		if auth {
			i.User = s.User
		}
	}
	return i
}
