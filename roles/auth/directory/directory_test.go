package directory

import (
	"crypto/tls"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"gatehouse/privsep"
)

var dora = found("uid=dora,dc=a", "uid", "dora", "o", "ORGB")

// answers are an honest server's, with other entries if there are any.
func answers(entries ...string) func(op byte, request string) []string {
	if entries == nil {
		entries = []string{dora}
	}
	return func(op byte, request string) []string {
		switch {
		case op == opSearch:
			return append(entries[:len(entries):len(entries)], result(done, 0))
		case op == opBind && (strings.Contains(request, "horse") || strings.Contains(request, "ours")):
			return []string{result(bindDone, 0)}
		case op == opBind:
			return []string{result(bindDone, 49)}
		}
		return nil
	}
}

func TestLogin(t *testing.T) {
	f := secure(t, honest(answers()))
	for name, change := range map[string]func(*privsep.Directory){
		"search": nil, "bind": func(s *privsep.Directory) { s.UserDN, s.Filter, s.Base, s.BindDN = "uid={user},dc=a", "", "", "" },
	} {
		d := f.directory(change)
		for range 3 {
			e, err := d.login("dora", "horse")
			if err != nil || e.DN != "uid=dora,dc=a" || e.Organisation != "ORGB" || e.Profile != "desk" || e.Unfit != 0 || e.NoProfile {
				t.Errorf("%s: %+v, %v", name, e, err)
			}
			if _, err := d.login("dora", "battery"); err == nil || err.Reason != privsep.ReasonWrongPassword {
				t.Errorf("%s: %v", name, err)
			}
		}
		e, err := d.Lookup("dora", time.Now().Add(patience))
		if (err == nil) != d.LooksUp() || err == nil && e.Organisation != "ORGB" {
			t.Errorf("%s: looked up %+v, %v", name, e, err)
		}
		if h := d.Health(); h.State != privsep.DirectoryUp || h.Failed != 0 {
			t.Errorf("%s: %+v", name, h)
		}
	}
	if n := f.dials.Load(); n != 2 {
		t.Errorf("%d connections, not one each", n)
	}
}

