package cm

import (
	"fmt"
	"strings"
	"testing"

	"gatehouse/store"
	"gatehouse/wire"
)

// A message to the broker itself goes to the router with its body and takes nothing of
// the arena, however it comes in.
func TestAsk(t *testing.T) {
	body := `{"nonce":"n"}`
	header := "NATS/1.0\r\nGatehouse-Mode: fanout\r\n\r\n"
	pub := func(subject, body string) string {
		return fmt.Sprintf("PUB %s in %d\r\n%s\r\n", subject, len(body), body)
	}
	hpub := fmt.Sprintf("HPUB $GATE.a in %d %d\r\n%s%s\r\n", len(header), len(header)+len(body), header, body)
	asked := store.RecAsk{Subject: []byte("$GATE.a"), Reply: []byte("in"), Body: []byte(body)}
	most := strings.Repeat("b", store.MaxAsk)
	for name, tt := range map[string]struct {
		text string
		want store.RecAsk
	}{
		"at once":      {pub("$GATE.a", body), asked},
		"with headers": {hpub, asked},
		"the most":     {pub("$GATE.a", most), store.RecAsk{Subject: asked.Subject, Reply: asked.Reply, Body: []byte(most)}},
		"more":         {pub("$GATE.a", most+"b"), store.RecAsk{Subject: asked.Subject, Reply: asked.Reply, Long: true}},
		"nothing":      {pub("$GATE.a", ""), store.RecAsk{Subject: asked.Subject, Reply: asked.Reply}},
		"no reply":     {"PUB $GATE.a 1\r\nb\r\n", store.RecAsk{Subject: asked.Subject, Body: []byte("b")}},
	} {
		for cut := 0; cut < len(tt.text); cut += 1 + cut/16 {
			m, router := alone(t) // it has no arena
			m.limits = limitsOf(m.cfg)
			c := &conn{slot: 1, gen: 11, flags: flagConnected}
			c.parser.SetHeaders(true)
			m.conns[1] = c
			m.parse(c, []byte(tt.text[:cut]))
			m.parse(c, []byte(tt.text[cut:]))
			m.out.Publish()
			rec, err := router.In.Next()
			var got store.RecAsk
			if err != nil || got.Parse(rec) != nil {
				t.Fatalf("%s, cut at %d: the router hears %q, %v", name, cut, rec, err)
			}
			if got.Conn != c.ref() || got.Long != tt.want.Long || string(got.Subject) != string(tt.want.Subject) ||
				string(got.Reply) != string(tt.want.Reply) || string(got.Body) != string(tt.want.Body) {
				t.Fatalf("%s, cut at %d: %+v", name, cut, got)
			}
			if m.inMsgs != 1 || c.in.msgs != 1 || c.body != nil {
				t.Fatalf("%s, cut at %d: %d messages", name, cut, m.inMsgs)
			}
		}
	}
	if !wire.Broker([]byte("$GATE.")) || wire.Broker([]byte("$gate.a")) || wire.Broker([]byte("$GATE")) || wire.Broker(nil) {
		t.Error("other subjects are the broker's")
	}
}
