package process

import (
	"encoding/json"
	"os/exec"
)

// status is `gatehouse status --json`, as far as it is looked at here.
type status struct {
	PID       int       `json:"pid"`
	Root      bool      `json:"root"`
	Warnings  []string  `json:"warnings"`
	Listeners []string  `json:"listeners"`
	Processes []process `json:"processes"`
	NextStart []struct {
		Key     string `json:"key"`
		Running string `json:"running"`
		File    string `json:"file"`
	} `json:"next_start"`
	Arenas []struct {
		Used   uint64 `json:"used"`
		Bodies uint64 `json:"bodies"`
	} `json:"arenas"`
}

type process struct {
	Role          string `json:"role"`
	PID           int    `json:"pid"`
	UID           int    `json:"uid"`
	Restarts      int    `json:"restarts"`
	Adopted       bool   `json:"adopted"`
	State         string `json:"state"`
	Connections   uint64 `json:"connections"`
	Subscriptions uint64 `json:"subscriptions"`
	InMsgs        uint64 `json:"in_msgs"`
	InBytes       uint64 `json:"in_bytes"`
	SlowConsumers uint64 `json:"slow_consumers"`
	Memory        uint64 `json:"memory"`
	NoNewPrivs    bool   `json:"no_new_privs"`
	NoCaps        bool   `json:"no_caps"`
	Seccomp       int    `json:"seccomp"`
	Landlock      int    `json:"landlock"`
	OwnNetwork    bool   `json:"own_network"`

	Missing      []string `json:"missing"`
	Capabilities []string `json:"capabilities"`
}

func (b *broker) status() status {
	b.t.Helper()
	out, err := exec.Command(gatehouse, "status", "--runtime-dir", b.run, "--json").Output()
	if err != nil {
		text := ""
		if e, ok := err.(*exec.ExitError); ok {
			text = string(e.Stderr)
		}
		b.t.Fatalf("status: %v\n%s", err, text)
	}
	var s status
	must(b.t, json.Unmarshal(out, &s))
	return s
}

// role is one process of a status; it is there, if only as a memory.
func (s *status) role(name string) process {
	for _, p := range s.Processes {
		if p.Role == name {
			return p
		}
	}
	return process{}
}

// sum adds up a figure over the connection managers.
func (s *status) sum(of func(process) uint64) uint64 {
	n := uint64(0)
	for _, p := range s.Processes {
		if len(p.Role) > 3 && p.Role[:3] == "cm/" {
			n += of(p)
		}
	}
	return n
}

// empty tells whether no message body is kept anywhere.
func (s *status) empty() bool {
	for _, a := range s.Arenas {
		if a.Used != 0 || a.Bodies != 0 {
			return false
		}
	}
	return len(s.Arenas) > 0
}
