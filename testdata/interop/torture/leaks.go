package main

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"time"

	"gatehouse/testdata/tree"
)

// inventory is what the broker has when no client is connected.
type inventory struct {
	perKind  map[string]map[string]int // by kind of role: the most that one of them has of each
	procs    int
	segments int // pieces of shared memory, by inode
}

// takeInventory looks at every process of the broker.
func (b *broker) takeInventory() (*inventory, error) {
	inv := &inventory{perKind: map[string]map[string]int{}}
	kinds, inodes := tree.Sockets(), map[uint64]bool{}
	for pid, role := range b.pids() {
		if role == "" {
			continue // a command, which is about to end
		}
		inv.procs++
		fds, err := tree.Descriptors(pid, kinds)
		if err != nil {
			return nil, err
		}
		maps.DeleteFunc(fds, func(kind string, _ int) bool { return kind == "" })
		mapped, err := tree.Mappings(pid)
		if err != nil {
			return nil, err
		}
		kind, _, _ := strings.Cut(role, "/")
		inv.most(kind, "descriptors of ", anonymous(fds))
		inv.most(kind, "mappings of ", anonymous(mapped))
		segmentsOf(pid, inodes)
	}
	inv.segments = len(inodes)
	return inv, nil
}

func (inv *inventory) most(kind, of string, counts map[string]int) {
	all := inv.perKind[kind]
	if all == nil {
		all = map[string]int{}
		inv.perKind[kind] = all
	}
	for name, n := range counts {
		all[of+name] = max(all[of+name], n)
	}
}

// baseline is the inventory when the last connection has been closed on the
// broker's side too: then two in a row are the same.
func (b *broker) baseline(patience time.Duration) (before *inventory, err error) {
	err = until(patience, func() error {
		last := before
		if before, err = b.takeInventory(); err != nil {
			return err
		}
		if last == nil {
			return errors.New("not yet looked at")
		}
		if found := b.compare(last); len(found) > 0 || !reflect.DeepEqual(before, last) {
			return fmt.Errorf("the broker does not come to rest: %q", found)
		}
		return nil
	})
	return before, err
}

// anonymous forgets which cm something belongs to: the successor of one may be
// in another place.
func anonymous(of map[string]int) map[string]int {
	all := map[string]int{}
	for name, n := range of {
		name = strings.TrimSuffix(strings.Map(func(r rune) rune {
			if r >= '0' && r <= '9' {
				return -1
			}
			return r
		}, name), " (deleted)")
		all[name] += n
	}
	return all
}

// segmentsOf adds the inodes of a process's shared memory.
func segmentsOf(pid int, inodes map[uint64]bool) {
	for _, fd := range glob(fmt.Sprintf("/proc/%d/fd/*", pid)) {
		to, _ := os.Readlink(fd)
		if !strings.HasPrefix(to, "/memfd:gatehouse-") {
			continue
		}
		if st, err := os.Stat(fd); err == nil {
			inodes[st.Sys().(*syscall.Stat_t).Ino] = true
		}
	}
}

func glob(pattern string) []string {
	all, _ := filepath.Glob(pattern)
	return all
}

// leaks waits until the broker without clients is what it was before, and says
// what is not.
func (b *broker) leaks(before *inventory, patience time.Duration) (found []string) {
	_ = until(patience, func() error {
		found = b.compare(before)
		if len(found) > 0 {
			return fmt.Errorf("%d leaks", len(found))
		}
		return nil
	})
	return found
}

func (b *broker) compare(before *inventory) (found []string) {
	say := func(format string, args ...any) { found = append(found, fmt.Sprintf(format, args...)) }
	now, err := b.takeInventory()
	if err != nil {
		return []string{err.Error()}
	}
	if now.procs != before.procs {
		say("%d processes, at first %d: %v", now.procs, before.procs, b.pids())
	}
	if now.segments != before.segments {
		say("%d segments, at first %d", now.segments, before.segments)
	}
	// Less is no leak: a process that is new has not needed everything yet.
	for _, kind := range slices.Sorted(maps.Keys(now.perKind)) {
		for _, name := range slices.Sorted(maps.Keys(now.perKind[kind])) {
			if n, was := now.perKind[kind][name], before.perKind[kind][name]; n > was {
				say("%s has %d %s, at first %d", kind, n, name, was)
			}
		}
	}
	st, err := b.status()
	if err != nil {
		return append(found, err.Error())
	}
	uids := map[int]string{}
	for _, p := range st.Processes {
		if p.Connections != 0 {
			say("%s counts %d connections, there is none", p.Role, p.Connections)
		}
		if p.PID == 0 {
			continue // a place without a process
		}
		if uids[p.UID] != "" {
			say("%s and %s have the same uid %d", p.Role, uids[p.UID], p.UID)
		}
		uids[p.UID] = p.Role
	}
	for i, a := range st.Arenas {
		if a.Used != 0 || a.Bodies != 0 {
			say("arena %d keeps %d bodies, %d bytes", i, a.Bodies, a.Used)
		}
	}
	return found
}

// remains is what a broker that has ended has left behind.
func (b *broker) remains(patience time.Duration) (found []string) {
	_ = until(patience, func() error {
		found = nil
		for pid, role := range b.pids() {
			found = append(found, fmt.Sprintf("process %d, %q", pid, role))
		}
		for _, path := range []string{b.run, b.listeners["unix"].Addr} {
			if _, err := os.Lstat(path); err == nil {
				found = append(found, path)
			}
		}
		if len(found) > 0 {
			return fmt.Errorf("%d things left", len(found))
		}
		return nil
	})
	return found
}
