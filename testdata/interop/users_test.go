package interop

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"gatehouse/tickets/client"
	"github.com/nats-io/nats.go"
)

// horse is the hash of the password that all users have; it costs little.
const horse = "$argon2id$v=19$m=1024,t=1,p=1$c29tZXNhbHQ$+ZBx63iOJQl7cGEIS28lPx+fVIZl9idUMRS0/n+XnWI"

// users are tables of a configuration: names with organisation and profile after a blank
// each.
func users(list ...string) string {
	var b strings.Builder
	for _, u := range list {
		w := strings.Fields(u)
		fmt.Fprintf(&b, "[[user]]\nname = %q\npassword = %q\norganisation = %q\nprofile = %q\n", w[0], horse, w[1], w[2])
	}
	return b.String()
}

func profiles(lines ...string) string {
	var b strings.Builder
	for _, l := range lines {
		name, rest, _ := strings.Cut(l, " ")
		fmt.Fprintf(&b, "[[profile]]\nname = %q\n%s\n", name, rest)
	}
	return b.String()
}

// as logs a connection in.
func as(user string) nats.Option { return nats.UserInfo(user, "horse") }

// Members get requests by the weight of their profiles.
func TestSemaphoreWeights(t *testing.T) {
	b := startOwn(t, settings{cms: 2, tables: users("small ORGA one", "big ORGA three") + profiles("one weight = 1", "three weight = 3")})
	small, big := b.member("small", "work", "members", as("small")), b.member("big", "work", "members", as("big"))
	nc := b.connect(as("small"))
	for range 40 {
		must(t, nc.PublishRequest("work", "nobody.listens", []byte("keep")))
	}
	must(t, nc.Flush())
	b.await("40 requests", func() bool { return len(small.all())+len(big.all()) == 40 })
	if n := len(small.all()); n != 10 {
		t.Errorf("of 40 requests the one of weight 1 has %d, the one of weight 3 the rest", n)
	}
}

// A request may be for an organisation, and its receivers know whose it is.
func TestOrganisations(t *testing.T) {
	b := startOwn(t, settings{cms: 2, tables: users("alice ORGA desk", "bob ORGB desk", "carol ORGA plain") +
		profiles("desk stamp_sender = true\ntypes = [\"pricer\"]", "plain")})
	var all []*member
	for i, user := range []string{"alice", "bob", "carol"} {
		all = append(all, b.member(user, "who", "g", as(user), client.Name("pricer", fmt.Sprint(i))))
	}
	nc := b.connect(as("bob"), client.Name("pricer", "9"))
	for organisation, want := range map[string][]string{"ORGA": {"alice", "carol"}, "ORGB": {"bob"}} {
		got, err := everybody(t, nc, "who", "", client.ToOrganisation(organisation))
		if slices.Sort(got); err != nil || !slices.Equal(got, want) {
			t.Errorf("of %s: %v, %v", organisation, got, err)
		}
	}
	want := client.Identity{User: "bob", Organisation: "ORGB", Type: "pricer", Instance: "9"}
	for _, m := range all {
		id, ok := client.Sender(m.all()[0])
		if ok != (m.name != "carol") || ok && id != want {
			t.Errorf("%s is told of %+v, %v", m.name, id, ok)
		}
	}
}
