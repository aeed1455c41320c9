package privsep

import (
	"fmt"
	"time"
)

// setupWait bounds a child's wait for each message of its setup.
const setupWait = 10 * time.Second

// Setup is all that the parent handed to a child before SETUP_END.
type Setup struct {
	Settings  Settings
	Segments  []SegmentFD
	Listeners []ListenerFD
	Profiles  []Profile       // the router's
	Marks     []uint64        // the router's: of the users there are
	Users     []User          // auth's
	Issuers   []Issuer        // auth's
	Approval  *ApprovalText   // auth's
	Directory *Directory      // auth's
	CA        []byte          // of the directory, PEM
	Policies  []TLSPolicyText // tlsd's
	Shards    []ShardFD       // tlsd's, where there are several

	profiles ProfileSet // being received, as the next four
	marks    MarkSet
	users    UserSet
	issuers  IssuerSet
	policies TLSPolicySet
}

// SegmentFD is a segment with the fd to map it by, the receiver's.
type SegmentFD struct {
	Segment
	FD int
}

// ListenerFD is a listener with its listening socket.
type ListenerFD struct {
	Listener
	FD int
}

// ShardFD is a Shard with the end of the way to it.
type ShardFD struct {
	Shard
	FD int
}

// TakeShard gives what a SHARD says and brings. The fd is the caller's, then.
func TakeShard(m *Message) (ShardFD, error) {
	var p Shard
	if err := p.Parse(m.Payload); err != nil {
		return ShardFD{}, err
	}
	return ShardFD{p, m.FDs[0]}, nil
}

// ReadSetup receives a child's setup up to SETUP_END.
func ReadSetup(ch *Channel) (*Setup, error) {
	s := new(Setup)
	var m Message
	for {
		if err := ch.RecvWait(&m, setupWait); err != nil {
			return nil, fmt.Errorf("setup: %w", err)
		}
		err := s.take(&m)
		if err == nil && m.Kind == KindSetupEnd {
			return s, nil
		}
		if err != nil {
			m.CloseFDs()
			return nil, fmt.Errorf("setup: %v: %w", m.Kind, err)
		}
	}
}

func (s *Setup) take(m *Message) error {
	switch m.Kind {
	case KindConfig:
		return s.Settings.Parse(m.Payload)
	case KindSegment:
		var g Segment
		if err := g.Parse(m.Payload); err != nil {
			return err
		}
		s.Segments = append(s.Segments, SegmentFD{g, m.FDs[0]})
		return nil
	case KindListener:
		var l Listener
		if err := l.Parse(m.Payload); err != nil {
			return err
		}
		s.Listeners = append(s.Listeners, ListenerFD{l, m.FDs[0]})
		return nil
	case KindProfile:
		all, whole, err := s.profiles.Take(m.Payload)
		if whole {
			s.Profiles = all
		}
		return err
	case KindStanding:
		all, whole, err := s.marks.Take(m.Payload)
		if whole {
			s.Marks = all
		}
		return err
	case KindUser:
		all, whole, err := s.users.Take(m.Payload)
		if whole {
			s.Users = all
		}
		return err
	case KindIssuer:
		all, whole, err := s.issuers.Take(m.Payload)
		if whole {
			s.Issuers = all
		}
		return err
	case KindApproval:
		var err error
		s.Approval, err = TakeApproval(m)
		return err
	case KindDirectory:
		var err error
		s.Directory, s.CA, err = TakeDirectory(m)
		return err
	case KindTLSPolicy:
		all, whole, err := s.policies.Take(m)
		if whole {
			s.Policies = all
		}
		return err
	case KindShard:
		f, err := TakeShard(m)
		if err == nil {
			s.Shards = append(s.Shards, f)
		}
		return err
	case KindSetupEnd:
		if !s.profiles.Begun() && !s.marks.Begun() && !s.users.Begun() && !s.issuers.Begun() && !s.policies.Begun() {
			return nil
		}
	}
	return ErrShape
}

// TakeSegment maps one segment of the setup by mapFD. Its fd stays open for as
// long as the process lives: a new parent finds the segment by it.
func TakeSegment[S any](s *Setup, k SegmentKind, index int, mapFD func(fd, size int, writable bool) (S, error)) (S, error) {
	for i := range s.Segments {
		if g := &s.Segments[i]; g.Kind == k && g.Index == index && g.FD >= 0 {
			defer func() { g.FD = -1 }()
			return mapFD(g.FD, int(g.Size), g.Writable)
		}
	}
	var none S
	return none, fmt.Errorf("setup: no segment %v of cm/%d", k, index)
}

// Announce says SETUP_DONE, with what walls there are, and goes over to the run
// phase: the role is jailed and at work from here on.
func Announce(ch *Channel, walls Sandbox) error {
	done := SetupDone{Version: Version, Sandbox: walls}
	if err := ch.SendWait(setupWait, KindSetupDone, done.Append(nil)); err != nil {
		return fmt.Errorf("announce: %w", err)
	}
	ch.SetPhase(PhaseRun)
	return nil
}
