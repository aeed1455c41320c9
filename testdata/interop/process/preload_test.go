package process

import (
	"crypto/tls"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"gatehouse.test/interop/certs"
)

// preloading is a sharing whose server speaks HTTP/1.1, and what programs need to have
// its sessions without knowing of it.
type preloading struct {
	*sharing
	library string
	port    string
}

// preload starts one; its sessions are to localhost, and session is for their table. The
// certificate is of an authority of its own if foreign.
func preload(t *testing.T, session string, foreign bool) *preloading {
	t.Helper()
	library := filepath.Join("..", "..", "..", "gatehouse-preload.so")
	if !exists(library) {
		t.Skip("SKIP gatehouse-preload.so is not built (make preload)")
	}
	sh := share(t, settings{}, "", session)
	ca := sh.ca
	if foreign {
		var err error
		ca, err = certs.NewAuthority("another")
		must(t, err)
		must(t, ca.Write(filepath.Join(sh.dir, "another.pem")))
	}
	pair, err := ca.Server("P-256")
	must(t, err)
	l, err := net.Listen("tcp4", ":0") // at 127.0.0.2 as well
	must(t, err)
	cfg := &tls.Config{Certificates: []tls.Certificate{pair.TLS()}, VerifyConnection: func(tls.ConnectionState) error {
		sh.shakes.Add(1)
		return nil
	}}
	server := &http.Server{Handler: http.HandlerFunc(answerBack), ErrorLog: log.New(io.Discard, "", 0)}
	go server.Serve(tls.NewListener(l, cfg))
	t.Cleanup(func() { server.Close() })
	sh.turnTo(fmt.Sprintf("127.0.0.1:%d", l.Addr().(*net.TCPAddr).Port))
	text, err := os.ReadFile(sh.config)
	must(t, err)
	_, port, _ := net.SplitHostPort(sh.addr)
	sh.write(sh.config, strings.Replace(string(text), fmt.Sprintf("remote = %q", sh.addr), fmt.Sprintf("remote = \"localhost:%s\"\naddresses = [\"127.0.0.1\"]", port), 1))
	p := &preloading{sharing: sh, library: filepath.Join(sh.dir, "preload.so"), port: port}
	b, err := os.ReadFile(library)
	must(t, err)
	must(t, os.WriteFile(p.library, b, 0o755)) // where anybody can read it
	return p
}

// answerBack answers with path and body of a request; /long is longer than anything that is kept on the way.
func answerBack(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	fmt.Fprintf(w, "%s %s", r.URL.Path, body)
	if r.URL.Path == "/long" {
		w.Write(make([]byte, 4<<20))
	}
}

// run runs a program with the library, shared or not.
func (p *preloading) run(how string, uid uint32, words ...string) (string, error) {
	cmd := exec.Command(words[0], words[1:]...)
	cmd.Dir = "/"
	cmd.Env = append(os.Environ(), "LD_PRELOAD="+p.library, "GATEHOUSE_TLS="+how, "GATEHOUSE_TLS_HOSTS=localhost:"+p.port,
		"GATEHOUSE_TLS_SESSION=s", "GATEHOUSE_TLS_SOCKET="+p.socket, "no_proxy=*")
	if uid != 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	}
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func (p *preloading) url(path string) string  { return "https://localhost:" + p.port + path }
func (p *preloading) file(name string) string { return filepath.Join(p.dir, name) }

// curl runs it against a path.
func (p *preloading) curl(how, ca, path string, more ...string) (string, error) {
	return p.run(how, 0, append([]string{"curl", "-sS", "--cacert", p.file(ca), p.url(path)}, more...)...)
}

// viaRequests and viaHTTP get CA file, host:port and path, and print the body.
const (
	viaRequests = "import sys, requests\nprint(requests.get('https://%s%s' % tuple(sys.argv[2:4]), verify=sys.argv[1]).text, end='')"
	// viaSession uses one connection for several requests, beside a child that has it, too, and ends.
	viaSession = `import os, sys, requests
s = requests.Session()
url = 'https://%s%s' % tuple(sys.argv[2:4])
print(s.post(url, data=iter([b'a', b'b']), timeout=60, verify=sys.argv[1]).text, end='')
if os.fork() == 0:
    sys.exit(0)
os.wait()
print(s.get(url, timeout=60, verify=sys.argv[1]).text, end='')
`
	viaHTTP = `import sys, ssl, http.client
c = http.client.HTTPSConnection(sys.argv[2], context=ssl.create_default_context(cafile=sys.argv[1]))
c.request('GET', sys.argv[3])
r = c.getresponse()
print((r.read(int(sys.argv[4])) if len(sys.argv) > 4 else r.read()).decode(), end='')
`
)

