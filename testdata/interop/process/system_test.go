package process

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
)

// systemAnswer is what is answered on $SYS.REQ.
type systemAnswer struct {
	Server struct {
		ID string `json:"id"`
	} `json:"server"`
	Stats *struct {
		Connections int `json:"connections"`
	} `json:"statsz"`
	Data struct {
		User        string          `json:"user"`
		Account     string          `json:"account"`
		Connections json.RawMessage `json:"connections"` // a number or a list
		Permissions any             `json:"permissions"`
	} `json:"data"`
	Error any `json:"error"`
}

func askSystem(nc *nats.Conn, subject, body string) (*systemAnswer, error) {
	m, err := nc.Request("$SYS.REQ."+subject, []byte(body), time.Second)
	if err != nil {
		return nil, err
	}
	a := new(systemAnswer)
	return a, json.Unmarshal(m.Data, a)
}

// awaitSystem wants a client's requests answered, by a console that is there again if
// need be.
func awaitSystem(t testing.TB, nc *nats.Conn, when string) (a *systemAnswer) {
	t.Helper()
	await(t, "an answer on $SYS.REQ. "+when, soon, func() (ok bool) {
		var err error
		a, err = askSystem(nc, "SERVER.PING", "")
		return err == nil && a.Stats != nil
	})
	return a
}

// Who may asks for the state of the broker, and is answered whatever has died or been
// replaced; who may not is told that nobody is there, and hears nothing of it. The console
// is no client.
func TestSystem(t *testing.T) {
	t.Parallel()
	b := newBroker(t, settings{cms: 2, users: "[[profile]]\nname = \"admin\"\nsystem = true\n" +
		userTable("alice", password(horse), `profile = "admin"`) + userTable("bob", password(battery))})
	b.edit("[console]\nunix = \"\"\n", "[console]\n")
	b.start()
	admin := b.natsClientAt("nats://"+b.addr, nats.UserInfo("alice", "horse"))
	bob := b.natsClientAt("nats://"+b.addr, nats.UserInfo("bob", "battery"))
	overheard := make(chan *nats.Msg, 100)
	for _, subject := range []string{"$SYS.>", "$SYS.REQ.SERVER.PING", "*.REQ.>"} {
		_, err := bob.ChanSubscribe(subject, overheard)
		must(t, err)
	}
	must(t, bob.Flush())

	a := awaitSystem(t, admin, "at first")
	if a.Stats.Connections != 2 {
		t.Errorf("%d connections, want the two clients'", a.Stats.Connections)
	}
	for subject, body := range map[string]string{
		"SERVER." + a.Server.ID + ".VARZ": "", "SERVER.PING.CONNZ": `{"auth":true}`, "ACCOUNT.$G.SUBSZ": "", "SERVER.PING.HEALTHZ": "", "SERVER.PING.IDZ": "",
	} {
		if a, err := askSystem(admin, subject, body); err != nil || a.Error != nil {
			t.Errorf("%s: %v, %+v", subject, err, a)
		}
		if _, err := askSystem(bob, subject, body); !errors.Is(err, nats.ErrNoResponders) {
			t.Errorf("%s, by one who may not: %v", subject, err)
		}
	}
	if a, err := askSystem(admin, "SERVER.PING.CONNZ", `{"auth":true}`); err != nil || strings.Count(string(a.Data.Connections), `"authorized_user"`) != 2 {
		t.Errorf("the connections are %s, %v", a.Data.Connections, err)
	}
	if a, err := askSystem(admin, "SERVER.PING.CONNZ", `{"auth":`); err != nil || a.Error == nil {
		t.Errorf("nonsense is answered by %+v, %v", a, err)
	}
	if _, err := askSystem(admin, "SERVER.PING.KICK", "{}"); !errors.Is(err, nats.ErrNoResponders) {
		t.Errorf("what there is not: %v", err)
	}
	for nc, want := range map[*nats.Conn]string{admin: "alice", bob: "bob"} {
		if a, err := askSystem(nc, "USER.INFO", ""); err != nil || a.Data.User != want || a.Data.Account != "$G" || a.Data.Permissions != nil {
			t.Errorf("%s is told to be %+v, %v", want, a, err)
		}
	}

	for _, role := range []string{"router", "dispatcher", "cm/0", "cm/1", "console"} {
		b.kill(role)
		awaitSystem(t, admin, "after the death of "+role)
	}
	for _, role := range b.cms() {
		b.restart(role)
		awaitSystem(t, admin, "on the successor of "+role)
	}
	b.edit("system = true\n", "")
	b.reload("reloaded")
	if _, err := askSystem(admin, "SERVER.PING", ""); !errors.Is(err, nats.ErrNoResponders) {
		t.Errorf("after the profile may not any more: %v", err)
	}
	must(t, bob.Flush())
	if n := len(overheard); n > 0 {
		t.Errorf("%d requests were overheard, the first on %s", n, strings.ToValidUTF8((<-overheard).Subject, "?"))
	}
}
