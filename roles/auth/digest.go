package auth

import (
	"crypto/sha256"
	"errors"
	"io"
	"sync"
	"time"

	"gatehouse/privsep"
)

// digests are SHA-256 of executables. One is made once for each content, however many
// wait for it, and goes on when they do not any more: who comes next finds it.
type digests struct {
	mu      sync.Mutex
	known   map[privsep.ContentState]*digest
	running int
}

type digest struct {
	done chan struct{} // closed when the rest is there
	sum  [sha256.Size]byte
	err  error
}

const (
	mostDigests = 1024 // that are remembered
	mostReaders = 4    // at a time
	pieceSize   = 256 << 10

	// youngContent is how long after its last change a file may change again and have
	// the same times.
	youngContent = 2 * time.Second
)

var (
	errLate    = errors.New("executable: not read in time")
	errReaders = errors.New("executable: too many are being read")
	errMoving  = errors.New("executable: changed while it was read")
)

// of gives the digest of a content, which it closes, and tells whether that took time.
func (d *digests) of(c *privsep.Content, until time.Time) (sum [sha256.Size]byte, waited bool, err error) {
	g, err := d.begin(c)
	if err != nil {
		c.Close()
		return sum, false, err
	}
	select {
	case <-g.done:
		return g.sum, false, g.err
	default:
	}
	wait := time.NewTimer(time.Until(until))
	defer wait.Stop()
	select {
	case <-g.done:
		return g.sum, true, g.err
	case <-wait.C:
		return sum, true, errLate
	}
}

func (d *digests) begin(c *privsep.Content) (*digest, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if g := d.known[c.State()]; g != nil {
		c.Close()
		return g, nil
	}
	if d.running == mostReaders {
		return nil, errReaders
	}
	if d.known == nil || len(d.known) >= mostDigests {
		d.known = map[privsep.ContentState]*digest{} // who waits for one has it
	}
	g := &digest{done: make(chan struct{})}
	d.known[c.State()] = g
	d.running++
	go d.read(c, g)
	return g, nil
}

// read makes a digest. What may change without a trace, or was not read, is not
// remembered.
func (d *digests) read(c *privsep.Content, g *digest) {
	defer c.Close()
	began := time.Now()
	g.sum, g.err = sumOf(c)
	if g.err == nil && !c.Still() {
		g.err = errMoving
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.running--
	if g.err != nil || began.UnixNano()-c.State().Changed() < int64(youngContent) {
		if d.known[c.State()] == g {
			delete(d.known, c.State())
		}
	}
	close(g.done)
}

func sumOf(c *privsep.Content) (sum [sha256.Size]byte, err error) {
	h := sha256.New()
	_, err = io.CopyBuffer(h, io.NewSectionReader(c, 0, privsep.MaxContent+1), make([]byte, pieceSize))
	h.Sum(sum[:0])
	return sum, err
}
