package main

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"
)

// report is the outcome of a run.
type report struct {
	*book
	seed    uint64
	crowd   crowd
	leaks   []string
	remains []string
}

func (r *report) ok() bool { return !r.failed() && len(r.leaks) == 0 && len(r.remains) == 0 }

// write prints the account.
func (r *report) write(w io.Writer) {
	r.mu.Lock()
	defer r.mu.Unlock()
	fmt.Fprintf(w, "seed %d, %v, %d cells, %d idle connections\n", r.seed, time.Since(r.began).Round(time.Second), r.crowd.cells, r.crowd.idle)
	r.writeEvents(w)
	section := func(title string, from, to count) {
		fmt.Fprintf(w, "\n%s\n", title)
		for c := from; c < to; c++ {
			fmt.Fprintf(w, "  %-48s %12d\n", countNames[c], r.get(c))
			for _, text := range r.offenders[c] {
				fmt.Fprintf(w, "      %s\n", text)
			}
		}
	}
	section("What went on", published, lost)
	section("Must be zero", lost, goneWithCM)
	for _, reason := range slices.Sorted(maps.Keys(r.reasons)) {
		fmt.Fprintf(w, "    %d times %s\n", r.reasons[reason], reason)
	}
	section("Ends with the connection manager that was killed", goneWithCM, counts)
	r.writePauses(w)
	r.writeLeft(w)
}

// writeEvents sums the events up by what was done.
func (r *report) writeEvents(w io.Writer) {
	n, longest := map[string]int{}, map[string]time.Duration{}
	for _, e := range r.events {
		what := e.action()
		n[what]++
		longest[what] = max(longest[what], e.took)
	}
	fmt.Fprintf(w, "\nDone to the broker; the longest until it was whole again\n")
	for _, what := range slices.Sorted(maps.Keys(n)) {
		fmt.Fprintf(w, "  %-48s %12d  %v\n", what, n[what], longest[what].Round(time.Millisecond))
	}
	slow := slices.SortedFunc(slices.Values(r.events), func(a, b event) int { return cmp.Compare(b.took, a.took) })
	for _, e := range slow[:min(3, len(slow))] {
		fmt.Fprintf(w, "  slow: %v at %.3f s, %s; %s\n", e.took.Round(time.Millisecond), e.began.Sub(r.began).Seconds(), e.what, cmp.Or(e.why, "whole at once"))
	}
}

func (r *report) writePauses(w io.Writer) {
	if len(r.pauses) == 0 {
		return
	}
	fmt.Fprintf(w, "\nFrom a request to its answer, by what was done meanwhile\n  %-30s %8s %10s %10s %10s %10s %10s\n", "", "requests", "50 %", "99 %", "99.9 %", "99.99 %", "longest")
	for _, during := range slices.Sorted(maps.Keys(r.pauses)) {
		p := r.pauses[during]
		fmt.Fprintf(w, "  %-30s %8d", cmp.Or(during, "all"), p.TotalCount())
		for _, q := range []float64{50, 99, 99.9, 99.99} {
			fmt.Fprintf(w, " %10v", (time.Duration(p.ValueAtPercentile(q)) * time.Microsecond).Round(10*time.Microsecond))
		}
		fmt.Fprintf(w, " %10v\n", p.longest.Round(10*time.Microsecond))
	}
	fmt.Fprintf(w, "  the longest was answered %s\n", r.pauses[""].at)
}

func (r *report) writeLeft(w io.Writer) {
	for title, all := range map[string][]string{"Leaked": r.leaks, "Left after the end": r.remains} {
		if len(all) > 0 {
			fmt.Fprintf(w, "\n%s\n  %s\n", title, strings.Join(all, "\n  "))
		}
	}
	verdict := "PASS"
	if !r.ok() {
		verdict = "FAIL"
	}
	fmt.Fprintf(w, "\n%s\n", verdict)
}
