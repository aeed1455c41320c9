package wire

import "encoding/json"

// form says what follows a verb on its line.
type form uint8

const (
	formArgs form = iota // arguments cut at SP and TAB
	formBody             // the same, then a payload
	formText             // one argument up to the line end
	formJunk             // anything, unread and unlimited
)

// op is a row of the protocol. A space at the end of a verb stands for one
// separator that must be there.
type op struct {
	verb     string // lower case
	op       Op
	form     form
	min, max int // number of arguments
	decode   func(p *Parser, lim *Limits, f *Frame) *Error
}

// ops is the whole protocol from client to server. What has no row is an
// unknown operation at its first wrong byte.
var ops = [...]op{
	rowPub: {"pub ", OpPub, formBody, 2, 3, decodePub},
	{"hpub ", OpHPub, formBody, 3, 4, decodeHPub},
	{"sub ", OpSub, formArgs, 2, 3, decodeSub},
	{"unsub ", OpUnsub, formArgs, 1, 2, decodeUnsub},
	{"ping", OpPing, formJunk, 0, 0, nil},
	{"pong", OpPong, formJunk, 0, 0, nil},
	{"connect", OpConnect, formText, 1, 1, decodeConnect},
	{"info", OpIgnored, formText, 1, 1, decodeInfo},
	{"+ok", OpIgnored, formJunk, 0, 0, nil},
	{"-err ", OpNone, formText, 0, 1, decodeErr},
}

func decodePub(_ *Parser, lim *Limits, f *Frame) *Error {
	f.Subject = f.args.arg(0)
	if f.args.n == 3 {
		f.Reply = f.args.arg(1)
	}
	n, ok := number(f.args.last())
	if !ok {
		return errSize
	}
	return f.setSize(n, lim)
}

func decodeHPub(p *Parser, lim *Limits, f *Frame) *Error {
	if !p.headers {
		return errNoHeaders
	}
	f.Subject = f.args.arg(0)
	if f.args.n == 4 {
		f.Reply = f.args.arg(1)
	}
	hlen, ok := number(f.args.arg(f.args.n - 2))
	total, both := number(f.args.last())
	if !ok || !both || hlen > total {
		return errHeaderLen
	}
	f.HeaderLen = hlen
	return f.setSize(total, lim)
}

// setSize sets the payload size unless it is above the limit.
func (f *Frame) setSize(n int, lim *Limits) *Error {
	if n > lim.Payload {
		return errPayload
	}
	f.Size = n
	return nil
}

func decodeSub(_ *Parser, _ *Limits, f *Frame) *Error {
	f.Subject, f.SID = f.args.arg(0), f.args.last()
	if f.args.n == 3 {
		f.Queue = f.args.arg(1)
	}
	return nil
}

func decodeUnsub(_ *Parser, _ *Limits, f *Frame) *Error {
	f.SID = f.args.arg(0)
	if f.args.n == 2 {
		f.Max, _ = number(f.args.arg(1))
	}
	return nil
}

func decodeConnect(_ *Parser, _ *Limits, f *Frame) *Error {
	f.Arg = f.args.arg(0)
	return nil
}

// decodeInfo refuses what nats-server refuses: an INFO that is not an object.
func decodeInfo(_ *Parser, _ *Limits, f *Frame) *Error {
	var object map[string]json.RawMessage
	if json.Unmarshal(f.args.arg(0), &object) != nil {
		return errInfo
	}
	return nil
}

func decodeErr(*Parser, *Limits, *Frame) *Error {
	return errClient
}