// What becomes of an entry.
func TestEntries(t *testing.T) {
	group := func(d *privsep.Directory) {
		d.ProfileAttribute, d.Values, d.Profiles = "memberOf", []string{"cn=A", "cn=b"}, []string{"pa", "pb"}
	}
	must := func(d *privsep.Directory) { group(d); d.Profile, d.MustMatch = "", true }
	of := func(organisations ...string) func(*privsep.Directory) {
		return func(d *privsep.Directory) { d.Organisations = organisations }
	}
	for name, tt := range map[string]struct {
		entries []string
		change  func(*privsep.Directory)
		reason  privsep.Reason
		entry   Entry
	}{
		"nobody":             {[]string{}, nil, privsep.ReasonUnknownUser, Entry{}},
		"two":                {[]string{dora, dora}, nil, privsep.ReasonDirectoryAmbiguous, Entry{}},
		"three":              {[]string{dora, dora, dora}, nil, privsep.ReasonDirectoryAmbiguous, Entry{}},
		"a referral":         {[]string{dora, tlv(0x73, text("ldap://elsewhere/"))}, nil, privsep.ReasonDirectoryReferral, Entry{}},
		"another spelling":   {[]string{found("uid=Dora", "uid", "Dora", "o", "ORGB")}, nil, privsep.ReasonUnknownUser, Entry{}},
		"no name":            {[]string{found("uid=dora", "o", "ORGB")}, nil, privsep.ReasonUnknownUser, Entry{}},
		"no DN":              {[]string{found("", "uid", "dora")}, nil, privsep.ReasonDirectoryProtocol, Entry{}},
		"no organisation":    {[]string{found("a=b", "uid", "dora")}, nil, 0, Entry{Unfit: privsep.ReasonDirectoryOrganisation, Profile: "desk"}},
		"an odd one":         {[]string{found("a=b", "uid", "dora", "o", "A B")}, nil, 0, Entry{Unfit: privsep.ReasonDirectoryOrganisation, Profile: "desk"}},
		"two organisations":  {[]string{found("a=b", "uid", "dora", "o", "A", "O", "B")}, nil, 0, Entry{Organisation: "A", Profile: "desk"}}, // of one name
		"not let in":         {[]string{dora}, of("ORGA"), 0, Entry{Unfit: privsep.ReasonDirectoryOrganisation, Profile: "desk"}},
		"let in":             {[]string{dora}, of("ORGA", "ORGB"), 0, Entry{Organisation: "ORGB", Profile: "desk"}},
		"all of one":         {[]string{dora}, func(d *privsep.Directory) { d.OrganisationAttribute, d.Organisations = "", []string{"X"} }, 0, Entry{Organisation: "X", Profile: "desk"}},
		"upper case":         {[]string{found("a=b", "UID", "dora", "O", "ORGB")}, nil, 0, Entry{Organisation: "ORGB", Profile: "desk"}},
		"a group":            {[]string{found("a=b", "uid", "dora", "o", "B", "memberOf", "CN=B")}, group, 0, Entry{Organisation: "B", Profile: "pb"}},
		"no group":           {[]string{found("a=b", "uid", "dora", "o", "B", "memberOf", "cn=bb")}, group, 0, Entry{Organisation: "B", Profile: "desk"}},
		"no group, and must": {[]string{found("a=b", "uid", "dora", "o", "B")}, must, 0, Entry{Organisation: "B", NoProfile: true}},
	} {
		t.Run(name, func(t *testing.T) {
			d := secure(t, honest(answers(tt.entries...))).directory(tt.change)
			e, err := d.login("dora", "horse")
			if tt.reason != 0 {
				if err == nil || err.Reason != tt.reason || e != nil {
					t.Errorf("%+v, %v, want %v", e, err, tt.reason)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if e.DN = ""; *e != tt.entry {
				t.Errorf("%+v, want %+v", *e, tt.entry)
			}
		})
	}
}

// A password that is refused for what it is is one thing, a user another.
func TestRefusedBind(t *testing.T) {
	for code, want := range map[byte]privsep.Reason{
		49: privsep.ReasonWrongPassword, 53: privsep.ReasonDirectoryRefused, 50: privsep.ReasonDirectoryRefused, 19: privsep.ReasonDirectoryRefused,
		10: privsep.ReasonDirectoryReferral, 51: privsep.ReasonDirectoryProtocol, 52: privsep.ReasonDirectoryProtocol,
	} {
		d := secure(t, honest(func(op byte, request string) []string {
			if op == opBind && !strings.Contains(request, "ours") {
				return []string{result(bindDone, code)}
			}
			return answers()(op, request)
		})).directory(nil)
		if _, err := d.login("dora", "battery"); err == nil || err.Reason != want {
			t.Errorf("%d: %v, want %v", code, err, want)
		}
		// What is said of one user says nothing of the directory.
		if up := d.Health().State == privsep.DirectoryUp; up != (want != privsep.ReasonDirectoryProtocol) {
			t.Errorf("%d: %+v", code, d.Health())
		}
	}
}

// Some things are never asked at all.
func TestNotAsked(t *testing.T) {
	f := secure(t, honest(answers()))
	d := f.directory(nil)
	for name, tt := range map[string]struct {
		name, password string
		reason         privsep.Reason
	}{
		"no password": {"dora", "", privsep.ReasonDirectoryPassword},
		"no name":     {"", "horse", privsep.ReasonDirectoryName},
		"a blank":     {"do ra", "horse", privsep.ReasonDirectoryName},
		"a zero":      {"dora\x00", "horse", privsep.ReasonDirectoryName},
		"an umlaut":   {"d\u00f6ra", "horse", privsep.ReasonDirectoryName},
		"long":        {strings.Repeat("d", maxName+1), "horse", privsep.ReasonDirectoryName},
	} {
		if _, err := d.login(tt.name, tt.password); err == nil || err.Reason != tt.reason {
			t.Errorf("%s: %v", name, err)
		}
	}
	if n := f.dials.Load(); n != 0 {
		t.Errorf("%d connections", n)
	}
}

// Whatever a server does, there is an answer, in time, and the next server is asked.
func TestHostileServer(t *testing.T) {
	raw := func(bytes string) func(net.Conn) {
		return func(c net.Conn) {
			if _, _, _, err := request(c); err == nil {
				c.Write([]byte(bytes))
				io.Copy(io.Discard, c)
			}
		}
	}
	nested := strings.Repeat("\x30\x80", 1000)
	endless := func(c net.Conn) {
		honest(func(op byte, r string) []string {
			if op == opBind {
				return []string{result(bindDone, 0)}
			}
			return slicesOf(1<<10, found("uid=dora", "uid", strings.Repeat("dora", 2<<10)))
		})(c)
	}
	for name, tt := range map[string]struct {
		serve  func(net.Conn)
		reason privsep.Reason
	}{
		"closes":                {func(c net.Conn) { c.(*tls.Conn).NetConn().Read(make([]byte, 4096)) }, privsep.ReasonDirectoryTLS}, // not before it was asked: that is a reset
		"closes when asked":     {func(c net.Conn) { request(c) }, privsep.ReasonDirectoryUnreachable},
		"says nothing":          {raw(""), privsep.ReasonDirectoryTimeout},
		"garbage":               {raw("HTTP/1.1 400 Bad Request\r\n\r\n"), privsep.ReasonDirectoryProtocol},
		"a huge length":         {raw("\x30\x84\xff\xff\xff\xff"), privsep.ReasonDirectoryProtocol},
		"an indefinite length":  {raw("\x30\x80\x02\x01\x01"), privsep.ReasonDirectoryProtocol},
		"a length of lengths":   {raw("\x30\xff" + strings.Repeat("\xff", 127)), privsep.ReasonDirectoryProtocol},
		"nested without end":    {raw(nested), privsep.ReasonDirectoryProtocol},
		"nested deep":           {raw(deep(100)), privsep.ReasonDirectoryProtocol},
		"a length beyond it":    {raw("\x30\x05\x02\x7f\x01\x61\x00"), privsep.ReasonDirectoryProtocol},
		"half a message":        {raw("\x30\x0c\x02\x01"), privsep.ReasonDirectoryTimeout},
		"an empty one":          {raw("\x30\x00"), privsep.ReasonDirectoryTimeout},
		"another's answer":      {raw(message(99, result(bindDone, 0))), privsep.ReasonDirectoryTimeout},
		"no result":             {raw(message(1, tlv(bindDone))), privsep.ReasonDirectoryProtocol},
		"an odd result":         {raw(message(1, tlv(bindDone, tlv(0x0a, "\x00\x00\x00\x00\x00\x00\x00\x00\x01"), text(""), text("")))), privsep.ReasonDirectoryProtocol},
		"busy":                  {honest(func(byte, string) []string { return []string{result(bindDone, 51)} }), privsep.ReasonDirectoryProtocol},
		"entries without end":   {endless, privsep.ReasonDirectoryProtocol},
		"a byte at a time":      {drip, privsep.ReasonDirectoryTimeout},
		"refuses our account":   {honest(func(byte, string) []string { return []string{result(bindDone, 49)} }), privsep.ReasonDirectoryAccount},
		"refers to another one": {honest(func(byte, string) []string { return []string{result(bindDone, 10)} }), privsep.ReasonDirectoryReferral},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := secure(t, tt.serve)
			began := time.Now()
			d := f.directory(nil)
			_, err := d.login("dora", "horse")
			if err == nil || err.Reason != tt.reason {
				t.Errorf("%v, want %v", err, tt.reason)
			}
			if took := time.Since(began); took > patience/2 {
				t.Errorf("took %v", took)
			}
			good := secure(t, honest(answers()))
			both := f.directory(func(s *privsep.Directory) { s.Servers = []string{"ldaps://localhost:1", "ldaps://localhost:2"} })
			both.dial = func(server int, by time.Time) (Stream, error) { return []*fake{f, good}[server].dial(0, by) }
			both.servers[1].tls.RootCAs.AppendCertsFromPEM(good.ca)
			if e, err := both.login("dora", "horse"); err != nil {
				if tt.reason != privsep.ReasonDirectoryProtocol || name != "entries without end" {
					t.Errorf("the next one: %+v, %v", e, err)
				}
			}
		})
	}
}

