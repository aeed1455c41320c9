package main

import (
	"bufio"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nkeys"
)

// hashes are what a broker keeps of the password of the one user that there is, "bench":
// by argon2id for gatehouse, by bcrypt for nats-server, which has no other.
type hashes struct{ argon2id, bcrypt string }

// The hashes of the brokers' own commands, and the least that they take.
var (
	slowHashes = hashes{
		"$argon2id$v=19$m=65536,t=3,p=1$3nNNLFknoCp0f59qfgWAKg$IP8z9xLiewDbPPoZHFR0eVhLEMUhVo5Rm5Y90Rj4L4Q",
		"$2a$11$t9Zjud73nsQDObeURHSxSeu52d28OAloyycdlxIeS6bZ4YUmSI4re",
	}
	cheapHashes = hashes{
		"$argon2id$v=19$m=1024,t=1,p=1$YmVuY2ggb2YgbG9naW5zLg$pAtbKYiXmQASxzkrsBpcvuZ65xR1Gw/v//2dVSmJ5ZQ",
		"$2a$04$sjPiXBRu/frL7lZPPIA7.OCn2SUtQUvikoqgrz8YeBf.HDJiwHUJ6",
	}
)

const loginFields = `"user":"bench","pass":"bench"`

// signer is the nkey by which one can log in as well. It is always the same.
var signer, public = func() (nkeys.KeyPair, string) {
	key, err := nkeys.FromRawSeed(nkeys.PrefixByteUser, make([]byte, 32))
	if err != nil {
		panic(err)
	}
	public, err := key.PublicKey()
	if err != nil {
		panic(err)
	}
	return key, public
}()

// gatehouse and nats are the users in the configuration of each.
func (h *hashes) gatehouse() string {
	return fmt.Sprintf("[[user]]\nname = \"bench\"\npassword = %q\nnkey = %q\n", h.argon2id, public)
}

func (h *hashes) nats() string {
	return fmt.Sprintf("authorization { users = [{user: bench, password: %q}, {nkey: %s}] }\n", h.bcrypt, public)
}

// logins is the case of one requester and one responder that talk, first alone and then
// while others log in: so many a second begin, whatever becomes of those before, each
// with the right credential and from one of 250 addresses. A hash by slowHashes takes 0.15 s
// of a processor, so most of many a second must come to nothing; what is measured is that
// they keep nobody else from talking. All of it shares the machine with this client, which
// takes a part of it for the logins that it makes.
type logins struct {
	label string
	ways  []way
}

// way is a kind of login, and how many of it begin in a second.
type way struct {
	name string // in the figures
	rate int
	say  func(nonce string) (fields string)
}

func byPassword(name string, rate int) way {
	return way{name, rate, func(string) string { return loginFields }}
}

func byNKey(name string, rate int) way {
	return way{name, rate, func(nonce string) string {
		sig, err := signer.Sign([]byte(nonce))
		if err != nil {
			return ""
		}
		return fmt.Sprintf(`"nkey":%q,"sig":%q`, public, base64.RawURLEncoding.EncodeToString(sig))
	}}
}

// outcome is what becomes of a login.
type outcome int

const (
	offered    outcome = iota // begun in the span, as the rest is counted there
	accepted                  // there was a PONG
	refused                   // the broker has said that it is no user's
	unanswered                // the rest: ended without a word or for its time, or still waiting
	outcomes
)

var outcomeNames = [outcomes]string{" offered", " accepted", " refused", " unanswered"}

func (l logins) run(ctx context.Context, o *options, b *broker) (map[string]float64, error) {
	var alone, amid []time.Duration
	crowds := make([]*crowd, len(l.ways))
	talk := requests{l.label, 1}
	err := talk.serve(ctx, b, func(ctx context.Context, rs []*requester) (err error) {
		if alone, err = exchange(ctx, o.warm, o.loginSpan, rs); err != nil {
			return err
		}
		for i, w := range l.ways {
			crowds[i] = w.begin(b, o.warm, o.loginSpan)
		}
		amid, err = exchange(ctx, o.warm, o.loginSpan, rs)
		for _, c := range crowds {
			err = errors.Join(err, c.end())
		}
		return err
	})
	if errors.Is(err, errSilent) && len(alone) > 0 { // one that outlasts our patience is a figure, too
		amid, err = append(amid, silence), nil
	}
	if err != nil {
		return nil, err
	}
	values := map[string]float64{
		l.label + " idle p99": talk.figures(alone, o.loginSpan)[l.label+" p99"],
		l.label + " p99":      talk.figures(amid, o.loginSpan)[l.label+" p99"],
	}
	values[l.label+" p99 to idle"] = values[l.label+" p99"] / values[l.label+" idle p99"]
	for i, w := range l.ways {
		for k, n := range crowds[i].counts {
			values[l.label+w.name+outcomeNames[k]] = float64(n) / o.loginSpan.Seconds()
		}
	}
	return values, nil
}

// crowd is who logs in in one way, and what became of it between two times.
type crowd struct {
	way
	from, until time.Time
	over        context.CancelFunc
	done        sync.WaitGroup

	mu     sync.Mutex
	counts [outcomes]int
	err    error // that kept one from beginning
}

// begin has clients log in, and counts in the span after the warm-up.
func (w way) begin(b *broker, warm, span time.Duration) *crowd {
	ctx, over := context.WithCancel(context.Background())
	now := time.Now()
	c := &crowd{way: w, from: now.Add(warm), until: now.Add(warm + span), over: over}
	c.done.Go(func() {
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for n := 0; ctx.Err() == nil; <-tick.C {
			for ; n < int(time.Since(now).Seconds()*float64(w.rate)); n++ {
				from := net.TCPAddr{IP: net.IPv4(127, 0, 2, byte(n%250+1))}
				c.done.Go(func() { c.login(ctx, b.addr, &from) })
			}
		}
	})
	return c
}

// end waits until all have ended.
func (c *crowd) end() error {
	c.over()
	c.done.Wait()
	c.counts[unanswered] = c.counts[offered] - c.counts[accepted] - c.counts[refused]
	return c.err
}

func (c *crowd) count(o outcome, err error) {
	now := time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	if now.After(c.from) && now.Before(c.until) {
		c.counts[o]++
	}
	c.err = errors.Join(c.err, err)
}

// login makes one. What it finds when all is over is of no interest.
func (c *crowd) login(ctx context.Context, addr string, from net.Addr) {
	d := net.Dialer{LocalAddr: from, Timeout: silence}
	conn, err := d.DialContext(ctx, "tcp4", addr)
	if err != nil {
		if ctx.Err() == nil {
			c.count(unanswered, err)
		}
		return
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	c.count(offered, nil)
	in := bufio.NewReaderSize(conn, 2<<10)
	info, err := in.ReadString('\n')
	if err != nil {
		return
	}
	_, nonce, _ := strings.Cut(info, `"nonce":"`)
	nonce, _, _ = strings.Cut(nonce, `"`)
	if _, err := conn.Write([]byte(withLogin(shortConnectLine, c.say(nonce)) + "PING\r\n")); err != nil {
		return
	}
	line, err := in.ReadString('\n')
	switch {
	case err != nil:
	case line == "PONG\r\n":
		c.count(accepted, nil)
	case strings.Contains(line, "Authorization Violation"):
		c.count(refused, nil)
	}
}

// withLogin is a CONNECT with these fields, too.
func withLogin(connect, fields string) string {
	if fields == "" {
		return connect
	}
	return strings.Replace(connect, "{", "{"+fields+",", 1)
}
