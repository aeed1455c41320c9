package interop

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"gatehouse.test/interop/certs"
	"gatehouse/roles/auth/cms/cmstest"
)

// TestNATSJS runs each script of js under node against a broker of its own.
func TestNATSJS(t *testing.T) {
	installNATSJS(t)
	scripts, err := filepath.Glob("js/*.mjs")
	if err != nil || len(scripts) < 8 {
		t.Fatalf("%d scripts in js, %v", len(scripts), err)
	}
	for _, s := range scripts {
		name := strings.TrimSuffix(filepath.Base(s), ".mjs")
		if name == "session" || name == "tls" { // what the others have in common; not in plaintext
			continue
		}
		t.Run(name, func(t *testing.T) {
			b := startBroker(t, settings{})
			b.runScript(s)
		})
	}
}

// TestNATSJSModes runs the scripts about the messaging modes, over two connection
// managers.
func TestNATSJSModes(t *testing.T) {
	installNATSJS(t)
	for _, name := range []string{"semaphore", "session", "fanout", "direct", "sender"} {
		t.Run(name, func(t *testing.T) {
			s := settings{cms: 2}
			if name == "sender" {
				s.profile = stamping
			}
			startOwn(t, s).runScript("js/modes/" + name + ".mjs")
		})
	}
}

// TestNATSJSX509 logs in by certificates of every kind of key.
func TestNATSJSX509(t *testing.T) {
	installNATSJS(t)
	dir := t.TempDir()
	write := func(name string, parts ...[]byte) string {
		path := filepath.Join(dir, name)
		must(t, os.WriteFile(path, bytes.Join(parts, nil), 0o600))
		return path
	}
	root := cmstest.Root("root", cmstest.NewKey("p256"))
	middle := root.Authority("middle", cmstest.NewKey("p384"))
	var names []string
	for _, kind := range []string{"rsa2048", "p256", "p384", "p521", "ed25519"} {
		for _, who := range []string{"alice", "mallory"} {
			c := middle.Client(who, cmstest.NewKey(kind))
			write(who+kind+".pem", c.PEM(), middle.PEM())
			write(who+kind+".key", c.KeyPEM())
			names = append(names, filepath.Join(dir, who+kind))
		}
	}
	b := startOwn(t, settings{tables: fmt.Sprintf("[auth]\nx509_approved = [%q]\nfailure_burst = 100\n[[user]]\nname = \"alice\"\ncertificate = \"CN=alice,O=ORGA\"\n",
		write("root.pem", root.PEM()))})
	b.runScript("js/x509/login.mjs", "X509="+strings.Join(names, ","))
}

// TestNATSJSTransfer logs in to one broker by the tickets of another.
func TestNATSJSTransfer(t *testing.T) {
	installNATSJS(t)
	const battery = `password = "$2b$04$cWZiR5Mk5O6IP1rTw4AYCeC0IgpHHtSpxxn/BurQtwEptLO8qnjfO"`
	key, public := ticketKey(t)
	people := "organisation = \"ORGA\"\n" + battery + "\n"
	a := startOwn(t, settings{tables: fmt.Sprintf("[environment]\nname = \"orga\"\n[transfer]\nkey = %q\nunlock_file = %q\n", key.Sealed, key.Unlock) +
		"[[profile]]\nname = \"traveller\"\ntransfer = [\"orgb\"]\n" +
		"[[user]]\nname = \"alice\"\nprofile = \"traveller\"\n" + people + "[[user]]\nname = \"carol\"\n" + people})
	b := startOwn(t, settings{cms: 2, tables: fmt.Sprintf("[environment]\nname = \"orgb\"\n[[transfer_issuer]]\nenvironment = \"orga\"\nkeys = [%q]\n", public) +
		"organisations = [\"ORGA\"]\n[[user]]\nname = \"alice\"\norganisation = \"ORGA\"\n"})
	b.runScript("js/transfer/login.mjs", "HOME_URL=nats://"+a.addr)
}

