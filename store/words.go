package store

import (
	"sync/atomic"
	"unsafe"
)

// This file is the only one with unsafe: it turns bytes of a segment into typed
// words. Every function checks that what it returns lies within the bytes.

// word returns the atomic word at byte off, a multiple of 8.
func word(s *Segment, off int) *atomic.Uint64 { return overlay[atomic.Uint64](s, off) }

// overlay returns the bytes at off, a multiple of 8, as a T, which must consist
// of words without Go pointers.
func overlay[T any](s *Segment, off int) *T {
	return &overlaySlice[T](s, off, 1)[0]
}

// overlaySlice returns the bytes at off, a multiple of 8, as n values of T.
func overlaySlice[T any](s *Segment, off, n int) []T {
	var t T
	size := int(unsafe.Sizeof(t))
	if off < 0 || off&7 != 0 || n <= 0 || n > (len(s.mem)-off)/size {
		panic("store: view outside the segment")
	}
	return unsafe.Slice((*T)(unsafe.Pointer(&s.mem[off])), n)
}

// loadOnce reads the eight bytes at b in one load, so that a hostile writer
// cannot show one value to the check and another to the use.
func loadOnce(b []byte) uint64 {
	_ = b[7]
	return atomic.LoadUint64((*uint64)(unsafe.Pointer(&b[0])))
}

// store writes v into the eight bytes at b as loadOnce reads them. It orders
// nothing: the reader is told later by an atomic store of an index.
func store(b []byte, v uint64) {
	_ = b[7]
	*(*uint64)(unsafe.Pointer(&b[0])) = v
}
