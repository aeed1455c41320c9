package privsep

import "testing"

// The laws: every segment has exactly one component that writes it, and whoever
// writes also reads.
func TestOneWriter(t *testing.T) {
	var ids []ID
	const cms = 3
	for r := RoleParent; r < numRoles; r++ {
		for i := range cms {
			if i == 0 || r.indexed() {
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
			if len(writers) != 1 {
				t.Errorf("%v of cm/%d is written by %v", k, index, writers)
			}
		}
	}
}
