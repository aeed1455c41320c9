package store

// circle keeps the space of an arena: where the next body goes and which runs
// of contiguous bodies are live, oldest first. Mostly there is one run, or two
// around the end. Further ones come from going back to the start early; when
// a body is stuck there, the space above is still used.
type circle struct {
	size         uint64
	window       uint64 // how much is used before the start is used again
	write, limit uint64 // the next body fits between them, or place decides
	runs         [4]run
	last         int // the run that grows: its hi is write
}

type run struct{ lo, hi uint64 }

func newCircle(size uint64) circle { return circle{size: size, window: softWindow} }

// place makes room for size bytes at write, if need be elsewhere, and sets limit.
func (c *circle) place(size uint64) bool {
	c.runs[c.last].hi = c.write
	low, high := c.extent()
	more := c.last+1 < len(c.runs)
	switch {
	case more && c.write >= c.window && low >= max(size, c.window/2):
		c.jump(0)
	case c.gapEnd()-c.write >= size:
	case more && low >= size:
		c.jump(0)
	case more && c.size-high >= size:
		c.jump(high)
	default:
		return false
	}
	// Past the window the start is looked at again every so often.
	c.limit = min(c.gapEnd(), max(c.write+size, c.write+c.window/16, c.window))
	return true
}

// extent returns the lowest and the highest offset of the live runs.
func (c *circle) extent() (low, high uint64) {
	low = c.size
	for _, r := range c.runs[:c.last+1] {
		low, high = min(low, r.lo), max(high, r.hi)
	}
	return low, high
}

// gapEnd returns where the free space at write ends.
func (c *circle) gapEnd() uint64 {
	end := c.size
	for _, r := range c.runs[:c.last] {
		if r.lo >= c.write {
			end = min(end, r.lo)
		}
	}
	return end
}

// jump begins a new run at off. The one that grew so far is not empty: an empty
// one has the whole arena before it.
func (c *circle) jump(off uint64) {
	c.last++
	c.runs[c.last] = run{off, off}
	c.write = off
}

// shift frees the oldest size bytes.
func (c *circle) shift(size uint64) {
	r := &c.runs[0]
	r.lo += size
	if c.last > 0 && r.lo == r.hi {
		copy(c.runs[:], c.runs[1:c.last+1])
		c.last--
	}
}

// pop frees the newest body, which begins at off.
func (c *circle) pop(off uint64, empty bool) {
	c.write = off
	if r := &c.runs[c.last]; r.lo == off && c.last > 0 {
		c.last--
		c.write = c.runs[c.last].hi
		c.limit = c.write
	}
	if empty {
		c.reset()
	}
}

// reset goes back to the start: nothing is live.
func (c *circle) reset() {
	c.last, c.runs[0] = 0, run{}
	c.write, c.limit = 0, min(c.size, c.window)
}

// adoptBody adds the next body of a predecessor; false when it lies outside of
// the arena or on another one.
func (c *circle) adoptBody(off, size uint64) bool {
	r := &c.runs[c.last]
	if off%grain != 0 || off > c.size || size > c.size-off {
		return false
	}
	if off != r.hi {
		if r.lo != r.hi {
			if c.last++; c.last == len(c.runs) {
				c.last--
				return false
			}
		}
		r = &c.runs[c.last]
		*r = run{off, off}
	}
	r.hi = off + size
	for _, o := range c.runs[:c.last] {
		if o.lo < r.hi && r.lo < o.hi {
			return false
		}
	}
	c.write, c.limit = r.hi, r.hi
	return true
}
