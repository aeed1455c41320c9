package privsep

// grant is one row of who maps which shared memory.
type grant struct {
	kind          SegmentKind
	reads, writes scope
	keeps         scope // holds, unread and unmapped, lest it die with its only user and the parent
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
		{SegConnTable, all, all, none},
		{SegConnColumns, all, none, none},
		// What the router alone maps: where a place is vacant, also its rings.
		{SegState, none, none, all},
		{SegRingUpData, none, none, all},
		{SegRingUpHead, none, none, all},
		{SegRingDownData, none, none, all},
		{SegRingDownHead, none, none, all},
		{SegNamed, none, none, all},
		{SegSessions, none, none, all},
	},
	RoleRouter: {
		{SegRingUpData, all, none, none},
		{SegRingUpHead, all, all, none},
		{SegRingDownData, all, all, none},
		{SegRingDownHead, all, none, none},
		{SegNamed, all, all, none},
		{SegReturns, all, none, none},
		{SegState, all, all, none},
		{SegSessions, all, all, none},
		{SegConnTable, all, none, none}, // which process has connected
		{SegConnColumns, none, none, all},
		{SegArena, none, none, all},
	},
	RoleCM: {
		{SegRingUpData, own, own, none},
		{SegRingUpHead, own, none, none},
		{SegRingDownData, own, none, none},
		{SegRingDownHead, own, own, none},
		{SegConnColumns, own, own, none},
		{SegArena, all, own, none},
		{SegReturns, all, own, none},
		{SegNamed, own, none, none},
	},
	RoleConsole: {
		{SegConnTable, all, none, none},
		{SegConnColumns, all, none, none},
		{SegSessions, all, none, none},
	},
}

// Maps tells whether a role has shared memory at all.
func (r Role) Maps() bool { return len(grants[r]) > 0 }

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

// Keeps tells whether component id holds that segment for a new parent without
// having a use for it: a segment that one role alone maps would otherwise be
// gone when that role dies while there is no parent. What is kept can be neither
// read nor mapped.
func Keeps(id ID, k SegmentKind, index int) bool {
	for _, g := range grants[id.Role] {
		if g.kind == k {
			return g.keeps.has(id, index)
		}
	}
	return false
}
