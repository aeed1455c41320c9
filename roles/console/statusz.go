package console

import (
	"encoding/json"
	"net/http"
	"strconv"
	"time"
)

// everything is /statusz.
type everything struct {
	Now     time.Time       `json:"now"`
	Status  json.RawMessage `json:"status"` // null: none has come yet
	At      *time.Time      `json:"status_at"`
	Stale   bool            `json:"stale"` // status is not of now: the parent does not answer
	Varz    *varz           `json:"varz"`
	Router  *figures        `json:"router"`
	History *past           `json:"history"`
}

// statusz answers with the history that is newer than since, where a page has the rest.
func (s *server) statusz(w http.ResponseWriter, r *http.Request) {
	since, _ := strconv.ParseInt(r.URL.Query().Get("since"), 10, 64)
	st, now := s.word.get(r.Context().Done())
	e := everything{Now: time.Now().UTC(), Stale: !now, Varz: s.vars(st), Router: s.view.figures(), History: s.past.after(since)}
	if st != nil {
		e.Status, e.At = st.text, &st.at
	}
	answer(w, http.StatusOK, &e)
}
