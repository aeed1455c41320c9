package console

import (
	"net/http"
	"strconv"

	"gatehouse/privsep"
)

// metrics is /metrics, in Prometheus' text format. Names do not change; new ones come.
func (s *server) metrics(w http.ResponseWriter, r *http.Request) {
	st, now := s.word.get(r.Context().Done())
	var e exposition
	s.broker(&e, st, now)
	s.view.cms(&e)
	s.view.router(&e)
	if st != nil {
		st.processes(&e)
		st.keys(&e)
	}
	s.own(&e)
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	w.Write(e.b)
}

// broker is what is said of all of it.
func (s *server) broker(e *exposition, st *status, now bool) {
	e.family("gatehouse_build_info", gauge, "The broker, always 1.")
	e.sample("gatehouse_build_info", 1, "version", s.cfg.Version, "environment", s.cfg.Environment, "broker", s.cfg.Broker, "server_id", s.cfg.ServerID)
	up := 0.0
	if now {
		up = 1
	}
	e.one("gatehouse_parent_up", gauge, "Whether the parent process answers; without it there are no figures of processes and keys, or old ones.", up)
	if st != nil {
		e.one("gatehouse_start_time_seconds", gauge, "When the broker started, Unix time.", float64(st.Started.UnixMilli())/1000)
	}
	c := s.view.table.Counters()
	e.one("gatehouse_connections_accepted_total", counter, "Connections of clients that were handed to a connection manager.", float64(c.Accepted.Load()))
	e.family("gatehouse_connections_refused_total", counter, "Connections of clients that were refused, by the limit.")
	e.sample("gatehouse_connections_refused_total", float64(c.Refused.Load()), "limit", "max_connections")
	e.sample("gatehouse_connections_refused_total", float64(c.Limited.Load()), "limit", "connect_rate")
	e.sample("gatehouse_connections_refused_total", float64(c.Crowded.Load()), "limit", "address_connections")
}

// cms are the figures of the connection managers that there have been.
func (v *view) cms(e *exposition) {
	for _, m := range []struct {
		name, kind, help string
		of               func(cm int) uint64
	}{
		{"gatehouse_connections", gauge, "Connections of clients.", func(i int) uint64 { return v.columns[i].Counters().Open.Load() }},
		{"gatehouse_received_messages_total", counter, "Messages from clients.", func(i int) uint64 { return v.columns[i].Counters().InMsgs.Load() }},
		{"gatehouse_received_bytes_total", counter, "Bytes from clients.", func(i int) uint64 { return v.columns[i].Counters().InBytes.Load() }},
		{"gatehouse_sent_messages_total", counter, "Messages to clients.", func(i int) uint64 { return v.columns[i].Counters().OutMsgs.Load() }},
		{"gatehouse_sent_bytes_total", counter, "Bytes to clients.", func(i int) uint64 { return v.columns[i].Counters().OutBytes.Load() }},
		{"gatehouse_slow_consumers_total", counter, "Connections ended because they did not take what was for them.", func(i int) uint64 { return v.columns[i].Counters().SlowConsumers.Load() }},
		{"gatehouse_malformed_messages_total", counter, "Messages whose headers for the broker made no sense.", func(i int) uint64 { return v.columns[i].Counters().Malformed.Load() }},
		{"gatehouse_ring_full_total", counter, "Times that a connection manager stopped reading, for want of room in its ring.", func(i int) uint64 { return v.columns[i].Counters().RingFull.Load() }},
		{"gatehouse_arena_full_total", counter, "Times that a connection manager stopped reading, for want of room for bodies.", func(i int) uint64 { return v.columns[i].Counters().ArenaFull.Load() }},
		{"gatehouse_ring_up_bytes", gauge, "What of a ring the router has not taken yet.", func(i int) uint64 { return v.sessions.Counters().Rings[i].Up.Load() }},
		{"gatehouse_ring_down_bytes", gauge, "What of a ring a connection manager has not taken yet.", func(i int) uint64 { return v.sessions.Counters().Rings[i].Down.Load() }},
	} {
		e.family(m.name, m.kind, m.help)
		for i := range v.columns {
			if v.columns[i].Counters().Epoch.Load() != 0 {
				e.sample(m.name, float64(m.of(i)), "cm", strconv.Itoa(i))
			}
		}
	}
	e.one("gatehouse_ring_capacity_bytes", gauge, "What each of the two rings of a connection manager holds.", float64(v.ring))
}

// router are the router's figures.
func (v *view) router(e *exposition) {
	f := v.figures()
	e.one("gatehouse_sessions", gauge, "Connections that the router knows.", float64(f.Sessions))
	e.one("gatehouse_subscriptions", gauge, "Subscriptions.", float64(f.Subscriptions))
	e.one("gatehouse_routed_messages_total", counter, "Messages that were routed.", float64(f.Messages))
	e.one("gatehouse_deliveries_total", counter, "Recipients of all messages together.", float64(f.Delivered))
	e.one("gatehouse_permission_violations_total", counter, "What clients tried and their profiles do not allow.", float64(f.Violations))
	e.one("gatehouse_logins_total", counter, "Logins that succeeded.", float64(f.Logins))
	e.family("gatehouse_login_refusals_total", counter, "Logins that were refused, by reason.")
	c := v.sessions.Counters()
	for i := 1; i < len(c.Refused) && privsep.Reason(i).Known(); i++ {
		e.sample("gatehouse_login_refusals_total", float64(c.Refused[i].Load()), "reason", privsep.Reason(i).String())
	}
	e.histogram("gatehouse_router_batch_messages", "Messages that the router took in one go.", &f.BatchMessages, 0, 16, 1)
	e.histogram("gatehouse_router_batch_duration_seconds", "How long such a go took: what a message waits in the router at most.", &f.BatchTime, 10, 33, 1e-9)
}

