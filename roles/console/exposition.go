package console

import (
	"strconv"
	"strings"
)

// exposition is Prometheus' text format being written: for each name once what it means
// and which type it has, then its samples.
type exposition struct{ b []byte }

const (
	counter = "counter"
	gauge   = "gauge"
)

// family begins a metric.
func (e *exposition) family(name, kind, help string) {
	e.b = append(e.b, "# HELP "...)
	e.b = append(append(append(e.b, name...), ' '), help...)
	e.b = append(e.b, "\n# TYPE "...)
	e.b = append(append(append(e.b, name...), ' '), kind...)
	e.b = append(e.b, '\n')
}

// sample writes one; labels are names and values in turn.
func (e *exposition) sample(name string, value float64, labels ...string) {
	e.b = append(e.b, name...)
	for i := 0; i+1 < len(labels); i += 2 {
		e.b = append(e.b, "{,"[min(i, 1)])
		e.b = append(append(e.b, labels[i]...), `="`...)
		e.b = append(append(e.b, labelText.Replace(labels[i+1])...), '"')
	}
	if len(labels) > 1 {
		e.b = append(e.b, '}')
	}
	e.b = append(strconv.AppendFloat(append(e.b, ' '), value, 'g', -1, 64), '\n')
}

// labelText hides what ends a value, and what is not UTF-8.
var labelText = strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`)

// one is a metric without labels.
func (e *exposition) one(name, kind, help string, value float64) {
	e.family(name, kind, help)
	e.sample(name, value)
}

// histogram writes the buckets from one to another and the last; scale makes a value of
// what was counted.
func (e *exposition) histogram(name, help string, h *histogram, from, to int, scale float64) {
	e.family(name, "histogram", help)
	sum := uint64(0)
	for i, n := range h.Buckets {
		if sum += n; i >= from && i <= to {
			e.sample(name+"_bucket", float64(sum), "le", strconv.FormatFloat(float64(uint64(1)<<i)*scale, 'g', -1, 64))
		}
	}
	e.sample(name+"_bucket", float64(h.Count), "le", "+Inf")
	e.sample(name+"_sum", float64(h.Sum)*scale)
	e.sample(name+"_count", float64(h.Count))
}
