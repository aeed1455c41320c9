package console

import (
	"context"
	"log"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"gatehouse/privsep"
)

// Bounds of what strangers can use.
const (
	maxConns     = 64      // over Unix sockets, and as many over TCP
	maxHeader    = 4 << 10 // bytes; net/http adds 4 KiB
	headerTime   = 5 * time.Second
	requestTime  = 10 * time.Second
	answerTime   = 10 * time.Second
	idleTime     = 2 * time.Minute
	maxURL       = 2 << 10 // bytes
	maxAnswering = 8       // requests that are worked on, or whose answers are taken, at a time: over each
)

// server answers requests. Its methods are the loop's, but for those of net/http.
type server struct {
	view *view
	word *word
	subs *subs
	log  journal
	cfg  *privsep.Settings
	http http.Server
	in   inbox
	bell int // rung when a connection ends
	past *history
	page *page

	began     time.Time
	live      atomic.Pointer[privsep.Live]
	names     atomic.Pointer[[]string] // hosts that are names
	answering map[bool]chan struct{}   // over Unix sockets, and over TCP: neither waits for the other
	requests  atomic.Uint64
	refused   atomic.Uint64             // requests and connections
	paths     map[string]*atomic.Uint64 // requests for those that there are
	known     []string                  // the same, in order

	mu    sync.Mutex
	conns map[*transport]http.ConnState // and since when, see since
	since map[*transport]time.Time
	ended chan struct{} // Serve has returned
}

func newServer(v *view, w *word, l *subs, j journal, p *page, cfg *privsep.Settings) *server {
	s := &server{view: v, word: w, subs: l, log: j, cfg: cfg, in: inbox{make(chan net.Conn, 2*maxConns), make(chan struct{})},
		began: time.Now().UTC(), paths: map[string]*atomic.Uint64{}, conns: map[*transport]http.ConnState{}, since: map[*transport]time.Time{}, ended: make(chan struct{}),
		answering: map[bool]chan struct{}{true: make(chan struct{}, maxAnswering), false: make(chan struct{}, maxAnswering)}}
	s.past, s.page = newHistory(v), p
	s.settle(&cfg.Live)
	s.http = http.Server{
		Handler: s.guard(s.routes()), ReadHeaderTimeout: headerTime, ReadTimeout: requestTime, WriteTimeout: answerTime, IdleTimeout: idleTime,
		MaxHeaderBytes: maxHeader, ErrorLog: log.New(j, "", 0), ConnState: s.state, ConnContext: connContext, DisableGeneralOptionsHandler: true,
	}
	return s
}

// handlers are one for each path that there is.
func (s *server) handlers() map[string]http.HandlerFunc {
	return map[string]http.HandlerFunc{
		"/{$}":            s.page.ServeHTTP,
		"/healthz":        s.healthz,
		"/statusz":        s.statusz,
		"/metrics":        s.metrics,
		"/varz":           s.varz,
		"/connz":          s.connz,
		"/subsz":          s.subsz,
		"/subscriptionsz": s.subsz,
	}
}

// routes are the paths.
func (s *server) routes() *http.ServeMux {
	m := http.NewServeMux()
	for path, h := range s.handlers() {
		n := new(atomic.Uint64)
		s.paths[strings.TrimSuffix(path, "{$}")] = n
		m.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) {
			n.Add(1)
			h(w, r)
		})
	}
	s.known = slices.Sorted(maps.Keys(s.paths))
	return m
}

func (s *server) start() {
	go s.past.keep(s.in.closed)
	go func() {
		s.http.Serve(&s.in)
		close(s.ended)
	}()
}

// settle takes over what has changed in the configuration.
func (s *server) settle(l *privsep.Live) {
	names := []string{"localhost"}
	for _, n := range l.ConsoleNames {
		names = append(names, strings.ToLower(n))
	}
	s.names.Store(&names)
	own := *l
	s.live.Store(&own)
}

func (s *server) stats() privsep.RoleStats {
	s.mu.Lock()
	defer s.mu.Unlock()
	return privsep.RoleStats{Connections: uint64(len(s.conns)), Requests: s.requests.Load(), RequestsRefused: s.refused.Load()}
}

