package process

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"gatehouse.test/interop/certs"
	clients "gatehouse/tickets/client"
)

const patient = `auth_timeout = "20s"`

// unlimited are lines of [auth] for tests that fail often.
const unlimited = "failure_rate = 1000\nfailure_burst = 1000\n"

// Whoever is not in the list is in the directory, in both ways to be found there.
func TestLDAP(t *testing.T) {
	t.Parallel()
	traders := "cn=traders,ou=groups," + suffix
	s := newSlapd(t, person("dora", "ORGB", "description: "+traders), person("erin", "ORGB"), person("alice", "ORGB"))
	profiles := "[[profile]]\nname = \"mute\"\npublish = []\n[[profile]]\nname = \"desk\"\n" +
		fmt.Sprintf("[[ldap_profile]]\nvalue = %q\nprofile = \"desk\"\n", strings.ToUpper(traders))
	for name, table := range map[string]string{"search": s.searching(), "bind": s.binding()} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := startBroker(t, settings{cms: 1, limits: patient, users: unlimited + alice + profiles + table + "profile_attribute = \"description\"\nprofile = \"mute\"\n"})
			for range 3 {
				must(t, enter("nats://"+b.addr, nats.UserInfo("dora", "horse")))
			}
			if l := b.log.Find(0, "login", patience, "user", "dora", "kind", "password", "from", "ldap"); l == nil {
				t.Error("no line of dora's login")
			} else if want := "uid=dora,ou=people," + suffix; l.Str("subject") != want {
				t.Errorf("she is %s", l.Text)
			}
			b.refusedAs("wrong_password", nats.UserInfo("dora", "battery"))
			b.refusedAs("wrong_password", nats.UserInfo("alice", "battery")) // of the list, whatever the directory has
			must(t, enter("nats://"+b.addr, nats.UserInfo("alice", "horse")))
			erin, err := nats.Connect("nats://"+b.addr, nats.UserInfo("erin", "horse"), nats.Timeout(patience))
			must(t, err)
			defer erin.Close()
			if err := erin.Publish("a", nil); err == nil {
				err = erin.FlushTimeout(patience)
				await(t, "a refusal", patience, func() bool { return erin.LastError() != nil })
			}
			if d := b.status().Directory; d == nil || d.State != "up" || d.Asked < 5 || d.Failed != 0 || d.LastError != "" {
				t.Errorf("status: %+v", d)
			}
			if text := b.log.Text(); strings.Contains(text, "horse") || strings.Contains(text, "battery") || strings.Contains(text, swordfish) {
				t.Error("a password is in the log")
			}
			for role, pid := range b.processes() {
				for _, file := range []string{"cmdline", "environ"} {
					if text, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", pid, file)); err != nil || strings.Contains(string(text), swordfish) {
						t.Errorf("%s of %s: %q, %v", file, role, text, err)
					}
				}
			}
		})
	}
}

