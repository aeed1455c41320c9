package console

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"gatehouse/wire"
)

// question is a request for the state of the broker.
type question struct {
	subject string
	body    []byte
	long    bool // and of no interest
}

// reaction is an answer to it, or that nobody is there for it, or nothing.
type reaction struct {
	body   []byte
	nobody bool
}

// reply is what nats-server answers: who, and what or why not.
type reply struct {
	Server wire.ServerInfo `json:"server"`
	Data   json.RawMessage `json:"data,omitempty"`
	Stats  *statsz         `json:"statsz,omitempty"`
	Error  *apiError       `json:"error,omitempty"`
}

type apiError struct {
	Code        int    `json:"code"`
	Description string `json:"description"`
}

func (r *reply) fail(code int, text string) { r.Error = &apiError{code, text} }

// options are those of all questions. The names are nats-server's.
type options struct {
	// Which servers are meant; a text is a part of the name, or all of it.
	ServerName string   `json:"server_name"`
	Host       string   `json:"host"`
	Cluster    string   `json:"cluster"`
	Domain     string   `json:"domain"`
	Tags       []string `json:"tags"`
	Exact      bool     `json:"exact_match"`

	// Of CONNZ, and some of SUBSZ.
	Sort          string `json:"sort"`
	Auth          bool   `json:"auth"`
	Subscriptions bool   `json:"subscriptions"`
	Detail        bool   `json:"subscriptions_detail"`
	Offset        int    `json:"offset"`
	Limit         int    `json:"limit"`
	CID           uint64 `json:"cid"`
	MQTT          string `json:"mqtt_client"`
	State         int    `json:"state"`
	User          string `json:"user"`
	Account       string `json:"acc"`
	Filter        string `json:"filter_subject"`
	Test          string `json:"test"`
}

// states are those of connections by their numbers.
var states = [...]string{"open", "closed", "all"}

// errState is about a number that is none of these.
var errState = errors.New("no such value of state")

// readOptions reads a body; without one they are the usual ones.
func readOptions(body []byte) (o options, err error) {
	if len(bytes.TrimSpace(body)) > 0 {
		err = json.Unmarshal(body, &o)
	}
	if err == nil && (o.State < 0 || o.State >= len(states)) {
		err = errState
	}
	return o, err
}

// query is what HTTP would be asked.
func (o *options) query() url.Values {
	v := url.Values{}
	set := func(key, value string, is bool) {
		if is {
			v.Set(key, value)
		}
	}
	set("sort", o.Sort, o.Sort != "")
	set("auth", "1", o.Auth)
	set("subs", "1", o.Subscriptions)
	set("subs", "detail", o.Detail)
	set("offset", strconv.Itoa(o.Offset), o.Offset != 0)
	set("limit", strconv.Itoa(o.Limit), o.Limit != 0)
	set("cid", strconv.FormatUint(o.CID, 10), o.CID != 0)
	set("state", states[o.State], o.State != 0)
	set("state", "closed", o.MQTT != "") // there are none
	set("user", o.User, o.User != "")
	set("acc", o.Account, o.Account != "")
	set("filter_subject", o.Filter, o.Filter != "")
	set("test", o.Test, o.Test != "")
	return v
}

// means tells whether a question is for this broker.
func (s *server) means(o *options) bool {
	same := func(asked, is string) bool {
		return asked == "" || asked == is || !o.Exact && strings.Contains(is, asked)
	}
	return same(o.ServerName, s.cfg.Broker) && same(o.Host, s.live.Load().Host) && same(o.Cluster, "") && same(o.Domain, "") && len(o.Tags) == 0
}

// topic is what can be asked of a server, of an account, or of both.
type topic struct {
	server, account bool
	answer          func(*server, *options, *reply)
}

var topics = map[string]topic{
	"STATSZ":   {true, false, (*server).systemStats},
	"VARZ":     {true, false, asHTTP("/varz")},
	"CONNZ":    {true, true, asHTTP("/connz")},
	"SUBSZ":    {true, true, asHTTP("/subsz")},
	"HEALTHZ":  {true, false, (*server).systemHealth},
	"ACCOUNTZ": {true, false, (*server).accounts},
	"STATZ":    {false, true, (*server).accountStats},
	"INFO":     {false, true, (*server).accountInfo},
	"IDZ":      {true, false, nil}, // whoAnswers, in short
}

