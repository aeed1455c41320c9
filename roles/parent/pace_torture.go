//go:build torture

package parent

import "time"

// quickLife is so short here that who is killed a thousand times in a row by
// testdata/interop/torture is each time started again at once.
const quickLife = 20 * time.Millisecond
