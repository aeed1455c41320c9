package roles

import (
	"slices"

	"gatehouse/store"
)

// bads are the words for store.Facts.Bad.
var bads = []string{"", "mode", "session", "timeout", "type", "organisation"}

// modes are the words for store.Mode.
var modes = func() (words []string) {
	for m := store.ModeNone; m <= store.ModeDirect; m++ {
		words = append(words, m.String())
	}
	return words
}()

// facts is an object, or bytes under another key where they are no facts.
func facts(c *coder, p *[]byte) {
	var f store.Facts
	switch {
	case c.reading():
		readFacts(c, p)
	case f.Parse(*p) != nil:
		c.text("facts_bytes", p)
	case len(*p) > 0:
		c.object("facts", func(item *coder) { factFields(item, &f) })
	}
}

func readFacts(c *coder, p *[]byte) {
	if c.text("facts_bytes", p); len(*p) > store.MaxFacts {
		c.wrong("facts_bytes", "longer than %d bytes", store.MaxFacts)
	}
	c.object("facts", func(item *coder) {
		var f store.Facts
		factFields(item, &f)
		*p = f.Append(nil)
	})
}

func factFields(c *coder, f *store.Facts) {
	word(c, "mode", &f.Mode, modes)
	word(c, "bad", &f.Bad, bads)
	number(c, "timeout", &f.Timeout)
	c.flag("end", &f.End)
	for _, t := range []struct {
		key string
		p   *[]byte
	}{{"session", &f.Session}, {"to_type", &f.ToType}, {"to_organisation", &f.ToOrganisation}} {
		if c.text(t.key, t.p); len(*t.p) > store.MaxFact {
			c.wrong(t.key, "longer than %d bytes", store.MaxFact)
		}
	}
}

// word is a number that shows as one of words, of which the first does not show.
func word[T unsigned](c *coder, key string, p *T, words []string) {
	if !c.reading() {
		if *p != 0 {
			c.put(key, quote(words[*p]))
		}
		return
	}
	if raw, ok := c.take(key); ok {
		i := slices.Index(words, c.str(key, raw))
		if i < 0 {
			if words[0] == "" {
				words = words[1:]
			}
			c.wrong(key, "%s is none of %q", raw, words)
			return
		}
		*p = T(i)
	}
}
