package wire

import "encoding/json"

// Connect is what a client says of itself in CONNECT. It may hold secrets and
// prints as stars.
type Connect struct {
	Verbose      bool   `json:"verbose"`      // answer with +OK
	Pedantic     bool   `json:"pedantic"`     // check subjects of PUB
	Echo         bool   `json:"echo"`         // deliver to own subscriptions
	TLSRequired  bool   `json:"tls_required"` // of no consequence
	User         string `json:"user"`
	Pass         string `json:"pass"`
	AuthToken    string `json:"auth_token"`
	JWT          string `json:"jwt"`
	NKey         string `json:"nkey"`
	Sig          string `json:"sig"`
	Name         string `json:"name"`
	Lang         string `json:"lang"`
	Version      string `json:"version"`
	Protocol     int    `json:"protocol"` // 0, or 1: understands INFO at any time
	Headers      bool   `json:"headers"`
	NoResponders bool   `json:"no_responders"`
	Account      string `json:"account"`
	NewAccount   bool   `json:"new_account"`
}

// DefaultConnect returns what holds for a client before its first CONNECT, and
// for every key that its first CONNECT leaves out.
func DefaultConnect() Connect { return Connect{Verbose: true, Pedantic: true, Echo: true} }

// ParseConnect reads the JSON of a first CONNECT. Keys that it doesn't have
// keep their default, unknown ones are passed over; an error is an *Error and
// means a bare close.
func ParseConnect(b []byte) (Connect, error) {
	c := DefaultConnect()
	if err := c.Merge(b); err != nil {
		return Connect{}, err
	}
	return c, nil
}

// Merge reads the JSON of a further CONNECT of the same connection, whose
// missing keys keep what was said before. On error c stays as it was.
func (c *Connect) Merge(b []byte) error {
	next := *c
	if json.Unmarshal(b, &next) != nil {
		return errConnect
	}
	*c = next
	return nil
}

// Check returns the code by which a server that has nothing against the
// credentials still refuses, and whether it does.
func (c *Connect) Check() (Code, bool) {
	switch {
	case c.Account != "" || c.NewAccount:
		return CodeAuthViolation, true
	case c.Protocol < 0 || c.Protocol > 1:
		return CodeInvalidProtocol, true
	case c.NoResponders && !c.Headers:
		return CodeNoRespNeedsHeaders, true
	}
	return 0, false
}

// String hides everything.
func (Connect) String() string { return "********" }

// GoString hides everything.
func (Connect) GoString() string { return "********" }
