package process

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A client whose message waits for room in the arena runs into its deadline:
// that ends the client, not its cm.
func TestDeadlineWhileWaiting(t *testing.T) {
	t.Parallel()
	b := startBroker(t, settings{limits: "max_payload = \"16KiB\"\nauth_timeout = \"300ms\"", store: `arena = "64KiB"`})
	witness, before := b.client(""), b.processes()
	c, err := dial(b.addr)
	must(t, err)
	defer c.reset()
	message := pub("x", strings.Repeat("x", 1024)) // of which the arena holds 64 at most
	must(t, c.send(message[:100]))
	b.hasRead(witness)
	b.signal("router", syscall.SIGSTOP)
	must(t, c.send(message[100:]+strings.Repeat(message, 200)))
	await(t, "a full arena", patience, func() bool { // which takes longer than auth_timeout
		st := b.status()
		return st.Role("cm/0").InMsgs >= 40
	})
	b.signal("router", syscall.SIGCONT)
	must(t, witness.sync())
	b.unchanged(before)
	must(t, b.serves())
}

// hasRead waits until the broker's only cm has read what other clients sent
// before.
func (b *broker) hasRead(witness *client) {
	b.t.Helper()
	for range 2 { // the first may be in the same batch, before it
		must(b.t, witness.sync())
	}
}

// A client may begin with PUB instead of CONNECT. One whose first message comes
// in two pieces is not late for having no CONNECT.
func TestPublishFirst(t *testing.T) {
	t.Parallel()
	b := startBroker(t, settings{limits: `auth_timeout = "100ms"`})
	c, err := dial(b.addr)
	must(t, err)
	defer c.reset()
	must(t, c.send("PUB x 10\r\nhello"))
	b.hasRead(b.client(""))
	must(t, c.send("world\r\n"))
	c.expect(t, "+OK")
	c.conn.SetReadDeadline(time.Now().Add(400 * time.Millisecond))
	if line, err := c.in.ReadString('\n'); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("read %q, %v, want the connection to stay", line, err)
	}
	must(t, c.sync())
}

// The longest subjects and sids that a valid configuration allows fit in its
// smallest ring, delivered or quoted in an error.
func TestLongestLines(t *testing.T) {
	t.Parallel()
	b := startBroker(t, settings{limits: `max_control_line = "64KiB"`, store: `ring = "1MiB"`})
	before := b.processes()
	const line = 64 << 10 // of which "> " and " 2" are not text
	sid, subject := strings.Repeat("1", line-2), strings.Repeat("s", line-2)
	c := b.client("SUB > " + sid + "\r\n")
	must(t, c.send("PUB "+subject+" 2\r\nhi\r\n"))
	if body := c.expect(t, "MSG "+subject+" "+sid+" 2"); body != "hi" {
		t.Errorf("body %q", body)
	}
	reserved := "$NRG." + strings.Repeat("\x01", line-7)
	must(t, c.send("PUB "+reserved+" 2\r\nhi\r\n"))
	c.expect(t, fmt.Sprintf("-ERR 'Permissions Violation for Publish to %q'", reserved))
	must(t, b.serves())
	b.unchanged(before)
}
