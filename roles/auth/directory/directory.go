package directory

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"sync"
	"time"

	"github.com/go-ldap/ldap/v3"

	"gatehouse/privsep"
)

// Dialer begins a connection to a server, and waits for no more than that.
type Dialer func(server int, by time.Time) (Stream, error)

// Error is why there is no answer, or why it is no.
type Error struct {
	Reason privsep.Reason
	Err    error // more of it, nil: nothing
	broken bool  // the connection is of no more use
}

// Error is the reason and, if there is one, what it comes from.
func (e *Error) Error() string {
	if e.Err == nil {
		return e.Reason.String()
	}
	return e.Reason.String() + ": " + e.Err.Error()
}

// because is an error of the connection.
func because(r privsep.Reason, err error) *Error { return &Error{r, err, true} }

func no(r privsep.Reason) *Error { return &Error{Reason: r} }

// Directory is one that there is. All methods may be called by several at once.
type Directory struct {
	set     *privsep.Directory
	dial    Dialer
	dn      *Template // nil: the filter has the name
	filter  *Template
	user    string // attribute with the name
	wanted  []string
	servers []server

	mu      sync.Mutex
	idle    []*link // the one used last is the last
	closed  bool
	probing bool
	health  Health
	news    []News
}

// New makes one of what the parent has said, which has checked it.
func New(set *privsep.Directory, ca []byte, dial Dialer) (*Directory, error) {
	d := &Directory{set: set, dial: dial, health: Health{State: privsep.DirectoryUnknown, Since: time.Now()}}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(ca) {
		return nil, errors.New("directory: no certificate to verify servers by")
	}
	for _, s := range set.Servers {
		u, err := url.Parse(s)
		if err != nil {
			return nil, fmt.Errorf("directory: %w", err)
		}
		name := set.Name
		if name == "" {
			name = u.Hostname()
		}
		d.servers = append(d.servers, server{name: s, startTLS: u.Scheme == "ldap",
			tls: &tls.Config{RootCAs: roots, ServerName: name, MinVersion: tls.VersionTLS12}})
	}
	var err error
	if set.UserDN != "" {
		d.dn, err = ParseUserDN(set.UserDN)
	} else {
		d.filter, err = ParseFilter(set.Filter)
	}
	if err != nil {
		return nil, fmt.Errorf("directory: template %w", err)
	}
	if d.dn != nil {
		d.user = d.dn.Attribute
	} else {
		d.user = d.filter.Attribute
	}
	for _, a := range []string{d.user, set.OrganisationAttribute, set.ProfileAttribute} {
		if a != "" {
			d.wanted = append(d.wanted, a)
		}
	}
	return d, nil
}

// Mark is of all that says who somebody is.
func (d *Directory) Mark() uint64 { return d.set.Mark }

// Links is how many may ask at a time.
func (d *Directory) Links() int { return d.set.Links }

// LooksUp tells whether users can be looked up without a password of theirs.
func (d *Directory) LooksUp() bool { return d.set.BindDN != "" }

// Close closes all connections as soon as nobody uses them.
func (d *Directory) Close() {
	d.mu.Lock()
	idle := d.idle
	d.idle, d.closed = nil, true
	d.mu.Unlock()
	for _, l := range idle {
		l.close()
	}
}

// Login tells who somebody is whose password this is. An empty one is no password, but
// what LDAP takes for somebody who does not want to say who he is (RFC 4513, 5.1.2).
func (d *Directory) Login(name, password string, by time.Time) (*Entry, *Error) {
	switch {
	case !Speakable(name):
		return nil, no(privsep.ReasonDirectoryName)
	case password == "":
		return nil, no(privsep.ReasonDirectoryPassword)
	}
	return d.ask(by, func(l *link) (*Entry, *Error) {
		if d.dn != nil {
			dn := d.dn.With(name)
			if err := d.bind(l, dn, password); err != nil {
				return nil, err
			}
			return d.read(l, dn, name)
		}
		found, err := d.find(l, name)
		if err != nil {
			return nil, err
		}
		return found, d.bind(l, found.DN, password)
	})
}

// Lookup tells who somebody is whose name another one vouches for.
func (d *Directory) Lookup(name string, by time.Time) (*Entry, *Error) {
	switch {
	case !d.LooksUp():
		return nil, no(privsep.ReasonUnknownUser)
	case !Speakable(name):
		return nil, no(privsep.ReasonDirectoryName)
	}
	return d.ask(by, func(l *link) (*Entry, *Error) {
		if d.dn == nil {
			return d.find(l, name)
		}
		if err := d.account(l); err != nil {
			return nil, err
		}
		return d.read(l, d.dn.With(name), name)
	})
}

