package privsep

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"os"
	"strings"
)

// Record is the instantiation record of one component: what the parent knew
// when it started it, to be held against what the kernel says later.
type Record struct {
	ID
	PID       int
	StartTime uint64 // clock ticks since boot, /proc/PID/stat field 22
	UID       int    // that it drops to
	PidIno    uint64 // inode of its pidfd: unlike the pid, never used again
	Dev, Ino  uint64 // of the executable
	SHA256    [32]byte
}

const (
	registryHeader = "gatehouse registry 1\n"
	maxRegistry    = 1 << 20 // bytes
)

// line gives the record as the registry has it.
func (r *Record) line() string {
	return fmt.Sprintf("%v pid=%d start=%d uid=%d pidfd=%d dev=%d ino=%d sha256=%x\n",
		r.ID, r.PID, r.StartTime, r.UID, r.PidIno, r.Dev, r.Ino, r.SHA256)
}

// parseLine is the inverse of line and takes nothing else.
func (r *Record) parseLine(s string) error {
	*r = Record{}
	var id, sum string
	_, err := fmt.Sscanf(s, "%s pid=%d start=%d uid=%d pidfd=%d dev=%d ino=%d sha256=%s\n",
		&id, &r.PID, &r.StartTime, &r.UID, &r.PidIno, &r.Dev, &r.Ino, &sum)
	if err == nil {
		r.ID, err = ParseID(id)
	}
	digest, hexErr := hex.DecodeString(sum)
	copy(r.SHA256[:], digest)
	if err != nil || hexErr != nil || r.PID <= 0 || r.UID < 0 || r.line() != s {
		*r = Record{}
		return ErrShape
	}
	return nil
}

// formatRegistry gives the whole file.
func formatRegistry(rs []Record) []byte {
	b := []byte(registryHeader)
	for i := range rs {
		b = append(b, rs[i].line()...)
	}
	return b
}

// parseRegistry is the inverse of formatRegistry. A component occurs once.
func parseRegistry(b []byte) ([]Record, error) {
	body, ok := bytes.CutPrefix(b, []byte(registryHeader))
	if !ok {
		return nil, fmt.Errorf("line 1: %w", ErrShape)
	}
	var rs []Record
	seen := map[ID]bool{}
	n := 1
	for line := range strings.Lines(string(body)) {
		n++
		var r Record
		if err := r.parseLine(line); err != nil || seen[r.ID] {
			return nil, fmt.Errorf("line %d: %w", n, ErrShape)
		}
		seen[r.ID] = true
		rs = append(rs, r)
	}
	return rs, nil
}

// WriteRegistry replaces the file at path, mode 0600, in one step: a reader
// finds the old records or the new ones, whole.
func WriteRegistry(path string, rs []Record) error {
	next := path + ".new"
	if err := os.Remove(next); err != nil && !os.IsNotExist(err) {
		return err
	}
	f, err := os.OpenFile(next, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(formatRegistry(rs))
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
func ReadRegistry(path string) ([]Record, error) {
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
	rs, err := parseRegistry(b)
	if err != nil {
		return nil, fmt.Errorf("registry %s: %w", path, err)
	}
	return rs, nil
}
