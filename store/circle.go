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

// reset goes back to the start: nothing is live.
func (c *circle) reset() {
	c.last, c.runs[0] = 0, run{}
	c.write, c.limit = 0, min(c.size, c.window)
}
