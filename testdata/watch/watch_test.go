package watch

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"gatehouse/testdata/tree"
)

const patience = 30 * time.Second

// broker is one with a console at a port of its own.
type broker struct {
	t             *testing.T
	addr, console string
}

func start(t *testing.T) *broker {
	t.Helper()
	dir, err := os.MkdirTemp("", "watch") // t.TempDir's are too long for a socket
	must(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	must(t, os.Chmod(dir, 0o755))
	binary := filepath.Join(dir, "gatehouse")
	must(t, tree.Install(binary))
	config := filepath.Join(dir, "broker.toml")
	must(t, os.WriteFile(config, fmt.Appendf(nil, "[listen]\ntcp = [\"127.0.0.1:0\"]\n[console]\nunix = \"\"\ntcp = [\"127.0.0.1:0\"]\n"+
		"[privsep]\nruntime_dir = %q\nuid_base = 65000\n[store]\narena = \"8MiB\"\nring = \"512KiB\"\n[log]\nformat = \"json\"\n", filepath.Join(dir, "run")), 0o600))
	r, w, err := os.Pipe()
	must(t, err)
	cmd := exec.Command(binary, "serve", "-c", config)
	cmd.Stderr = w
	must(t, cmd.Start())
	w.Close()
	log := tree.Follow(r)
	t.Cleanup(func() {
		cmd.Process.Signal(os.Interrupt)
		cmd.Wait()
		if !log.Ended(patience) {
			t.Error("something of the broker is left")
		}
	})
	line := log.Find(0, "ready", patience)
	if line == nil {
		t.Fatal("not ready")
	}
	return &broker{t, line.Fields["listen"].([]any)[0].(string), line.Fields["console"].([]any)[0].(string)}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// talk has a client subscribe and send itself three messages; it stays until the end.
func (b *broker) talk() {
	b.t.Helper()
	c, err := net.Dial("tcp", b.addr)
	must(b.t, err)
	b.t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(patience))
	_, err = io.WriteString(c, `CONNECT {"verbose":false,"name":"pricer/1","lang":"none","version":"9.9"}`+"\r\nSUB px.> 1\r\n"+strings.Repeat("PUB px.a 5\r\nhello\r\n", 3)+"PING\r\n")
	must(b.t, err)
	var got []byte
	for buf := make([]byte, 4096); !bytes.Contains(got, []byte("PONG\r\n")) || bytes.Count(got, []byte("MSG ")) < 3; {
		n, err := c.Read(buf)
		must(b.t, err)
		got = append(got, buf[:n]...)
	}
}

// get asks until the answer is as wanted: what a cm shows it shows a moment later.
func (b *broker) get(path string, wanted func(body string) bool) string {
	b.t.Helper()
	for end := time.Now().Add(patience); ; {
		r, err := http.Get("http://" + b.console + path)
		must(b.t, err)
		body, err := io.ReadAll(r.Body)
		must(b.t, err)
		r.Body.Close()
		if r.StatusCode == http.StatusOK && wanted(string(body)) {
			return string(body)
		}
		if time.Now().After(end) {
			b.t.Fatalf("%s: %d\n%s", path, r.StatusCode, body)
		}
	}
}

const received = "gatehouse_received_messages_total{cm=\"0\"} 3\n"

// The text is Prometheus' format as its own library reads it, its linter has nothing to
// say, and the names keep to its conventions.
func TestMetrics(t *testing.T) {
	b := start(t)
	b.talk()
	text := b.get("/metrics", func(body string) bool { return strings.Contains(body, received) })
	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(text))
	must(t, err)
	problems, err := promlint.New(strings.NewReader(text)).Lint()
	must(t, err)
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
	name := regexp.MustCompile(`^gatehouse_[a-z0-9_]+$`)
	for n, f := range families {
		if !name.MatchString(n) || f.GetHelp() == "" || (f.GetType() == dto.MetricType_COUNTER) != strings.HasSuffix(n, "_total") {
			t.Errorf("%s: a %v, %q", n, f.GetType(), f.GetHelp())
		}
	}
	value := func(name string, labels ...string) float64 {
		for _, m := range families[name].GetMetric() {
			var have []string
			for _, l := range m.Label {
				have = append(have, l.GetName(), l.GetValue())
			}
			if slices.Equal(have, labels) {
				return m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
			}
		}
		t.Errorf("no %s%v", name, labels)
		return -1
	}
	for _, c := range []struct {
		name   string
		labels []string
		want   float64
	}{
		{"gatehouse_sent_messages_total", []string{"cm", "0"}, 3},
		{"gatehouse_connections", []string{"cm", "0"}, 1},
		{"gatehouse_subscriptions", nil, 1},
		{"gatehouse_routed_messages_total", nil, 3},
		{"gatehouse_deliveries_total", nil, 3},
		{"gatehouse_parent_up", nil, 1},
		{"gatehouse_process_up", []string{"role", "router"}, 1},
		{"gatehouse_process_restarts_total", []string{"role", "router"}, 0},
		{"gatehouse_login_refusals_total", []string{"reason", "wrong_password"}, 0},
		{"gatehouse_arena_used_bytes", []string{"cm", "0"}, 0},
	} {
		if got := value(c.name, c.labels...); got != c.want {
			t.Errorf("%s%v: %v, want %v", c.name, c.labels, got, c.want)
		}
	}
	for _, h := range []string{"gatehouse_router_batch_messages", "gatehouse_router_batch_duration_seconds"} {
		m := families[h].GetMetric()[0].GetHistogram()
		if n := m.GetSampleCount(); n < 1 || n > 3 || m.GetSampleSum() <= 0 || len(m.Bucket) < 10 {
			t.Errorf("%s: %v", h, m)
		}
	}
}

