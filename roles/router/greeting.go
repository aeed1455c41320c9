package router

import (
	"net/netip"
	"runtime"

	"gatehouse/privsep"
	"gatehouse/store"
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

func (g *greeting) append(dst []byte, o *store.RecOpen, challenge string) []byte {
	i := g.info
	i.ClientID, i.Nonce = o.UID, challenge
	if !o.Unix {
		i.ClientIP = netip.AddrFrom16(o.Addr).Unmap().String()
	}
	return wire.AppendInfo(dst, &i)
}

// appendConnected is the INFO that follows the first PONG.
func (g *greeting) appendConnected(dst []byte, uid uint64, challenge string) []byte {
	i := g.info
	i.ClientID, i.Nonce = uid, challenge
	i.ConnectInfo, i.RemoteAccount = true, globalAccount
	return wire.AppendInfo(dst, &i)
}

func (g *greeting) appendLameDuck(dst []byte, uid uint64, challenge string) []byte {
	i := g.info
	i.ClientID, i.Nonce, i.LameDuck = uid, challenge, true
	return wire.AppendInfo(dst, &i)
}
