package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// tick is the unit of utime and stime in /proc/PID/stat: USER_HZ is 100 on
// every Linux that Go runs on.
const tick = 10 * time.Millisecond

type process struct {
	pid, ppid int
	start     uint64        // clock ticks since boot: tells a reused pid
	cpu       time.Duration // user and system, exited threads included, in ticks
	dead      bool          // a zombie: ended, not yet reaped
}

// readProcess decodes /proc/PID/stat; the name field may hold anything, so
// fields are counted from the last parenthesis.
func readProcess(pid int) (process, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return process{}, err
	}
	s := string(b)
	f := strings.Fields(s[strings.LastIndexByte(s, ')')+1:])
	if len(f) < 20 {
		return process{}, fmt.Errorf("/proc/%d/stat: %d fields", pid, len(f))
	}
	n := func(i int) uint64 { v, _ := strconv.ParseUint(f[i], 10, 64); return v }
	return process{
		pid: pid, ppid: int(n(1)), start: n(19),
		cpu: time.Duration(n(11)+n(12)) * tick, dead: f[0] == "Z" || f[0] == "X",
	}, nil
}

// tree returns the process root and all its descendants.
func tree(root int) []process {
	names, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	children := map[int][]process{}
	var found []process
	for _, e := range names {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		p, err := readProcess(pid)
		if err != nil {
			continue
		}
		children[p.ppid] = append(children[p.ppid], p)
		if pid == root {
			found = append(found, p)
		}
	}
	for i := 0; i < len(found); i++ {
		found = append(found, children[found[i].pid]...)
	}
	return found
}

// usage is the CPU use of a process tree at one moment.
type usage struct {
	total   map[int]time.Duration         // per process, by ticks
	threads map[int]map[int]time.Duration // per process and thread, exact
}

func cpuUsage(root int) usage {
	u := usage{map[int]time.Duration{}, map[int]map[int]time.Duration{}}
	for _, p := range tree(root) {
		u.total[p.pid] = p.cpu
		u.threads[p.pid] = threadTimes(p.pid)
	}
	return u
}

// threadTimes reads the scheduler's nanoseconds of every living thread.
func threadTimes(pid int) map[int]time.Duration {
	t := map[int]time.Duration{}
	dir := fmt.Sprintf("/proc/%d/task", pid)
	names, _ := os.ReadDir(dir)
	for _, e := range names {
		tid, _ := strconv.Atoi(e.Name())
		b, err := os.ReadFile(dir + "/" + e.Name() + "/schedstat")
		if f := strings.Fields(string(b)); err == nil && len(f) > 0 {
			ns, _ := strconv.ParseInt(f[0], 10, 64)
			t[tid] = time.Duration(ns)
		}
	}
	return t
}

// since is the CPU time used between v and u: exact where every thread of v
// still lives, by ticks (which count exited threads) where one has gone, or many have
// come and gone in between.
func (u usage) since(v usage) time.Duration {
	var sum time.Duration
	for pid, total := range u.total {
		var exact time.Duration
		gone := len(u.threads[pid]) == 0
		for tid, t := range u.threads[pid] {
			exact += t - v.threads[pid][tid]
		}
		for tid := range v.threads[pid] {
			if _, ok := u.threads[pid][tid]; !ok {
				gone = true
			}
		}
		if all := total - v.total[pid]; gone || all > exact+2*tick { // some have come and gone meanwhile
			sum += all
		} else {
			sum += exact
		}
	}
	return sum
}

// pss is the proportional set size of a process tree in bytes: what it would
// give back, memory shared among its processes counted once.
func pss(root int) (uint64, error) {
	var sum uint64
	for _, p := range tree(root) {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", p.pid))
		if err != nil {
			return 0, fmt.Errorf("memory of another user's process needs root: %w", err)
		}
		_, rest, ok := strings.Cut(string(b), "\nPss:")
		f := strings.Fields(rest)
		if !ok || len(f) == 0 {
			return 0, fmt.Errorf("/proc/%d/smaps_rollup: no Pss", p.pid)
		}
		kb, err := strconv.ParseUint(f[0], 10, 64)
		if err != nil {
			return 0, fmt.Errorf("/proc/%d/smaps_rollup: %w", p.pid, err)
		}
		sum += kb << 10
	}
	return sum, nil
}
