package router

import (
	"testing"

	"github.com/nats-io/nats.go"

	"gatehouse/tickets/client"
)

// What the router says of a sender is what applications read.
func TestStampIsRead(t *testing.T) {
	var all [256]byte
	for i := range all {
		all[i] = byte(i)
	}
	for _, w := range []*who{
		{},
		{user: "alice"},
		{user: "alice", organisation: "ORGA", kind: "pricer", instance: "1", vouched: true},
		{user: "alice; type=root", organisation: string(all[:]), kind: "pricer", instance: "1"},
		{user: "anonymous"},
		{kind: "a=b;c%", instance: "\"", vouched: true},
	} {
		want := client.Identity{User: w.user, Organisation: w.organisation}
		if w.vouched {
			want.Type, want.Instance = w.kind, w.instance
		}
		stamp := string(w.appendStamp(nil))
		got, ok := client.Sender(&nats.Msg{Header: nats.Header{client.HeaderFrom: {stamp}}})
		if !ok || got != want {
			t.Errorf("%q is read as %+v, %v, want %+v", stamp, got, ok, want)
		}
	}
}