// Every wrong login is refused for what is wrong with it.
func TestLDAPRefused(t *testing.T) {
	t.Parallel()
	s := newSlapd(t, person("dora", "ORGB"), person("stranger", "ORGX"), person("homeless", ""), person("split", "ORGA", "o: ORGB"),
		person("two", "ORGB"), entry("cn=two,ou=people,"+suffix, "objectClass: inetOrgPerson", "cn: two", "sn: two", "uid: two", "userPassword: horse"),
		entry("cn=odd,ou=people,"+suffix, "objectClass: inetOrgPerson", "cn: odd", "sn: odd", "uid: od*d(x)\\", "o: ORGB", "userPassword: horse"),
		person("a\\,b\\+c", "ORGB"),
		entry("ou=elsewhere,"+suffix, "objectClass: organizationalUnit", "ou: elsewhere"),
		entry("ou=far,ou=elsewhere,"+suffix, "objectClass: referral", "objectClass: extensibleObject", "ou: far", "ref: ldap://127.0.0.1:1/ou=far,"+suffix))
	long := strings.Repeat("x", 200)
	type login struct{ reason, user, password string }
	for _, tt := range []struct {
		name, table string
		logins      []login
	}{
		{"search", s.searching(), []login{
			{"", "dora", "horse"}, {"", "od*d(x)\\", "horse"},
			{"wrong_password", "dora", "battery"}, {"directory_password", "dora", ""}, {"unknown_user", "mallory", "horse"},
			{"unknown_user", "DORA", "horse"}, {"unknown_user", "d*", "horse"}, {"unknown_user", "*", "horse"}, {"unknown_user", "*)(uid=*", "horse"},
			{"unknown_user", "dora)(o=ORGB", "horse"}, {"unknown_user", "dora)(&", "horse"}, {"unknown_user", `\64ora`, "horse"},
			{"directory_ambiguous", "two", "horse"}, {"directory_organisation", "stranger", "horse"}, {"directory_organisation", "homeless", "horse"},
			{"directory_organisation", "split", "horse"}, {"wrong_password", "stranger", "battery"},
			{"directory_name", "do ra", "horse"}, {"directory_name", "dora\x00", "horse"}, {"directory_name", long, "horse"}, {"directory_name", "d\u00f6ra", "horse"},
		}},
		{"bind", s.binding(), []login{
			{"", "dora", "horse"}, {"", "a,b+c", "horse"},
			{"wrong_password", "dora", "battery"}, {"directory_password", "dora", ""}, {"wrong_password", "mallory", "horse"},
			{"unknown_user", "DORA", "horse"}, {"wrong_password", "dora,ou=people", "horse"}, {"wrong_password", "dora+cn=x", "horse"},
			{"wrong_password", "x,uid=dora", "horse"}, {"wrong_password", `dora,ou=people,` + suffix, "horse"}, {"wrong_password", `dora\2c`, "horse"},
			{"wrong_password", "#0401", "horse"}, {"wrong_password", "*", "horse"}, {"directory_organisation", "stranger", "horse"},
		}},
		{"no profile", s.searching(`profile_attribute = "description"`) + "[[ldap_profile]]\nvalue = \"trader\"\nprofile = \"desk\"\n[[profile]]\nname = \"desk\"\n",
			[]login{{"directory_profile", "dora", "horse"}, {"wrong_password", "dora", "battery"}}},
		{"referral", s.searching(fmt.Sprintf("base = %q", suffix)), []login{{"directory_referral", "dora", "horse"}}},
		{"referral of a base", s.searching(fmt.Sprintf("base = %q", "ou=far,ou=elsewhere,"+suffix)), []login{{"directory_referral", "dora", "horse"}}},
		{"no base", s.searching(fmt.Sprintf("base = %q", "ou=nowhere,"+suffix)), []login{{"directory_protocol", "dora", "horse"}}},
		{"wrong certificate", s.searching(fmt.Sprintf("ca = %q", newSlapdCA(t, s))), []login{{"directory_tls", "dora", "horse"}}},
		{"wrong certificate, StartTLS", s.binding(fmt.Sprintf("ca = %q", s.path("other.pem"))), []login{{"directory_tls", "dora", "horse"}}},
		{"wrong name", s.searching(`server_name = "ldap.orgb.example"`), []login{{"directory_tls", "dora", "horse"}}},
		{"no TLS there", s.searching(fmt.Sprintf("urls = [%q]", "ldaps://"+s.ldap)), []login{{"directory_tls", "dora", "horse"}}},
		{"StartTLS at TLS", s.binding(fmt.Sprintf("urls = [%q]", "ldap://"+s.ldaps)), []login{{"directory_tls", "dora", "horse"}}},
		{"nobody there", s.searching(fmt.Sprintf("urls = [%q]", "ldaps://"+freeAddress(t))), []login{{"directory_unreachable", "dora", "horse"}}},
		{"wrong account", s.searching(fmt.Sprintf("bind_dn = %q", "cn=nobody,"+suffix)), []login{{"directory_account", "dora", "horse"}}},
		{"the second answers", s.searching(fmt.Sprintf("urls = [%q, %q]", "ldaps://"+freeAddress(t), "ldaps://"+s.ldaps)), []login{{"", "dora", "horse"}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := startBroker(t, settings{limits: patient, users: unlimited + alice + tt.table})
			for _, l := range tt.logins {
				who := nats.UserInfo(l.user, l.password)
				switch l.reason {
				case "":
					if err := enter("nats://"+b.addr, who); err != nil {
						t.Errorf("%q: %v", l.user, err)
					}
				case "directory_tls", "directory_unreachable", "directory_account":
					b.refusedFor(who, l.reason, "directory_down") // whoever finds out first
					if d := b.status().Directory; d.State != "down" || d.LastError != l.reason || d.Failed == 0 {
						t.Errorf("status: %+v", d)
					}
				default:
					b.refusedAs(l.reason, who)
				}
			}
		})
	}
}

