package tree

import (
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
)

// Status is `gatehouse status --json`, as far as it is looked at here.
type Status struct {
	PID       int       `json:"pid"`
	Version   string    `json:"version"`
	Root      bool      `json:"root"`
	Warnings  []string  `json:"warnings"`
	Listeners []string  `json:"listeners"`
	Console   []string  `json:"console"`
	Processes []Process `json:"processes"`
	NextStart []struct {
		Key     string `json:"key"`
		Running string `json:"running"`
		File    string `json:"file"`
	} `json:"next_start"`
	Arenas []struct {
		Used   uint64 `json:"used"`
		Bodies uint64 `json:"bodies"`
	} `json:"arenas"`
	Transfer *struct {
		Algorithm string `json:"algorithm"`
		Signed    uint64 `json:"signed"`
		Refused   uint64 `json:"refused"`
	} `json:"transfer"`
	Audit *struct {
		To      string `json:"to"`
		Written uint64 `json:"written"`
		Lost    uint64 `json:"lost"`
	} `json:"audit"`
	Directory *struct {
		State     string `json:"state"`
		LastError string `json:"last_error"`
		Asked     uint64 `json:"asked"`
		Failed    uint64 `json:"failed"`
	} `json:"directory"`
}

// Process is one role of it.
type Process struct {
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
	Logins        uint64 `json:"logins"`
	NoLogins      uint64 `json:"logins_refused"`
	Sessions      uint64 `json:"sessions"`
	Signatures    uint64 `json:"signatures"`
	Memory        uint64 `json:"memory"`
	NoNewPrivs    bool   `json:"no_new_privs"`
	NoCaps        bool   `json:"no_caps"`
	Seccomp       int    `json:"seccomp"`
	Landlock      int    `json:"landlock"`
	OwnNetwork    bool   `json:"own_network"`

	Record *struct {
		StartTime uint64 `json:"start_time"`
		PidInode  uint64 `json:"pidfd_inode"`
		Inode     uint64 `json:"exe_inode"`
		SHA256    string `json:"exe_sha256"`
	} `json:"record"`

	Successor string `json:"successor"` // while it retires
	Stay      uint64 `json:"stay"`

	Missing      []string `json:"missing"`
	Capabilities []string `json:"capabilities"`
}

// AskStatus runs `gatehouse status` for the broker in a runtime directory.
func AskStatus(gatehouse, dir string) (*Status, error) {
	out, err := exec.Command(gatehouse, "status", "--runtime-dir", dir, "--json").Output()
	if e, ok := errors.AsType[*exec.ExitError](err); ok {
		return nil, fmt.Errorf("status: %w\n%s", err, e.Stderr)
	}
	if err != nil {
		return nil, err
	}
	s := new(Status)
	return s, json.Unmarshal(out, s)
}

// Role is one process of a status; it is there, if only as a memory.
func (s *Status) Role(name string) Process {
	for _, p := range s.Processes {
		if p.Role == name {
			return p
		}
	}
	return Process{}
}

// Sum adds up a figure over the connection managers.
func (s *Status) Sum(of func(Process) uint64) uint64 {
	n := uint64(0)
	for _, p := range s.Processes {
		if len(p.Role) > 3 && p.Role[:3] == "cm/" {
			n += of(p)
		}
	}
	return n
}

// Empty tells whether no message body is kept anywhere.
func (s *Status) Empty() bool {
	for _, a := range s.Arenas {
		if a.Used != 0 || a.Bodies != 0 {
			return false
		}
	}
	return len(s.Arenas) > 0
}
