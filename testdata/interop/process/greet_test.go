package process

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"syscall"
	"testing"
)

// Clients are greeted while there is no router, each with a challenge of its own, and log
// in by that once there is one again.
func TestGreetedWithoutRouter(t *testing.T) {
	const rounds, clients = 10, 20
	public, key := newNKey(t)
	b := startBroker(t, settings{cms: 2, limits: `auth_timeout = "20s"`, users: userTable("carol", fmt.Sprintf("nkey = %q", public))})
	seen := map[string]bool{}
	greeted := func() *client {
		c, err := dial(b.addr)
		must(t, err)
		return c
	}
	logIn := func(c *client) {
		var info struct{ Nonce string }
		must(t, json.Unmarshal([]byte(strings.TrimPrefix(c.info, "INFO ")), &info))
		if len(info.Nonce) != 32 || seen[info.Nonce] {
			t.Fatalf("challenge %q", info.Nonce)
		}
		seen[info.Nonce] = true
		sig, err := key.Sign([]byte(info.Nonce))
		must(t, err)
		must(t, c.send(fmt.Sprintf("CONNECT {\"verbose\":false,\"nkey\":%q,\"sig\":%q}\r\nPING\r\n", public, base64.RawURLEncoding.EncodeToString(sig))))
	}
	for range rounds {
		pid := b.processes()["router"]
		must(t, syscall.Kill(pid, syscall.SIGSTOP))
		var all []*client
		for range clients {
			all = append(all, greeted())
		}
		for _, c := range all[:clients/2] { // the others say it to the next one
			logIn(c)
		}
		b.kill("router")
		await(t, "another router", patience, func() bool { now := b.processes()["router"]; return now != 0 && now != pid })
		for _, c := range all[clients/2:] {
			logIn(c)
		}
		for _, c := range all {
			c.expect(t, "PONG")
			c.reset()
		}
	}
	c := greeted()
	logIn(c)
	c.expect(t, "PONG")
	c.reset()
}
