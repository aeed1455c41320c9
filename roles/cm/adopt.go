package cm

import (
	"time"

	"gatehouse/privsep/custody"
)

// adopt takes over the memory of a released key.
func adopt(fd, size int) (releasedKey, error) {
	k, err := custody.Adopt(fd, size)
	if err != nil {
		return nil, err
	}
	return k, nil
}

// discardKey erases a key and what signing has left of it, which takes some
// garbage collections: not in the loop.
func discardKey(k releasedKey) {
	if k == nil {
		return
	}
	go func() {
		_ = k.Close()
		custody.Tidy()
	}()
}

const (
	// tidyAfter is how long after the last handshake of a burst the memory is
	// swept, tidyAtMost how long a burst may last before it is all the same.
	tidyAfter  = 50 * time.Millisecond
	tidyAtMost = 5 * time.Second
)

// tidy has what signing with a released key left in memory erased once there is
// time for it, beside the loop.
func (m *cm) tidy() {
	t := &m.tls
	if t.untidy == 0 || m.now < t.untidy+int64(tidyAfter) && m.now < t.tidied+int64(tidyAtMost) {
		return
	}
	t.untidy, t.tidied = 0, m.now
	go custody.Tidy()
}
