package custody

import (
	"crypto"
	"crypto/tls"
	"errors"
	"slices"
	"strings"
)

// serverContext is what every server's CertificateVerify input begins with
// (RFC 8446, 4.4.3).
var serverContext = strings.Repeat(" ", 64) + "TLS 1.3, server CertificateVerify\x00"

// clientContext is the same of every client.
var clientContext = strings.Repeat(" ", 64) + "TLS 1.3, client CertificateVerify\x00"

// MaxInput is the length of the longest input that is signed: the context and
// a SHA-384 transcript hash.
const MaxInput = 64 + 34 + 48

// schemes are the signature schemes of TLS 1.3 for the keys that are
// supported, and the hash of each; Ed25519 takes the message as it is.
var schemes = map[tls.SignatureScheme]crypto.Hash{
	tls.PSSWithSHA256:          crypto.SHA256,
	tls.PSSWithSHA384:          crypto.SHA384,
	tls.PSSWithSHA512:          crypto.SHA512,
	tls.ECDSAWithP256AndSHA256: crypto.SHA256,
	tls.ECDSAWithP384AndSHA384: crypto.SHA384,
	tls.Ed25519:                0,
}

// Errors of CheckServerInput and CheckClientInput.
var (
	ErrScheme = errors.New("custody: not a signature scheme of this key for TLS 1.3")
	ErrInput  = errors.New("custody: not the CertificateVerify input that this key signs")
)

// CheckServerInput refuses what is not the input to the signature of a TLS 1.3
// server: 64 spaces, its context, a zero byte, a transcript hash of 32 or 48
// bytes (RFC 8446, 4.4.3). A digest, a client's or TLS 1.2's input and any
// other document are none.
func CheckServerInput(scheme tls.SignatureScheme, message []byte) error {
	return checkInput(serverContext, scheme, message)
}

// CheckClientInput does the same for a TLS 1.3 client.
func CheckClientInput(scheme tls.SignatureScheme, message []byte) error {
	return checkInput(clientContext, scheme, message)
}

func checkInput(context string, scheme tls.SignatureScheme, message []byte) error {
	if _, ok := schemes[scheme]; !ok {
		return ErrScheme
	}
	hash := len(message) - len(context)
	if (hash != 32 && hash != 48) || string(message[:len(context)]) != context {
		return ErrInput
	}
	return nil
}

// CheckKeyExchange refuses what is not the input to the signature of a TLS 1.2
// server with an ephemeral key: the two randoms, then a named curve and a point
// on it (RFC 8422, 5.4).
func CheckKeyExchange(message []byte) error {
	const randoms, header = 32 + 32, 1 + 2 + 1
	if len(message) < randoms+header {
		return ErrInput
	}
	params := message[randoms:]
	point := pointSizes[tls.CurveID(params[1])<<8|tls.CurveID(params[2])]
	const namedCurve = 3
	if params[0] != namedCurve || point == 0 || int(params[3]) != point || len(params) != header+point {
		return ErrInput
	}
	return nil
}

// pointSizes are the sizes in bytes of an uncompressed point by curve.
var pointSizes = map[tls.CurveID]int{tls.CurveP256: 65, tls.CurveP384: 97, tls.CurveP521: 133, tls.X25519: 32}

// may reports whether scheme is one of list.
func may(list []tls.SignatureScheme, scheme tls.SignatureScheme) bool {
	return slices.Contains(list, scheme)
}
