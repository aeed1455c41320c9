package parent

import (
	"fmt"
	"maps"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// manual is the configuration said a fourth time, for people.
const manual = "../../packaging/man/broker.toml.5"

// How the manual shows a section or a list of tables, and an option: its key and
// default, and in the line behind it its type, its bounds and when it holds.
var (
	manualSection = regexp.MustCompile(`^\.Ss (\[\[?([a-z_]+)\]\]?)\\&$`)
	manualOption  = regexp.MustCompile(`^\.It Ic ([a-z0-9_]+) Pq (.+)$`)
	manualText    = strings.NewReplacer(`\(dq`, `"`, `\-`, `-`)
)

// In the place of a default.
const (
	isRequired = "required"
	isMissing  = "missing" // then the text says what happens
)

type manualEntry struct{ value, facts string }

// readManual gives the options of the page by section and key, and what they amount to as
// a file, each in its default.
func readManual(t *testing.T) (map[string]map[string]manualEntry, string) {
	b, err := os.ReadFile(manual)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(string(b), "\n")
	all, section, file := map[string]map[string]manualEntry{}, "", ""
	for i, line := range lines {
		if m := manualSection.FindStringSubmatch(line); m != nil {
			section = m[2]
			if all[section] != nil {
				t.Errorf("%s:%d: [%s] is there twice", manual, i+1, section)
			}
			all[section] = map[string]manualEntry{}
			file += m[1] + "\n"
		}
		m := manualOption.FindStringSubmatch(line)
		switch {
		case m == nil:
			continue
		case section == "" || all[section][m[1]] != manualEntry{}:
			t.Errorf("%s:%d: %s is outside of a section, or there twice", manual, i+1, m[1])
			continue
		}
		e := manualEntry{manualText.Replace(m[2]), manualText.Replace(lines[i+1])}
		all[section][m[1]] = e
		if e.value != isRequired && e.value != isMissing {
			file += m[1] + " = " + e.value + "\n"
		}
	}
	return all, file
}

// The manual page has the options that there are, and says of each what is so.
func TestManualHoldsEveryOption(t *testing.T) {
	page, file := readManual(t)
	cfg := &Config{}
	if _, err := decodeConfig(file, cfg); err != nil {
		t.Fatalf("the defaults of %s: %v", manual, err)
	}
	_, starts := numberTables(file, Defaults())
	for name, options := range cfg.options() {
		want := Defaults().options()[name]
		if tables, list := options[""]; list {
			if tables.Len() != 1 {
				t.Errorf("%s has %d sections [[%s]]", manual, tables.Len(), name)
				continue
			}
			options, want = fields(tables.Index(0)), starts[tableName(name, 0)]
		}
		if have := slices.Sorted(maps.Keys(page[name])); !slices.Equal(have, slices.Sorted(maps.Keys(options))) {
			t.Errorf("%s has for %s %q, the configuration %q", manual, name, have, slices.Sorted(maps.Keys(options)))
			continue
		}
		for key, v := range options {
			e := page[name][key]
			if facts := manualFacts(name, key, v); e.facts != facts {
				t.Errorf("%s says of %s.%s %q, not %q", manual, name, key, e.facts, facts)
			}
			if e.value != isRequired && e.value != isMissing && valueText(v) != valueText(want[key]) {
				t.Errorf("%s has %s as the default of %s.%s, which is %s", manual, valueText(v), name, key, valueText(want[key]))
			}
		}
	}
}

// What has no default has none in the example either, and for the same reason.
func TestManualHasNoDefaultOfItsOwn(t *testing.T) {
	page, _ := readManual(t)
	b, err := os.ReadFile(example)
	if err != nil {
		t.Fatal(err)
	}
	section := ""
	for line := range strings.Lines(string(b)) {
		line, inTable := strings.CutPrefix(line, "#")
		key, _, isOption := strings.Cut(line, " = ")
		switch {
		case strings.HasPrefix(line, "["):
			section = strings.Trim(strings.Fields(line)[0], "[]")
		case inTable && isOption && oneLine.MatchString(strings.TrimSpace(line)):
			value := page[section][key].value
			if (value == isRequired) != strings.Contains(line, "# required") || (value == isMissing) != strings.Contains(line, "missing: ") {
				t.Errorf("%s has for %s.%s %q, the example %s", manual, section, key, value, line)
			}
		}
	}
}

// manualTypes are the words for what an option can be.
var manualTypes = map[reflect.Type]string{
	reflect.TypeFor[string]():        "String",
	reflect.TypeFor[Secret]():        "String",
	reflect.TypeFor[Account]():       "String or integer",
	reflect.TypeFor[Responses]():     "Boolean or integer",
	reflect.TypeFor[bool]():          "Boolean",
	reflect.TypeFor[int]():           "Integer",
	reflect.TypeFor[Size]():          "Size",
	reflect.TypeFor[time.Duration](): "Duration",
	reflect.TypeFor[[]string]():      "List of strings",
	reflect.TypeFor[[]int]():         "List of integers",
}

// manualFacts is the line that an option has behind its key.
func manualFacts(section, key string, v reflect.Value) string {
	text := manualTypes[v.Type()]
	between := func(least, most int64) { text += fmt.Sprintf(", %v to %v", like(v, least), like(v, most)) }
	for _, b := range bounds {
		if b.section == section && b.key == key {
			between(b.least, b.most)
		}
	}
	for _, b := range profileBounds {
		if section == "profile" && b.key == key {
			between(b.least, b.most)
		}
	}
	for _, w := range words {
		if w.section == section && w.key == key {
			text += ", one of " + strings.Join(w.allowed, ", ")
		}
	}
	if slices.Contains(startOnly(), section+"."+key) {
		text += "; fixed at the start"
	}
	return text + "."
}
