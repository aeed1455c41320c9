package main

import (
	"bufio"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
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
// they keep nobody else from talking. Who logs in is a process of its own at the least
// priority (crowd): it shares the machine with the broker, as hundreds of clients elsewhere
// would not, and a client that waits for an answer must not wait for others' work in the
// same process.
type logins struct {
	label string
	ways  []way
}

// way is a kind of login, and how many of it begin in a second.
type way struct {
	name string // in the figures
	kind string // of credentials
	rate int
}

// credentials give the fields of a CONNECT.
var credentials = map[string]func(nonce string) string{
	byPassword: func(string) string { return loginFields },
	byNKey: func(nonce string) string {
		sig, err := signer.Sign([]byte(nonce))
		if err != nil {
			return ""
		}
		return fmt.Sprintf(`"nkey":%q,"sig":%q`, public, base64.RawURLEncoding.EncodeToString(sig))
	},
}

const byPassword, byNKey = "password", "nkey"

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
	counts := make([][]int, len(l.ways))
	talk := requests{l.label, 1}
	err := talk.serve(ctx, b, func(ctx context.Context, rs []*requester) (err error) {
		if alone, err = exchange(ctx, o.warm, o.loginSpan, rs); err != nil {
			return err
		}
		crowds := make([]*crowd, len(l.ways))
		for i, w := range l.ways {
			if crowds[i], err = w.begin(ctx, b.addr, o); err != nil {
				return err
			}
		}
		amid, err = exchange(ctx, o.warm, o.loginSpan, rs)
		for i, c := range crowds {
			var e error
			counts[i], e = c.end()
			err = errors.Join(err, e)
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
		for k, n := range counts[i] {
			values[l.label+w.name+outcomeNames[k]] = float64(n) / o.loginSpan.Seconds()
		}
	}
	return values, nil
}

// crowd is a process of this program whose clients log in in one way.
type crowd struct {
	cmd *exec.Cmd
	in  io.Closer // its end is the crowd's
	out *bufio.Reader
}

// begin starts one; its span begins now.
func (w way) begin(ctx context.Context, addr string, o *options) (*crowd, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	c := &crowd{cmd: exec.CommandContext(ctx, self, crowdFlag, addr, w.kind, strconv.Itoa(w.rate), o.warm.String(), o.loginSpan.String())}
	c.cmd.Stderr = os.Stderr
	in, err := c.cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	c.in, c.out = in, bufio.NewReader(out)
	if err := c.cmd.Start(); err != nil {
		return nil, err
	}
	if _, err := c.out.ReadString('\n'); err != nil {
		return nil, fmt.Errorf("crowd: %w", errors.Join(err, c.cmd.Wait()))
	}
	return c, nil
}

// end ends the crowd, and gives what became of its logins.
func (c *crowd) end() (counts []int, err error) {
	c.in.Close()
	err = json.NewDecoder(c.out).Decode(&counts)
	if err = errors.Join(err, c.cmd.Wait()); err != nil || len(counts) != int(outcomes) {
		return make([]int, outcomes), fmt.Errorf("crowd: %v: %w", counts, err)
	}
	return counts, nil
}

// crowding is what such a process has: what became of the logins between two times.
type crowding struct {
	addr        string
	say         func(nonce string) string
	from, until time.Time
	done        sync.WaitGroup

	mu     sync.Mutex
	counts [outcomes]int
	err    error // that kept one from beginning
}

// beCrowd has clients log in until standard input ends: rate of them a second, in a
// process that leaves the processors to all others.
func beCrowd(addr, kind, rate, warm, span string) error {
	n, err1 := strconv.Atoi(rate)
	before, err2 := time.ParseDuration(warm)
	counted, err3 := time.ParseDuration(span)
	if err := errors.Join(err1, err2, err3); err != nil {
		return err
	}
	if _, _, e := syscall.AllThreadsSyscall(syscall.SYS_SETPRIORITY, syscall.PRIO_PROCESS, 0, leastPriority); e != 0 {
		return fmt.Errorf("setpriority: %w", e)
	}
	now := time.Now()
	c := &crowding{addr: addr, say: credentials[kind], from: now.Add(before), until: now.Add(before + counted)}
	ctx, over := context.WithCancel(context.Background())
	go func() {
		io.Copy(io.Discard, os.Stdin)
		over()
	}()
	fmt.Println("begun")
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for begun := 0; ctx.Err() == nil; <-tick.C {
		for ; begun < int(time.Since(now).Seconds()*float64(n)); begun++ {
			from := net.TCPAddr{IP: net.IPv4(127, 0, 2, byte(begun%250+1))}
			c.done.Go(func() { c.login(ctx, &from) })
		}
	}
	c.done.Wait()
	c.counts[unanswered] = c.counts[offered] - c.counts[accepted] - c.counts[refused]
	return errors.Join(c.err, json.NewEncoder(os.Stdout).Encode(c.counts[:]))
}

// leastPriority is the greatest nice value.
const leastPriority = 19

func (c *crowding) count(o outcome, err error) {
	now := time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	if now.After(c.from) && now.Before(c.until) {
		c.counts[o]++
	}
	c.err = errors.Join(c.err, err)
}

// login makes one. What it finds when all is over is of no interest.
func (c *crowding) login(ctx context.Context, from net.Addr) {
	d := net.Dialer{LocalAddr: from, Timeout: silence}
	conn, err := d.DialContext(ctx, "tcp4", c.addr)
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
