package parent

// audit_events.go has what the audit log may hold: one type for each event, whose fields are
// those of its lines. gatehouse(8) has all of them; names once there stay.

// auditEvent is one of the types below.
type auditEvent interface{ event() string }

// auditHead is in front of the fields of every event.
type auditHead struct {
	Audit  bool   `json:"audit,omitempty"` // among other lines
	Time   string `json:"time"`
	Event  string `json:"event"`
	Broker string `json:"broker"`
}

type (
	auditStart struct {
		Version string `json:"version"`
		PID     int    `json:"pid"`
		Config  string `json:"config"`
	}
	auditStop        struct{}
	auditStopped     struct{}
	auditRoleStarted struct {
		Role     string `json:"role"`
		PID      int    `json:"pid"`
		UID      int    `json:"uid"`
		Restarts int    `json:"restarts"`
	}
	auditRoleAdopted struct {
		Role string `json:"role"`
		PID  int    `json:"pid"`
		UID  int    `json:"uid"`
	}
	auditAdoptionRefused struct {
		Role   string `json:"role"`
		PID    int    `json:"pid"`
		Reason string `json:"reason"`
	}
	auditRoleDied struct {
		Role   string `json:"role"`
		PID    int    `json:"pid"`
		Reason string `json:"reason"`
	}
	auditRoleAccused struct {
		Role   string `json:"role"`
		PID    int    `json:"pid"`
		By     string `json:"by"`
		Kind   string `json:"kind"`
		Reason string `json:"reason"`
	}
	auditImpostor struct {
		Role string `json:"role"`
		PID  int    `json:"pid"`
	}
	auditOffence struct {
		Role   string `json:"role"`
		PID    int    `json:"pid"`
		Kind   string `json:"kind,omitempty"`
		Reason string `json:"reason"`
	}
	auditRestart struct {
		Role string `json:"role"`
		By   string `json:"by"`
		PID  int    `json:"pid"`
	}
	auditRestartFailed struct {
		Role   string `json:"role"`
		Reason string `json:"reason"`
	}
	auditUpgradeBegun struct {
		Path string `json:"path"`
	}
	auditUpgrade struct {
		Version string `json:"version"`
	}
	auditUpgradeFailed struct {
		Path   string `json:"path,omitempty"`
		Reason string `json:"reason"`
	}
	auditReload struct {
		Changed string `json:"changed"`
	}
	auditReloadFailed struct {
		Reason string `json:"reason"`
	}
	auditCertificate struct {
		Number   uint32 `json:"number"`
		Subject  string `json:"subject"`
		Serial   string `json:"serial"`
		NotAfter string `json:"not_after"`
	}
	auditKeyUsed struct {
		Key     string `json:"key"`
		Role    string `json:"role"`
		PID     int    `json:"pid"`
		Signed  uint64 `json:"signed"`
		Refused uint64 `json:"refused"`
		Since   string `json:"since"`
	}
	auditKeyReleased struct {
		Role   string `json:"role"`
		PID    int    `json:"pid"`
		Number uint32 `json:"number"`
	}
	auditTicketIssued struct {
		Ticket       string `json:"ticket"`
		CID          uint64 `json:"cid"`
		User         string `json:"user"`
		Organisation string `json:"organisation,omitempty"`
		To           string `json:"to"`
	}
	auditTicketRefused struct {
		CID          uint64 `json:"cid"`
		User         string `json:"user"`
		Organisation string `json:"organisation,omitempty"`
		To           string `json:"to"`
		Reason       string `json:"reason"`
		Omitted      uint64 `json:"omitted,omitempty"`
	}
	auditTicketUsed struct {
		Ticket string `json:"ticket"`
		CID    uint64 `json:"cid"`
		User   string `json:"user"`
		From   string `json:"from"`
	}
	auditLogin struct {
		CID          uint64 `json:"cid"`
		Addr         string `json:"addr"`
		UID          *int64 `json:"uid,omitempty"`
		Kind         string `json:"kind,omitempty"`
		User         string `json:"user,omitempty"`
		Organisation string `json:"organisation,omitempty"`
		Profile      string `json:"profile,omitempty"`
		Subject      string `json:"subject,omitempty"`
		Executable   string `json:"executable,omitempty"`
		Ticket       string `json:"ticket,omitempty"`
		From         string `json:"from,omitempty"`
		Omitted      uint64 `json:"omitted,omitempty"`
	}
	auditLoginAccepted struct{ auditLogin }
	auditLoginRefused  struct {
		auditLogin
		Reason string `json:"reason"`
		Error  string `json:"error,omitempty"`
	}
	auditDenied struct {
		CID          uint64 `json:"cid"`
		User         string `json:"user,omitempty"`
		Organisation string `json:"organisation,omitempty"`
		Profile      string `json:"profile,omitempty"`
		What         string `json:"what"`
		About        string `json:"about"`
		Omitted      uint64 `json:"omitted,omitempty"`
	}
	auditCommand struct {
		Command string `json:"command"`
		About   string `json:"about"`
		UID     int    `json:"uid"`
		PID     int    `json:"pid"`
	}
	auditKick struct {
		CID  uint64 `json:"cid"`
		Role string `json:"role"`
	}
	auditLost struct {
		N uint64 `json:"n"`
	}
)

func (*auditStart) event() string           { return "start" }
func (*auditStop) event() string            { return "stop" }
func (*auditStopped) event() string         { return "stopped" }
func (*auditRoleStarted) event() string     { return "role_started" }
func (*auditRoleAdopted) event() string     { return "role_adopted" }
func (*auditAdoptionRefused) event() string { return "adoption_refused" }
func (*auditRoleDied) event() string        { return "role_died" }
func (*auditRoleAccused) event() string     { return "role_accused" }
func (*auditImpostor) event() string        { return "impostor_refused" }
func (*auditOffence) event() string         { return "offence" }
func (*auditRestart) event() string         { return "restart" }
func (*auditRestartFailed) event() string   { return "restart_failed" }
func (*auditUpgradeBegun) event() string    { return "upgrade_begun" }
func (*auditUpgrade) event() string         { return "upgrade" }
func (*auditUpgradeFailed) event() string   { return "upgrade_failed" }
func (*auditReload) event() string          { return "reload" }
func (*auditReloadFailed) event() string    { return "reload_failed" }
func (*auditCertificate) event() string     { return "certificate" }
func (*auditKeyUsed) event() string         { return "key_used" }
func (*auditKeyReleased) event() string     { return "key_released" }
func (*auditTicketIssued) event() string    { return "ticket_issued" }
func (*auditTicketRefused) event() string   { return "ticket_refused" }
func (*auditTicketUsed) event() string      { return "ticket_used" }
func (*auditLoginAccepted) event() string   { return "login_accepted" }
func (*auditLoginRefused) event() string    { return "login_refused" }
func (*auditDenied) event() string          { return "permission_denied" }
func (*auditCommand) event() string         { return "command" }
func (*auditKick) event() string            { return "kick" }
func (*auditLost) event() string            { return "audit_lost" }
