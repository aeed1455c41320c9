//go:build stores

package store

// stop is what is done before the store after which left is 0.
var (
	left int
	stop func()
)

// StopAt has do called before the n-th store from now on into shared memory by
// this process, by way of this package; n <= 0: never. do does not return. For
// tests of what is left then; one goroutine.
func StopAt(n int, do func()) { left, stop = n, do }

// StoresLeft returns how many stores are left up to there.
func StoresLeft() int { return left }

func stored() {
	if left > 0 {
		if left--; left == 0 {
			stop()
		}
	}
}
