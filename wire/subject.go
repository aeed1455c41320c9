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

// Subset reports whether every subject that pattern matches is matched by of, both
// valid.
func Subset(pattern, of []byte) bool {
	for {
		a, restA, moreA := bytes.Cut(pattern, dot)
		b, restB, moreB := bytes.Cut(of, dot)
		switch {
		case isFull(b):
			return true
		case isFull(a) || moreA != moreB || !isPartial(b) && !bytes.Equal(a, b):
			return false
		case !moreA:
			return true
		}
		pattern, of = restA, restB
	}
}

// Overlap reports whether some subject is matched by both patterns, both valid.
func Overlap(one, other []byte) bool {
	for {
		a, restA, moreA := bytes.Cut(one, dot)
		b, restB, moreB := bytes.Cut(other, dot)
		switch {
		case isFull(a) || isFull(b):
			return true
		case moreA != moreB || !isPartial(a) && !isPartial(b) && !bytes.Equal(a, b):
			return false
		case !moreA:
			return true
		}
		one, other = restA, restB
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

// Special reports whether a subject can be one of those that mean something to the
// broker, which all others need not be held against: ReservedPublish, Broker, Direct,
// System.
func Special(subject []byte) bool {
	return len(subject) > 0 && (subject[0] == '$' || subject[0] == '_')
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

// broker begins the subjects of what clients ask the broker itself.
const broker = "$GATE."

// Broker reports whether a message on subject is for the broker itself and nobody
// else.
func Broker(subject []byte) bool { return begins(subject, broker) }

// direct is the first token of the subjects that belong to one application instance.
const direct = "_APP."

// Direct reports whether subject is one of those that reach an application instance
// and nobody else, whatever wildcards others have subscribed to.
func Direct(subject []byte) bool { return begins(subject, direct) }

// AppendDirect appends the subject of an application instance. Type and instance are
// tokens of a literal subject each.
func AppendDirect(dst []byte, kind, instance string) []byte {
	return append(append(append(append(dst, direct...), kind...), '.'), instance...)
}

// SplitName takes the name "type/instance" of a client apart. ok is false for any other
// name: both parts must be tokens of a literal subject without white space or control
// characters.
func SplitName(name string) (kind, instance string, ok bool) {
	for i := range len(name) {
		if name[i] == '/' {
			kind, instance = name[:i], name[i+1:]
			return kind, instance, isToken(kind) && isToken(instance)
		}
	}
	return name, "", false
}

// maxToken bounds both parts of a name, in bytes.
const maxToken = 128

func isToken(s string) bool {
	for i := range len(s) {
		if c := s[i]; c <= ' ' || c >= 0x7f || c == '.' || c == '*' || c == '>' || c == '/' {
			return false
		}
	}
	return len(s) > 0 && len(s) <= maxToken
}

func begins(s []byte, prefix string) bool {
	return len(s) >= len(prefix) && string(s[:len(prefix)]) == prefix
}

// within is begins with at least one byte behind the prefix.
func within(s []byte, prefix string) bool { return len(s) > len(prefix) && begins(s, prefix) }

var dot = []byte{'.'}
