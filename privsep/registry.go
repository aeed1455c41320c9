package privsep

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"math"
	"os"
	"strings"
)

// Registry is all that a parent leaves to the next one: what lives, and what is
// to be had from it. No secret is in it.
type Registry struct {
	ServerID    string
	Settings    [32]byte // digest of what the roles were started with
	Certificate uint32   // number of the present one, 0: none
	Chain       [32]byte // its digest
	Numbered    int      // listeners that there have been
	Listeners   []ListenerRecord
	Segments    []SegmentRecord
	Components  []Record // also those without a process: their generations go on
}

// ListenerRecord is one listening socket.
type ListenerRecord struct {
	Number  uint16
	Network Network
	FileID
	Asked   string // as configured
	Address string // as bound
}

// SegmentRecord is one segment of shared memory.
type SegmentRecord struct {
	Kind  SegmentKind
	Index int
	Size  int
	FileID
}

// FileID says which file it is: no other has it as long as this one is open.
type FileID struct{ Dev, Ino uint64 }

// Record is the instantiation record of one component: what the parent knew
// when it started it, to be held against what the kernel says later.
type Record struct {
	ID
	PID        int    // 0: it has no process now
	StartTime  uint64 // clock ticks since boot, /proc/PID/stat field 22
	UID        int    // that it drops to
	PidIno     uint64 // inode of its pidfd: unlike the pid, never used again
	Dev, Ino   uint64 // of the executable
	SHA256     [32]byte
	Generation uint64
	Restarts   int
}

const (
	registryHeader = "gatehouse registry 3\n"
	maxRegistry    = 1 << 20 // bytes
)

// line gives the record as the registry has it.
func (r *Record) line() string {
	return fmt.Sprintf("%v pid=%d start=%d uid=%d pidfd=%d dev=%d ino=%d sha256=%x generation=%d restarts=%d\n",
		r.ID, r.PID, r.StartTime, r.UID, r.PidIno, r.Dev, r.Ino, r.SHA256, r.Generation, r.Restarts)
}

// parseLine is the inverse of line and takes nothing else.
func (r *Record) parseLine(s string) error {
	*r = Record{}
	var id, sum string
	_, err := fmt.Sscanf(s, "%s pid=%d start=%d uid=%d pidfd=%d dev=%d ino=%d sha256=%s generation=%d restarts=%d\n",
		&id, &r.PID, &r.StartTime, &r.UID, &r.PidIno, &r.Dev, &r.Ino, &sum, &r.Generation, &r.Restarts)
	if err == nil {
		r.ID, err = ParseID(id)
	}
	sumErr := unhex(&r.SHA256, sum)
	if err != nil || sumErr != nil || r.PID < 0 || r.UID < 0 || r.Restarts < 0 || r.line() != s {
		*r = Record{}
		return ErrShape
	}
	return nil
}

func unhex(sum *[32]byte, s string) error {
	b, err := hex.DecodeString(s)
	copy(sum[:], b)
	return err
}

func (l *ListenerRecord) line() string {
	return fmt.Sprintf("listener %v number=%d dev=%d ino=%d asked=%q address=%q\n", l.Network, l.Number, l.Dev, l.Ino, l.Asked, l.Address)
}

func (l *ListenerRecord) parseLine(s string) error {
	*l = ListenerRecord{}
	var network string
	_, err := fmt.Sscanf(s, "listener %s number=%d dev=%d ino=%d asked=%q address=%q\n", &network, &l.Number, &l.Dev, &l.Ino, &l.Asked, &l.Address)
	for n := NetNone + 1; n < numNetworks; n++ {
		if n.String() == network {
			l.Network = n
		}
	}
	if err != nil || l.Network == NetNone || l.line() != s {
		*l = ListenerRecord{}
		return ErrShape
	}
	return nil
}

func (g *SegmentRecord) line() string {
	return fmt.Sprintf("segment %v index=%d size=%d dev=%d ino=%d\n", g.Kind, g.Index, g.Size, g.Dev, g.Ino)
}

