//go:build !goexperiment.runtimesecret

package erase

const compiledIn = false

// Do runs f; nothing is erased in this build.
func Do(f func()) { f() }