// refusedFor is refusedAs for one of several reasons.
func (b *broker) refusedFor(who nats.Option, reasons ...string) {
	b.t.Helper()
	mark := b.log.Mark()
	if err := enter("nats://"+b.addr, who); err == nil {
		b.t.Errorf("let in, want %q", reasons)
		return
	}
	l := b.log.Find(mark, "login refused", patience, "role", "auth")
	if l == nil || !strings.Contains(strings.Join(reasons, " "), l.Str("reason")) {
		b.t.Errorf("want %q: %v", reasons, l)
	}
}

// newSlapdCA is that of somebody else.
func newSlapdCA(t testing.TB, s *slapd) string {
	other, err := certs.NewAuthority("other")
	must(t, err)
	must(t, other.Write(s.path("other.pem")))
	return s.path("other.pem")
}

// A client of one environment works at another one whose users are in a directory. When
// that is killed, nobody new gets in, there and here, and whoever is there stays; when it
// is back, so are all.
func TestLDAPTransfer(t *testing.T) {
	t.Parallel()
	s := newSlapd(t, person("alice", "ORGA"), person("dora", "ORGB"), person("carol", "ORGB"))
	key := newPair(t, newEd25519(t))
	a := startBroker(t, settings{users: key.signs("orga") + travellers +
		userTable("alice", password(horse), organised, `profile = "traveller"`) + userTable("carol", password(horse), organised, `profile = "traveller"`) +
		userTable("erin", password(horse), organised, `profile = "traveller"`)})
	b := startBroker(t, settings{cms: 2, users: unlimited + "[environment]\nname = \"orgb\"\n" + issuer("orga", "ORGA", "", key) + s.searching()})
	home := a.home("alice")
	must(t, enter("nats://"+b.addr, clients.Transfer(home, "orgb")))
	signed := a.log.Find(0, "transfer ticket signed", patience, "user", "alice", "to", "orgb")
	if signed == nil || b.log.Find(0, "login", patience, "kind", "transfer", "user", "alice", "from", "orga", "ticket", signed.Str("ticket")) == nil {
		t.Error("no line has the ticket")
	}
	b.refusedAs("ticket_organisation", clients.Transfer(a.home("carol"), "orgb"))
	b.refusedAs("unknown_user", clients.Transfer(a.home("erin"), "orgb"))

	come, _ := b.watched(clients.Transfer(home, "orgb"))
	own, _ := b.watched(nats.UserInfo("dora", "horse"))
	s.kill()
	for _, who := range []nats.Option{clients.Transfer(home, "orgb"), nats.UserInfo("dora", "horse")} {
		b.refusedFor(who, "directory_unreachable", "directory_down")
	}
	await(t, "status to say so", patience, func() bool { return b.status().Directory.State == "down" })
	began := time.Now()
	b.refusedFor(nats.UserInfo("dora", "horse"), "directory_down", "directory_unreachable")
	if took := time.Since(began); took > time.Second {
		t.Errorf("a dead directory is waited for: %v", took)
	}
	must(t, useNATS(come))
	must(t, useNATS(own))
	s.start()
	await(t, "the directory again", patience, func() bool { return b.status().Directory.State == "up" })
	must(t, enter("nats://"+b.addr, clients.Transfer(home, "orgb")))
	must(t, enter("nats://"+b.addr, nats.UserInfo("dora", "horse")))
	must(t, useNATS(come))
	must(t, useNATS(own))
}

