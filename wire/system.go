package wire

// This file has what clients ask for the state of the broker, as they ask nats-server.

// system begins the subjects on which they ask.
const system = "$SYS.REQ."

// UserInfo is the subject on which everybody may ask: who the broker takes it for.
const UserInfo = "$SYS.REQ.USER.INFO"

// System reports whether a message on subject asks for the state of the broker. It
// reaches nobody else, whatever others have subscribed to.
func System(subject []byte) bool { return begins(subject, system) }

// GlobalAccount is what nats-server calls the account of clients without one: the only
// one here.
const GlobalAccount = "$G"

// ServerInfo says who answers. The fields are nats-server's, as those of all answers.
type ServerInfo struct {
	Name      string `json:"name"`
	Host      string `json:"host"`
	ID        string `json:"id"`
	Version   string `json:"ver"`
	JetStream bool   `json:"jetstream"`
	Flags     uint64 `json:"flags"`
	Seq       uint64 `json:"seq"`
	Time      string `json:"time"` // RFC 3339
}

// UserInfoAnswer answers a request on UserInfo.
type UserInfoAnswer struct {
	Server ServerInfo `json:"server"`
	Data   User       `json:"data"`
}

// User is whom the broker takes a client for.
type User struct {
	User        string       `json:"user"`
	Account     string       `json:"account"`
	Permissions *Permissions `json:"permissions,omitempty"`
}

// Permissions are the subjects that a client may use. None stands for all.
type Permissions struct {
	Publish   *SubjectPermission  `json:"publish,omitempty"`
	Subscribe *SubjectPermission  `json:"subscribe,omitempty"`
	Responses *ResponsePermission `json:"responses,omitempty"`
}

// SubjectPermission allows all without an Allow, but for what is denied.
type SubjectPermission struct {
	Allow []string `json:"allow,omitempty"`
	Deny  []string `json:"deny,omitempty"`
}

// ResponsePermission is how many answers a client may give to each request, and for how
// long, in nanoseconds.
type ResponsePermission struct {
	Max     int   `json:"max"`
	Expires int64 `json:"ttl"`
}
