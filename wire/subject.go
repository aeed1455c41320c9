package wire

import "bytes"

// Subjects are tokens between dots. Only * and > as whole tokens are
// wildcards: * for one token, > for one or more, which makes sense last.

// ValidSubject reports whether s may be subscribed to: no token is empty and >
// stands only last.
func ValidSubject(s []byte) bool {
	for more := true; more; {
		var token []byte
		token, s, more = bytes.Cut(s, dot)
		if len(token) == 0 || more && isFull(token) {
			return false
		}
	}
	return true
}

// IsLiteral reports whether no token of s is a wildcard. It doesn't say that s
// is valid: a pedantic publisher's subject must be both.
func IsLiteral(s []byte) bool {
	for more := true; more; {
		var token []byte
		token, s, more = bytes.Cut(s, dot)
		if isFull(token) || isPartial(token) {
			return false
		}
	}
	return true
}

// Match reports whether a message on subject goes to a subscription on
// pattern. A subject is taken as it stands: its * and > are tokens like any
// other, and one with an empty token goes to nobody. It is the law for whatever
// finds subscriptions faster.
func Match(pattern, subject []byte) bool {
	if !ValidSubject(pattern) || hasEmptyToken(subject) {
		return false
	}
	for {
		want, patternRest, patternMore := bytes.Cut(pattern, dot)
		have, subjectRest, subjectMore := bytes.Cut(subject, dot)
		if isFull(want) {
			return true
		}
		if !isPartial(want) && !bytes.Equal(want, have) || patternMore != subjectMore {
			return false
		}
		if !patternMore {
			return true
		}
		pattern, subject = patternRest, subjectRest
	}
}

func isPartial(token []byte) bool { return len(token) == 1 && token[0] == '*' }
func isFull(token []byte) bool    { return len(token) == 1 && token[0] == '>' }

func hasEmptyToken(s []byte) bool {
	for more := true; more; {
		var token []byte
		token, s, more = bytes.Cut(s, dot)
		if len(token) == 0 {
			return true
		}
	}
	return false
}

// ReservedPublish reports whether clients may not publish to subject because
// nats-server keeps it for itself: CodePubPermission.
func ReservedPublish(subject []byte) bool {
	return within(subject, "_GR_.") || within(subject, "$GR.") || begins(subject, "$NRG.")
}

// ReservedReply reports whether clients may not publish with this reply:
// CodeReplyPermission.
func ReservedReply(reply []byte) bool {
	return begins(reply, "_R_.") || within(reply, "_GR_.") || within(reply, "$GR.") || within(reply, "$JS.ACK.")
}

func begins(s []byte, prefix string) bool {
	return len(s) >= len(prefix) && string(s[:len(prefix)]) == prefix
}

// within is begins with at least one byte behind the prefix.
func within(s []byte, prefix string) bool { return len(s) > len(prefix) && begins(s, prefix) }

var dot = []byte{'.'}
