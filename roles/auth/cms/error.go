package cms

// Reason is why a message is no proof.
type Reason uint8

// The reasons.
const (
	Form         Reason = iota + 1 // not the DER of the form that it must have
	Attributes                     // the signed attributes are missing or not what they must be
	Algorithm                      // a digest, signature or key that is not accepted
	Certificates                   // one cannot be read, or which is the signer's is not clear
	Content                        // something else was signed
	Signature                      // it is not that of the signer's key
)

var reasonNames = [...]string{Form: "form", Attributes: "attributes", Algorithm: "algorithm",
	Certificates: "certificates", Content: "content", Signature: "signature"}

// String gives a word for the reason.
func (r Reason) String() string {
	if int(r) < len(reasonNames) && reasonNames[r] != "" {
		return reasonNames[r]
	}
	return "reason"
}

// Error is what Parse and Verify fail with. Detail is one of a fixed set of texts.
type Error struct {
	Reason Reason
	Detail string
}

// Error gives the detail.
func (e *Error) Error() string { return "cms: " + e.Detail }

func fail(r Reason, detail string) error { return &Error{r, detail} }
