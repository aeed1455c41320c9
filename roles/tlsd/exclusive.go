package tlsd

// collectBytes passes on whatever the holder sends, as it comes.
func (c *caller) collectBytes(s *session) error {
	buf := buffers.Get().(*buffer)
	defer buffers.Put(buf)
	for {
		n, err := c.read(buf[:])
		if n > 0 {
			if err := s.send(c, buf[:n], func() { c.used = true }); err != nil {
				return err
			}
		}
		if err != nil {
			return err
		}
	}
}
