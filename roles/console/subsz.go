package console

import (
	"net/http"
	"time"

	"gatehouse/wire"
)

// subsz has the names of nats-server's /subsz. A router keeps no figures of how it
// matches: what it does not know is zero.
type subsz struct {
	ServerID string      `json:"server_id"`
	Now      time.Time   `json:"now"`
	Count    uint64      `json:"num_subscriptions"`
	Cache    uint64      `json:"num_cache"`
	Inserts  uint64      `json:"num_inserts"`
	Removes  uint64      `json:"num_removes"`
	Matches  uint64      `json:"num_matches"`
	HitRate  float64     `json:"cache_hit_rate"`
	Most     uint64      `json:"max_fanout"`
	Average  float64     `json:"avg_fanout"`
	Total    int         `json:"total"`
	Offset   int         `json:"offset"`
	Limit    int         `json:"limit"`
	Cut      bool        `json:"cut,omitempty"` // there are more than are listed
	List     []subDetail `json:"subscriptions_list,omitempty"`
}

func (s *server) subsz(w http.ResponseWriter, r *http.Request) {
	limit, offset, err := parsePage(r)
	query := r.URL.Query()
	list, bad := parseFlag(query.Get("subs"), "subs")
	if err == nil {
		err = bad
	}
	test := query.Get("test")
	if test != "" && !wire.IsLiteral([]byte(test)) && err == nil {
		err = badValue("test")
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	c := s.view.sessions.Counters()
	z := subsz{ServerID: s.cfg.ServerID, Now: time.Now().UTC(), Count: c.Subscriptions.Load(), Inserts: c.Inserts.Load(), Matches: c.Messages.Load(),
		Offset: offset, Limit: limit}
	z.Removes = z.Inserts - min(z.Count, z.Inserts)
	if z.Matches > 0 {
		z.Average = float64(c.Delivered.Load()) / float64(z.Matches)
	}
	if list {
		l, err := s.subs.all(r.Context().Done())
		if err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		z.show(l, test)
	}
	answer(w, http.StatusOK, &z)
}

// show lists one page of those that a message with subject test, if there is one, would
// go to.
func (z *subsz) show(l *listing, test string) {
	z.Cut, z.List = l.cut, []subDetail{}
	for i := range l.list {
		t := &l.list[i]
		if test != "" && !wire.Match([]byte(t.Subject), []byte(test)) {
			continue
		}
		if z.Total >= z.Offset && len(z.List) < z.Limit {
			z.List = append(z.List, detailOf(t))
		}
		z.Total++
	}
}
