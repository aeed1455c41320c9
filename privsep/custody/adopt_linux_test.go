package custody

import (
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// A child adopts the key that it gets over its channel, fd 3, and signs.
const adoptEnv = "CUSTODY_ADOPT" // size of the DER

func adoptChild(arg string) error {
	size, err := strconv.Atoi(arg)
	if err != nil {
		return err
	}
	control := make([]byte, unix.CmsgSpace(4))
	if _, n, _, _, err := unix.Recvmsg(3, make([]byte, 1), control, unix.MSG_CMSG_CLOEXEC); err != nil || n == 0 {
		return fmt.Errorf("no fd: %v", err)
	}
	messages, err := unix.ParseSocketControlMessage(control)
	if err != nil {
		return err
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil {
		return err
	}
	k, err := Adopt(fds[0], size)
	if err != nil {
		return err
	}
	signature, err := k.Sign(k.Schemes()[0], input(48))
	if err != nil {
		return err
	}
	os.Stdout.Write(signature)
	return k.Close()
}

// Another process, as root one of another user's, adopts over SCM_RIGHTS, and
// its signatures verify.
func TestAdoptElsewhere(t *testing.T) {
	for i, kind := range kinds {
		t.Run(kind.name, func(t *testing.T) {
			k := opened(t, i)
			signature := adoptedSign(t, k)
			if !verify(k.Public(), k.Schemes()[0], input(48), signature) {
				t.Errorf("signature does not verify: %q", signature)
			}
		})
	}
}

func adoptedSign(t *testing.T, k *Key) []byte {
	t.Helper()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	ours, theirs := os.NewFile(uintptr(pair[0]), "ours"), os.NewFile(uintptr(pair[1]), "theirs")
	defer ours.Close()
	defer theirs.Close()
	fd, size, err := k.Release()
	if err != nil {
		t.Fatal(err)
	}
	err = unix.Sendmsg(pair[0], []byte{0}, unix.UnixRights(fd), nil, 0)
	unix.Close(fd)
	if err != nil {
		t.Fatal(err)
	}
	// By its open file: another user may not enter where the test binary lies.
	exe, err := os.Open("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	defer exe.Close()
	cmd := exec.Command("/proc/self/fd/4")
	cmd.Dir = "/"
	cmd.ExtraFiles = []*os.File{theirs, exe}
	cmd.Env = []string{adoptEnv + "=" + strconv.Itoa(size)}
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if os.Getuid() == 0 {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: keyUser, Gid: keyUser}
	}
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return out
}