func (g *SegmentRecord) parseLine(s string) error {
	*g = SegmentRecord{}
	var kind string
	_, err := fmt.Sscanf(s, "segment %s index=%d size=%d dev=%d ino=%d\n", &kind, &g.Index, &g.Size, &g.Dev, &g.Ino)
	for k := SegNone + 1; k < numSegmentKinds; k++ {
		if k.String() == kind {
			g.Kind = k
		}
	}
	if err != nil || g.Kind == SegNone || g.Index < 0 || g.Index > maxIndex || g.Size <= 0 || g.line() != s {
		*g = SegmentRecord{}
		return ErrShape
	}
	return nil
}

func (g *Registry) line() string {
	return fmt.Sprintf("broker id=%q settings=%x certificate=%d chain=%x numbered=%d\n", g.ServerID, g.Settings, g.Certificate, g.Chain, g.Numbered)
}

func (g *Registry) parseLine(s string) error {
	var settings, chain string
	_, err := fmt.Sscanf(s, "broker id=%q settings=%s certificate=%d chain=%s numbered=%d\n", &g.ServerID, &settings, &g.Certificate, &chain, &g.Numbered)
	if g.Numbered < 0 || g.Numbered > math.MaxUint16 {
		return ErrShape
	}
	if err != nil || unhex(&g.Settings, settings) != nil || unhex(&g.Chain, chain) != nil || g.line() != s {
		return ErrShape
	}
	return nil
}

// format gives the whole file.
func (g *Registry) format() []byte {
	b := []byte(registryHeader + g.line())
	for i := range g.Listeners {
		b = append(b, g.Listeners[i].line()...)
	}
	for i := range g.Segments {
		b = append(b, g.Segments[i].line()...)
	}
	for i := range g.Components {
		b = append(b, g.Components[i].line()...)
	}
	return b
}

// parse is the inverse of format: of each process there is one line, of places
// without one there may be several alike, and the lines are in order.
func (g *Registry) parse(b []byte) error {
	*g = Registry{}
	n, err := g.parseLines(b)
	if err == nil && !bytes.Equal(g.format(), b) {
		n, err = 1, ErrShape
	}
	if err != nil {
		*g = Registry{}
		return fmt.Errorf("line %d: %w", n, err)
	}
	return nil
}

func (g *Registry) parseLines(b []byte) (n int, err error) {
	body, ok := bytes.CutPrefix(b, []byte(registryHeader))
	if !ok {
		return 1, ErrShape
	}
	seen := map[int]bool{}
	n = 1
	for line := range strings.Lines(string(body)) {
		n++
		kind, _, _ := strings.Cut(line, " ")
		switch {
		case n == 2:
			err = g.parseLine(line)
		case kind == "listener":
			var l ListenerRecord
			err = l.parseLine(line)
			g.Listeners = append(g.Listeners, l)
		case kind == "segment":
			var s SegmentRecord
			err = s.parseLine(line)
			g.Segments = append(g.Segments, s)
		default:
			var r Record
			err = r.parseLine(line)
			if err == nil && r.PID != 0 && seen[r.PID] {
				err = ErrShape
			}
			seen[r.PID] = true
			g.Components = append(g.Components, r)
		}
		if err != nil {
			return n, err
		}
	}
	if n == 1 {
		return n, ErrShape
	}
	return n, nil
}

// WriteRegistry replaces the file at path, mode 0600, in one step: a reader
// finds the old records or the new ones, whole.
func WriteRegistry(path string, g *Registry) error {
	next := path + ".new"
	if err := os.Remove(next); err != nil && !os.IsNotExist(err) {
		return err
	}
	f, err := os.OpenFile(next, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(g.format())
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		err = os.Rename(next, path)
	}
	if err != nil {
		_ = os.Remove(next)
	}
	return err
}

// ReadRegistry reads what WriteRegistry wrote. A file that others may read or
// write, or that does not parse to its last byte, is an error.
func ReadRegistry(path string) (*Registry, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !st.Mode().IsRegular() || st.Mode().Perm()&0o077 != 0 || st.Size() > maxRegistry {
		return nil, fmt.Errorf("registry %s: mode %v, %d bytes: not ours", path, st.Mode(), st.Size())
	}
	b := make([]byte, st.Size())
	if _, err := f.ReadAt(b, 0); err != nil {
		return nil, fmt.Errorf("registry %s: %w", path, err)
	}
	g := new(Registry)
	if err := g.parse(b); err != nil {
		return nil, fmt.Errorf("registry %s: %w", path, err)
	}
	return g, nil
}