// admit takes a connection in. Where there are too many the one goes that has been idle
// for longest; if all are busy, the new one.
func (s *server) admit(t *transport) {
	s.mu.Lock()
	same, oldest := 0, (*transport)(nil)
	for o, state := range s.conns {
		if o.at.local != t.at.local {
			continue
		}
		same++
		if state == http.StateIdle && (oldest == nil || s.since[o].Before(s.since[oldest])) {
			oldest = o
		}
	}
	full := same >= maxConns
	if !full || oldest != nil {
		s.conns[t], s.since[t] = http.StateNew, time.Now()
		t.ended = func() { s.forget(t) }
	}
	s.mu.Unlock()
	if full {
		s.refused.Add(1)
		if oldest == nil {
			t.Close()
			return
		}
		oldest.Close()
	}
	s.in.conns <- t // has room for all that there are
}

func (s *server) forget(t *transport) {
	s.mu.Lock()
	delete(s.conns, t)
	delete(s.since, t)
	s.mu.Unlock()
	privsep.Ring(s.bell)
}

// state is told by net/http what becomes of connections.
func (s *server) state(c net.Conn, state http.ConnState) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if t, ok := c.(*transport); ok && s.since[t] != (time.Time{}) {
		s.conns[t], s.since[t] = state, time.Now()
	}
}

// finish has connections end when what was asked is answered.
func (s *server) finish() {
	s.http.SetKeepAlivesEnabled(false)
	s.mu.Lock()
	var idle []*transport
	for t, state := range s.conns {
		if state != http.StateActive {
			idle = append(idle, t)
		}
	}
	s.mu.Unlock()
	for _, t := range idle {
		t.Close()
	}
}

func (s *server) deserted() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.conns) == 0
}

// close ends everything.
func (s *server) close() {
	close(s.in.closed)
	s.http.Close()
	<-s.ended
}

type connKey struct{}

func connContext(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(ctx, connKey{}, c)
}

// guard lets through what may be asked. Every answer has its headers.
func (s *server) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Cache-Control", "no-store")
		h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		s.requests.Add(1)
		t, _ := r.Context().Value(connKey{}).(*transport)
		status, text := http.StatusOK, ""
		switch {
		case r.Method != http.MethodGet && r.Method != http.MethodHead:
			h.Set("Allow", "GET, HEAD")
			status, text = http.StatusMethodNotAllowed, "only GET and HEAD"
		case len(r.RequestURI) > maxURL:
			status, text = http.StatusRequestURITooLong, "the address is too long"
		case r.ContentLength != 0:
			status, text = http.StatusRequestEntityTooLarge, "a request has no body here"
		case t == nil || !s.mine(t, r.Host):
			status, text = http.StatusMisdirectedRequest, "not a name of this console: console.names has those that are"
		}
		if status != http.StatusOK {
			s.refused.Add(1)
			h.Set("Connection", "close")
			http.Error(w, text, status)
			return
		}
		turn := s.answering[t.at.local]
		select {
		case turn <- struct{}{}:
			defer func() { <-turn }()
			next.ServeHTTP(w, r)
		case <-r.Context().Done():
		}
	})
}

// mine tells whether a host that was asked for is this console. A name could be another
// site's, whose page asks in the browser of somebody here; an address could not.
func (s *server) mine(t *transport, host string) bool {
	if t.at.local {
		return true // where no browser gets to
	}
	name := host
	if h, _, err := net.SplitHostPort(host); err == nil {
		name = h
	}
	name = strings.TrimSuffix(strings.TrimPrefix(name, "["), "]")
	if ip, err := netip.ParseAddr(name); err == nil {
		at, err := netip.ParseAddrPort(t.at.address)
		return ip.Unmap().IsLoopback() || err == nil && (at.Addr().IsUnspecified() || at.Addr().Unmap() == ip.Unmap())
	}
	return slices.Contains(*s.names.Load(), strings.ToLower(name))
}
