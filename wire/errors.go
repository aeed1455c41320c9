package wire

import "strconv"

// Code names one way to refuse what a client did. The numbers travel between
// processes: append only.
type Code uint8

// The codes. Each but the first two has a text that clients know; a client
// closes for good on a text that it doesn't know, so none is ever invented.
const (
	CodeBareClose             Code = iota // closed without a word
	CodeClientError                       // the client sent -ERR: closed without a word
	CodeUnknownOp                         // also: payload not followed by CRLF
	CodeControlLine                       // line longer than its limit
	CodeMaxPayload                        // payload larger than its limit
	CodeMaxConnections                    // of the server
	CodeAuthViolation                     // wrong or missing credentials
	CodeAuthTimeout                       // no CONNECT in time
	CodeStale                             // PINGs without answer; also to move a client elsewhere
	CodeInvalidProtocol                   // protocol in CONNECT not 0 or 1
	CodeNoRespNeedsHeaders                // no_responders without headers
	CodeInvalidSubject                    // SUB; not ValidSubject
	CodeInvalidPubSubject                 // PUB, pedantic; the message goes out all the same
	CodePubPermission                     // subject
	CodeSubPermission                     // subject
	CodeSubQueuePermission                // subject, queue
	CodeReplyPermission                   // reply
	CodeMaxSubs                           // of the connection
	CodeSubTokens                         // subject
	CodeMaxAccountConnections             // of the account
	CodeUserExpired
	CodeUserRevoked
	CodeAccountExpired
	numCodes
)

// codes holds every text after -ERR and whether the server closes then. %q
// stands for an argument in Go's quoting, which clients take apart again.
var codes = [numCodes]struct {
	text   string
	closes bool
}{
	CodeBareClose:             {"", true},
	CodeClientError:           {"", true},
	CodeUnknownOp:             {"Unknown Protocol Operation", true},
	CodeControlLine:           {"maximum control line exceeded", true},
	CodeMaxPayload:            {"Maximum Payload Violation", true},
	CodeMaxConnections:        {"maximum connections exceeded", true},
	CodeAuthViolation:         {"Authorization Violation", true},
	CodeAuthTimeout:           {"Authentication Timeout", true},
	CodeStale:                 {"Stale Connection", true},
	CodeInvalidProtocol:       {"invalid client protocol", true},
	CodeNoRespNeedsHeaders:    {"no responders requires headers support", true},
	CodeInvalidSubject:        {"Invalid Subject", false},
	CodeInvalidPubSubject:     {"Invalid Publish Subject", false},
	CodePubPermission:         {"Permissions Violation for Publish to %q", false},
	CodeSubPermission:         {"Permissions Violation for Subscription to %q", false},
	CodeSubQueuePermission:    {"Permissions Violation for Subscription to %q using queue %q", false},
	CodeReplyPermission:       {"Permissions Violation for Publish with Reply of %q", false},
	CodeMaxSubs:               {"maximum subscriptions exceeded", false},
	CodeSubTokens:             {"Permissions Violation for Subscription to %q, too many tokens", false},
	CodeMaxAccountConnections: {"maximum account active connections exceeded", true},
	CodeUserExpired:           {"User Authentication Expired", true},
	CodeUserRevoked:           {"User Authentication Revoked", true},
	CodeAccountExpired:        {"Account Authentication Expired", true},
}

// Text returns the words after -ERR with %q where arguments go, or "" for a
// silent code and for a number that is none.
func (c Code) Text() string {
	if c >= numCodes {
		return ""
	}
	return codes[c].text
}

// Closes reports whether the connection ends with this code. A number that is
// none closes.
func (c Code) Closes() bool { return c >= numCodes || codes[c].closes }

// Error is what the parser has against a client. Detail is for logs and holds
// nothing that the client sent.
type Error struct {
	Code   Code
	Detail string
}

func (e *Error) Error() string {
	if text := e.Code.Text(); text != "" {
		return "wire: " + text + ": " + e.Detail
	}
	return "wire: " + e.Detail
}

var (
	errVerb       = &Error{CodeUnknownOp, "no such verb"}
	errPayloadEnd = &Error{CodeUnknownOp, "no CRLF after the payload"}
	errLine       = &Error{CodeControlLine, "line above its limit"}
	errPayload    = &Error{CodeMaxPayload, "payload above its limit"}
	errArgs       = &Error{CodeBareClose, "wrong arguments"}
	errSize       = &Error{CodeBareClose, "bad payload size"}
	errHeaderLen  = &Error{CodeBareClose, "bad header length"}
	errNoHeaders  = &Error{CodeBareClose, "headers not announced"}
	errInfo       = &Error{CodeBareClose, "malformed INFO"}
	errConnect    = &Error{CodeBareClose, "malformed CONNECT"}
	errClient     = &Error{CodeClientError, "client sent -ERR"}
)

// AppendErr appends the -ERR line of a code, its arguments in the order of the
// text; a missing one is empty. It appends nothing for a silent code.
func AppendErr(dst []byte, c Code, args ...[]byte) []byte {
	text := c.Text()
	if text == "" {
		return dst
	}
	dst = append(dst, "-ERR '"...)
	for i := 0; i < len(text); i++ {
		if text[i] != '%' {
			dst = append(dst, text[i])
			continue
		}
		i++
		var arg []byte
		if len(args) > 0 {
			arg, args = args[0], args[1:]
		}
		dst = strconv.AppendQuote(dst, string(arg))
	}
	return append(dst, "'\r\n"...)
}
