package chain

// Reason is why a certificate is not accepted.
type Reason uint8

// The reasons.
const (
	Unapproved  Reason = iota + 1 // no way to an approved key
	Expired                       // it or one above it
	NotYetValid                   // the same
	Usage                         // not for clients, or not for signing
	Constraint                    // of one above it, or a critical extension
	Weak                          // a key that is not accepted
	Revoked                       // it or one above it
	NoList                        // of the issuer of one of them, that is valid now
)

var reasonNames = [...]string{Unapproved: "unapproved", Expired: "expired", NotYetValid: "not_yet_valid",
	Usage: "usage", Constraint: "constraint", Weak: "weak", Revoked: "revoked", NoList: "no_list"}

// String gives a word for the reason.
func (r Reason) String() string {
	if int(r) < len(reasonNames) && reasonNames[r] != "" {
		return reasonNames[r]
	}
	return "reason"
}

// Error makes a Reason an error.
func (r Reason) Error() string { return "chain: " + r.String() }
