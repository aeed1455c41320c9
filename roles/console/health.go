package console

import (
	"fmt"
	"net/http"
	"strings"
)

// healthz says whether all that it takes to pass messages is there.
func (s *server) healthz(w http.ResponseWriter, r *http.Request) {
	text := s.ill(r)
	if text == "" {
		answer(w, http.StatusOK, map[string]any{"status": "ok"})
		return
	}
	answer(w, http.StatusServiceUnavailable, map[string]any{"status": "unavailable", "status_code": http.StatusServiceUnavailable, "error": text})
}

// ill names what is wrong, "" if nothing is.
func (s *server) ill(r *http.Request) string {
	st, now := s.word.get(r.Context().Done())
	if !now {
		return "the parent does not answer"
	}
	runs := map[string]bool{}
	for _, p := range st.Processes {
		role, _, _ := strings.Cut(p.Role, "/")
		switch p.State {
		case "stalled", "backoff", "gone":
			return fmt.Sprintf("%s is %s", p.Role, p.State)
		case "running":
			runs[role] = true
		}
	}
	for _, role := range []string{"router", "dispatcher", "cm"} {
		if !runs[role] {
			return fmt.Sprintf("no %s is running", role)
		}
	}
	return ""
}
