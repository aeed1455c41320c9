package tree

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

const titlePrefix = "gatehouse: "

// Title is the role that ps shows a process as, "" for any other process.
func Title(pid int) string {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	first, _, _ := strings.Cut(string(b), "\x00")
	role, ok := strings.CutPrefix(first, titlePrefix)
	if !ok {
		return ""
	}
	return role
}

// ChildrenOf reads every thread's list: children belong to the thread that
// started them.
func ChildrenOf(pid int) (pids []int) {
	files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	for _, f := range files {
		b, _ := os.ReadFile(f)
		for _, word := range strings.Fields(string(b)) {
			if n, err := strconv.Atoi(word); err == nil {
				pids = append(pids, n)
			}
		}
	}
	return pids
}

// Tasks are the status files of all threads of a process, as keys and values.
func Tasks(pid int) (all []map[string]string) {
	files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			continue // the thread has ended
		}
		one := map[string]string{}
		for line := range strings.Lines(string(b)) {
			key, value, _ := strings.Cut(line, ":")
			one[key] = strings.Join(strings.Fields(value), " ")
		}
		all = append(all, one)
	}
	return all
}

// Sockets tells what every socket of this network namespace is, by its inode.
func Sockets() map[string]string {
	kinds := map[string]string{}
	for _, f := range Table("/proc/net/unix") {
		if len(f) < 7 {
			continue
		}
		kind := map[string]string{"0001": "stream", "0005": "seqpacket"}[f[4]]
		if f[3] == "00010000" {
			kind += " listener"
		}
		kinds[f[6]] = "unix " + kind
	}
	for _, name := range []string{"tcp", "tcp6"} {
		for _, f := range Table("/proc/net/" + name) {
			if len(f) < 10 {
				continue
			}
			kind := "connection"
			if f[3] == "0A" {
				kind = "listener"
			}
			kinds[f[9]] = "tcp " + kind
		}
	}
	return kinds
}

// Table is a file of /proc/net in fields, without its heading.
func Table(path string) (rows [][]string) {
	b, _ := os.ReadFile(path)
	_, body, _ := strings.Cut(string(b), "\n")
	for line := range strings.Lines(body) {
		rows = append(rows, strings.Fields(line))
	}
	return rows
}

// Descriptors counts what a process has open, by kind.
func Descriptors(pid int, kinds map[string]string) (map[string]int, error) {
	dir := fmt.Sprintf("/proc/%d/fd", pid)
	fds, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	count := map[string]int{}
	for _, fd := range fds {
		to, err := os.Readlink(filepath.Join(dir, fd.Name()))
		if err != nil {
			return nil, err
		}
		if inode, ok := strings.CutPrefix(to, "socket:["); ok {
			if to = kinds[strings.TrimSuffix(inode, "]")]; to == "" {
				to = "socket of its own namespace"
			}
		}
		if strings.HasPrefix(to, "pipe:") {
			to = "pipe"
		}
		if strings.HasPrefix(to, "/proc/") && strings.HasSuffix(to, "/smaps_rollup") {
			to = "memory use of a child"
		}
		if strings.HasPrefix(to, "/memfd:gatehouse-") {
			to = "segment"
		}
		count[to]++
	}
	return count, nil
}

// Mappings counts a process's shared memory by segment and access.
func Mappings(pid int) (map[string]int, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		return nil, err
	}
	count := map[string]int{}
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		if len(f) < 2 || !strings.HasSuffix(f[1], "s") {
			continue
		}
		name := strings.TrimPrefix(f[len(f)-1-btoi(f[len(f)-1] == "(deleted)")], "/memfd:gatehouse-")
		count[name+" "+f[1]]++
	}
	return count, nil
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}
