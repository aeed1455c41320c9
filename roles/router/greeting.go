package router

import (
	"bytes"
	"runtime"
	"strconv"

	"gatehouse/privsep"
	"gatehouse/wire"
)

// greetings are one for each way to connect and largest message, made when first
// wanted.
type greetings struct {
	plain, secure, local wire.Info
	made                 map[greeted]*greeting
}

type greeted struct {
	tls, local bool
	payload    int
}

func (g *greetings) of(s *session) *greeting {
	i := &g.plain
	key := greeted{tls: s.tls, local: !s.client.IsValid()}
	switch {
	case key.tls:
		i = &g.secure
	case key.local:
		i = &g.local
	}
	key.payload = i.MaxPayload
	if most := int(s.prof.limits.payload); most > 0 {
		key.payload = min(key.payload, most)
	}
	made := g.made[key]
	if made == nil {
		info := *i
		info.MaxPayload = key.payload
		made = newGreeting(info)
		g.made[key] = made
	}
	return made
}

func newGreetings(cfg *privsep.Settings) greetings {
	kinds := cfg.Login.Kinds
	remote := kinds.Without(privsep.CredentialProcess)
	plain, secure, local := infoOf(cfg, remote), infoOf(cfg, remote), infoOf(cfg, kinds)
	secure.TLSRequired, secure.TLSVerify = true, cfg.TLS.Client == privsep.ClientAuthRequire
	return greetings{plain, secure, local, make(map[greeted]*greeting)}
}

// greeting is the three INFO lines that a client may get. What differs from
// client to client is put between their pieces, since a connection costs less
// that way than by making JSON for each.
type greeting struct {
	first     template // on connecting
	connected template // after the first PONG
	leaving   template // before the broker stops
}

// template is an INFO line cut at client_id, client_ip and nonce.
type template [4][]byte

func newGreeting(i wire.Info) *greeting {
	g := &greeting{first: newTemplate(i)}
	connected, leaving := i, i
	connected.ConnectInfo, connected.RemoteAccount = true, wire.GlobalAccount // since 2.12
	leaving.LameDuck = true
	g.connected, g.leaving = newTemplate(connected), newTemplate(leaving)
	return g
}

// infoOf is what all clients are told alike that can log in by such credentials.
func infoOf(cfg *privsep.Settings, kinds privsep.CredentialSet) wire.Info {
	return wire.Info{
		ServerID:   cfg.ServerID,
		ServerName: cfg.Broker,
		Version:    wire.ServerVersion,
		Go:         runtime.Version(),
		Proto:      1,
		Host:       cfg.Host,
		Port:       cfg.Port,
		Headers:    true,
		MaxPayload: cfg.MaxPayload,
		Gatehouse:  &wire.GatehouseInfo{Version: cfg.Version, Environment: cfg.Environment, Credentials: kinds.Names()},

		AuthRequired: cfg.Auth,
	}
}

// newTemplate cuts the line at texts that occur nowhere else in it.
func newTemplate(i wire.Info) (t template) {
	const id, ip, nonce = 1<<63 + 987654321, "\x7fip", "\x7fnonce"
	i.ClientID, i.ClientIP, i.Nonce = id, ip, nonce
	rest := wire.AppendInfo(nil, &i)
	for n, mark := range []string{strconv.FormatUint(id, 10), ip, nonce} {
		t[n], rest, _ = bytes.Cut(rest, []byte(mark))
	}
	t[3] = rest
	return t
}

// append makes the INFO of one session.
func (t *template) append(dst []byte, s *session) []byte {
	dst = strconv.AppendUint(append(dst, t[0]...), s.uid, 10)
	dst = append(dst, t[1]...)
	if s.client.IsValid() {
		dst = s.client.AppendTo(dst)
	}
	dst = append(append(dst, t[2]...), s.challenge...)
	return append(dst, t[3]...)
}
