package console

import (
	"encoding/json"
	"net/http"
	"strconv"
	"time"
)

// answer sends v as JSON.
func answer(w http.ResponseWriter, status int, v any) {
	b, err := json.Marshal(v)
	if err != nil {
		http.Error(w, "no answer", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	w.Write(append(b, '\n'))
}

// since is a duration as nats-server writes an uptime: "1d2h3m4s".
func since(d time.Duration) string {
	s := uint64(max(d, 0) / time.Second)
	var b []byte
	for _, unit := range []struct {
		name    byte
		seconds uint64
	}{{'y', 365 * 86400}, {'d', 86400}, {'h', 3600}, {'m', 60}, {'s', 1}} {
		if n := s / unit.seconds; n > 0 || len(b) > 0 || unit.seconds == 1 {
			b = append(strconv.AppendUint(b, n, 10), unit.name)
		}
		s %= unit.seconds
	}
	return string(b)
}
