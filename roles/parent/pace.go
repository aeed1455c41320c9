//go:build !torture

package parent

import "time"

// quickLife: a child that lived shorter died quickly; each such death in a row
// doubles the delay before the next start.
const quickLife = 10 * time.Second
