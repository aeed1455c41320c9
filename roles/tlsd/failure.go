package tlsd

import (
	"crypto/x509"
	"errors"
	"time"
)

const (
	// retryAfter is how long a session that could not be made is not tried again, and
	// mostFailing of how many that is known.
	retryAfter  = time.Second
	mostFailing = 1024
)

// failing is a session that could not be made a moment ago: nobody tries again before
// until.
type failing struct {
	until time.Time
	why   *failure
}

// failure is why there is no session, in words that are few whatever a server's
// certificate says.
type failure struct{ verify, reason string }

// maxReason bounds the words, in bytes.
const maxReason = 512

func newFailure(err error) *failure {
	reason := err.Error()
	return &failure{verdict(err), reason[:min(len(reason), maxReason)]}
}

// remember has nobody ask for the same again at once. The caller holds the lock.
func (h *hub) remember(asked string, why *failure) {
	if len(h.failing) >= mostFailing {
		return
	}
	h.failing[asked] = failing{time.Now().Add(retryAfter), why}
	time.AfterFunc(retryAfter, func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		if f := h.failing[asked]; !time.Now().Before(f.until) {
			delete(h.failing, asked)
		}
	})
}

// verdict is what a caller is told of the server's certificate when there is no
// session, "" if it is not the certificate's fault.
func verdict(err error) string {
	var (
		bad       x509.CertificateInvalidError
		hostname  x509.HostnameError
		authority x509.UnknownAuthorityError
	)
	switch {
	case errors.As(err, &authority):
		return "unknown_authority"
	case errors.As(err, &hostname):
		return "hostname"
	case errors.As(err, &bad) && bad.Reason == x509.Expired:
		return "expired"
	case errors.As(err, &bad):
		return "invalid"
	}
	return ""
}
