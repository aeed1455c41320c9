package parent

import (
	"fmt"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"github.com/BurntSushi/toml"
)

// config_tables.go is about lists of tables, [[profile]]. The library tells the
// line of a key by its name alone, which all tables of a list share. So their
// headers are numbered before it reads them: [[profile]] becomes ["profile 1"], and
// each is a section like any other.

// tableName is what the section of a list's i-th table is called.
func tableName(list string, i int) string { return fmt.Sprintf("%s %d", list, i+1) }

var numbered = regexp.MustCompile(`^(\w+) [0-9]+`)

// shown gives a place as the one who wrote the file knows it: "profile.name" for
// "profile 1.name".
func shown(place string) string { return numbered.ReplaceAllString(place, "$1") }

// listsOf gives the lists of tables that there are, by name.
func (c *Config) listsOf() map[string]reflect.Value {
	lists := map[string]reflect.Value{}
	sections := reflect.ValueOf(c).Elem()
	for i := range sections.NumField() {
		if f := sections.Field(i); f.Kind() == reflect.Slice {
			lists[tag(sections.Type().Field(i))] = f
		}
	}
	return lists
}

// tag is the name of a field in a file.
func tag(f reflect.StructField) string {
	name, _, _ := strings.Cut(f.Tag.Get("toml"), ",")
	return name
}

// fields maps the keys of a table to its fields.
func fields(table reflect.Value) map[string]reflect.Value {
	options := map[string]reflect.Value{}
	for i := range table.NumField() {
		options[tag(table.Type().Field(i))] = table.Field(i)
	}
	return options
}

// tableDefaults is for a table whose keys do not all begin as zero.
type tableDefaults interface{ setDefaults() }

// numberTables numbers the headers in text, and gives each list of cfg as many
// tables. Its options are those of cfg and theirs.
func numberTables(text string, cfg *Config) (numbered string, options map[string]map[string]reflect.Value) {
	lists := cfg.listsOf()
	options = cfg.options()
	names := strings.Join(slices.Sorted(maps.Keys(lists)), "|")
	header := regexp.MustCompile(`(?m)^[ \t]*\[\[[ \t]*(` + names + `)[ \t]*\]\]`)
	count := map[string]int{}
	text = header.ReplaceAllStringFunc(text, func(h string) string {
		list := strings.Trim(h, " \t[]")
		count[list]++
		return fmt.Sprintf("[%q]", tableName(list, count[list]-1))
	})
	for list, n := range count {
		tables := reflect.MakeSlice(lists[list].Type(), n, n)
		for i := range n {
			if t, ok := tables.Index(i).Addr().Interface().(tableDefaults); ok {
				t.setDefaults()
			}
			options[tableName(list, i)] = fields(tables.Index(i))
		}
		lists[list].Set(tables)
	}
	return text, options
}

// checkTables fails where the library reads another number of tables than were
// numbered: one was written in another way, or what looks like a header was none.
func checkTables(md *toml.MetaData, sections map[string]toml.Primitive, cfg *Config) error {
	lists := cfg.listsOf()
	for _, list := range slices.Sorted(maps.Keys(lists)) {
		var tables []toml.Primitive
		value, there := sections[list]
		if there && md.PrimitiveDecode(value, &tables) != nil || len(tables) != lists[list].Len() {
			return notList(line(md, sections, toml.Key{list}), list)
		}
	}
	return nil
}

func notList(line int, list string) *ConfigError {
	return &ConfigError{Line: line, Key: list, Text: fmt.Sprintf("is a list of tables: write [[%s]]", list)}
}

// changedTables names the tables that are not the same in two lists. A table is known
// by its name; where it stands is nothing that matters.
func changedTables(list string, running, file reflect.Value) (all []difference) {
	have, want := byName(running), byName(file)
	for _, name := range slices.Sorted(maps.Keys(have)) {
		if v, there := want[name]; !there {
			all = append(all, difference{list + "." + name, "a table", "none"})
		} else if !reflect.DeepEqual(have[name], v) {
			all = append(all, difference{list + "." + name, "a table", "another"})
		}
	}
	for _, name := range slices.Sorted(maps.Keys(want)) {
		if _, there := have[name]; !there {
			all = append(all, difference{list + "." + name, "none", "a table"})
		}
	}
	if len(all) > mostNamed {
		all = []difference{{fmt.Sprintf("%s (%d of them)", list, len(all)), "", ""}}
	}
	return all
}

// mostNamed is how many tables of a list are named one by one.
const mostNamed = 8

func byName(list reflect.Value) map[string]any {
	m := map[string]any{}
	for i := range list.Len() {
		m[list.Index(i).FieldByName("Name").String()] = list.Index(i).Interface()
	}
	return m
}