func slicesOf(n int, s string) []string {
	all := make([]string, n)
	for i := range all {
		all[i] = s
	}
	return all
}

// deep is n elements in each other, of definite lengths.
func deep(n int) (s string) {
	for range n {
		s = tlv(0x30, s)
	}
	return s
}

// drip answers slower than anybody waits, but never stops.
func drip(c net.Conn) {
	request(c)
	next := time.NewTicker(50 * time.Millisecond)
	defer next.Stop()
	for _, b := range []byte(message(1, result(bindDone, 0)) + strings.Repeat("\x00", 1000)) {
		if _, err := c.Write([]byte{b}); err != nil {
			return
		}
		<-next.C
	}
}

// StartTLS is said before anything else, and nothing that came before TLS counts after it.
func TestStartTLS(t *testing.T) {
	plain := func(s *privsep.Directory) { s.Servers = []string{"ldap://localhost:1"} }
	for name, tt := range map[string]struct {
		answer string
		reason privsep.Reason
	}{
		"yes":            {message(1, result(extendedResponse, 0)), 0},
		"no":             {message(1, result(extendedResponse, 2)), privsep.ReasonDirectoryTLS},
		"something else": {message(1, result(bindDone, 0)), privsep.ReasonDirectoryTLS},
		"to another":     {message(2, result(extendedResponse, 0)), privsep.ReasonDirectoryTLS},
		"nothing":        {"", privsep.ReasonDirectoryTimeout},
		"garbage":        {"\x00\x00\x00\x00", privsep.ReasonDirectoryProtocol},
		"and more":       {message(1, result(extendedResponse, 0)) + message(1, result(bindDone, 0)), privsep.ReasonDirectoryTLS},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var f *fake
			first := make(chan string, 1)
			ready := make(chan struct{})
			f = newFake(t, func(c net.Conn) {
				<-ready
				_, _, whole, _ := request(c)
				first <- whole
				c.Write([]byte(tt.answer))
				s := serverOf(c, f)
				defer s.Close()
				honest(answers())(s)
			})
			close(ready)
			_, err := f.directory(plain).login("dora", "horse")
			if (err == nil) != (tt.reason == 0) || err != nil && err.Reason != tt.reason {
				t.Errorf("%v, want %v", err, tt.reason)
			}
			if said := <-first; said != startTLSRequest {
				t.Errorf("said first: %q", said)
			}
		})
	}
}