func (p *preloading) python(script, ca, path string, more ...string) (string, error) {
	return p.run("shared", 0, append([]string{"python3", "-c", script, p.file(ca), "localhost:" + p.port, path}, more...)...)
}

// need skips a test without a program.
func need(t *testing.T, words ...string) {
	t.Helper()
	if exec.Command(words[0], words[1:]...).Run() != nil {
		t.Skipf("SKIP needs %s", strings.Join(words, " "))
	}
}

// needCurl skips without a curl that has OpenSSL.
func needCurl(t *testing.T) {
	t.Helper()
	if out, _ := exec.Command("curl", "-V").Output(); !strings.Contains(string(out), "OpenSSL/3") {
		t.Skip("SKIP needs curl with OpenSSL 3")
	}
}

func (p *preloading) want(t *testing.T, want, got string, err error) {
	t.Helper()
	if err != nil || got != want {
		t.Fatalf("%v: got %.300q, want %.300q", err, got, want)
	}
}

func (p *preloading) wantShakes(t *testing.T, want int32) {
	t.Helper()
	if n := p.shakes.Load(); n != want {
		t.Errorf("%d handshakes, want %d", n, want)
	}
}

// 20 curls, one handshake, whatever they ask; unshared one each.
func TestPreloadCurl(t *testing.T) {
	t.Parallel()
	needCurl(t)
	p := preload(t, "", false)
	p.start()
	for i := range 11 {
		path := fmt.Sprintf("/%d", i)
		out, err := p.curl("shared", "ca.pem", path)
		p.want(t, path+" ", out, err)
	}
	var all sync.WaitGroup
	for i := range 6 {
		all.Go(func() {
			path := fmt.Sprintf("/together/%d", i)
			if out, err := p.curl("shared", "ca.pem", path); err != nil || out != path+" " {
				t.Errorf("%v: %s", err, out)
			}
		})
	}
	all.Wait()
	out, err := p.curl("shared", "ca.pem", "/long", "-o", "/dev/null", "-w", "%{size_download} %{ssl_verify_result} %{http_version}")
	p.want(t, fmt.Sprint(4<<20+len("/long "), " 0 1.1"), out, err)
	out, err = p.curl("shared", "ca.pem", "/post", "--data-binary", strings.Repeat("x", 100_000))
	p.want(t, "/post "+strings.Repeat("x", 100_000), out, err)
	out, err = p.curl("shared", "ca.pem", "/head", "-I", "-o", "/dev/null")
	p.want(t, "", out, err)
	p.wantShakes(t, 1)
	for range 2 {
		out, err := p.curl("unshared", "ca.pem", "/alone")
		p.want(t, "/alone ", out, err)
	}
	p.wantShakes(t, 3)
}

// The same with Python, by requests and without. One that goes in the middle of an
// answer leaves no session to anybody.
func TestPreloadPython(t *testing.T) {
	t.Parallel()
	need(t, "python3", "-c", "import ssl; assert ssl.OPENSSL_VERSION_INFO >= (3,)")
	p := preload(t, "", false)
	p.start()
	script := viaRequests
	if exec.Command("python3", "-c", "import requests").Run() != nil {
		t.Log("SKIP needs python3-requests: only http.client")
		script = viaHTTP
	} else {
		out, err := p.python(viaSession, "ca.pem", "/several")
		p.want(t, "/several ab/several ", out, err)
	}
	for i := range 20 {
		path := fmt.Sprintf("/%d", i)
		if i > 14 {
			script = viaHTTP
		}
		out, err := p.python(script, "ca.pem", path)
		p.want(t, path+" ", out, err)
	}
	p.wantShakes(t, 1)
	out, err := p.python(viaHTTP, "ca.pem", "/long", "5")
	p.want(t, "/long", out, err)
	out, err = p.python(viaHTTP, "ca.pem", "/after")
	p.want(t, "/after ", out, err)
	p.wantShakes(t, 2)
}

