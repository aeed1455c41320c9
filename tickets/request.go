package tickets

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"io"
)

// TransferSubject is where a client asks its own environment for a transfer ticket; the
// payload is a TransferRequest as JSON, that of the answer the ticket as it is.
const TransferSubject = "$GATE.ticket"

// MaxTransferRequest bounds the payload, in bytes.
const MaxTransferRequest = 512

// TransferRequest says which ticket a client would like.
type TransferRequest struct {
	Nonce       string `json:"nonce"`       // challenge of the connection that it is for
	Environment string `json:"environment"` // that this connection leads to
}

// ParseTransferRequest reads one. Like the ticket it may say nothing else, but JSON is
// JSON: it comes from clients in any language.
func ParseTransferRequest(b []byte) (nonce [challengeBytes]byte, environment string, ok bool) {
	var q TransferRequest
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if len(b) > MaxTransferRequest || d.Decode(&q) != nil {
		return nonce, "", false
	}
	if _, err := d.Token(); err != io.EOF {
		return nonce, "", false
	}
	raw, err := base64.RawURLEncoding.DecodeString(q.Nonce)
	if err != nil || len(q.Nonce) != ChallengeLen || len(raw) != challengeBytes || q.Environment == "" || !ValidName(q.Environment) {
		return nonce, "", false
	}
	return [challengeBytes]byte(raw), q.Environment, true
}
