package store

// Unread calls f with each committed record that the consumer has not released,
// the oldest first. rec is the ring's own memory: f neither keeps nor changes it.
func (p *Producer) Unread(f func(rec []byte)) {
	p.Lag()
	for pos := p.head; pos-p.head < p.tail-p.head; {
		off := pos & p.mask
		w := loadOnce(p.data[off:])
		if w == frameWord(pos, wrapMark) && off != 0 {
			pos += p.capacity - off
			continue
		}
		n := uint64(uint32(w))
		// The head is the consumer's word, and may point anywhere.
		if w != frameWord(pos, uint32(n)) || off+frame(int(n)) > p.capacity {
			return
		}
		off += frameSize
		f(p.data[off : off+n : off+n])
		pos += frame(int(n))
	}
}
