package console

import (
	"net/http"
	"time"
)

// subsz has the names of nats-server's /subsz. A router keeps no figures of how it
// matches: what it does not know is zero.
type subsz struct {
	ServerID string    `json:"server_id"`
	Now      time.Time `json:"now"`
	Count    uint64    `json:"num_subscriptions"`
	Cache    uint64    `json:"num_cache"`
	Inserts  uint64    `json:"num_inserts"`
	Removes  uint64    `json:"num_removes"`
	Matches  uint64    `json:"num_matches"`
	HitRate  float64   `json:"cache_hit_rate"`
	Most     uint64    `json:"max_fanout"`
	Average  float64   `json:"avg_fanout"`
	Total    int       `json:"total"`
	Offset   int       `json:"offset"`
	Limit    int       `json:"limit"`
}

func (s *server) subsz(w http.ResponseWriter, r *http.Request) {
	limit, offset, err := parsePage(r)
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
	answer(w, http.StatusOK, &z)
}