// processes are what the parent says of each.
func (s *said) processes(e *exposition) {
	for _, m := range []struct {
		name, kind, help string
		of               func(*process) float64
	}{
		{"gatehouse_process_up", gauge, "Whether a process runs and answers.", func(p *process) float64 {
			switch p.State {
			case "running", "standby", "retiring":
				return 1
			}
			return 0
		}},
		{"gatehouse_process_restarts_total", counter, "How often a process was started again.", func(p *process) float64 { return float64(p.Restarts) }},
		{"gatehouse_process_resident_memory_bytes", gauge, "Memory of a process, its part of what it shares.", func(p *process) float64 { return float64(p.Memory) }},
		{"gatehouse_process_cpu_seconds_total", counter, "Processor time of a process.", func(p *process) float64 { return p.CPU }},
		{"gatehouse_process_threads", gauge, "Threads of a process.", func(p *process) float64 { return float64(p.Threads) }},
		{"gatehouse_process_signatures_total", counter, "Signatures that the parent made for a process.", func(p *process) float64 { return float64(p.Signatures) }},
		{"gatehouse_tls_handshakes_total", counter, "Handshakes of TLS that succeeded.", func(p *process) float64 { return float64(p.Handshakes) }},
		{"gatehouse_tls_handshakes_failed_total", counter, "Handshakes of TLS that failed.", func(p *process) float64 { return float64(p.NoHandshakes) }},
		{"gatehouse_tls_shared_sessions", gauge, "Sessions of TLS to servers.", func(p *process) float64 { return float64(p.Sessions) }},
		{"gatehouse_logins_waiting", gauge, "Logins that wait for a verdict.", func(p *process) float64 { return float64(p.LoginsWait) }},
	} {
		e.family(m.name, m.kind, m.help)
		seen := map[string]bool{}
		for i := range s.Processes {
			p := &s.Processes[i]
			if name := p.Role; !seen[name] { // a role that is being replaced is there twice
				seen[name] = true
				e.sample(m.name, m.of(p), "role", name)
			}
		}
	}
	for _, m := range []struct {
		name, help string
		of         func(*arena) uint64
	}{
		{"gatehouse_arena_size_bytes", "Room for bodies of messages.", func(a *arena) uint64 { return a.Size }},
		{"gatehouse_arena_used_bytes", "Room that bodies of messages take.", func(a *arena) uint64 { return a.Used }},
		{"gatehouse_arena_bodies", "Bodies of messages that not all have finished with.", func(a *arena) uint64 { return a.Bodies }},
	} {
		e.family(m.name, gauge, m.help)
		for i := range s.Arenas {
			e.sample(m.name, float64(m.of(&s.Arenas[i])), "cm", strconv.Itoa(s.Arenas[i].CM))
		}
	}
	e.family("gatehouse_protocol_offences_total", counter, "Messages between processes that no sound one sends: whoever does is ended.")
	for _, o := range s.Offences {
		e.sample("gatehouse_protocol_offences_total", float64(o.Count), "role", o.Role, "kind", o.Kind, "reason", o.Reason)
	}
}

// keys are what was done with the private keys.
func (s *said) keys(e *exposition) {
	e.family("gatehouse_key_signatures_total", counter, "Signatures by a private key, by what it is for.")
	if s.Key != nil {
		e.sample("gatehouse_key_signatures_total", float64(s.Key.Signatures), "purpose", "tls_server")
	}
	if s.Transfer != nil {
		e.sample("gatehouse_key_signatures_total", float64(s.Transfer.Signed), "purpose", "ticket")
	}
	if s.Identity != nil {
		e.sample("gatehouse_key_signatures_total", float64(s.Identity.Signed), "purpose", "tls_client")
	}
	e.family("gatehouse_key_refusals_total", counter, "Signatures that were asked for and not given, by what the key is for.")
	if s.Key != nil {
		e.sample("gatehouse_key_refusals_total", float64(s.Key.Refused), "purpose", "tls_server")
	}
	if s.Transfer != nil {
		e.sample("gatehouse_key_refusals_total", float64(s.Transfer.Refused), "purpose", "ticket")
	}
	if s.Key != nil {
		e.one("gatehouse_certificate_expiry_timestamp_seconds", gauge, "When the certificate of the TLS listeners expires, Unix time.", float64(s.Key.NotAfter.Unix()))
	}
}

// own are the console's.
func (s *server) own(e *exposition) {
	e.family("gatehouse_console_requests_total", counter, "Requests to the console, by path.")
	for _, path := range s.known {
		e.sample("gatehouse_console_requests_total", float64(s.paths[path].Load()), "path", path)
	}
	e.one("gatehouse_console_refusals_total", counter, "Requests and connections that the console refused.", float64(s.refused.Load()))
	e.one("gatehouse_console_connections", gauge, "Connections to the console.", float64(s.stats().Connections))
}
