package store

import "fmt"

// ArenaView is the reading side of another cm's arena, or of one's own.
type ArenaView struct {
	index uint16
	data  []byte
}

// NewArenaView opens the arena of cm index over seg, mapped read-only.
func NewArenaView(index int, seg *Segment, bytes int) (*ArenaView, error) {
	if err := openArena(index, seg, bytes); err != nil {
		return nil, err
	}
	return &ArenaView{index: uint16(index), data: seg.mem[arenaData:]}, nil
}

// Body returns the bytes that h names: shared memory, whose contents a hostile
// owner may change at any time, so callers copy it out and decide nothing by
// it. ErrCorrupt, wrapped, when h lies outside of this arena.
func (v *ArenaView) Body(h Handle) ([]byte, error) {
	end := uint64(h.Off) + uint64(h.Len)
	if h.Arena != v.index || end > uint64(len(v.data)) {
		return nil, fmt.Errorf("body at %d+%d of arena %d: %w", h.Off, h.Len, h.Arena, ErrCorrupt)
	}
	return v.data[h.Off:end:end], nil
}
