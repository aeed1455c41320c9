package parent

import (
	"encoding/json"
	"errors"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"gatehouse/privsep"
	"gatehouse/tickets"
)

func upgradeParent() *parent {
	p := &parent{cfg: Defaults().Effective(), offences: map[offenceKey]uint64{}, dir: &runDir{path: "/run"}}
	p.cms = p.cfg.CM.Count
	return p
}

// What a binary may say in its trial is one line, and whatever else is named.
func TestUnfit(t *testing.T) {
	p := upgradeParent()
	good := p.checkLine()
	for _, c := range []struct {
		t    trial
		says string
	}{
		{trial{stdout: good}, ""},
		{trial{stdout: good + "more\n"}, "needs a restart"},
		{trial{stdout: strings.Replace(good, "settings=", "settings=0", 1)}, "needs a restart"},
		{trial{stdout: strings.Replace(good, "protocol=", "protocol=7", 1)}, "role protocol"},
		{trial{stdout: strings.Replace(good, "layout=", "layout=7", 1)}, "shared memory"},
		{trial{stdout: strings.Replace(good, "handover=", "handover=7", 1)}, "hands over"},
		{trial{stdout: "hello\n"}, `it says "hello\n"`},
		{trial{}, `it says ""`},
		{trial{stdout: good, err: errors.New("exit 1"), stderr: "why\nhow"}, "exit 1: why"},
		{trial{err: os.ErrDeadlineExceeded}, "does not answer in"},
	} {
		if got := p.unfit(&c.t); (got == "") != (c.says == "") || !strings.Contains(got, c.says) {
			t.Errorf("%+v: %q, want %q", c.t, got, c.says)
		}
	}
}

// What decides whether children can be gone on with, and what does not.
func TestSettingsDigest(t *testing.T) {
	was := upgradeParent().settingsDigest()
	for name, c := range map[string]struct {
		change func(*Config)
		same   bool
	}{
		"log level":    {func(c *Config) { c.Log.Level = "debug" }, true},
		"certificate":  {func(c *Config) { c.TLS.Cert = "other.pem" }, true},
		"payload":      {func(c *Config) { c.Limits.MaxPayload++ }, true},
		"listener":     {func(c *Config) { c.Listen.TCP = []string{"127.0.0.1:1"} }, true},
		"connections":  {func(c *Config) { c.Limits.MaxConnections++ }, false},
		"journal":      {func(c *Config) { c.Store.Journal++ }, false},
		"key use":      {func(c *Config) { c.TLS.KeyUse = KeyUseRelease }, false},
		"uids":         {func(c *Config) { c.Privsep.UIDBase++ }, false},
		"cms":          {func(c *Config) { c.CM.Count++ }, false},
		"orphan grace": {func(c *Config) { c.Limits.OrphanGrace++ }, true},
	} {
		p := upgradeParent()
		c.change(p.cfg)
		p.cms = p.cfg.CM.Count
		if same := p.settingsDigest() == was; same != c.same {
			t.Errorf("%s: same %v", name, same)
		}
	}
}

// What is handed over comes to the next parent as it was.
func TestHandover(t *testing.T) {
	lock, err := os.Create(t.TempDir() + "/lock")
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	p := upgradeParent()
	p.dir.lock, p.dir.made = lock, true
	p.started, p.signatures, p.unsigned = time.Now().Round(0), 5, 6
	p.newDispatcherKey(privsep.NewKey(), &child{})
	p.newDispatcherKey(privsep.NewKey(), &child{})
	p.used.use(7, time.Now(), p.longestLife())
	p.offences[offenceKey{privsep.ID{Role: privsep.RoleCM, Index: 1}, offence{"SIGN", "rate"}}] = 3
	b, err := json.Marshal(p.handOver(-1, -1, "why"))
	if err != nil {
		t.Fatal(err)
	}
	var h handover
	if err := json.Unmarshal(b, &h); err != nil {
		t.Fatal(err)
	}
	q := upgradeParent()
	if err := q.receive(&h); err != nil {
		t.Fatal(err)
	}
	if !q.started.Equal(p.started) || q.signatures != 5 || q.unsigned != 6 || !q.dir.made || !reflect.DeepEqual(q.offences, p.offences) {
		t.Errorf("%+v", q)
	}
	if len(q.dispatcherKeys) != 2 || q.dispatcherKeys[1].key != p.dispatcherKeys[1].key || q.dispatcherKeys[1].until.IsZero() {
		t.Error("the dispatchers' keys differ")
	}
	if q.used.use(7, time.Now(), q.longestLife()) || !q.used.use(8, time.Now(), q.longestLife()) {
		t.Error("the used tickets differ")
	}
	h.Keys[0].Key = h.Keys[0].Key[:len(tickets.HandoffKey{})-1]
	if err := upgradeParent().receive(&h); err == nil {
		t.Error("half a key was taken")
	}
}
