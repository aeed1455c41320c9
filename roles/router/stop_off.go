//go:build !stores

package router

// mortal and hearing are for tests with the build tag stores: a router of generation
// n dies before its n-th store into shared memory, counted from its first record.
func mortal(uint64) {}
func hearing()      {}
