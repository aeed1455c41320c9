package privsep

// grant is one row of who maps which shared memory.
type grant struct {
	kind          SegmentKind
	reads, writes scope
}

// scope says of which segments of a kind: none, the one with the component's
// own index, or all.
type scope uint8

const (
	none scope = iota
	own
	all
)

func (s scope) has(id ID, index int) bool { return s == all || s == own && index == id.Index }

// grants is the whole of it: a segment of which a role has no row is not handed
// to it, and every segment has one component that may write it.
var grants = map[Role][]grant{
	RoleDispatcher: {
		{SegConnTable, all, all},
		{SegConnColumns, all, none},
	},
	RoleRouter: {
		{SegRingUpData, all, none},
		{SegRingUpHead, all, all},
		{SegRingDownData, all, all},
		{SegRingDownHead, all, none},
		{SegNamed, all, all},
		{SegReturns, all, none},
		{SegState, all, all},
	},
	RoleCM: {
		{SegRingUpData, own, own},
		{SegRingUpHead, own, none},
		{SegRingDownData, own, none},
		{SegRingDownHead, own, own},
		{SegConnColumns, own, own},
		{SegArena, all, own},
		{SegReturns, all, own},
		{SegNamed, own, none},
	},
}

// Access says what component id may do with the segment of kind k that belongs
// to cm index.
func Access(id ID, k SegmentKind, index int) (reads, writes bool) {
	for _, g := range grants[id.Role] {
		if g.kind == k {
			return g.reads.has(id, index), g.writes.has(id, index)
		}
	}
	return false, false
}
