package parent

import (
	"fmt"
	"math"
	"reflect"
	"slices"
	"strings"
	"time"

	"gatehouse/privsep"
)

// ModesConfig is about requests and instances, for all clients.
type ModesConfig struct {
	RequestTimeout    time.Duration `toml:"request_timeout"`
	SessionIdle       time.Duration `toml:"session_idle"`
	DuplicateInstance string        `toml:"duplicate_instance"` // DuplicateRefuse or DuplicateReplace
}

// What becomes of the second instance of one name.
const (
	DuplicateRefuse  = "refuse"
	DuplicateReplace = "replace" // the first one ends
)

// ProfileConfig is what the clients that have it may do. A list of subjects or of
// modes that is nil is not in the file, and allows everything.
type ProfileConfig struct {
	Name                 string        `toml:"name"`
	Publish              []string      `toml:"publish"`
	PublishDeny          []string      `toml:"publish_deny"`
	Subscribe            []string      `toml:"subscribe"`
	SubscribeDeny        []string      `toml:"subscribe_deny"`
	AllowResponses       Responses     `toml:"allow_responses"`
	Modes                []string      `toml:"modes"`
	RequestTypes         []string      `toml:"request_types"`         // empty: any, as the next two
	RequestOrganisations []string      `toml:"request_organisations"` //
	Types                []string      `toml:"types"`                 // that its clients may call themselves
	StampSender          bool          `toml:"stamp_sender"`
	Weight               int           `toml:"weight"`
	MaxSubscriptions     int           `toml:"max_subscriptions"` // 0: as in [limits], as the next three
	Rate                 int           `toml:"rate"`              // messages a second
	MaxPayload           Size          `toml:"max_payload"`
	MaxPending           Size          `toml:"max_pending"`
	Transfer             []string      `toml:"transfer"` // environments
	System               bool          `toml:"system"`   // may ask for the state of the broker
	MaxAge               time.Duration `toml:"max_age"`  // of a connection, 0: any
}

func (p *ProfileConfig) setDefaults() { p.Weight = 1 }

// Responses is how many replies a client may send for each request that it has
// received, whatever else it may publish.
type Responses int

func responsesOf(raw any) (Responses, error) {
	switch v := raw.(type) {
	case int64:
		return Responses(v), nil
	case bool:
		if v {
			return 1, nil
		}
		return 0, nil
	}
	return 0, fmt.Errorf("%s is not true, false or a number of replies for each request (-1: any)", show(raw))
}

// profileBounds is bounds for the numbers of a profile.
var profileBounds = []struct {
	key         string
	least, most int64
}{
	{"allow_responses", privsep.AnyResponses, 1 << 20},
	{"weight", 1, privsep.MaxWeight},
	{"max_subscriptions", 0, math.MaxInt32},
	{"rate", 0, 10_000_000},
	{"max_payload", 0, 512 << 20},
	{"max_pending", 0, 1 << 30},
	{"max_age", 0, int64(366 * 24 * time.Hour)},
}

// profileLists says what the lists of a profile are lists of.
var profileLists = []struct {
	key   string
	check func(string) string
}{
	{"publish", checkSubject},
	{"publish_deny", checkSubject},
	{"subscribe", checkSubject},
	{"subscribe_deny", checkSubject},
	{"modes", checkMode},
	{"request_types", checkType},
	{"request_organisations", checkWord},
	{"types", checkType},
	{"transfer", checkName},
}

func (c *Config) checkProfiles() (faults []fault) {
	names := map[string]bool{}
	for i := range c.Profiles {
		p, section := &c.Profiles[i], tableName("profile", i)
		add := func(key, text string) {
			if text != "" {
				faults = append(faults, fault{text, []string{section + "." + key, section}})
			}
		}
		text := checkName(p.Name)
		if text == "" && names[p.Name] {
			text = show(p.Name) + " is the name of another profile"
		}
		add("name", text)
		names[p.Name] = true
		options := fields(reflect.ValueOf(p).Elem())
		for _, b := range profileBounds {
			add(b.key, outside(options[b.key], b.least, b.most))
		}
		for _, l := range profileLists {
			add(l.key, checkList(options[l.key].Interface().([]string), l.check))
		}
		if p.System && !c.watched() && !c.alone() {
			add("system", "needs a console, which answers: console.unix or console.tcp")
		}
		if p.MaxAge > 0 && p.MaxAge < privsep.MinMaxAge {
			add("max_age", fmt.Sprintf("%v is less than %v; 0 is no limit", p.MaxAge, privsep.MinMaxAge))
		}
		payload, pending := p.checkSizes(&c.Limits)
		add("max_payload", payload)
		add("max_pending", pending)
		if n := len(p.payload().Append(nil)); n > privsep.MaxProfile {
			text := fmt.Sprintf("the lists of %s take %d bytes together, more than %d", show(p.Name), n, privsep.MaxProfile)
			faults = append(faults, fault{text, []string{section}})
		}
		if i == privsep.MaxProfiles {
			faults = append(faults, fault{fmt.Sprintf("there are more than %d", privsep.MaxProfiles), []string{section}})
		}
	}
	if p := c.Listen.Profile; p != "" && !names[p] {
		faults = append(faults, fault{show(p) + " is not the name of a [[profile]]", []string{"listen.profile"}})
	}
	return faults
}

