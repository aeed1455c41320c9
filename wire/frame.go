package wire

// Op is one operation of the client protocol.
type Op uint8

// The operations a client may send. OpIgnored stands for what is read and
// means nothing from a client: +OK and INFO.
const (
	OpNone Op = iota
	OpConnect
	OpPub
	OpHPub
	OpSub
	OpUnsub
	OpPing
	OpPong
	OpIgnored
)

// Limits bounds what one connection may send, in bytes, inclusive. ControlLine
// and Connect count the arguments of a line, from their first byte to the last
// before the line end; the verb and the separators behind it are not counted.
type Limits struct {
	ControlLine int // every line but CONNECT
	Connect     int // CONNECT
	Payload     int // PUB and HPUB, headers included
}

// Event says what a call of [Parser.Next] found.
type Event uint8

// The events. Only Control, Message and MessageStart fill the whole frame;
// MessagePart and MessageEnd set Op and Body and clear the rest.
const (
	NeedMore     Event = iota // b used up, nothing complete; the frame is untouched
	Control                   // a complete op without payload
	Message                   // PUB or HPUB with its whole payload in Body
	MessageStart              // PUB or HPUB with the first part of its payload, maybe empty
	MessagePart               // a further part
	MessageEnd                // payload and CRLF are complete; Body holds the last part, maybe empty
)

// Frame is what the parser found. Its slices alias the caller's bytes or the
// parser itself and are valid until the next call of [Parser.Next].
type Frame struct {
	Op        Op
	Subject   []byte // PUB, HPUB, SUB
	Reply     []byte // PUB, HPUB; nil when absent
	Queue     []byte // SUB; nil when absent
	SID       []byte // SUB, UNSUB
	Arg       []byte // CONNECT: the JSON
	Max       int    // UNSUB: 0 when absent or not a number
	HeaderLen int    // HPUB: bytes of the header block; -1 otherwise
	Size      int    // PUB, HPUB: all bytes of the payload
	Body      []byte // what of the payload came with this event

	args args // the parser's own
}

// reset makes f a frame of op with nothing in it. What args holds stays:
// clearing it too would cost more than the rest.
func (f *Frame) reset(op Op) {
	f.Op, f.Max, f.HeaderLen, f.Size = op, 0, -1, 0
	f.Subject, f.Reply, f.Queue, f.SID, f.Arg, f.Body = nil, nil, nil, nil, nil, nil
}
