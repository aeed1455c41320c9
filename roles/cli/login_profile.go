package cli

import (
	"fmt"
	"strings"
	"time"

	"gatehouse/roles/parent"
)

// showProfile says what the clients that have a profile may do, in the words of the
// configuration.
func showProfile(out *strings.Builder, cfg *parent.Config, name string) {
	f := cfg.Profile(name)
	if f == nil {
		fmt.Fprintln(out, "may do everything")
		return
	}
	limit := func(own, all fmt.Stringer, set bool) string {
		if set {
			return own.String()
		}
		return all.String() + " (as everybody)"
	}
	for _, line := range [][2]string{
		{"publish", words(f.Publish, f.Publish == nil, "everything")},
		{"publish_deny", words(f.PublishDeny, false, "")},
		{"subscribe", words(f.Subscribe, f.Subscribe == nil, "everything")},
		{"subscribe_deny", words(f.SubscribeDeny, false, "")},
		{"allow_responses", responses(f.AllowResponses)},
		{"modes", words(f.Modes, f.Modes == nil, "all")},
		{"request_types", words(f.RequestTypes, len(f.RequestTypes) == 0, "any")},
		{"request_organisations", words(f.RequestOrganisations, len(f.RequestOrganisations) == 0, "any")},
		{"types", words(f.Types, len(f.Types) == 0, "any")},
		{"transfer", words(f.Transfer, false, "")},
		{"system", fmt.Sprint(f.System)},
		{"stamp_sender", fmt.Sprint(f.StampSender)},
		{"weight", fmt.Sprint(f.Weight)},
		{"rate", number(f.Rate, 0)},
		{"max_subscriptions", number(f.MaxSubscriptions, cfg.Limits.MaxSubscriptions)},
		{"max_payload", limit(f.MaxPayload, cfg.Limits.MaxPayload, f.MaxPayload != 0)},
		{"max_pending", limit(f.MaxPending, cfg.Limits.MaxPending, f.MaxPending != 0)},
		{"max_age", lasts(f.MaxAge)},
	} {
		fmt.Fprintf(out, "  %-22s %s\n", line[0], line[1])
	}
}

// words is a list, or what it stands for where nobody has written one.
func words(list []string, missing bool, means string) string {
	switch {
	case missing:
		return means
	case len(list) == 0:
		return "nothing"
	}
	return strings.Join(list, " ")
}

// lasts is a limit of time of a profile.
func lasts(d time.Duration) string {
	if d == 0 {
		return "no limit"
	}
	return d.String()
}

func responses(n parent.Responses) string {
	switch {
	case n < 0:
		return "any number to each request"
	case n == 0:
		return "none beyond publish"
	}
	return fmt.Sprintf("%d to each request", n)
}

// number is a limit of a profile, or the one of everybody, where 0 is none.
func number(own, all int) string {
	switch {
	case own != 0:
		return fmt.Sprint(own)
	case all != 0:
		return fmt.Sprintf("%d (as everybody)", all)
	}
	return "no limit"
}