// checkSizes says what is wrong with each of two sizes.
func (p *ProfileConfig) checkSizes(l *LimitsConfig) (payload, pending string) {
	if p.MaxPayload > l.MaxPayload {
		payload = fmt.Sprintf("%v is more than limits.max_payload (%v)", p.MaxPayload, l.MaxPayload)
	}
	if p.MaxPending > 0 && p.MaxPending < l.MaxPayload { // what others publish
		pending = fmt.Sprintf("%v is less than limits.max_payload (%v)", p.MaxPending, l.MaxPayload)
	}
	return payload, pending
}

func checkList(list []string, check func(string) string) string {
	if n := len(list); n > privsep.MaxProfileList {
		return fmt.Sprintf("has %d entries, more than %d", n, privsep.MaxProfileList)
	}
	seen := map[string]bool{}
	for _, s := range list {
		if text := check(s); text != "" {
			return text
		}
		if seen[s] {
			return show(s) + " is there twice"
		}
		seen[s] = true
	}
	return ""
}

// checkSubject allows what a client can subscribe to. The law is that of
// wire.ValidSubject, which the parent does not link.
func checkSubject(s string) string {
	tokens := strings.Split(s, ".")
	switch {
	case len(s) > privsep.MaxProfileText:
		return fmt.Sprintf("%s is longer than %d bytes", show(s), privsep.MaxProfileText)
	case strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r == 0x7f }):
		return show(s) + " has a space or a control character"
	case slices.Contains(tokens, ""):
		return show(s) + " is not a subject: there is nothing before, after or between its dots"
	case slices.Contains(tokens[:len(tokens)-1], ">"):
		return show(s) + " is not a subject: > stands for the rest and can only be last"
	}
	return ""
}

func checkMode(s string) string {
	if !slices.Contains(privsep.ModeNames[:], s) {
		return show(s) + " is not one of " + strings.Join(privsep.ModeNames[:], ", ")
	}
	return ""
}

// checkWord allows what a header can name: an organisation.
func checkWord(s string) string {
	if strings.ContainsFunc(s, func(r rune) bool { return r >= 0x7f }) {
		return show(s) + " is not ASCII"
	}
	return checkName(s)
}

// checkType allows what can be a type of program: a token of a subject, and what
// stands before the slash in a client's name.
func checkType(s string) string {
	if strings.ContainsAny(s, "./*>") {
		return show(s) + ` is not a type of program: it has one of the characters ". / * >"`
	}
	return checkWord(s)
}

// payload is the profile as the router gets it.
func (p *ProfileConfig) payload() *privsep.Profile {
	m := &privsep.Profile{
		Name:       p.Name,
		PublishAll: p.Publish == nil, PublishAllow: p.Publish, PublishDeny: p.PublishDeny,
		SubscribeAll: p.Subscribe == nil, SubscribeAllow: p.Subscribe, SubscribeDeny: p.SubscribeDeny,
		RequestTypes: p.RequestTypes, RequestOrganisations: p.RequestOrganisations, Types: p.Types,
		Responses: int(p.AllowResponses), Stamp: p.StampSender, Weight: p.Weight,
		MaxSubscriptions: p.MaxSubscriptions, Rate: p.Rate,
		MaxPayload: int(p.MaxPayload), MaxPending: int(p.MaxPending), Transfer: p.Transfer, System: p.System,
		MaxAge: p.MaxAge,
	}
	for i, name := range privsep.ModeNames {
		if p.Modes == nil || slices.Contains(p.Modes, name) {
			m.Modes |= 1 << i
		}
	}
	return m
}

// effective fills in what a profile leaves out.
func (p ProfileConfig) effective() ProfileConfig {
	if p.Modes == nil {
		p.Modes = slices.Clone(privsep.ModeNames[:])
	}
	return p
}
