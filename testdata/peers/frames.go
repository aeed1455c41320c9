package main

import (
	"bytes"
	"errors"
	"fmt"
)

// frames counts messages that are all alike: same subject, sid and size. The
// start of every frame is compared, its end is known from its length.
type frames struct {
	head []byte // "MSG subject sid size\r\n", or HMSG's
	size int    // of a whole frame
}

func newFrames(head string, payload int) frames {
	return frames{head: []byte(head), size: len(head) + payload + 2}
}

// count consumes whole frames of b and control lines among them, which go to
// control. It returns how many messages and bytes were consumed.
func (f frames) count(b []byte, control func(line []byte) error) (msgs, used int, err error) {
	for {
		rest := b[used:]
		switch {
		case len(rest) >= f.size && bytes.Equal(rest[:len(f.head)], f.head):
			if rest[f.size-1] != '\n' || rest[f.size-2] != '\r' {
				return msgs, used, errors.New("message without end")
			}
			used += f.size
			msgs++
			continue
		case len(rest) == 0:
			return msgs, used, nil
		case rest[0] == f.head[0] && len(rest) < f.size:
			return msgs, used, nil
		case rest[0] == 'M' || rest[0] == 'H':
			return msgs, used, fmt.Errorf("unexpected message %.60q", rest)
		}
		i := bytes.IndexByte(rest, '\n')
		if i < 0 {
			return msgs, used, nil
		}
		if err := control(rest[:i+1]); err != nil {
			return msgs, used, err
		}
		used += i + 1
	}
}
