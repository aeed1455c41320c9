package wire

// A client's header block goes to its readers as it is, but for the headers that
// are the broker's own: a reader believes those. Clients are parsed by many
// libraries, and what is no header for one of them is one for another. So taken
// out is every line that any of them could read as such a header:
//
//   - lines end with CR LF, LF or CR (Python's email parser, of nats.py, takes all);
//   - blanks, other bytes beyond visible ASCII and colons before a name do not
//     count, nor does what follows a name that is not visible: some trim, some
//     skip empty names, for some a text ends with a zero byte;
//   - letters may have any case;
//   - an empty line ends nothing: nats.js reads on;
//   - a folded line belongs to the one before it (nats.c, async-nats, nats.py);
//   - in a block that does not begin as a block does a line may begin anywhere:
//     nats.py skips ten bytes, whatever they are.

// strip takes those lines out of a block, in place.
func strip(b []byte) []byte {
	odd := len(b) < len(firstLine)+2 || string(b[:len(firstLine)+2]) != firstLine+"\r\n"
	out, gone := b[:0], false
	for i := 0; i < len(b); {
		line, n := cutLine(b[i:])
		all, first := b[i:i+n], i == 0
		i += n
		switch {
		case first:
			out = append(out, line[:findOwn(line)]...)
			out = append(out, all[len(line):]...)
			continue
		case gone && folded(line), isOwn(line), odd && findOwn(line) < len(line):
			gone = true
		default:
			gone = false
			out = append(out, all...)
			continue
		}
		// Two line ends that the line had between them must not become one.
		if k := len(out) - 1; out[k] == '\r' && i < len(b) && b[i] == '\n' {
			out = append(out, '\n')
		}
	}
	return out
}

// isOwn tells whether a line may be read as a header of the broker's.
func isOwn(line []byte) bool {
	for len(line) > 0 && !inName(line[0]) {
		line = line[1:]
	}
	i, _ := lookup(line)
	return i >= 0 && headers[i].take == nil
}

// findOwn returns where such a name begins in a line, whatever follows it, and the
// line's length if nowhere.
func findOwn(line []byte) int {
	for i, c := range line {
		if c|0x20 != headerPrefix[0] {
			continue
		}
		k := matchFold(line[i:], headerPrefix)
		for h := range headers {
			if k > 0 && headers[h].take == nil && matchFold(line[i+k:], headers[h].name) >= 0 {
				return i
			}
		}
	}
	return len(line)
}

// folded tells whether a line goes on with the one before it.
func folded(line []byte) bool {
	return len(line) > 0 && (line[0] == ' ' || line[0] >= '\t' && line[0] <= '\r')
}