// ticketKey makes a key for tickets: the files of its private half, and the public one.
func ticketKey(t *testing.T) (private certs.Files, public string) {
	t.Helper()
	dir := t.TempDir()
	signer := cmstest.Root("tickets", cmstest.NewKey("ed25519"))
	private, public = certs.In(dir), filepath.Join(dir, "public.pem")
	must(t, os.WriteFile(private.Key, signer.KeyPEM(), 0o600))
	must(t, private.Seal(gatehouse(t)))
	must(t, os.WriteFile(public, signer.PublicPEM(), 0o644))
	return private, public
}

// TestNATSJSInTLS runs some of them in TLS: what there is about a connection,
// not about subjects.
func TestNATSJSInTLS(t *testing.T) {
	installNATSJS(t)
	for way, first := range ways {
		names := []string{"tls", "request", "reconnect"}
		if !first {
			names = append(names, "publish", "queue")
		}
		for _, name := range names {
			t.Run(name+" "+way, func(t *testing.T) {
				b := startBroker(t, settings{cms: 2, tls: &tlsSettings{first: first, clientAuth: "require"}})
				b.runScript("js/"+name+".mjs", b.scriptTLS()...)
			})
		}
	}
}

// scriptTLS is what session.mjs connects with, as environment variables.
func (b *broker) scriptTLS() []string {
	b.t.Helper()
	pair, err := b.ca.Client("js")
	must(b.t, err)
	cert, key := filepath.Join(b.dir, "client.crt"), filepath.Join(b.dir, "client.key")
	b.write(cert, string(pair.Cert))
	b.write(key, string(pair.Key))
	return []string{"TLS_CA=" + b.caFile(), "TLS_CERT=" + cert, "TLS_KEY=" + key, fmt.Sprintf("TLS_FIRST=%v", b.tls.first)}
}

// runScript fails the test unless the script ends with "ok". When it says
// "ready" the broker is restarted, when it says "kill router" it hears when there is
// another one.
func (b *broker) runScript(script string, env ...string) {
	t := b.t
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, "node", script, "nats://"+b.addr)
	cmd.Env = append(os.Environ(), env...)
	var complaints bytes.Buffer
	cmd.Stderr = &complaints
	out, err := cmd.StdoutPipe()
	must(t, err)
	in, err := cmd.StdinPipe()
	must(t, err)
	must(t, cmd.Start())
	last := ""
	for lines := bufio.NewScanner(out); lines.Scan(); {
		switch last = lines.Text(); last {
		case "ready":
			b.stop()
			b.start()
		case "kill router":
			b.killRouter()
			fmt.Fprintln(in, "killed")
		}
	}
	if err := cmd.Wait(); err != nil || last != "ok" {
		t.Errorf("%s: %v, last line %q\n%s", script, err, last, complaints.Bytes())
	}
}

// installNATSJS puts the packages of js/package-lock.json into js/node_modules,
// unless they are there, and skips where there is no node or no npm.
func installNATSJS(t *testing.T) {
	t.Helper()
	for _, program := range []string{"node", "npm"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("SKIP nats.js is not tested: %v", err)
		}
	}
	const lock, installed = "js/package-lock.json", "js/node_modules/.installed-lock.json"
	want, err := os.ReadFile(lock)
	must(t, err)
	if have, err := os.ReadFile(installed); err == nil && bytes.Equal(have, want) {
		return
	}
	cmd := exec.Command("npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund")
	cmd.Dir = "js"
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("npm ci: %v\n%s", err, out)
	}
	must(t, os.WriteFile(installed, want, 0o644))
}

// The lock file must not bind anybody to one registry.
func TestLockFileNamesNoHost(t *testing.T) {
	b, err := os.ReadFile("js/package-lock.json")
	must(t, err)
	if bytes.Contains(b, []byte("://")) || bytes.Contains(b, []byte("resolved")) {
		t.Error("an address is in it: js/.npmrc must keep it out")
	}
}
