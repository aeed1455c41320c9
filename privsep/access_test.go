package privsep

import "testing"

// The laws: every segment has exactly one component that writes it, and whoever
// writes also reads. Two components at least hold it.
func TestOneWriter(t *testing.T) {
	var ids []ID
	const cms = 3
	for r := RoleParent; r < numRoles; r++ {
		for i := range cms {
			if i == 0 || r.several() {
				ids = append(ids, ID{r, i})
			}
		}
	}
	for k := SegNone + 1; k < numSegmentKinds; k++ {
		for index := range cms {
			if k == SegConnTable && index > 0 {
				continue
			}
			var writers []ID
			for _, id := range ids {
				reads, writes := Access(id, k, index)
				if writes {
					writers = append(writers, id)
				}
				if writes && !reads {
					t.Errorf("%v of cm/%d: %v writes what it does not read", k, index, id)
				}
			}
			if holders := holders(ids, k, index); len(holders) < 2 {
				t.Errorf("%v of cm/%d dies with %v and the parent", k, index, holders)
			}
			if len(writers) != 1 {
				t.Errorf("%v of cm/%d is written by %v", k, index, writers)
			}
		}
	}
}

func holders(ids []ID, k SegmentKind, index int) (all []ID) {
	for _, id := range ids {
		if reads, _ := Access(id, k, index); reads || Keeps(id, k, index) {
			all = append(all, id)
		}
	}
	return all
}
