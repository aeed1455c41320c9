package main

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"syscall"
	"time"
)

// poll serves connections on one thread: ready is called with the index of each
// connection that has bytes, until it says done, or nothing came for silence, or
// ctx ends. Many clients in one process then cost as little as they can.
func poll(ctx context.Context, conns []*conn, ready func(i int) (done bool, err error)) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	ep, err := syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
	if err != nil {
		return fmt.Errorf("epoll: %w", err)
	}
	defer syscall.Close(ep)
	for i, c := range conns {
		ev := syscall.EpollEvent{Events: syscall.EPOLLIN, Fd: int32(i)}
		if err := syscall.EpollCtl(ep, syscall.EPOLL_CTL_ADD, c.fd, &ev); err != nil {
			return fmt.Errorf("epoll add: %w", err)
		}
	}
	const step = 100 * time.Millisecond
	events := make([]syscall.EpollEvent, 64)
	for quiet := time.Duration(0); quiet < silence; {
		n, err := syscall.EpollWait(ep, events, int(step.Milliseconds()))
		if err != nil && err != syscall.EINTR {
			return fmt.Errorf("epoll wait: %w", err)
		}
		if n <= 0 {
			quiet += step
			if ctx.Err() != nil {
				return ctx.Err()
			}
			continue
		}
		quiet = 0
		for _, e := range events[:n] {
			if done, err := ready(int(e.Fd)); done || err != nil {
				return err
			}
		}
	}
	return errSilent
}

var errSilent = errors.New("an answer is missing")
