package privsep

import (
	"bytes"
	"testing"

	"golang.org/x/sys/unix"
)

func TestParcel(t *testing.T) {
	want := bytes.Repeat([]byte("0123456789"), 10000)
	fd, err := Parcel("test", want)
	if err != nil {
		t.Fatal(err)
	}
	defer closeFD(fd)
	if got, err := ReadParcel(fd, len(want)); err != nil || !bytes.Equal(got, want) {
		t.Fatalf("%d bytes, %v", len(got), err)
	}
	if _, err := ReadParcel(fd, len(want)+1); err == nil {
		t.Fatal("read more than there is")
	}
	if _, err := unix.Pwrite(fd, []byte("x"), 0); err != unix.EPERM {
		t.Fatalf("write into a parcel: %v", err)
	}
	if err := unix.Ftruncate(fd, 1); err != unix.EPERM {
		t.Fatalf("truncate a parcel: %v", err)
	}
}

func TestUptimeRises(t *testing.T) {
	a := Uptime()
	if b := Uptime(); a == 0 || b < a {
		t.Fatalf("%d, then %d", a, b)
	}
}
