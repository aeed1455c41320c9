package cli

import (
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// table lays out columns, numbers to the right.
type table struct {
	rows    [][]string
	isLeft  map[int]bool
	columns int
	colours map[[2]int]string // by row and column
}

func newTable(heads ...string) *table {
	return &table{rows: [][]string{heads}, columns: len(heads), isLeft: map[int]bool{}, colours: map[[2]int]string{}}
}

func (t *table) left(columns ...int) {
	for _, c := range columns {
		t.isLeft[c] = true
	}
}

func (t *table) row(cells ...any) {
	line := make([]string, t.columns)
	for i, c := range cells {
		line[i] = fmt.Sprint(c)
	}
	t.rows = append(t.rows, line)
}

// style gives a column of the last row a colour, "" for none.
func (t *table) style(column int, colour string) {
	t.colours[[2]int{len(t.rows) - 1, column}] = colour
}

// String gives the table, two spaces between columns, none at a line's end.
func (t *table) String() string {
	widths := make([]int, t.columns)
	for _, r := range t.rows {
		for i, c := range r {
			widths[i] = max(widths[i], utf8.RuneCountInString(c))
		}
	}
	var b strings.Builder
	for n, r := range t.rows {
		var line strings.Builder
		for i, c := range r {
			pad := strings.Repeat(" ", widths[i]-utf8.RuneCountInString(c))
			if i > 0 {
				line.WriteString("  ")
			}
			c = paint{on: true}.with(t.colours[[2]int{n, i}], c)
			if t.isLeft[i] {
				line.WriteString(c + pad)
			} else {
				line.WriteString(pad + c)
			}
		}
		b.WriteString(strings.TrimRight(line.String(), " ") + "\n")
	}
	return b.String()
}

// count groups digits: 1,234,567.
func count(n uint64) string {
	s := strconv.FormatUint(n, 10)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// size gives bytes with three digits at most: 512 B, 4.0 KiB, 64 MiB.
func size(bytes uint64) string {
	if bytes < 1024 {
		return fmt.Sprintf("%d B", bytes)
	}
	v, unit := float64(bytes), ""
	for _, u := range []string{"KiB", "MiB", "GiB", "TiB", "PiB", "EiB"} {
		v, unit = v/1024, u
		if v < 999.5 {
			break
		}
	}
	if v < 9.95 {
		return fmt.Sprintf("%.1f %s", v, unit)
	}
	return fmt.Sprintf("%.0f %s", v, unit)
}

// rate gives a number per second: 950, 45.1 k, 2.31 M.
func rate(perSecond float64) string {
	switch {
	case perSecond >= 1e6:
		return fmt.Sprintf("%.2f M", perSecond/1e6)
	case perSecond >= 1e4:
		return fmt.Sprintf("%.1f k", perSecond/1e3)
	default:
		return fmt.Sprintf("%.0f", perSecond)
	}
}

// latency gives a short duration with three digits: 870 ns, 45.1 us, 2.31 ms.
func latency(ns int64) string {
	v, unit := float64(ns), "ns"
	for _, u := range []string{"us", "ms", "s"} {
		if v < 999.5 {
			break
		}
		v, unit = v/1000, u
	}
	switch {
	case unit == "ns" || v >= 99.95:
		return fmt.Sprintf("%.0f %s", v, unit)
	case v >= 9.995:
		return fmt.Sprintf("%.1f %s", v, unit)
	default:
		return fmt.Sprintf("%.2f %s", v, unit)
	}
}

// age gives a long duration in its two largest units: 3d4h, 5m12s.
func age(d time.Duration) string {
	s := int64(max(d, 0) / time.Second)
	switch {
	case s < 60:
		return fmt.Sprintf("%ds", s)
	case s < 3600:
		return fmt.Sprintf("%dm%ds", s/60, s%60)
	case s < 86400:
		return fmt.Sprintf("%dh%dm", s/3600, s%3600/60)
	default:
		return fmt.Sprintf("%dd%dh", s/86400, s%86400/3600)
	}
}