// nats-top shows the broker as it shows nats-server.
func TestTop(t *testing.T) {
	b := start(t)
	b.talk()
	top := filepath.Join(t.TempDir(), "nats-top")
	if out, err := exec.Command("go", "build", "-o", top, "github.com/nats-io/nats-top").CombinedOutput(); err != nil {
		t.Skipf("SKIP nats-top: it cannot be built: %v\n%s", err, out)
	}
	b.get("/connz", func(body string) bool { return strings.Contains(body, `"out_msgs":3`) })
	host, port, err := net.SplitHostPort(b.console)
	must(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	out, err := exec.CommandContext(ctx, top, "-s", host, "-m", port, "-o", "-", "-b", "-sort", "msgs_to").CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, want := range []string{`In: +Msgs: 3 `, `Out: +Msgs: 3 +Bytes: 15 `, `Connections Polled: 1`, `127\.0\.0\.1:\d+ +1 +pricer/1 +1 +0 +3 +3 +15 .* none +9\.9 `} {
		if !regexp.MustCompile(want).Match(out) {
			t.Errorf("no %s in\n%s", want, out)
		}
	}
}

// prometheus-nats-exporter reads every path that it knows of a broker without clusters.
func TestExporter(t *testing.T) {
	exporter := os.Getenv("NATS_EXPORTER")
	if exporter == "" {
		var err error
		if exporter, err = exec.LookPath("prometheus-nats-exporter"); err != nil {
			t.Skip("SKIP prometheus-nats-exporter: the module proxy does not serve it, and it is neither in PATH nor in $NATS_EXPORTER")
		}
	}
	b := start(t)
	b.talk()
	b.get("/connz", func(body string) bool { return strings.Contains(body, `"out_msgs":3`) })
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	_, port, _ := net.SplitHostPort(l.Addr().String())
	l.Close()
	cmd := exec.Command(exporter, "-a", "127.0.0.1", "-p", port, "-varz", "-connz", "-subz", "-healthz", "http://"+b.console)
	must(t, cmd.Start())
	defer func() {
		cmd.Process.Kill()
		cmd.Wait()
	}()
	body := ""
	for end := time.Now().Add(patience); body == "" && time.Now().Before(end); {
		if r, err := http.Get("http://127.0.0.1:" + port + "/metrics"); err == nil {
			b, _ := io.ReadAll(r.Body)
			r.Body.Close()
			body = string(b)
		}
	}
	for _, want := range []string{`gnatsd_varz_in_msgs\{.*\} 3\n`, `gnatsd_varz_connections\{.*\} 1\n`, `gnatsd_connz_out_msgs\{.*\} 3\n`, `gnatsd_subsz_num_subscriptions\{.*\} 1\n`,
		`gnatsd_healthz_status_value\{.*value="ok"\} 1\n`} {
		if !regexp.MustCompile(want).MatchString(body) {
			t.Errorf("no %s in\n%s", want, body)
		}
	}
}