// The session of whoever is taken out of the directory ends when it is as old as his
// profile lets it be, and he gets no other.
func TestLDAPTakenOut(t *testing.T) {
	t.Parallel()
	s := newSlapd(t, person("dora", "ORGB"), person("erin", "ORGB"))
	b := startBroker(t, settings{limits: patient, users: unlimited + "[[profile]]\nname = \"desk\"\nmax_age = \"5s\"\n" + s.searching(`profile = "desk"`)})
	dora := nats.UserInfo("dora", "horse")
	mark := b.log.Mark()
	told := make(chan error, 100)
	nc, err := nats.Connect("nats://"+b.addr, dora, nats.NoReconnect(), nats.Timeout(patience),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { told <- err }))
	must(t, err)
	defer nc.Close()
	if b.log.Find(mark, "login", patience, "user", "dora", "from", "ldap") == nil {
		t.Error("no line of her login")
	}
	s.kill()
	s.delete("uid=dora,ou=people," + suffix)
	s.start()
	if err := within(t, "the end of her session", told); !errors.Is(err, nats.ErrAuthExpired) {
		t.Errorf("told %v", err)
	}
	await(t, "another one to be let in", patience, func() bool { return enter("nats://"+b.addr, nats.UserInfo("erin", "horse")) == nil })
	b.refusedAs("unknown_user", dora)
}

// The directory comes, changes and goes while the broker runs. Sessions end when what says
// who they are is another, and not when that is only said elsewhere.
func TestLDAPReload(t *testing.T) {
	t.Parallel()
	s := newSlapd(t, person("dora", "ORGB"))
	b := startBroker(t, settings{cms: 1, limits: patient, users: unlimited + alice})
	b.refusedAs("unknown_user", nats.UserInfo("dora", "horse"))
	table := s.searching()
	b.edit(alice, alice+table)
	b.reload("reloaded")
	dora, _ := b.watched(nats.UserInfo("dora", "horse"))
	other := strings.Replace(table, "ldaps://"+s.ldaps, "ldap://"+s.ldap, 1)
	b.edit(table, other)
	b.reload("reloaded")
	must(t, enter("nats://"+b.addr, nats.UserInfo("dora", "horse")))
	must(t, useNATS(dora))
	for _, role := range []string{"auth", "router"} {
		b.kill(role)
		must(t, enter("nats://"+b.addr, nats.UserInfo("dora", "horse")))
	}
	left := b.orphan()
	must(t, enter("nats://"+b.addr, nats.UserInfo("dora", "horse"))) // by a connection that there is
	b.succeed()
	b.adopted(left)
	must(t, enter("nats://"+b.addr, nats.UserInfo("dora", "horse")))
	must(t, useNATS(dora))
	_, gone := b.watched(nats.UserInfo("dora", "horse"))
	b.edit(`organisations = ["ORGA", "ORGB"]`, `organisations = ["ORGA"]`)
	b.reload("reloaded")
	within(t, "the end of who is somebody else now", gone)
	b.refusedAs("directory_organisation", nats.UserInfo("dora", "horse"))
	b.edit(strings.Replace(other, `"ORGA", "ORGB"`, `"ORGA"`, 1), "")
	b.reload("reloaded")
	b.refusedAs("unknown_user", nats.UserInfo("dora", "horse"))
	if d := b.status().Directory; d != nil {
		t.Errorf("status: %+v", d)
	}
	// Nobody is left but those of the directory, who then are everybody.
	b.edit(alice, table)
	b.reload("reloaded")
	must(t, enter("nats://"+b.addr, nats.UserInfo("dora", "horse")))
	b.refusedAs("unknown_user", nats.UserInfo("alice", "horse"))
}

