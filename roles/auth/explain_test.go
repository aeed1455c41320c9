package auth

import (
	"encoding/json"
	"slices"
	"testing"

	"gatehouse/privsep"
)

// What is explained is what is decided.
func TestExplainAgrees(t *testing.T) {
	g := newRig(t, people(t), nil)
	facts := &Facts{Environment: "orga", Users: people(t)}
	for i, c := range []Claim{
		{Kind: privsep.CredentialPassword, User: "alice", Secret: []byte("horse")},
		{Kind: privsep.CredentialPassword, User: "alice", Secret: []byte("mule")},
		{Kind: privsep.CredentialPassword, User: "bob", Secret: []byte("battery")},
		{Kind: privsep.CredentialPassword, User: "carol", Secret: []byte("horse")},
		{Kind: privsep.CredentialPassword, User: "mallory", Secret: []byte("horse")},
		{Kind: privsep.CredentialToken, Secret: []byte("battery")},
		{Kind: privsep.CredentialToken, Secret: []byte("horse")},
		{Kind: privsep.CredentialNone},
	} {
		x, err := Explain(facts, &c)
		must(t, err)
		shown := map[string]string{}
		if c.Kind == privsep.CredentialToken {
			shown["auth_token"] = string(c.Secret)
		} else if c.Kind == privsep.CredentialPassword {
			shown["user"], shown["pass"] = c.User, string(c.Secret)
		}
		b, err := json.Marshal(shown)
		must(t, err)
		v := g.login(byte(i), string(b))
		if v.Reason != x.Reason || v.User != x.User || v.Organisation != x.Organisation || v.Profile != x.Profile {
			t.Errorf("%+v: explained %+v, decided %+v", c, x, v)
		}
		last := x.Steps[len(x.Steps)-1]
		if last.Yes != (x.Reason == privsep.ReasonNone) || last.Reason != x.Reason {
			t.Errorf("%+v: the last step is %+v", c, last)
		}
		if slices.ContainsFunc(x.Steps, func(s Step) bool { return s.Assumed }) {
			t.Errorf("%+v: something is taken for right: %+v", c, x.Steps)
		}
	}
}

// Without the secret all but that is looked at.
func TestExplainAssumes(t *testing.T) {
	facts := &Facts{Environment: "orga", Users: append(people(t), programs()[:8]...), Kinds: privsep.CredentialSet(0).With(privsep.CredentialProcess)}
	nobody := &Facts{Environment: "orga"}
	directory := &Facts{Environment: "orga", Users: people(t), Directory: true}
	seen := privsep.Inspected{Sight: privsep.Sight{Start: 1, Executables: []string{"/usr/bin/pricer"}}}
	for _, tt := range []struct {
		facts *Facts
		claim Claim
		want  string
	}{
		{facts, Claim{Kind: privsep.CredentialPassword, User: "alice"}, "alice"},
		{facts, Claim{Kind: privsep.CredentialPassword, User: "carol"}, "no_password"},
		{facts, Claim{Kind: privsep.CredentialPassword, User: "mallory"}, "unknown_user"},
		{nobody, Claim{Kind: privsep.CredentialPassword, User: "alice"}, "not_configured"},
		{directory, Claim{Kind: privsep.CredentialPassword, User: "dora"}, "dora"},
		{directory, Claim{Kind: privsep.CredentialPassword, User: "carol"}, "no_password"},
		{facts, Claim{Kind: privsep.CredentialToken}, ""},
		{nobody, Claim{Kind: privsep.CredentialToken}, "not_configured"},
		{facts, Claim{Kind: privsep.CredentialNKey, NKey: public(t, key(t, 3))}, "carol"},
		{facts, Claim{Kind: privsep.CredentialNKey, NKey: public(t, key(t, 9))}, "unknown_nkey"},
		{facts, Claim{Kind: privsep.CredentialNKey, NKey: "U"}, "bad_nkey"},
		{facts, Claim{Kind: privsep.CredentialX509}, "not_configured"},
		{facts, Claim{Kind: privsep.CredentialTransfer, Issuer: "orgb"}, "not_configured"},
		{facts, Claim{Kind: privsep.CredentialProcess, Process: client, Sight: seen}, "pricer"},
		{facts, Claim{Kind: privsep.CredentialProcess, Process: client, Sight: seen, Content: contentAt(t, executable(t, "pricer 2"))}, "sealed"},
		{facts, Claim{Kind: privsep.CredentialProcess, Process: client, Sight: privsep.Inspected{Reason: privsep.ReasonProcessGone}}, "process_gone"},
		{nobody, Claim{Kind: privsep.CredentialProcess, Process: client, Sight: seen}, "no_credential"},
	} {
		x, err := Explain(tt.facts, &tt.claim)
		must(t, err)
		got := x.User
		if x.Reason != privsep.ReasonNone {
			got = x.Reason.String()
		}
		if got != tt.want {
			t.Errorf("%+v: %s, want %s: %+v", tt.claim, got, tt.want, x.Steps)
		}
		if no := slices.IndexFunc(x.Steps, func(s Step) bool { return !s.Yes }); (no >= 0) != (x.Reason != privsep.ReasonNone) || no >= 0 && no != len(x.Steps)-1 {
			t.Errorf("%+v: steps %+v", tt.claim, x.Steps)
		}
	}
}

// Every reason that a configuration can be the cause of belongs to a question.
func TestExplainKnowsReasons(t *testing.T) {
	// It takes a connection, or a client, to be refused for these.
	others := []privsep.Reason{privsep.ReasonMalformed, privsep.ReasonBadSignature, privsep.ReasonRate, privsep.ReasonBackoff, privsep.ReasonCrowded,
		privsep.ReasonTicketNonce, privsep.ReasonTicketForm, privsep.ReasonTicketSignature, privsep.ReasonTicketAudience, privsep.ReasonTicketEarly,
		privsep.ReasonTicketExpired, privsep.ReasonTicketUser, privsep.ReasonTicketSeen, privsep.ReasonChallengeUsed, privsep.ReasonCMSForm,
		privsep.ReasonCMSAttributes, privsep.ReasonCMSAlgorithm, privsep.ReasonCMSContent, privsep.ReasonCMSSignature}
	for r := privsep.ReasonDirectoryPassword; r <= privsep.ReasonDirectoryAccount; r++ {
		others = append(others, r) // or the directory
	}
	known := map[privsep.Reason]bool{}
	for _, all := range points {
		for _, p := range all {
			for _, r := range p.reasons {
				known[r] = true
			}
		}
	}
	for r := privsep.ReasonNone + 1; r.String() != "reason"; r++ {
		if known[r] == slices.Contains(others, r) {
			t.Errorf("%v: belongs to a question: %v", r, known[r])
		}
	}
}
