package custody

import (
	"errors"
	"fmt"
	"os"
	"os/user"
	"reflect"
	"runtime"
	"strconv"

	"golang.org/x/sys/unix"

	"gatehouse/privsep"
)

// ErrIdentity means that the identity could not be turned back or that this
// could not be proved: the process must end.
var ErrIdentity = errors.New("custody: the identity of this process is not its own again")

// identity is who we are to the file system.
type identity struct {
	uid, gid int
	groups   []int
}

// lookup finds a user by name or number. A number needs no entry: it is then
// its own group, without others.
func lookup(name string) (*identity, error) {
	u, err := user.Lookup(name)
	if err != nil {
		n, bad := strconv.ParseUint(name, 10, 31)
		if bad != nil {
			return nil, fmt.Errorf("unlock user %q: no such user", name)
		}
		if u, err = user.LookupId(name); err != nil {
			return &identity{uid: int(n), gid: int(n)}, nil
		}
	}
	ids, err := u.GroupIds()
	if err != nil {
		return nil, fmt.Errorf("unlock user %q: %w", name, err)
	}
	id := new(identity)
	for _, v := range append([]string{u.Uid, u.Gid}, ids...) {
		n, err := strconv.ParseUint(v, 10, 31)
		if err != nil {
			return nil, fmt.Errorf("unlock user %q: id %q", name, v)
		}
		id.groups = append(id.groups, int(n))
	}
	id.uid, id.gid, id.groups = id.groups[0], id.groups[1], id.groups[2:]
	return id, nil
}

// as runs f as that user to the file system, on a thread of its own, and
// proves that every thread is back afterwards (ErrIdentity). f must start no
// goroutine and not allocate much.
//
// It is the identity for files (setfsuid(2)) of one thread, not the effective
// one of all: that would take CAP_IPC_LOCK from a process under mlockall, whose
// next page of heap the kernel then refuses, which ends it; and meanwhile no
// role could be started or stopped. The kernel takes the capabilities that
// override file permissions with the former, too.
func (id *identity) as(f func() error) error {
	before, err := privsep.ReadPosture(os.Getpid())
	if err != nil {
		return err
	}
	if !before.Uniform {
		return fmt.Errorf("the threads of this process differ: %+v", before)
	}
	result := make(chan error)
	go func() {
		runtime.LockOSThread()
		err, back := id.wear(f)
		if back == nil {
			back = proveBack(&before)
		}
		if back != nil { // the thread, still locked, ends with the goroutine
			result <- fmt.Errorf("%w: %w", ErrIdentity, back)
			return
		}
		runtime.UnlockOSThread()
		result <- err
	}()
	return <-result
}

// wear is one thread becoming the user, f, and becoming itself again; err is
// f's or why it was not run.
func (id *identity) wear(f func() error) (err, back error) {
	groups, err := unix.Getgroups() // x/sys: of this thread alone
	if err != nil {
		return err, nil
	}
	own := identity{uid: os.Geteuid(), gid: os.Getegid(), groups: groups}
	dumpable, err := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0)
	if err != nil {
		return err, nil
	}
	if err = id.put(); err == nil {
		err = f()
	}
	if back = own.put(); back != nil {
		return err, back
	}
	// The kernel has set it to fs.suid_dumpable, which may be more.
	return err, unix.Prctl(unix.PR_SET_DUMPABLE, uintptr(dumpable&1), 0, 0, 0)
}

// put makes the calling thread id to the file system. uid comes first on the
// way back and last on the way there, but the capabilities for all three stay.
func (id *identity) put() error {
	if err := unix.Setgroups(id.groups); err != nil {
		return fmt.Errorf("setgroups: %w", err)
	}
	if err := unix.Setfsgid(id.gid); err != nil {
		return fmt.Errorf("setfsgid: %w", err)
	}
	if err := unix.Setfsuid(id.uid); err != nil {
		return fmt.Errorf("setfsuid: %w", err)
	}
	// Neither call reports failure; asking for no id tells the present one.
	gid, _ := unix.SetfsgidRetGid(-1)
	uid, _ := unix.SetfsuidRetUid(-1)
	if uid != id.uid || gid != id.gid {
		return fmt.Errorf("file system identity is %d:%d, not %d:%d", uid, gid, id.uid, id.gid)
	}
	return nil
}

// proveBack holds every thread against what they were.
func proveBack(before *privsep.Posture) error {
	after, err := privsep.ReadPosture(os.Getpid())
	if err != nil {
		return err
	}
	after.Threads = before.Threads // threads come and go
	if !reflect.DeepEqual(&after, before) {
		return fmt.Errorf("posture %+v, it was %+v", after, *before)
	}
	return nil
}
