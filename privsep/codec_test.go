package privsep

import (
	"bytes"
	"errors"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

// payload is what every payload struct is.
type payload interface {
	Append(dst []byte) []byte
	Parse(b []byte) error
}

// samples has one filled payload of each kind that has one.
func samples() map[Kind]payload {
	text := strings.Repeat("s", MaxSettingsText)
	values := make([]uint64, MaxStats)
	for i := range values {
		values[i] = ^uint64(i)
	}
	live := Live{
		MaxPayload: 1, MaxPending: 4, MaxSubscriptions: 5,
		AuthTimeout: 9, PingInterval: 10, PingMax: 11, WriteDeadline: 12,
		StallTimeout: time.Hour, OrphanGrace: 16, DrainTimeout: 17, ConnectRate: 14, ConnectBurst: 15, AddressConns: 18, LogLevel: LevelError, Host: text, Port: 16,
		TLS:         TLSSettings{HandshakeFirst: true, Min: 0x0304, Client: ClientAuthRequire, SignRate: 5000},
		MostPayload: 18, RequestTimeout: 19, SessionIdle: 20, ReplaceInstance: true, Auth: true, AnonymousProfile: text,
		Login:        LoginSettings{Kinds: 1<<numCredentials - 1, Hashes: 1, Memory: 2, FailureRate: 3, FailureBurst: 4, Backoff: 5},
		TLSD:         TLSDSettings{MaxSessions: 1, MaxCallers: 2, UIDSessions: 3, UIDCallers: 4, UIDMemory: 5},
		ConsoleNames: slices.Repeat([]string{strings.Repeat("n", MaxConsoleName)}, MaxConsoleNames),
		System:       true,
		Audit:        true,
	}
	return map[Kind]payload{
		KindBoot: &Boot{ID: ID{RoleCM, maxIndex}, Key: Key{1}, UID: 61100, GID: 61101, Generation: 7},
		KindConfig: &Settings{
			Live: live, MaxControlLine: 2, MaxConnections: 3, CMs: 6, Serving: 3, Arena: 1 << 30, Ring: 8, Journal: 19,
			Environment: text, Broker: text, Version: "", ServerID: text, TLSPorts: slices.Repeat([]uint16{443}, MaxTLSPorts), Release: true, Trap: true,
		},
		KindSettings: &live,
		KindProfile: &Profile{
			Set: 7, Last: true, Name: text, SubscribeAll: true, PublishAllow: []string{"px.>", strings.Repeat("s", MaxProfileText)},
			PublishDeny: []string{"a"}, SubscribeDeny: []string{"b"}, Modes: AllModes, RequestTypes: []string{"c", "d"},
			RequestOrganisations: []string{"e"}, Types: []string{"f"}, Responses: AnyResponses, Stamp: true, Weight: MaxWeight,
			MaxSubscriptions: 1, Rate: 2, MaxPayload: 3, MaxPending: math.MaxInt32, Transfer: []string{"g"}, System: true, MaxAge: time.Hour,
		},
		KindListenerGone: &ListenerGone{Number: 7},
		KindSegment:      &Segment{Kind: SegConnColumns, Index: 5, Size: 1 << 40, Writable: true},
		KindListener:     &Listener{Number: 7, Network: NetTLS, Address: strings.Repeat("a", MaxAddressText)},
		KindPeer:         &Peer{ID: ID{RoleDispatcher, 0}, Key: Key{2}, Generation: 1 << 50},
		KindDoorbell:     &DoorbellEnd{CM: 63, Generation: 1 << 50},
		KindSetupDone:    &SetupDone{Version: Version, Sandbox: Sandbox{Landlock: 7, Missing: allMissing}},
		KindStatsGet:     &StatsGet{ID: 1 << 60},
		KindStats:        &Stats{ID: 3, Values: values},
		KindCMGone:       &CMGone{CM: 2, Generation: 1 << 40},
		KindCMFault:      &CMFault{CM: 2, Reason: FaultCorrupt},
		KindConnHandoff:  &ConnHandoff{UID: 1 << 63, Slot: 2, Listener: 3, Addr: [16]byte{4}, Port: 5, Unix: true, TLS: true, System: true, Issued: 1 << 40, Ticket: [32]byte{6}},
		KindCertificate:  &Certificate{Number: 1, Chain: MaxCertificates, Authorities: 2},
		KindKey:          &ReleasedKey{Number: 1, Size: 1 << 12},
		KindSign: &Sign{ID: 1 << 50, Number: 2, Scheme: 0x0403, Listener: 7, UID: 1 << 60, Issued: 1 << 40, Ticket: [32]byte{6},
			Input: bytes.Repeat([]byte{' '}, MaxSignInput)},
		KindSigned: &Signed{ID: 1 << 50, Signature: bytes.Repeat([]byte{9}, MaxSignature)},
		KindAdopt:  &Adopt{ID: ID{RoleRouter, 0}, Key: Key{3}, Generation: 1 << 50},
		KindAdopted: &Adopted{Version: Version, Layout: 2, Generation: 9, Sandbox: Sandbox{Landlock: 7, Missing: allMissing}, Leaving: true,
			Handoff: Key{4}, Certificate: 3, Heir: 64, Drain: time.Hour, Peers: values[:MaxStats]},
		KindUser: &User{Set: 1, Last: true, Mark: 1 << 60, Name: text, Password: strings.Repeat("h", MaxHash), NKey: strings.Repeat("U", MaxNKey),
			Organisation: text, Profile: text, Subject: strings.Repeat("s", MaxCertName), SAN: strings.Repeat("a", MaxCertName),
			Key: strings.Repeat("k", MaxCertName), Process: ProcessRule{ByUID: true, ByGID: true, BySum: true, UID: 7, GID: 8,
				Executable: strings.Repeat("/", MaxExecutable), SHA256: [32]byte{9}}},
		KindApproval: &Approval{Number: 7, Mark: 1 << 60, Approved: MaxApproved, Lists: MaxLists, Soon: true},
		KindDirectory: &Directory{Number: 7, Mark: 1 << 60, CA: MaxDirectoryCA, Servers: []string{"a", strings.Repeat("s", MaxDirectoryServer)}, Name: text,
			UserDN: strings.Repeat("d", MaxDirectoryText), Base: text, Filter: text, BindDN: text, BindPass: text,
			OrganisationAttribute: text, Organisations: []string{text}, ProfileAttribute: text, Values: []string{"v"}, Profiles: []string{"p"},
			Profile: text, MustMatch: true, Timeout: time.Hour, Links: MaxDirectoryLinks},
		KindDial:       &Dial{ID: 1 << 60, Number: 2, Server: MaxDirectoryServers},
		KindDialed:     &Dialed{ID: 1 << 60},
		KindDialFailed: &DialFailed{ID: 1 << 60, Errno: 111},
		KindStanding:   &Standing{Set: 1, Last: true, Marks: make([]uint64, MaxMarks)},
		KindLogin: &Login{ID: 1 << 60, Try: 2, Addr: [16]byte{4}, Unix: true, TLS: true, Again: true, Challenge: strings.Repeat("c", MaxChallenge),
			Process: Process{1, 2, 3, 1 << 60}, Chain: bytes.Repeat([]byte{'c'}, MaxChain), JSON: bytes.Repeat([]byte{'{'}, MaxConnect)},
		KindInspect:       &Inspect{ID: 1 << 50, File: true, Process: Process{1, 2, 3, 1 << 60}},
		KindInspected:     fullInspected(),
		KindInspectedFile: fullInspected(),
		KindVerdict:       &Verdict{ID: 1 << 60, Try: 2, OK: true, Credential: CredentialNKey, Mark: 1, User: text, Organisation: text, Profile: text},
		KindTicketSign:    &TicketSign{ID: 1 << 50, Connection: 1 << 60, Nonce: [NonceSize]byte{7}, User: text, Organisation: text, Audience: text},
		KindTicketSigned:  &TicketSigned{ID: 1 << 50, Ticket: bytes.Repeat([]byte{'t'}, MaxTicket)},
		KindIssuer: &Issuer{Set: 1, Last: true, Environment: text, Mark: 1 << 60, Keys: []string{"a", strings.Repeat("k", MaxIssuerKey)},
			Organisations: []string{text}, Users: []string{"b", "c"}, Profile: text},
		KindTLSPolicy: &TLSPolicy{Set: 1, Last: true, Name: text, Host: strings.Repeat("h", MaxTLSHost), Port: 443, Addresses: []string{"192.0.2.7"},
			ALPN: []string{"h2"}, MinTLS: 0x0304, Open: []TLSGrant{{GrantUID, 1, ""}, {GrantGID, 2, "/usr/bin/x"}}, Read: []TLSGrant{{GrantAll, 0, ""}},
			Keep: true, IdleTimeout: 1, Revalidate: 2, MaxFrame: MaxTLSFrame, Roots: MaxCertificates, Chain: MaxCertificates, Key: 7},
		KindTLSSign:   &TLSSign{ID: 1 << 50, Key: 2, Scheme: 0x0403, Input: bytes.Repeat([]byte{' '}, MaxSignInput)},
		KindTLSSigned: &TLSSigned{ID: 1 << 50, Signature: bytes.Repeat([]byte{9}, MaxSignature)},
		KindShard:     &Shard{Number: MaxTLSShards - 2, Of: MaxTLSShards},
		KindStatusGet: &StatusGet{ID: 1 << 50},
		KindStatus:    &StatusText{ID: 1 << 50, Size: MaxStatus},
		KindSubsGet:   &SubsGet{ID: 1 << 50, From: 1 << 31},
		KindSubs: &Subs{ID: 1 << 50, Next: 7, Cut: true, List: append(slices.Repeat([]Sub{{UID: 1}}, MaxSubs-1),
			Sub{UID: 1, Subject: strings.Repeat("s", 20<<10), Queue: "q", SID: "1", Max: 2, Delivered: 3})},
		KindAuthFault: &AuthFault{Reason: FaultCorrupt, Generation: 1 << 40},
		KindKick:      &Kick{ID: 1 << 50, Connection: 1 << 60},
		KindKicked:    &Kicked{ID: 1 << 50, Outcome: KickMoving},
		KindShutdown:  &Shutdown{Drain: 30 * time.Second},
		KindCMRetire:  &CMRetire{CM: 1, Generation: 1 << 40, To: maxIndex},
		KindRetire:    &Retire{To: 63, Generation: 1 << 40, Key: Key{3}, Drain: 24 * time.Hour},
		KindRetiring:  &Retiring{Moved: 1 << 40, Left: 1 << 30, Stay: 2},
		KindMoveConn: &MoveConn{UID: 1 << 60, Slot: 2, Flags: allMoveFlags, Pings: 3, Idle: 4, Deadline: 5, InMsgs: 6, InBytes: 7,
			OutMsgs: 8, OutBytes: 9, HeaderLen: 10, Size: 1 << 20, Parser: 11, Subject: 12, Reply: 13, Body: 1 << 20, Rest: 14, Output: 1 << 30},
	}
}

func fullInspected() *Inspected {
	paths := make([]string, MaxExecutables)
	for i := range paths {
		paths[i] = strings.Repeat("/", MaxExecutable)
	}
	return &Inspected{ID: 1 << 50, Sight: Sight{Start: 2, Dev: 3, Ino: 4, Link: paths[0], Executables: paths}}
}

// fresh gives a zero payload of p's type.
func fresh(p payload) payload {
	return reflect.New(reflect.TypeOf(p).Elem()).Interface().(payload)
}

// Each kind that may carry bytes is tested here; LOG and AUDIT have a codec of
// their own, MOVE_BYTES none.
func TestEveryPayloadHasASample(t *testing.T) {
	have := samples()
	for i := range rules {
		r := &rules[i]
		if want := r.max > 0 && r.kind != KindLog && r.kind != KindAudit && r.kind != KindMoveBytes; want != (have[r.kind] != nil) {
			t.Errorf("%v: sample %v, up to %d bytes", r.kind, have[r.kind], r.max)
		}
	}
}

func TestPayloads(t *testing.T) {
	for k, p := range samples() {
		b := p.Append([]byte("x"))[1:]
		size := 0
		for i := range rules {
			if rules[i].kind == k {
				size = rules[i].max
			}
		}
		if len(b) > size {
			t.Errorf("%v: the fullest takes %d bytes, its rule allows %d", k, len(b), size)
		}
		got := fresh(p)
		if err := got.Parse(b); err != nil || !reflect.DeepEqual(got, p) {
			t.Errorf("%v: %+v became %+v, %v", k, p, got, err)
		}
		// No part of it and nothing longer is another valid one; of the long ones not
		// every part is tried.
		for n := 0; n < len(b); n += 1 + n/2048 {
			checkRefused(t, k, got, b[:n])
		}
		checkRefused(t, k, got, b[:max(len(b)-1, 0)])
		checkRefused(t, k, got, append(bytes.Clone(b), 0))
	}
}

// checkRefused parses into a filled struct, which must come out zero. A shorter
// Stats, Standing or Adopted is valid at whole words, a Login wherever its JSON ends.
func checkRefused(t *testing.T, k Kind, into payload, b []byte) {
	t.Helper()
	if k == KindStats && len(b) >= 8 && len(b)%8 == 0 && len(b) <= 8+8*MaxStats {
		return
	}
	if least := len((&Standing{}).Append(nil)); k == KindStanding && len(b) >= least && (len(b)-least)%8 == 0 {
		return
	}
	if least := len((&Login{Challenge: strings.Repeat("c", MaxChallenge), Chain: make([]byte, MaxChain)}).Append(nil)); k == KindLogin && len(b) >= least && len(b) < least+MaxConnect {
		return
	}
	if least := len((&Adopted{}).Append(nil)); k == KindAdopted && len(b) >= least && (len(b)-least)%8 == 0 {
		return
	}
	err := into.Parse(b)
	if !errors.Is(err, ErrShape) || !reflect.ValueOf(into).Elem().IsZero() {
		t.Errorf("%v with %d bytes: %v, left %+v", k, len(b), err, into)
	}
}

// What a type could hold and a message must not.
func TestPayloadsOutOfRange(t *testing.T) {
	for name, p := range map[string]payload{
		"negative size":    &Live{MaxPayload: -1},
		"negative time":    &Live{AuthTimeout: -1},
		"unknown level":    &Live{LogLevel: numLevels},
		"long text":        &Settings{Broker: strings.Repeat("x", MaxSettingsText+1)},
		"very long text":   &Settings{Broker: strings.Repeat("x", 1<<17)},
		"long address":     &Listener{Network: NetTCP, Address: strings.Repeat("x", MaxAddressText+1)},
		"no network":       &Listener{},
		"unknown network":  &Listener{Network: numNetworks},
		"no status":        &StatusText{},
		"long status":      &StatusText{Size: MaxStatus + 1},
		"no segment":       &Segment{},
		"unknown segment":  &Segment{Kind: numSegmentKinds},
		"index too high":   &Segment{Kind: SegArena, Index: maxIndex + 1},
		"peer parent":      &Peer{ID: ID{RoleParent, 0}},
		"peer of no role":  &Peer{ID: ID{numRoles, 0}},
		"indexed router":   &Peer{ID: ID{RoleRouter, 1}},
		"cm too high":      &CMGone{CM: maxIndex + 1},
		"negative cm":      &CMGone{CM: -1},
		"no fault":         &CMFault{CM: 1},
		"unknown fault":    &CMFault{CM: 1, Reason: numFaults},
		"negative drain":   &Shutdown{Drain: -time.Second},
		"negative drain 2": &Retire{Drain: -time.Second},
		"more than moves":  &MoveConn{Flags: allMoveFlags + 1},
		"headers of -2":    &MoveConn{Flags: MoveMessage, HeaderLen: -2},
		"headers beyond":   &MoveConn{Flags: MoveMessage, HeaderLen: 3, Size: 2},
		"body beyond":      &MoveConn{Flags: MoveMessage, Size: 2, Body: 3},
		"no message":       &MoveConn{Subject: 1},
		"waits incomplete": &MoveConn{Flags: MoveMessage | MoveWaiting, Size: 2, Body: 1},
		"too many peers":   &Adopted{Peers: make([]uint64, MaxPeers+1)},
		"adopted parent":   &Adopt{ID: ID{RoleParent, 0}},
		"missing walls":    &Adopted{Sandbox: Sandbox{Missing: allMissing + 1}},
		"missing what":     &SetupDone{Sandbox: Sandbox{Missing: allMissing + 1}},
		"more than modes":  &Profile{Name: "a", Weight: 1, Modes: AllModes + 1},
		"no weight":        &Profile{Name: "a"},
		"much weight":      &Profile{Name: "a", Weight: MaxWeight + 1},
		"responses of -2":  &Profile{Name: "a", Weight: 1, Responses: -2},
		"negative rate":    &Profile{Name: "a", Weight: 1, Rate: -1},
		"rate too high":    &Profile{Name: "a", Weight: 1, Rate: math.MaxInt32 + 1},
		"all and some":     &Profile{Name: "a", Weight: 1, PublishAll: true, PublishAllow: []string{"a"}},
		"an empty subject": &Profile{Name: "a", Weight: 1, PublishDeny: []string{"a", ""}},
		"a long subject":   &Profile{Name: "a", Weight: 1, PublishDeny: []string{strings.Repeat("x", MaxProfileText+1)}},
		"many subjects":    &Profile{Name: "a", Weight: 1, PublishDeny: make([]string, MaxProfileList+1)},
		"no name, not all": &Profile{},
		"unknown kinds":    &Live{Login: LoginSettings{Kinds: 1 << numCredentials}},
		"long hash":        &User{Password: strings.Repeat("h", MaxHash+1)},
		"long connect":     &Login{JSON: make([]byte, MaxConnect+1)},
		"process by TCP":   &Login{Process: Process{PID: 1}},
		"uid, not asked":   &User{Process: ProcessRule{ByGID: true, UID: 1}},
		"sum, not asked":   &User{Process: ProcessRule{ByGID: true, SHA256: [32]byte{1}}},
		"path of anybody":  &User{Process: ProcessRule{Executable: "/a"}},
		"long path":        &User{Process: ProcessRule{ByGID: true, Executable: strings.Repeat("x", MaxExecutable+1)}},
		"seen and refused": &Inspected{Reason: ReasonProcessGone, Sight: Sight{Start: 1}},
		"no such reason":   &Inspected{Reason: numReasons},
		"many executables": &Inspected{Sight: Sight{Executables: make([]string, MaxExecutables+1)}},
		"long chain":       &Login{TLS: true, Chain: make([]byte, MaxChain+1)},
		"chain, no TLS":    &Login{Chain: make([]byte, 1)},
		"long subject":     &User{Subject: strings.Repeat("s", MaxCertName+1)},
		"large approval":   &Approval{Mark: 1, Approved: MaxApproved + 1},
		"large lists":      &Approval{Mark: 1, Approved: 1, Lists: MaxLists + 1},
		"unmarked":         &Approval{Approved: 1},
		"lists of nobody":  &Approval{Lists: 1},
		"unknown reason":   &Verdict{Reason: numReasons},
		"unknown proof":    &Verdict{Reason: ReasonRate, Credential: numCredentials},
		"refused and OK":   &Verdict{OK: true, Mark: 1, Reason: ReasonRate},
		"OK and unmarked":  &Verdict{OK: true},
		"refused by name":  &Verdict{Reason: ReasonRate, User: "a"},
		"too many marks":   &Standing{Marks: make([]uint64, MaxMarks+1)},
		"no auth fault":    &AuthFault{},
		"three keys":       &Issuer{Environment: "a", Mark: 1, Keys: []string{"a", "b", "c"}},
		"long key":         &Issuer{Environment: "a", Mark: 1, Keys: []string{strings.Repeat("k", MaxIssuerKey+1)}},
		"no servers":       &Directory{Mark: 1, CA: 1, Timeout: 1, Links: 1},
		"no certificates":  &Directory{Mark: 1, Servers: []string{"a"}, Timeout: 1, Links: 1},
		"half a pair":      &Directory{Mark: 1, CA: 1, Servers: []string{"a"}, Values: []string{"v"}, Timeout: 1, Links: 1},
		"many links":       &Directory{Mark: 1, CA: 1, Servers: []string{"a"}, Timeout: 1, Links: MaxDirectoryLinks + 1},
		"no error":         &DialFailed{},
		"nobody in a set":  &User{Set: 1},
		"a marked nobody":  &User{Last: true, Mark: 1},
		"unmarked issuer":  &Issuer{Environment: "a"},
		"nobody, not all":  &Issuer{},
		"long ticket":      &TicketSigned{Ticket: make([]byte, MaxTicket+1)},
		"too many figures": &Stats{Values: make([]uint64, MaxStats+1)},
	} {
		if err := fresh(p).Parse(p.Append(nil)); !errors.Is(err, ErrShape) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestNames(t *testing.T) {
	for n := NetNone; n < numNetworks; n++ {
		if n.String() == "" || (n+numNetworks).String() != "network" {
			t.Errorf("network %d has no name", n)
		}
	}
	for k := CredentialNone; k < numCredentials; k++ {
		if k.String() == "" || (k+numCredentials).String() != "credential" {
			t.Errorf("credential %d has no name", k)
		}
	}
	for r := ReasonNone; r < numReasons; r++ {
		if r.String() == "" || (r+numReasons).String() != "reason" {
			t.Errorf("reason %d has no name", r)
		}
	}
	for k := SegNone; k < numSegmentKinds; k++ {
		if k.String() == "" || (k+numSegmentKinds).String() != "segment" {
			t.Errorf("segment %d has no name", k)
		}
	}
}

// Law: for every payload, what Parse accepts Append gives back byte for byte;
// on error the struct is zero.
func FuzzPayload(f *testing.F) {
	mustCorpus(f, 4)
	all := samples()
	for k, p := range all {
		f.Add(uint16(k), p.Append(nil))
	}
	f.Fuzz(func(t *testing.T, kind uint16, b []byte) {
		sample := all[Kind(kind)%numKinds]
		if sample == nil {
			return
		}
		p := fresh(sample)
		if err := p.Parse(b); err != nil {
			if !reflect.ValueOf(p).Elem().IsZero() {
				t.Fatalf("%v left %+v", err, p)
			}
			return
		}
		if again := p.Append(nil); !bytes.Equal(again, b) {
			t.Fatalf("%T: parsed %x, encoded %x", p, b, again)
		}
	})
}