// With a directory auth has no more of a network than without: the sockets that it is
// given go to that one server, and no way leads to another.
func TestLDAPPosture(t *testing.T) {
	t.Parallel()
	s := newSlapd(t, person("dora", "ORGB"))
	b := startBroker(t, settings{seccomp: "kill", limits: patient, users: unlimited + alice + s.searching()})
	must(t, enter("nats://"+b.addr, nats.UserInfo("dora", "horse")))
	pid := b.processes()["auth"]
	checkTasks(t, pid)
	checkRoot(t, b, pid)
	checkEnviron(t, pid)
	checkStatus(t, b, b.processes())
	checkWalls(t, b)
	if up := interfacesUp(t, pid); len(up) > 0 {
		t.Errorf("auth has a network: %v", up)
	}
	for _, c := range connectionsOf(t, pid) {
		if c != s.ldaps {
			t.Errorf("auth is connected to %s", c)
		}
	}
	for _, nr := range []uint64{syscall.SYS_SENDTO, syscall.SYS_GETPEERNAME} {
		mark := b.log.Mark()
		b.force("auth", nr)
		if b.log.Find(mark, "role died", patience, "role", "auth") == nil {
			t.Fatalf("auth has survived system call %d", nr)
		}
		await(t, "another auth", patience, func() bool { return enter("nats://"+b.addr, nats.UserInfo("dora", "horse")) == nil })
	}
}

// connectionsOf lists where the TCP sockets of a process go to: they are in the network
// that the parent has made them in, which is ours.
func connectionsOf(t testing.TB, pid int) (all []string) {
	t.Helper()
	open := map[string]bool{}
	fds, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	must(t, err)
	for _, fd := range fds {
		name, _ := os.Readlink(fmt.Sprintf("/proc/%d/fd/%s", pid, fd.Name()))
		if inode, ok := strings.CutPrefix(name, "socket:["); ok {
			open[strings.TrimSuffix(inode, "]")] = true
		}
	}
	for _, file := range []string{"tcp", "tcp6", "udp", "udp6"} {
		b, err := os.ReadFile("/proc/self/net/" + file)
		must(t, err)
		for line := range strings.Lines(string(b)) {
			if f := strings.Fields(line); len(f) > 9 && open[f[9]] {
				var ip [4]byte
				var port uint16
				if _, err := fmt.Sscanf(f[2], "%02X%02X%02X%02X:%04X", &ip[3], &ip[2], &ip[1], &ip[0], &port); err != nil || file != "tcp" {
					t.Errorf("a socket to %s of %s", f[2], file)
				}
				all = append(all, netip.AddrPortFrom(netip.AddrFrom4(ip), port).String())
			}
		}
	}
	if len(all) == 0 {
		t.Error("auth has no connection")
	}
	return all
}

// A server that takes connections and says nothing is not waited for by others, nor for
// longer than it may take.
func TestLDAPSilent(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer l.Close()
	s := newSlapd(t, person("dora", "ORGB"))
	silent := s.searching(fmt.Sprintf("urls = [%q]", "ldaps://"+l.Addr().String()), `timeout = "300ms"`)
	b := startBroker(t, settings{limits: patient, users: unlimited + alice + silent})
	began := time.Now()
	b.refusedFor(nats.UserInfo("dora", "horse"), "directory_timeout", "directory_down")
	must(t, enter("nats://"+b.addr, nats.UserInfo("alice", "horse")))
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("waited for %v", took)
	}
	b.edit(silent, s.searching(fmt.Sprintf("urls = [%q, %q]", "ldaps://"+l.Addr().String(), "ldaps://"+s.ldaps), `timeout = "300ms"`))
	b.reload("reloaded")
	must(t, enter("nats://"+b.addr, nats.UserInfo("dora", "horse")))
}
