package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// report is the outcome of a run; as JSON it holds every sample.
type report struct {
	Time    time.Time      `json:"time"`
	Seconds float64        `json:"seconds"`
	Cores   int            `json:"cores"`
	Kernel  string         `json:"kernel"`
	Client  string         `json:"client"`
	Rounds  int            `json:"rounds"`
	Others  float64        `json:"others"` // share of the machine that other programs used
	Quick   bool           `json:"quick"`  // too short to judge by
	Brokers [2]brokerEntry `json:"brokers"`
	Figures []*row         `json:"figures"`
}

type brokerEntry struct {
	Name    string     `json:"name"`
	Command []string   `json:"command"`
	Info    brokerInfo `json:"info"`
}

// row is one figure with the samples of both brokers.
type row struct {
	figure
	Name    string       `json:"name"`
	Unit    string       `json:"unit"`
	Samples [2][]float64 `json:"samples"`
	Median  [2]float64   `json:"median"`
	Ratio   float64      `json:"ratio"`
	Goal    float64      `json:"goal,omitempty"`
	Bound   float64      `json:"bound,omitempty"`
	Pass    string       `json:"pass"` // pass, FAIL; "-" where there is no bound
}

func newReport(o *options, cs []*command) *report {
	r := &report{
		Time: time.Now(), Cores: runtime.NumCPU(), Kernel: kernel(), Rounds: o.rounds, Quick: o.span < time.Second,
		Client: fmt.Sprintf("%s, GOMAXPROCS %d", runtime.Version(), runtime.GOMAXPROCS(0)),
	}
	for i, c := range cs {
		r.Brokers[i] = brokerEntry{Name: c.name, Command: c.argv}
	}
	for _, f := range figures {
		r.Figures = append(r.Figures, &row{figure: f, Name: f.name, Unit: f.unit, Goal: f.goal, Bound: f.bound, Pass: "-"})
	}
	return r
}

func kernel() string {
	b, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(b))
}

func (r *report) add(name string, i int, v float64) {
	for _, w := range r.Figures {
		if w.Name == name {
			w.Samples[i] = append(w.Samples[i], v)
		}
	}
}

// judge fills in medians, ratios and verdicts and drops what was not measured.
func (r *report) judge() {
	r.Figures = slices.DeleteFunc(r.Figures, func(w *row) bool {
		return len(w.Samples[0]) == 0 || len(w.Samples[1]) == 0
	})
	for _, w := range r.Figures {
		w.Median = [2]float64{median(w.Samples[0]), median(w.Samples[1])}
		if w.Median[1] != 0 {
			w.Ratio = w.Median[0] / w.Median[1]
		}
		w.Pass = w.meets(w.Ratio, w.bound, "pass", "FAIL")
	}
}

func (r *report) failed() bool {
	return slices.ContainsFunc(r.Figures, func(w *row) bool { return w.Pass == "FAIL" })
}

func (r *report) print(out io.Writer) {
	r.judge()
	fmt.Fprintf(out, "%d cores, kernel %s, client %s, %d rounds, %.0f s; medians (least - greatest)\n",
		r.Cores, r.Kernel, r.Client, r.Rounds, r.Seconds)
	for _, b := range r.Brokers {
		fmt.Fprintf(out, "%s: %s (GOMAXPROCS and everything else by default)\n", b.Name, b.Info)
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(w, "\nfigure\tunit\t%s\t\t%s\t\tratio\tgoal\tmet\tbound\tresult\t\n", r.Brokers[0].Name, r.Brokers[1].Name)
	for _, f := range r.Figures {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%.2f\t%s\t%s\t%s\t%s\t\n", f.name, f.unit,
			number(f.Median[0]), spread(f.Samples[0]), number(f.Median[1]), spread(f.Samples[1]),
			f.Ratio, f.limit(f.goal), f.meets(f.Ratio, f.goal, "yes", "no"), f.limit(f.bound), f.Pass)
	}
	w.Flush()
	if r.Quick {
		fmt.Fprintln(out, "\nquick run: too short to judge by")
	}
	if r.Others > 0.05 {
		fmt.Fprintf(out, "\nother programs used %.0f %% of the machine: not fit to judge by\n", 100*r.Others)
	}
}

func (i brokerInfo) String() string {
	s := "protocol version " + i.Version
	if i.Gatehouse != nil {
		s = i.Gatehouse.Version + ", " + s
	}
	if i.Go != "" {
		s += ", " + i.Go
	}
	return s
}

func (f figure) limit(v float64) string {
	switch {
	case v == 0:
		return "-"
	case f.more:
		return fmt.Sprintf(">= %.2f", v)
	}
	return fmt.Sprintf("<= %.2f", v)
}

func (r *report) write(path string) error {
	if path == "" {
		return nil
	}
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(b, '\n'), 0o644)
}

func median(v []float64) float64 {
	s := slices.Sorted(slices.Values(v))
	if n := len(s); n%2 == 0 {
		return (s[n/2-1] + s[n/2]) / 2
	}
	return s[len(s)/2]
}

func spread(v []float64) string {
	return "(" + number(slices.Min(v)) + " - " + number(slices.Max(v)) + ")"
}

// number writes three digits or more, thousands apart.
func number(v float64) string {
	if v < 100 {
		return fmt.Sprintf("%.1f", v)
	}
	s := fmt.Sprintf("%.0f", v)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "'" + s[i:]
	}
	return s
}
