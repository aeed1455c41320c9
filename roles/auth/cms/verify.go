package cms

import (
	"crypto/subtle"
	"errors"

	_ "crypto/sha256" // what the digests are made by
	_ "crypto/sha512"
)

// Verify tells whether the key of m.Signer has signed content.
func (m *Message) Verify(content []byte) error {
	h := m.hash.New()
	h.Write(content)
	if subtle.ConstantTimeCompare(h.Sum(nil), m.digest) != 1 {
		return fail(Content, "something else was signed")
	}
	if err := m.Signer.CheckSignature(m.scheme, m.attrs, m.signature); err != nil {
		return fail(Signature, "the signature is not that of the signer's key")
	}
	return nil
}

// ReasonOf gives the reason of an error of this package, 0 for any other.
func ReasonOf(err error) Reason {
	var e *Error
	if errors.As(err, &e) {
		return e.Reason
	}
	return 0
}
