package wire

import (
	"encoding/json"
	"strconv"
	"strings"
)

// model is the grammar of the package comment, written for the eye: it sees
// the whole input at once and allocates as it likes.
func model(in string, lim Limits) trace {
	tr := trace{code: -1}
	var out strings.Builder
	good := 0
	for in != "" && tr.code < 0 {
		good = out.Len()
		verb, wrong := modelVerb(in)
		if wrong {
			tr.code = int(CodeUnknownOp)
			break
		}
		if verb == "" {
			tr.started = true
			break
		}
		in = modelOp(verb, in[len(verb):], lim, &out, &tr)
	}
	tr.text = out.String()
	if tr.code >= 0 {
		tr.text, tr.started, tr.left = tr.text[:good], true, 0
	}
	return tr
}

// modelVerb finds the verb at the start; "" when more bytes are needed.
func modelVerb(in string) (verb string, wrong bool) {
	fold := func(s string) string { return strings.ReplaceAll(asciiUpper(s), "\t", " ") }
	wrong = true
	for _, v := range []string{"PUB ", "HPUB ", "SUB ", "UNSUB ", "PING", "PONG", "CONNECT", "INFO", "+OK", "-ERR "} {
		n := min(len(v), len(in))
		if fold(in[:n]) == v[:n] {
			wrong = false
			if n == len(v) {
				return v, false
			}
		}
	}
	return "", wrong
}

func asciiUpper(s string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' {
			return r - 32
		}
		return r
	}, s)
}

// modelOp reads one op behind its verb and returns what follows it.
func modelOp(verb, in string, lim Limits, out *strings.Builder, tr *trace) string {
	line, rest, complete := strings.Cut(in, "\n")
	if verb == "PING" || verb == "PONG" || verb == "+OK" {
		if !complete {
			tr.started = true
			return ""
		}
		out.WriteString(map[string]string{"PING": "PING", "PONG": "PONG", "+OK": "IGNORED"}[verb] + "\r\n")
		return rest
	}
	limit := lim.ControlLine
	if verb == "CONNECT" {
		limit = lim.Connect
	}
	line = strings.TrimSuffix(strings.TrimLeft(line, " \t"), "\r")
	if len(line) > limit {
		tr.code = int(CodeControlLine)
		return ""
	}
	if !complete {
		tr.started = true
		return ""
	}
	size := modelLine(verb, line, lim, out, tr)
	if size < 0 || tr.code >= 0 {
		return rest
	}
	body := rest[:min(size, len(rest))]
	out.WriteString(body)
	after := rest[len(body):]
	switch n := min(2, len(after)); {
	case after[:n] != "\r\n"[:n]:
		tr.code = int(CodeUnknownOp)
	case n < 2:
		tr.started, tr.left = true, size-len(body)
	default:
		out.WriteString("\r\n")
		return after[2:]
	}
	return ""
}

// modelLine reads a complete line and returns the payload size, or -1.
func modelLine(verb, line string, lim Limits, out *strings.Builder, tr *trace) int {
	refuse := func(c Code) int { tr.code = int(c); return -1 }
	verb = strings.TrimSpace(verb)
	switch verb {
	case "CONNECT", "INFO":
		if line == "" {
			return refuse(CodeBareClose)
		}
		if verb == "CONNECT" {
			out.WriteString("CONNECT " + line + "\r\n")
			return -1
		}
		if s := strings.Trim(line, " \t\r"); !json.Valid([]byte(line)) || s[0] != '{' && s != "null" {
			return refuse(CodeBareClose)
		}
		out.WriteString("IGNORED\r\n")
		return -1
	case "-ERR":
		return refuse(CodeClientError)
	}
	if strings.Contains(line, "\r") {
		return refuse(CodeBareClose)
	}
	args := strings.FieldsFunc(line, func(r rune) bool { return r == ' ' || r == '\t' })
	least := map[string]int{"PUB": 2, "HPUB": 3, "SUB": 2, "UNSUB": 1}[verb]
	if len(args) < least || len(args) > least+1 {
		return refuse(CodeBareClose)
	}
	size := -1
	switch verb {
	case "PUB", "HPUB":
		for i := len(args) - (least - 1); i < len(args); i++ {
			n, ok := modelNumber(args[i])
			if !ok || n < size {
				return refuse(CodeBareClose)
			}
			size, args[i] = n, strconv.Itoa(n)
		}
		if verb == "HPUB" {
			if hlen, _ := modelNumber(args[len(args)-2]); hlen > size {
				return refuse(CodeBareClose)
			}
		}
		if size > lim.Payload {
			return refuse(CodeMaxPayload)
		}
	case "UNSUB":
		if len(args) == 2 {
			n, ok := modelNumber(args[1])
			if args[1] = strconv.Itoa(n); !ok || n == 0 {
				args = args[:1]
			}
		}
	}
	out.WriteString(verb + " " + strings.Join(args, " ") + "\r\n")
	return size
}

func modelNumber(s string) (int, bool) {
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil || len(s) > 9 {
		return 0, false
	}
	return int(n), true
}
