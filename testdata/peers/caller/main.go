// Command caller is a short process with one request for a server that speaks TLS,
// which it leaves to others: it starts as fast as a Go program can.
//
//	caller tlsd SOCKET PORT    by tlsd, to that port of this host
//	caller tcp PORT            to whatever stands between
package main

import (
	"bytes"
	"os"
	"strconv"
	"syscall"
)

const request = "request\n"

// patience is how long anything may take, in seconds.
const patience = 10

func main() {
	a := os.Args
	switch {
	case len(a) == 4 && a[1] == "tlsd":
		to := open(syscall.AF_UNIX, &syscall.SockaddrUnix{Name: a[2]})
		say(to, "CONNECT 127.0.0.1:"+a[3]+" GATEHOUSE-TLS/1\nSession: short\nMode: framed\nFrame: line\n\n"+request)
		hear(to, "GATEHOUSE-TLS/1 200 ", "\r\n\r\n")
	case len(a) == 3 && a[1] == "tcp":
		port, err := strconv.Atoi(a[2])
		check("port", err)
		to := open(syscall.AF_INET, &syscall.SockaddrInet4{Port: port, Addr: [4]byte{127, 0, 0, 1}})
		say(to, request)
		hear(to, "", "")
	default:
		fail("arguments")
	}
}

func open(domain int, to syscall.Sockaddr) int {
	fd, err := syscall.Socket(domain, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	check("socket", err)
	check("timeout", syscall.SetsockoptTimeval(fd, syscall.SOL_SOCKET, syscall.SO_RCVTIMEO, &syscall.Timeval{Sec: patience}))
	check("connect", syscall.Connect(fd, to))
	return fd
}

func say(fd int, text string) {
	n, err := syscall.Write(fd, []byte(text))
	if check("write", err); n < len(text) {
		fail("write cut short")
	}
}

// hear reads a head that begins and ends so, and a line.
func hear(fd int, begin, end string) {
	var got []byte
	for b := make([]byte, 4096); ; {
		n, err := syscall.Read(fd, b)
		if check("read", err); n == 0 {
			fail("no answer: " + string(got))
		}
		got = append(got, b[:n]...)
		if !bytes.HasPrefix(got, []byte(begin)[:min(len(got), len(begin))]) {
			fail(string(got))
		}
		if at := bytes.Index(got, []byte(end)); at >= 0 && bytes.IndexByte(got[at+len(end):], '\n') > 0 {
			return
		}
	}
}

func check(what string, err error) {
	if err != nil {
		fail(what + ": " + err.Error())
	}
}

func fail(text string) {
	os.Stderr.WriteString("caller: " + text + "\n")
	os.Exit(1)
}
