package router

import (
	"net/netip"
	"testing"

	"gatehouse/privsep"
	"gatehouse/wire"
)

// The law: a template gives the bytes that wire.AppendInfo gives.
func TestGreeting(t *testing.T) {
	cfg := &privsep.Settings{ServerID: "NID", Broker: "b \"quoted\"", Environment: "e<&>", Version: "v",
		Live: privsep.Live{Host: "127.0.0.1", Port: 4222, MaxPayload: 1 << 20}}
	for i, addr := range []string{"", "127.0.0.1", "2001:db8::1"} {
		s := &session{options: options{prof: unrestricted}, uid: 1<<53 - 1, challenge: "abcdefghijklmnopqrstuvwxyz-_0123", tls: i > 0}
		cfg.TLS.Client = privsep.ClientAuth(i)
		if addr != "" {
			s.client = netip.MustParseAddr(addr)
		}
		kinds := privsep.CredentialSet(0).With(privsep.CredentialPassword)
		if cfg.Login.Kinds = kinds.With(privsep.CredentialProcess); addr == "" {
			kinds = cfg.Login.Kinds // at a Unix socket alone
		}
		all := newGreetings(cfg)
		g := all.of(s)
		want := infoOf(cfg, kinds)
		want.ClientID, want.ClientIP, want.Nonce = s.uid, addr, s.challenge
		want.TLSRequired, want.TLSVerify = i > 0, i == 2
		for _, c := range []struct {
			name string
			t    *template
			set  func(*wire.Info)
		}{
			{"first", &g.first, func(*wire.Info) {}},
			{"connected", &g.connected, func(i *wire.Info) { i.ConnectInfo, i.RemoteAccount = true, "$G" }},
			{"leaving", &g.leaving, func(i *wire.Info) { i.LameDuck = true }},
		} {
			i := want
			c.set(&i)
			if got, want := string(c.t.append(nil, s)), string(wire.AppendInfo(nil, &i)); got != want {
				t.Errorf("%s %q:\n got %q\nwant %q", c.name, addr, got, want)
			}
		}
	}
}
