package process

import (
	"fmt"
	"os"
	"path/filepath"

	"gatehouse/testdata/tree"
)

// processes are the broker's children by role, and its parent. A child that has
// not got so far as to have its own title is not among them.
func (b *broker) processes() map[string]int {
	found := map[string]int{}
	if tree.Title(b.pid) == "parent" {
		found["parent"] = b.pid
	}
	for _, pid := range tree.ChildrenOf(b.pid) {
		b.seen[pid] = true
		if role := tree.Title(pid); role != "" && role != "parent" {
			found[role] = pid
		}
	}
	return found
}

// homeOf is the role that holds the broker's end of a TCP connection.
func (b *broker) homeOf(c *client) string {
	b.t.Helper()
	inode := ""
	for _, f := range tree.Table("/proc/net/tcp") {
		if len(f) > 9 && f[1] == hexAddr(c.conn.RemoteAddr()) && f[2] == hexAddr(c.conn.LocalAddr()) {
			inode = "socket:[" + f[9] + "]"
		}
	}
	for role, pid := range b.processes() {
		fds, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
		for _, fd := range fds {
			if to, _ := os.Readlink(fd); to == inode {
				return role
			}
		}
	}
	b.t.Fatalf("nobody holds the connection from %v", c.conn.LocalAddr())
	return ""
}

// status is what the broker says of itself.
func (b *broker) status() *tree.Status {
	b.t.Helper()
	s, err := tree.AskStatus(gatehouse, b.run)
	must(b.t, err)
	return s
}
