package cm

import "gatehouse/privsep/custody"

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
