package privsep

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"syscall"
)

// Posture is what the kernel says that a process may do, over all its threads.
type Posture struct {
	Threads    int
	UID, GID   uint32
	Groups     []uint32
	CapInh     uint64
	CapPrm     uint64
	CapEff     uint64
	CapBnd     uint64
	CapAmb     uint64
	NoNewPrivs bool
	Seccomp    int  // 0 none, 2 filter
	Uniform    bool // every thread says the same, and its four uids, four gids are one
}

// NoCaps reports whether all five capability sets are empty.
func (p *Posture) NoCaps() bool {
	return p.CapInh|p.CapPrm|p.CapEff|p.CapBnd|p.CapAmb == 0
}

// dropped holds p against what Drop promises.
func (p *Posture) dropped(uid, gid uint32) error {
	if p.Uniform && p.UID == uid && p.GID == gid && len(p.Groups) == 0 && p.NoCaps() && p.NoNewPrivs {
		return nil
	}
	return fmt.Errorf("%w: %+v", errUnproved, *p)
}

// ReadPosture reads /proc/PID/task/*/status of process pid.
func ReadPosture(pid int) (Posture, error) {
	dir := "/proc/" + strconv.Itoa(pid) + "/task"
	p, err := readTasks(os.DirFS(dir))
	if err != nil {
		return Posture{}, fmt.Errorf("posture of %s: %w", dir, err)
	}
	return p, nil
}

// readTasks reads TID/status for every thread of a /proc/PID/task. A thread
// that ends meanwhile does not count.
func readTasks(task fs.FS) (Posture, error) {
	tids, err := fs.ReadDir(task, ".")
	if err != nil {
		return Posture{}, err
	}
	var all Posture
	for _, tid := range tids {
		b, err := fs.ReadFile(task, tid.Name()+"/status")
		if goneThread(err) {
			continue
		}
		if err != nil {
			return Posture{}, err
		}
		one, err := parseStatus(b)
		if err != nil {
			return Posture{}, fmt.Errorf("task %s: %w", tid.Name(), err)
		}
		all.join(&one)
	}
	if all.Threads == 0 {
		return Posture{}, fs.ErrNotExist
	}
	return all, nil
}

// goneThread reports that a thread ended between listing and reading.
func goneThread(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ESRCH)
}

// join adds one thread's posture; what is reported of several is the first's.
func (p *Posture) join(one *Posture) {
	if p.Threads == 0 {
		*p = *one
		return
	}
	same := p.UID == one.UID && p.GID == one.GID && slices.Equal(p.Groups, one.Groups) &&
		p.CapInh == one.CapInh && p.CapPrm == one.CapPrm && p.CapEff == one.CapEff &&
		p.CapBnd == one.CapBnd && p.CapAmb == one.CapAmb &&
		p.NoNewPrivs == one.NoNewPrivs && p.Seccomp == one.Seccomp
	p.Uniform = p.Uniform && one.Uniform && same
	p.Threads++
}

var (
	errStatus   = errors.New("privsep: status not understood")
	errUnproved = errors.New("privsep: privileges are left")
)

// parseStatus reads one thread's status. Every line that Posture rests on must
// be there: a kernel that does not say is not believed.
func parseStatus(b []byte) (Posture, error) {
	p := Posture{Threads: 1, Uniform: true}
	found := 0
	for line := range bytes.Lines(b) {
		key, rest, _ := bytes.Cut(line, []byte(":"))
		set, ok := statusLines[string(key)]
		if !ok {
			continue
		}
		if !set(&p, bytes.Fields(rest)) {
			return Posture{}, fmt.Errorf("%w: %q", errStatus, line)
		}
		found++
	}
	if found != len(statusLines) {
		return Posture{}, errStatus
	}
	return p, nil
}

// statusLines are the lines of /proc/PID/status that matter, and who reads them.
var statusLines = map[string]func(*Posture, [][]byte) bool{
	"Uid":        func(p *Posture, f [][]byte) bool { return p.ids(f, &p.UID) },
	"Gid":        func(p *Posture, f [][]byte) bool { return p.ids(f, &p.GID) },
	"Groups":     (*Posture).groups,
	"CapInh":     func(p *Posture, f [][]byte) bool { return word(f, 16, &p.CapInh) },
	"CapPrm":     func(p *Posture, f [][]byte) bool { return word(f, 16, &p.CapPrm) },
	"CapEff":     func(p *Posture, f [][]byte) bool { return word(f, 16, &p.CapEff) },
	"CapBnd":     func(p *Posture, f [][]byte) bool { return word(f, 16, &p.CapBnd) },
	"CapAmb":     func(p *Posture, f [][]byte) bool { return word(f, 16, &p.CapAmb) },
	"NoNewPrivs": func(p *Posture, f [][]byte) bool { return flagWord(f, &p.NoNewPrivs) },
	"Seccomp": func(p *Posture, f [][]byte) bool {
		var n uint64
		ok := word(f, 10, &n) && n <= 3
		p.Seccomp = int(min(n, 2)) // 3: a filter that is ending it
		return ok
	},
}

// ids reads real, effective, saved and filesystem id, which ought to be one.
func (p *Posture) ids(fields [][]byte, id *uint32) bool {
	if len(fields) != 4 {
		return false
	}
	for i, f := range fields {
		n, err := strconv.ParseUint(string(f), 10, 32)
		if err != nil {
			return false
		}
		p.Uniform = p.Uniform && (i == 0 || *id == uint32(n))
		*id = uint32(n)
	}
	return true
}

func (p *Posture) groups(fields [][]byte) bool {
	p.Groups = nil
	for _, f := range fields {
		n, err := strconv.ParseUint(string(f), 10, 32)
		if err != nil {
			return false
		}
		p.Groups = append(p.Groups, uint32(n))
	}
	return true
}

func word(fields [][]byte, base int, v *uint64) bool {
	if len(fields) != 1 {
		return false
	}
	n, err := strconv.ParseUint(string(fields[0]), base, 64)
	*v = n
	return err == nil
}

func flagWord(fields [][]byte, v *bool) bool {
	var n uint64
	ok := word(fields, 10, &n) && n <= 1
	*v = n == 1
	return ok
}
