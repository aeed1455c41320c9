package parent

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"gatehouse/privsep"
)

// runDir is the runtime directory: one broker at a time, by a lock.
//
//	lock      held by the parent, contains its pid, and whether the directory is to
//	          be removed at the end
//	registry  the instantiation records, 0600
//	control   the operator's socket, 0600
//	empty     the root of the roles, nothing in it
//	adopt     sockets at which roles without a parent are found, 0700
type runDir struct {
	path string
	lock *os.File
	made bool // by this broker: then also removed by it
}

// openRunDir makes the directory if need be and locks it, unless the lock was
// handed over.
func openRunDir(path string, lock *os.File) (*runDir, error) {
	d := &runDir{path: path}
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		if err := os.MkdirAll(path, 0o755); err != nil {
			return nil, fmt.Errorf("runtime directory: %w", err)
		}
		d.made = true
	}
	if err := checkOwner(path); err != nil {
		return nil, err
	}
	if err := d.takeLock(lock); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(d.file("empty"), 0o555); err != nil {
		return nil, fmt.Errorf("runtime directory: %w", err)
	}
	if err := os.MkdirAll(d.file(doors), 0o700); err != nil {
		return nil, fmt.Errorf("runtime directory: %w", err)
	}
	return d, nil
}

// takeLock makes this process the one broker here. A lock that was handed over is
// held already, in the name of this pid.
func (d *runDir) takeLock(handed *os.File) error {
	f, err := os.OpenFile(d.file("lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("runtime directory: %w", err)
	}
	if handed != nil {
		defer f.Close()
		d.lock = handed
		here, err1 := f.Stat()
		held, err2 := handed.Stat()
		if err1 != nil || err2 != nil || !os.SameFile(here, held) {
			return fmt.Errorf("runtime directory %s: not that of the broker", d.path)
		}
		return nil
	}
	b := make([]byte, 32)
	n, _ := f.ReadAt(b, 0)
	pid, note, _ := strings.Cut(strings.TrimSpace(string(b[:n])), " ")
	if err := privsep.Lock(f); err != nil {
		f.Close()
		return fmt.Errorf("runtime directory %s: another broker runs there (pid %s)", d.path, pid)
	}
	d.lock = f
	d.made = d.made || note == madeNote // by a parent that was killed
	text := strconv.Itoa(os.Getpid())
	if d.made {
		text += " " + madeNote
	}
	if err := f.Truncate(0); err == nil {
		_, err = f.WriteAt([]byte(text+"\n"), 0)
		if err != nil {
			return fmt.Errorf("runtime directory: %w", err)
		}
	}
	return nil
}

// madeNote follows the pid in the lock of a directory that the broker made.
const madeNote = "made"

const doors = "adopt"

func (d *runDir) file(name string) string { return filepath.Join(d.path, name) }

// checkOwner refuses a directory in which others could replace our files.
func checkOwner(path string) error {
	st, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("runtime directory: %w", err)
	}
	if !st.IsDir() {
		return fmt.Errorf("runtime directory %s: not a directory", path)
	}
	uid := privsep.OwnerUID(st)
	if uid != os.Geteuid() && uid != 0 {
		return fmt.Errorf("runtime directory %s: belongs to uid %d, not to this process", path, uid)
	}
	if st.Mode().Perm()&0o022 != 0 {
		return fmt.Errorf("runtime directory %s: mode %#o lets others write", path, st.Mode().Perm())
	}
	return nil
}

// close removes what this broker made.
func (d *runDir) close() {
	left, _ := filepath.Glob(d.file(doors + "/*"))
	for _, path := range left {
		privsep.RemoveSocket(path)
	}
	for _, name := range []string{"registry", "control", "empty", doors, "lock"} {
		os.Remove(d.file(name))
	}
	if d.made {
		os.Remove(d.path) // only if nothing else is in it
	}
	d.lock.Close()
}

// door is where a component's process is found when it has no parent.
func (d *runDir) door(id privsep.ID, generation uint64) string {
	return filepath.Join(d.path, doors, fmt.Sprintf("%s.%d", strings.ReplaceAll(id.String(), "/", "-"), generation))
}

// longestDoor is a name that none is longer than.
const longestDoor = doors + "/dispatcher.1000000"

// listed tells which of the two places of a component stands in the registry: that
// with the process that is the component now. Those of a cm have their own names.
func (p *parent) listed(c *child) bool {
	o := p.other(c)
	if o == nil || o.id != c.id {
		return true
	}
	serves := func(c *child) bool {
		return c.alive() && !c.standsBy() && !(c.id.Role == privsep.RoleTLSD && c.leaves())
	}
	mine, theirs := serves(c), serves(o)
	return mine || !theirs && !c.second
}

// writeRegistry shows the records of all components. It must be true whenever
// this process may die: a new one is written before it gets anything to do.
func (p *parent) writeRegistry() {
	if !p.settled {
		return // that of the parent before is still good
	}
	g := &privsep.Registry{ServerID: p.settings.ServerID, Settings: p.settingsDigest(), Numbered: len(p.networks)}
	if c := p.credential(); c != nil {
		g.Certificate, g.Chain = c.number, c.digest()
	}
	for _, l := range p.listeners {
		g.Listeners = append(g.Listeners, privsep.ListenerRecord{Number: l.number, Network: l.network, FileID: l.id,
			Asked: l.asked, Address: l.address})
	}
	for _, s := range p.segments {
		g.Segments = append(g.Segments, privsep.SegmentRecord{Kind: s.kind, Index: s.index, Size: s.size, FileID: s.id})
	}
	for _, c := range p.children {
		if !p.listed(c) {
			continue
		}
		r := privsep.Record{ID: c.id}
		if c.proc != nil && c.alive() && !c.standsBy() {
			r = c.proc.Record
		}
		r.Generation, r.Restarts = c.generation, c.restarts
		if o := p.other(c); o != nil && o.id == c.id && !c.alive() {
			r.Generation = max(r.Generation, o.generation)
		}
		g.Components = append(g.Components, r)
	}
	if err := privsep.WriteRegistry(p.dir.file("registry"), g); err != nil {
		p.log.Error().Err(err).Msg("registry")
	}
}
