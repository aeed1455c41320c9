package tlsd

import (
	"fmt"
	"testing"

	"gatehouse/roles/tlsd/protocol"
)

// The law: of several, exactly one serves what is somebody's; names are spread over all
// of them; and an id is one of who has given it.
func TestWhose(t *testing.T) {
	for of := 1; of <= 4; of++ {
		all := make([]*shards, of)
		for i := range all {
			all[i] = newShards(i, of)
		}
		count := make([]int, of)
		for i := range 1000 {
			name := fmt.Sprintf("session-%d", i)
			for _, r := range []protocol.Request{
				{Verb: protocol.Connect, Session: name, Shared: true},
				{Verb: protocol.Attach, Target: name}, {Verb: protocol.Close, Target: name},
			} {
				for _, s := range all {
					if s.serves(&r) != all[0].whose(name) {
						t.Fatalf("%d of %d: %+v is %d's, and %d's", s.self, of, r, s.serves(&r), all[0].whose(name))
					}
				}
			}
			count[all[0].whose(name)]++
		}
		for i, n := range count {
			if n < 1000/of/2 {
				t.Errorf("%d of %d has %d of 1000 names", i, of, n)
			}
		}
		for _, s := range all {
			if id := s.newID(); s.whose(id) != s.self || len(id) != 32 {
				t.Errorf("%d of %d: %s is %d's", s.self, of, id, s.whose(id))
			}
			unshared := protocol.Request{Verb: protocol.Connect, Session: "a"}
			if s.serves(&unshared) != s.self {
				t.Errorf("%d of %d: an unshared session is %d's", s.self, of, s.serves(&unshared))
			}
		}
	}
}
