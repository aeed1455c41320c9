package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unicode"

	"github.com/urfave/cli/v2"

	"gatehouse/roles/parent"
)

// watch.go asks a broker's console, over its Unix socket, which is for root and for the
// user that runs the broker.

const (
	consoleSocket  = "console.sock" // where the configuration does not say otherwise
	consoleTimeout = 10 * time.Second
	maxConsole     = 64 << 20 // bytes of an answer
)

// consolePath is where the console is that a command is about.
func consolePath(c *cli.Context) (string, error) {
	if dir := c.String("runtime-dir"); dir != "" {
		return filepath.Join(dir, consoleSocket), nil
	}
	cfg, source, err := parent.Find(c.String("config"))
	if err != nil {
		return "", err
	}
	path := cfg.Effective().Console.Unix
	if path == "" {
		return "", fmt.Errorf(`there is no console to ask: %s has console.unix = ""`, source)
	}
	return path, nil
}

// watcher asks one console.
type watcher struct {
	path string
	http http.Client
}

func newWatcher(path string) *watcher {
	w := &watcher{path: path}
	w.http.Transport = &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", path)
		},
		MaxIdleConns: 1, ResponseHeaderTimeout: consoleTimeout,
	}
	return w
}

func (w *watcher) close() { w.http.CloseIdleConnections() }

// get asks for a path and decodes the answer.
func (w *watcher) get(ctx context.Context, path string, query url.Values, into any) error {
	ctx, cancel := context.WithTimeout(ctx, consoleTimeout)
	defer cancel()
	u := url.URL{Scheme: "http", Host: "localhost", Path: path, RawQuery: query.Encode()}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return err
	}
	resp, err := w.http.Do(req)
	if err != nil {
		return w.explain(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxConsole))
	if err != nil {
		return w.explain(err)
	}
	if resp.StatusCode != http.StatusOK {
		line, _, _ := strings.Cut(string(text), "\n")
		return fmt.Errorf("console at %s: %s: %s", w.path, resp.Status, shown(line, 200))
	}
	if err := json.Unmarshal(text, into); err != nil {
		return fmt.Errorf("answer of the console at %s: %w", w.path, err)
	}
	return nil
}

// explain says what can be done about a console that does not answer.
func (w *watcher) explain(err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ENOTDIR):
		return fmt.Errorf("no console at %s: no broker runs there, or it was started without console.unix", w.path)
	case errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("no console at %s any more: status shows whether the broker runs", w.path)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("the console at %s answers root and the broker's own user only", w.path)
	case errors.Is(err, context.Canceled):
		return context.Canceled
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("console at %s: no answer in %v: status shows how the broker is", w.path, consoleTimeout)
	}
	return fmt.Errorf("console at %s: %w", w.path, plain(err))
}

// connection is one of /connz.
type connection struct {
	CID           uint64    `json:"cid"`
	IP            string    `json:"ip"`
	Port          int       `json:"port"`
	Start         time.Time `json:"start"`
	LastActivity  time.Time `json:"last_activity"`
	Pending       uint64    `json:"pending_bytes"`
	InMsgs        uint64    `json:"in_msgs"`
	OutMsgs       uint64    `json:"out_msgs"`
	InBytes       uint64    `json:"in_bytes"`
	OutBytes      uint64    `json:"out_bytes"`
	Subscriptions uint64    `json:"subscriptions"`
	Name          string    `json:"name"`
	Lang          string    `json:"lang"`
	Version       string    `json:"version"`
	User          string    `json:"authorized_user"`
	CM            string    `json:"cm"`
	TLS           string    `json:"tls_version"`
	Unix          bool      `json:"unix"`
	PID           int       `json:"pid"`
}

// address is where it comes from: of a Unix socket the process there.
func (c *connection) address() string {
	if c.Unix {
		return "pid " + strconv.Itoa(c.PID)
	}
	return net.JoinHostPort(shown(c.IP, 45), strconv.Itoa(c.Port))
}

// connectionPage is an answer of /connz, with each connection as it came, too.
type connectionPage struct {
	Now         time.Time         `json:"now"`
	Total       int               `json:"total"`
	Connections []json.RawMessage `json:"connections"`
}

// page gets some of the connections, in an order of the console's.
func (w *watcher) page(ctx context.Context, sort, user string, offset, limit int) (p *connectionPage, list []connection, err error) {
	q := url.Values{"sort": {sort}, "auth": {"1"}, "offset": {strconv.Itoa(offset)}, "limit": {strconv.Itoa(limit)}}
	if user != "" {
		q.Set("user", user)
	}
	p = new(connectionPage)
	if err := w.get(ctx, "/connz", q, p); err != nil {
		return nil, nil, err
	}
	list = make([]connection, len(p.Connections))
	for i, raw := range p.Connections {
		if err := json.Unmarshal(raw, &list[i]); err != nil {
			return nil, nil, fmt.Errorf("answer of the console at %s: %w", w.path, err)
		}
	}
	return p, list, nil
}

// pageSize is how many connections are asked for at a time.
const pageSize = 4096

// connections gets all of them, or the first limit. While they come and go between two
// pages one may be missed, but none is there twice.
func (w *watcher) connections(ctx context.Context, sort, user string, limit int) (*connectionPage, []connection, error) {
	all, list, seen := &connectionPage{Connections: []json.RawMessage{}}, []connection(nil), map[uint64]bool{}
	for offset := 0; ; offset += pageSize {
		size := pageSize
		if limit > 0 {
			size = min(size, limit-len(list))
		}
		p, some, err := w.page(ctx, sort, user, offset, size)
		if err != nil {
			return nil, nil, err
		}
		all.Now, all.Total = p.Now, p.Total
		for i := range some {
			if !seen[some[i].CID] {
				seen[some[i].CID] = true
				list, all.Connections = append(list, some[i]), append(all.Connections, p.Connections[i])
			}
		}
		if len(some) < size || limit > 0 && len(list) >= limit {
			return all, list, nil
		}
	}
}

// shown is a text of a client for a terminal: at most so many characters, none of which
// does anything there; "-" where there is none.
func shown(text string, most int) string {
	if text == "" {
		return "-"
	}
	if strings.ContainsFunc(text, func(r rune) bool {
		return !unicode.IsPrint(r) || r == unicode.ReplacementChar || unicode.Is(unicode.M, r)
	}) {
		text = strings.Trim(strconv.QuoteToASCII(text), `"`)
	}
	if runes := []rune(text); len(runes) > most {
		return string(runes[:most-1]) + "…"
	}
	return text
}
