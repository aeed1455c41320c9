package console

import (
	"context"
	"time"

	"gatehouse/wire"
)

// traffic is how much went one way.
type traffic struct {
	Msgs  uint64 `json:"msgs"`
	Bytes uint64 `json:"bytes"`
}

// statsz has the names of nats-server's STATSZ, which /varz has, too.
type statsz struct {
	Start            time.Time `json:"start"`
	Mem              uint64    `json:"mem"`
	Cores            int       `json:"cores"`
	CPU              float64   `json:"cpu"`
	Connections      uint64    `json:"connections"`
	TotalConnections uint64    `json:"total_connections"`
	ActiveAccounts   int       `json:"active_accounts"`
	Subscriptions    uint64    `json:"subscriptions"`
	Sent             traffic   `json:"sent"`
	SentClients      traffic   `json:"sent_to_clients"`
	Received         traffic   `json:"received"`
	ReceivedClients  traffic   `json:"received_from_clients"`
	SlowConsumers    uint64    `json:"slow_consumers"`
	ActiveServers    int       `json:"active_servers"`
	MaxProcs         int       `json:"gomaxprocs"`
}

// now are the variables of now.
func (s *server) now() *varz {
	ctx, cancel := context.WithTimeout(context.Background(), requestTime)
	defer cancel()
	st, _ := s.word.get(ctx.Done())
	return s.vars(st)
}

func (s *server) systemStats(_ *options, r *reply) {
	v := s.now()
	sent, received := traffic{v.OutMsgs, v.OutBytes}, traffic{v.InMsgs, v.InBytes}
	r.Stats = &statsz{Start: v.Start, Mem: v.Mem, Cores: v.Cores, CPU: v.CPU, Connections: v.Connections, TotalConnections: v.TotalConnections,
		ActiveAccounts: 1, Subscriptions: v.Subscriptions, Sent: sent, SentClients: sent, Received: received, ReceivedClients: received,
		SlowConsumers: v.SlowConsumers, ActiveServers: 1, MaxProcs: v.MaxProcs}
}

// accounts says that there is one.
func (s *server) accounts(_ *options, r *reply) {
	r.Data = encode(map[string]any{"server_id": s.cfg.ServerID, "now": time.Now().UTC(), "accounts": []string{wire.GlobalAccount}})
}

// accountStat is what an account has.
type accountStat struct {
	Account          string  `json:"acc"`
	Name             string  `json:"name"`
	Connections      uint64  `json:"conns"`
	Leafs            int     `json:"leafnodes"`
	TotalConnections uint64  `json:"total_conns"`
	Subscriptions    uint64  `json:"num_subscriptions"`
	Sent             traffic `json:"sent"`
	Received         traffic `json:"received"`
	SlowConsumers    uint64  `json:"slow_consumers"`
}

func (s *server) accountStats(_ *options, r *reply) {
	v := s.now()
	stat := accountStat{Account: wire.GlobalAccount, Name: wire.GlobalAccount, Connections: v.Connections, TotalConnections: v.Connections,
		Subscriptions: v.Subscriptions, Sent: traffic{v.OutMsgs, v.OutBytes}, Received: traffic{v.InMsgs, v.InBytes}, SlowConsumers: v.SlowConsumers}
	r.Data = encode(map[string]any{"server_id": s.cfg.ServerID, "now": v.Now, "account_statz": []accountStat{stat}})
}

func (s *server) accountInfo(_ *options, r *reply) {
	v := s.now()
	r.Data = encode(map[string]any{"account_name": wire.GlobalAccount, "update_time": v.Start, "expired": false, "complete": true, "jetstream_enabled": false,
		"leafnode_connections": 0, "client_connections": v.Connections, "subscriptions": v.Subscriptions})
}
