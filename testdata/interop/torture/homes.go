package main

import (
	"encoding/binary"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"gatehouse/testdata/tree"
	"golang.org/x/sys/unix"
)

// heldBy are the connections of the load whose other end is with a process.
func (l *load) heldBy(pid int) ([]*link, error) {
	held, err := socketsOf(pid)
	if err != nil {
		return nil, err
	}
	tcp := map[string]string{} // address of the client's end: inode of the broker's
	for _, f := range tree.Table("/proc/net/tcp") {
		if len(f) > 9 {
			tcp[f[2]+" "+f[1]] = f[9]
		}
	}
	peers, err := unixPeers()
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	var all []*link
	for k := range l.links {
		inode := ""
		if a, ok := k.socket.LocalAddr().(*net.TCPAddr); ok {
			inode = tcp[hexAddr(a)+" "+hexAddr(k.socket.RemoteAddr().(*net.TCPAddr))]
		} else {
			inode = peers[inodeOf(k.socket)]
		}
		if held[inode] {
			all = append(all, k)
		}
	}
	return all, nil
}

// hexAddr is an IPv4 address and port as /proc/net/tcp has it.
func hexAddr(a *net.TCPAddr) string {
	return fmt.Sprintf("%08X:%04X", binary.LittleEndian.Uint32(a.IP.To4()), a.Port)
}

// socketsOf are the inodes of the sockets that a process has open.
func socketsOf(pid int) (map[string]bool, error) {
	dir := fmt.Sprintf("/proc/%d/fd", pid)
	fds, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	all := map[string]bool{}
	for _, fd := range fds {
		to, _ := os.Readlink(filepath.Join(dir, fd.Name()))
		if inode, ok := strings.CutPrefix(to, "socket:["); ok {
			all[strings.TrimSuffix(inode, "]")] = true
		}
	}
	return all, nil
}

// inodeOf is that of a socket of ours, "" when it is closed.
func inodeOf(c net.Conn) string {
	raw, err := c.(syscall.Conn).SyscallConn()
	if err != nil {
		return ""
	}
	var st unix.Stat_t
	if raw.Control(func(fd uintptr) { err = unix.Fstat(int(fd), &st) }) != nil || err != nil {
		return ""
	}
	return strconv.FormatUint(st.Ino, 10)
}

// unixPeers tells of each connected Unix socket which one is its other end, by
// their inodes. Only sock_diag(7) says so.
func unixPeers() (map[string]string, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_SOCK_DIAG)
	if err != nil {
		return nil, fmt.Errorf("sock_diag: %w", err)
	}
	defer unix.Close(fd)
	const (
		byFamily  = 20 // SOCK_DIAG_BY_FAMILY
		showPeer  = 4  // UDIAG_SHOW_PEER
		allStates = 0xffffffff
	)
	ask := make([]byte, 16+24) // nlmsghdr, unix_diag_req
	binary.NativeEndian.PutUint32(ask[0:], uint32(len(ask)))
	binary.NativeEndian.PutUint16(ask[4:], byFamily)
	binary.NativeEndian.PutUint16(ask[6:], unix.NLM_F_REQUEST|unix.NLM_F_DUMP)
	ask[16] = unix.AF_UNIX
	binary.NativeEndian.PutUint32(ask[20:], allStates)
	binary.NativeEndian.PutUint32(ask[28:], showPeer)
	if err := unix.Sendto(fd, ask, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return nil, fmt.Errorf("sock_diag: %w", err)
	}
	peers, buf := map[string]string{}, make([]byte, 64<<10)
	for {
		n, _, err := unix.Recvfrom(fd, buf, 0)
		if err != nil {
			return nil, fmt.Errorf("sock_diag: %w", err)
		}
		msgs, err := syscall.ParseNetlinkMessage(buf[:n])
		if err != nil {
			return nil, fmt.Errorf("sock_diag: %w", err)
		}
		for _, m := range msgs {
			switch m.Header.Type {
			case unix.NLMSG_DONE:
				return peers, nil
			case unix.NLMSG_ERROR:
				return nil, fmt.Errorf("sock_diag refuses: % x", m.Data)
			}
			notePeer(peers, m.Data)
		}
	}
}

// notePeer reads a unix_diag_msg: family, type, state, pad, inode u32, cookie
// u32 x 2, then attributes.
func notePeer(peers map[string]string, b []byte) {
	const attrPeer = 2 // UNIX_DIAG_PEER
	if len(b) < 16 {
		return
	}
	ino := strconv.FormatUint(uint64(binary.NativeEndian.Uint32(b[4:])), 10)
	for b = b[16:]; len(b) >= 4; {
		n, kind := int(binary.NativeEndian.Uint16(b)), binary.NativeEndian.Uint16(b[2:])
		if n < 4 || n > len(b) {
			return
		}
		if kind == attrPeer && n >= 8 {
			peers[ino] = strconv.FormatUint(uint64(binary.NativeEndian.Uint32(b[4:])), 10)
		}
		b = b[min(len(b), (n+3)&^3):]
	}
}