// A server that does not answer is left alone for a while, and found again without
// anybody who logs in.
func TestBackoff(t *testing.T) {
	var mu sync.Mutex
	works := false
	f := secure(t, func(c net.Conn) {
		mu.Lock()
		ok := works
		mu.Unlock()
		if ok {
			honest(answers())(c)
			return
		}
		c.(*tls.Conn).NetConn().Read(make([]byte, 64<<10)) // the whole hello: else it is a reset
	})
	d := f.directory(nil)
	for i, want := range []privsep.Reason{privsep.ReasonDirectoryTLS, privsep.ReasonDirectoryDown, privsep.ReasonDirectoryDown} {
		if _, err := d.login("dora", "horse"); err == nil || err.Reason != want {
			t.Errorf("%d: %v, want %v", i, err, want)
		}
	}
	if n := f.dials.Load(); n != 1 {
		t.Errorf("%d connections", n)
	}
	if h := d.Health(); h.State != privsep.DirectoryDown || h.Reason != privsep.ReasonDirectoryTLS || h.Asked != 3 || h.Failed != 3 {
		t.Errorf("%+v", h)
	}
	if n := d.News(); len(n) != 1 || n[0].Err == nil || len(d.News()) != 0 {
		t.Errorf("news: %+v", n)
	}
	if next := time.Until(d.NextProbe()); next < firstPause/2 || next > firstPause {
		t.Errorf("the next probe is in %v", next)
	}
	mu.Lock()
	works = true
	mu.Unlock()
	d.Retry()
	if next := d.NextProbe(); next.IsZero() || next.After(time.Now()) {
		t.Errorf("the next probe is at %v", next)
	}
	d.BeginProbe()
	if !d.NextProbe().IsZero() {
		t.Error("two probes at a time")
	}
	d.Probe()
	if h := d.Health(); h.State != privsep.DirectoryUp || !d.NextProbe().IsZero() {
		t.Errorf("%+v", h)
	}
	if _, err := d.login("dora", "horse"); err != nil {
		t.Error(err)
	}
	if n := f.dials.Load(); n != 2 {
		t.Errorf("%d connections", n)
	}
}

// A connection that the server has closed while nobody needed it is no failure of it.
func TestStaleLink(t *testing.T) {
	var mu sync.Mutex
	var open []net.Conn
	f := secure(t, func(c net.Conn) {
		mu.Lock()
		open = append(open, c)
		mu.Unlock()
		honest(answers())(c)
	})
	d := f.directory(nil)
	for range 5 {
		if _, err := d.login("dora", "horse"); err != nil {
			t.Error(err)
		}
		mu.Lock()
		for _, c := range open {
			c.Close()
		}
		open = nil
		mu.Unlock()
	}
	if h := d.Health(); h.State != privsep.DirectoryUp || h.Failed != 0 || h.Reason != 0 {
		t.Errorf("%+v", h)
	}
}

// A server to which there is a way from before, and no new one, is asked in time whether
// there is, and not without a pause.
func TestProbeIsNew(t *testing.T) {
	f := secure(t, honest(answers()))
	d := f.directory(nil)
	if _, err := d.login("dora", "horse"); err != nil {
		t.Fatal(err)
	}
	d.down(0, &Error{Reason: privsep.ReasonDirectoryUnreachable})
	f.l.Close()
	d.Retry()
	d.BeginProbe()
	d.Probe()
	if next := time.Until(d.NextProbe()); next < firstPause/2 {
		t.Errorf("the next probe is in %v", next)
	}
	if h := d.Health(); h.State != privsep.DirectoryDown {
		t.Errorf("%+v", h)
	}
}
