package privsep

// Mode says what a Poller watches an fd for; a hang-up is always told.
type Mode uint8

// The bits of a Mode.
const (
	In   Mode = 1 << iota // can be read
	Out                   // can be written
	Edge                  // tell of changes only, not of a state that lasts
)

// Ready is one fd's news.
type Ready struct {
	Token   uint64
	In, Out bool
	Hup     bool // the peer closed at least its side, or an error waits: read on to learn which
}