// system answers a question, of which there is one at a time; seq is its number.
func (s *server) system(q *question, seq uint64) reaction {
	t, ping := s.topicOf(q.subject)
	if !t.server && !t.account {
		return reaction{nobody: true}
	}
	r := reply{Server: s.whoAnswers(seq)}
	o, err := readOptions(q.body)
	switch {
	case q.long:
		r.fail(http.StatusRequestEntityTooLarge, "the request is too long")
	case err != nil:
		r.fail(http.StatusBadRequest, err.Error())
	case ping && !s.means(&o):
		return reaction{}
	case t.answer == nil:
		return reaction{body: encode(map[string]string{"name": r.Server.Name, "host": r.Server.Host, "id": r.Server.ID})}
	default:
		t.answer(s, &o, &r)
	}
	b := encode(&r)
	if most := s.live.Load().MaxPayload; len(b) > most {
		short := reply{Server: r.Server}
		short.fail(http.StatusInsufficientStorage, "the answer is larger than max_payload: ask for less at a time")
		b = encode(&short)
	}
	return reaction{body: b}
}

// topicOf takes a subject apart; the zero topic is that of no question. A ping is for all
// servers that its options do not rule out.
func (s *server) topicOf(subject string) (t topic, ping bool) {
	parts := strings.Split(subject, ".")
	if subject == pingSubject {
		parts = append(parts, "STATSZ")
	}
	if len(parts) != 5 {
		return topic{}, false
	}
	t, ping = topics[parts[4]], parts[3] == "PING"
	switch {
	case parts[2] == "SERVER" && t.server && (ping || parts[3] == s.cfg.ServerID):
	case parts[2] == "ACCOUNT" && t.account && (ping || parts[3] == wire.GlobalAccount):
	default:
		return topic{}, false
	}
	return t, ping
}

// pingSubject is a ping for the figures.
const pingSubject = "$SYS.REQ.SERVER.PING"

func (s *server) whoAnswers(seq uint64) wire.ServerInfo {
	return wire.ServerInfo{Name: s.cfg.Broker, Host: s.live.Load().Host, ID: s.cfg.ServerID, Version: wire.ServerVersion,
		Seq: seq, Time: time.Now().UTC().Format(time.RFC3339Nano)}
}

// encode is json.Marshal of what can be encoded.
func encode(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		return []byte("{}")
	}
	return b
}

// asHTTP answers as HTTP does on a path.
func asHTTP(path string) func(*server, *options, *reply) {
	return func(s *server, o *options, r *reply) {
		status, body := s.inside(path, o.query())
		if status != http.StatusOK {
			r.fail(status, strings.TrimSpace(string(body)))
			return
		}
		r.Data = body
	}
}

// recorder keeps what a handler answers.
type recorder struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (r *recorder) Header() http.Header         { return r.header }
func (r *recorder) WriteHeader(status int)      { r.status = status }
func (r *recorder) Write(b []byte) (int, error) { return r.body.Write(b) }

// inside asks what HTTP would answer.
func (s *server) inside(path string, query url.Values) (int, []byte) {
	ctx, cancel := context.WithTimeout(context.Background(), requestTime)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, path+"?"+query.Encode(), nil)
	h := s.handlers()[path]
	if err != nil || h == nil {
		return http.StatusNotFound, []byte("there is no " + path)
	}
	w := recorder{header: http.Header{}, status: http.StatusOK}
	h(&w, r)
	return w.status, w.body.Bytes()
}

// systemHealth is /healthz, which says there what it says here only if all is well.
func (s *server) systemHealth(_ *options, r *reply) {
	status, body := s.inside("/healthz", nil)
	if r.Data = body; status == http.StatusOK {
		r.Data = encode(map[string]any{"status": "ok", "status_code": status})
	}
}