// A certificate is refused that tlsd does not trust, or that the program does not, though tlsd does.
func TestPreloadBadCertificate(t *testing.T) {
	t.Parallel()
	needCurl(t)
	p := preload(t, "", true)
	p.start()
	other, err := certs.NewAuthority("neither")
	must(t, err)
	must(t, other.Write(p.file("neither.pem")))
	for _, ca := range []string{"another.pem", "ca.pem", "neither.pem"} {
		out, err := p.curl("shared", ca, "/")
		if cmd, ok := err.(*exec.ExitError); !ok || cmd.ExitCode() != 60 {
			t.Errorf("%s: %v: %s", ca, err, out)
		}
	}
	if out, err := p.curl("shared", "ca.pem", "/", "-k"); err == nil {
		t.Errorf("with -k: %s", out)
	}
	good := preload(t, "", false)
	good.start()
	must(t, other.Write(good.file("neither.pem")))
	out, err := good.curl("shared", "neither.pem", "/")
	if cmd, ok := err.(*exec.ExitError); !ok || cmd.ExitCode() != 60 {
		t.Errorf("the program's own: %v: %s", err, out)
	}
	out, err = good.python(viaHTTP, "neither.pem", "/")
	if err == nil || !strings.Contains(out, "SSLCertVerificationError") {
		t.Errorf("the program's own: %v: %s", err, out)
	}
	out, err = good.curl("shared", "ca.pem", "/")
	good.want(t, "/ ", out, err)
}

// Somebody else gets no session, nor anybody where there is no tlsd; none of them goes around it.
func TestPreloadRefused(t *testing.T) {
	t.Parallel()
	needCurl(t)
	p := preload(t, "", false)
	text, err := os.ReadFile(p.config)
	must(t, err)
	p.write(p.config, strings.Replace(string(text), `open = ["*"]`, `open = ["0"]`, 1))
	p.start()
	out, err := p.run("shared", nobody, "curl", "-sS", "-k", p.url("/"))
	if err == nil || !strings.Contains(out, "tlsd refuses") {
		t.Errorf("another user: %v: %s", err, out)
	}
	if os.Getuid() == 0 {
		out, err = p.curl("shared", "ca.pem", "/")
		p.want(t, "/ ", out, err)
	}
	out, err = p.run("shared", 0, "curl", "-sS", "-k", strings.Replace(p.url("/"), "https", "http", 1))
	if err == nil || strings.Contains(out, "HTTP request to an HTTPS server") {
		t.Errorf("plain text: %v: %s", err, out)
	}
	p.socket += ".gone"
	if out, err := p.curl("shared", "ca.pem", "/", "-k"); err == nil {
		t.Errorf("without tlsd: %s", out)
	}
	out, err = p.curl("shared", "ca.pem", "/", "-k", "--connect-to", "localhost:"+p.port+":127.0.0.2:"+p.port)
	if err == nil || !strings.Contains(out, "not by tlsd") {
		t.Errorf("around tlsd: %v: %s", err, out)
	}
	if out, err := p.curl("sharde", "ca.pem", "/", "-k"); err == nil {
		t.Errorf("with a mistake: %s", out)
	}
}

// The library reads and writes nothing that it should not, and loses no memory.
func TestPreloadValgrind(t *testing.T) {
	t.Parallel()
	needCurl(t)
	need(t, "valgrind", "--version")
	p := preload(t, "", false)
	p.start()
	for _, path := range []string{"/one", "/two"} {
		out, err := p.run("shared", 0, "valgrind", "-q", "--error-exitcode=99", "--leak-check=full", "--errors-for-leak-kinds=definite",
			"curl", "-sS", "--cacert", p.file("ca.pem"), p.url(path))
		p.want(t, path+" ", out, err)
	}
	p.wantShakes(t, 1)
}

// Whatever tlsd says, the library does not read or write beyond it, and what it takes for
// a session was granted.
func TestPreloadFuzz(t *testing.T) {
	t.Parallel()
	driver := filepath.Join(t.TempDir(), "fuzz")
	build := exec.Command("cc", "-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-o", driver,
		filepath.Join("..", "..", "preload", "fuzz.c"), "-lssl", "-lcrypto")
	if out, err := build.CombinedOutput(); err != nil {
		if exists(filepath.Join("..", "..", "..", "gatehouse-preload.so")) {
			t.Logf("%.500s", out)
		}
		t.Skip("SKIP needs cc with its sanitizers, and OpenSSL headers")
	}
	cmd := exec.Command(driver, "300", fmt.Sprint(time.Now().UnixNano()))
	cmd.Env = append(os.Environ(), "GATEHOUSE_TLS=shared", "GATEHOUSE_TLS_HOSTS=h:443")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v: %s", cmd.Args, err, out)
	}
}
