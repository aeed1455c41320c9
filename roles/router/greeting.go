package router

import (
	"runtime"

	"gatehouse/privsep"
	"gatehouse/wire"
)

// globalAccount is what nats-server calls the account of clients without one;
// clients since 2.12 read it from the second INFO.
const globalAccount = "$G"

// greeting makes the INFO lines: the facts of this broker, the same for all,
// and those of one connection.
type greeting struct {
	info wire.Info
}

func newGreeting(cfg *privsep.Settings) *greeting {
	return &greeting{wire.Info{
		ServerID:   cfg.ServerID,
		ServerName: cfg.Broker,
		Version:    wire.ServerVersion,
		Go:         runtime.Version(),
		Proto:      1,
		Host:       cfg.Host,
		Port:       int(cfg.Port),
		Headers:    true,
		MaxPayload: cfg.MaxPayload,
		Gatehouse:  &wire.GatehouseInfo{Version: cfg.Version, Environment: cfg.Environment},
	}}
}

// append makes the INFO of a session; more says what this one is about, if it
// is not the first.
func (g *greeting) append(dst []byte, s *session, more func(*wire.Info)) []byte {
	i := g.info
	i.ClientID, i.Nonce = s.uid, s.challenge
	if s.client.IsValid() {
		i.ClientIP = s.client.String()
	}
	if more != nil {
		more(&i)
	}
	return wire.AppendInfo(dst, &i)
}

// connected is the INFO that follows the first PONG.
func connected(i *wire.Info) { i.ConnectInfo, i.RemoteAccount = true, globalAccount }

// leaving is the INFO of a broker that is about to stop.
func leaving(i *wire.Info) { i.LameDuck = true }
