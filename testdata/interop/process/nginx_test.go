package process

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"gatehouse.test/interop/certs"
)

// Requests of callers who come and go reach nginx over one connection of one handshake.
func TestSharedWithNginx(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("nginx"); err != nil {
		t.Skip("SKIP needs nginx")
	}
	const requests = 10
	sh := share(t, settings{}, "", "")
	pair, err := sh.ca.Server("P-256")
	must(t, err)
	files := certs.In(sh.dir)
	must(t, files.Write(pair, ""))
	addr, dir := freeAddress(t), t.TempDir()
	sh.turnTo(addr)
	text := fmt.Sprintf(`daemon off; master_process off; pid %[1]s/pid; error_log stderr;
events {}
http {
	client_body_temp_path %[1]s/body; proxy_temp_path %[1]s/proxy; fastcgi_temp_path %[1]s/fastcgi; uwsgi_temp_path %[1]s/uwsgi; scgi_temp_path %[1]s/scgi;
	log_format served "$connection $connection_requests $ssl_session_reused $status";
	access_log %[1]s/access served;
	server {
		listen %[2]s ssl;
		ssl_certificate %[3]s; ssl_certificate_key %[4]s;
		location / { return 200 "$connection_requests"; }
	}
}
`, dir, addr, files.Cert, files.Key)
	config := filepath.Join(dir, "nginx.conf")
	must(t, os.WriteFile(config, []byte(text), 0o600))
	server := exec.Command("nginx", "-c", config, "-e", "stderr")
	server.Stderr = os.Stderr
	must(t, server.Start())
	defer func() { server.Process.Kill(); server.Wait() }()
	sh.start()
	await(t, "nginx", patience, func() bool { return sh.get(1) == nil })
	for n := 2; n <= requests; n++ {
		must(t, sh.get(n))
	}
	var log string
	await(t, "the log", patience, func() bool {
		b, err := os.ReadFile(filepath.Join(dir, "access"))
		log = string(b)
		return err == nil && strings.Count(log, "\n") == requests
	})
	first, _, _ := strings.Cut(log, " ")
	for n := range requests {
		if line := fmt.Sprintf("%s %d . 200\n", first, n+1); !strings.Contains(log, line) {
			t.Errorf("no %q in:\n%s", line, log)
		}
	}
}

// get is a caller with one request, the n-th of the session.
func (sh *sharing) get(n int) error {
	conn, err := sh.here("nginx")
	if err != nil {
		return err
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"); err != nil {
		return err
	}
	r, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return err
	}
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	if err == nil && string(body) != fmt.Sprint(n) {
		err = fmt.Errorf("request %d is %q to the server", n, body)
	}
	return err
}
