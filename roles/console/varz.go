package console

import (
	"math"
	"net/http"
	"runtime"
	"time"
)

// varz has the names of nats-server's /varz. What this broker does not have is left out.
type varz struct {
	ServerID         string            `json:"server_id"`
	ServerName       string            `json:"server_name"`
	Version          string            `json:"version"`
	Proto            int               `json:"proto"`
	Go               string            `json:"go"`
	Host             string            `json:"host"`
	Port             int               `json:"port"`
	AuthRequired     bool              `json:"auth_required"`
	MaxConnections   int               `json:"max_connections"`
	MaxSubscriptions int               `json:"max_subscriptions,omitempty"`
	PingInterval     time.Duration     `json:"ping_interval"`
	PingMax          int               `json:"ping_max"`
	AuthTimeout      float64           `json:"auth_timeout"` // seconds
	MaxControlLine   int               `json:"max_control_line"`
	MaxPayload       int               `json:"max_payload"`
	MaxPending       int               `json:"max_pending"`
	WriteDeadline    time.Duration     `json:"write_deadline"`
	Start            time.Time         `json:"start"`
	Now              time.Time         `json:"now"`
	Uptime           string            `json:"uptime"`
	Mem              uint64            `json:"mem"`
	Cores            int               `json:"cores"`
	MaxProcs         int               `json:"gomaxprocs"`
	CPU              float64           `json:"cpu"` // percent of one core
	Connections      uint64            `json:"connections"`
	TotalConnections uint64            `json:"total_connections"`
	Routes           int               `json:"routes"`
	Remotes          int               `json:"remotes"`
	Leafs            int               `json:"leafnodes"`
	InMsgs           uint64            `json:"in_msgs"`
	OutMsgs          uint64            `json:"out_msgs"`
	InBytes          uint64            `json:"in_bytes"`
	OutBytes         uint64            `json:"out_bytes"`
	SlowConsumers    uint64            `json:"slow_consumers"`
	Subscriptions    uint64            `json:"subscriptions"`
	Requests         map[string]uint64 `json:"http_req_stats"`
}

func (s *server) varz(w http.ResponseWriter, r *http.Request) {
	st, _ := s.word.get(r.Context().Done())
	answer(w, http.StatusOK, s.vars(st))
}

// vars puts together what is known; st may be nil.
func (s *server) vars(st *status) *varz {
	live := s.live.Load()
	c, t := s.cfg, s.view.totals()
	now := time.Now().UTC()
	v := &varz{
		ServerID: c.ServerID, ServerName: c.Broker, Version: c.Version, Proto: 1, Go: runtime.Version(), Host: live.Host, Port: live.Port,
		AuthRequired: live.Auth, MaxConnections: c.MaxConnections, MaxSubscriptions: live.MaxSubscriptions, PingInterval: live.PingInterval,
		PingMax: live.PingMax, AuthTimeout: live.AuthTimeout.Seconds(), MaxControlLine: c.MaxControlLine, MaxPayload: live.MaxPayload,
		MaxPending: live.MaxPending, WriteDeadline: live.WriteDeadline, Start: s.began, Now: now, Cores: runtime.NumCPU(), MaxProcs: runtime.GOMAXPROCS(0),
		Connections: t.Connections, TotalConnections: s.view.table.Counters().LastUID.Load(), InMsgs: t.InMsgs, OutMsgs: t.OutMsgs,
		InBytes: t.InBytes, OutBytes: t.OutBytes, SlowConsumers: t.SlowConsumers, Subscriptions: t.Subscriptions, Requests: s.counted(),
	}
	if st != nil {
		v.Start = st.Started
		for _, p := range st.Processes {
			v.Mem += p.Memory
		}
		v.CPU = math.Round(st.load*1000) / 10
	}
	v.Uptime = since(now.Sub(v.Start))
	return v
}

// counted is how often each path was asked for.
func (s *server) counted() map[string]uint64 {
	m := map[string]uint64{}
	for path, n := range s.paths {
		m[path] = n.Load()
	}
	return m
}