// account makes a link one of our account's, if there is one.
func (d *Directory) account(l *link) *Error {
	if d.set.BindDN == "" || l.ours {
		return nil
	}
	if err := l.conn.Bind(d.set.BindDN, d.set.BindPass); err != nil {
		e := l.because(err)
		if e.Reason == privsep.ReasonDirectoryProtocol && !e.broken {
			e.Reason = privsep.ReasonDirectoryAccount
		}
		e.broken = true
		return e
	}
	l.ours = true
	return nil
}

// bind is the check of a password.
func (d *Directory) bind(l *link, dn, password string) *Error {
	l.ours = false
	err := l.conn.Bind(dn, password)
	switch {
	case err == nil:
		return nil
	case ldap.IsErrorWithCode(err, ldap.LDAPResultInvalidCredentials):
		return &Error{privsep.ReasonWrongPassword, err, false}
	}
	e := l.because(err)
	if e.Reason == privsep.ReasonDirectoryProtocol && !e.broken {
		e.Reason = privsep.ReasonDirectoryRefused
	}
	return e
}

// find searches for a user, as our account.
func (d *Directory) find(l *link, name string) (*Entry, *Error) {
	if err := d.account(l); err != nil {
		return nil, err
	}
	return d.search(l, d.set.Base, ldap.ScopeWholeSubtree, d.filter.With(name), name)
}

// read reads the entry of a user, as whoever the link is bound as.
func (d *Directory) read(l *link, dn, name string) (*Entry, *Error) {
	e, err := d.search(l, dn, ldap.ScopeBaseObject, "(objectClass=*)", name)
	if err != nil && ldap.IsErrorWithCode(err.Err, ldap.LDAPResultNoSuchObject) {
		return nil, no(privsep.ReasonUnknownUser)
	}
	return e, err
}

func (d *Directory) search(l *link, base string, scope int, filter, name string) (*Entry, *Error) {
	const one, more = 1, 2 // entries
	seconds := int(d.set.Timeout/time.Second) + 1
	r, err := l.conn.Search(ldap.NewSearchRequest(base, scope, ldap.NeverDerefAliases, more, seconds, false, filter, d.wanted, nil))
	switch {
	case err != nil:
		return nil, l.because(err)
	case len(r.Referrals) > 0:
		return nil, no(privsep.ReasonDirectoryReferral)
	case len(r.Entries) == 0:
		return nil, no(privsep.ReasonUnknownUser)
	case len(r.Entries) > one:
		return nil, no(privsep.ReasonDirectoryAmbiguous)
	}
	return d.entry(r.Entries[0], name)
}

// ask puts a question to a server, and again to another one, or by another connection, as
// long as it is the connection that fails.
func (d *Directory) ask(by time.Time, question func(*link) (*Entry, *Error)) (*Entry, *Error) {
	d.count(nil)
	var last *Error
	for {
		l, err := d.take(by)
		if err != nil {
			if last != nil && err.Reason == privsep.ReasonDirectoryDown {
				err = last
			}
			d.count(err)
			return nil, err
		}
		e, err := d.by(l, by, question)
		if err == nil || !err.broken {
			if err != nil {
				e = nil
			}
			return e, err
		}
		l.close()
		switch last = err; {
		case l.used && err.Reason == privsep.ReasonDirectoryUnreachable:
			// The server had closed it while it was idle, which says nothing of the server.
		case err.Reason == privsep.ReasonDirectoryTimeout:
			// It may be the question that takes so long, and others have other ones. If
			// nobody answers any, the next connection shows it.
			d.count(err)
			return nil, err
		default:
			d.down(l.server, err)
		}
		if !time.Now().Before(by) {
			d.count(err)
			return nil, err
		}
	}
}

// by asks by one link, which is free again if it is still of use.
func (d *Directory) by(l *link, end time.Time, question func(*link) (*Entry, *Error)) (*Entry, *Error) {
	if err := l.begin(d.until(end)); err != nil {
		return nil, because(privsep.ReasonDirectoryUnreachable, err)
	}
	e, err := answerTo(question, l)
	if err != nil && err.broken {
		return nil, err
	}
	if l.guard.failure() != nil || l.end() != nil {
		l.close() // but there is an answer
	} else {
		d.release(l)
	}
	return e, err
}

// answerTo survives what the library makes of an answer: in auth a panic would come again
// with the next one, which is asked the same.
func answerTo(question func(*link) (*Entry, *Error), l *link) (e *Entry, err *Error) {
	defer func() {
		if p := recover(); p != nil {
			e, err = nil, because(privsep.ReasonDirectoryProtocol, fmt.Errorf("%v", p))
		}
	}()
	return question(l)
}

// until bounds what one server may take.
func (d *Directory) until(by time.Time) time.Time {
	if t := time.Now().Add(d.set.Timeout); t.Before(by) {
		return t
	}
	return by
}
