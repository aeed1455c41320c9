package privsep

import "io"

// RoleStats are the counters that a role shows. Zero where it has none.
type RoleStats struct {
	Connections, Subscriptions         uint64
	InMsgs, OutMsgs, InBytes, OutBytes uint64
	SlowConsumers, Malformed           uint64
	ArenaUsed, ArenaBodies             uint64
	Accepted, RefusedRate, RefusedMax  uint64
	Handshakes, HandshakesFailed       uint64

	Logins, LoginsRefused, LoginsWaiting uint64

	// Of the directory: its DirectoryState, since when (Unix time in milliseconds), the
	// Reason of its last failure, and how often it was asked and has failed.
	Directory, DirectorySince, DirectoryReason, DirectoryAsked, DirectoryFailed uint64

	Sessions uint64 // of TLS to others

	Requests, RequestsRefused uint64 // by HTTP
}

// values lists the counters in the order in which they travel; it is only ever
// appended to.
func (s *RoleStats) values() []*uint64 {
	return []*uint64{
		&s.Connections, &s.Subscriptions, &s.InMsgs, &s.OutMsgs, &s.InBytes, &s.OutBytes,
		&s.SlowConsumers, &s.Malformed, &s.ArenaUsed, &s.ArenaBodies,
		&s.Accepted, &s.RefusedRate, &s.RefusedMax,
		&s.Handshakes, &s.HandshakesFailed,
		&s.Logins, &s.LoginsRefused, &s.LoginsWaiting,
		&s.Directory, &s.DirectorySince, &s.DirectoryReason, &s.DirectoryAsked, &s.DirectoryFailed,
		&s.Sessions,
		&s.Requests, &s.RequestsRefused,
	}
}

// AnswerStats answers a STATS_GET. A full channel is no error: the parent does
// without.
func AnswerStats(ch *Channel, get *Message, s RoleStats) error {
	var g StatsGet
	if err := g.Parse(get.Payload); err != nil {
		return err
	}
	answer := Stats{ID: g.ID}
	for _, v := range s.values() {
		answer.Values = append(answer.Values, *v)
	}
	switch err := ch.Send(KindStats, answer.Append(nil)); err {
	case nil, ErrAgain, io.EOF: // the end of the parent is seen when the channel is read
		return nil
	default:
		return err
	}
}

// ParseRoleStats reads the payload of a STATS: which STATS_GET it answers, and
// the counters.
func ParseRoleStats(payload []byte) (id uint64, s RoleStats, err error) {
	var m Stats
	if err := m.Parse(payload); err != nil {
		return 0, RoleStats{}, err
	}
	vs := s.values()
	if len(m.Values) != len(vs) {
		return 0, RoleStats{}, ErrShape
	}
	for i, v := range vs {
		*v = m.Values[i]
	}
	return m.ID, s, nil
}
