package parent

import (
	"os"
	"slices"

	"gatehouse/privsep"
)

// Logins are what of a configuration is about who can log in, as auth gets it.
type Logins struct {
	Kinds     privsep.CredentialSet
	Users     []privsep.User
	Issuers   []privsep.Issuer
	Approval  *privsep.ApprovalText
	Directory bool // there is one
	LooksUp   bool // and it can be asked about users without their passwords
}

// Logins reads the files that the configuration names. An error is a *ConfigError.
func (c *Config) Logins() (*Logins, error) {
	issuers, err := loadIssuers(c)
	if err != nil {
		return nil, err
	}
	a, err := loadApproval(c)
	if err != nil {
		return nil, err
	}
	lists := a.listText()
	return &Logins{Kinds: c.credentials(), Users: c.users(1), Issuers: issuers, Approval: &privsep.ApprovalText{
		Approval:    privsep.Approval{Mark: a.mark(), Approved: uint32(len(a.approved)), Lists: uint32(len(lists))},
		ApprovedPEM: a.approved, ListsPEM: lists,
	}, Directory: c.LDAP.there(), LooksUp: c.LDAP.looksUp()}, nil
}

// Profile gives the profile of a name, nil for the one that allows everything.
func (c *Config) Profile(name string) *ProfileConfig {
	i := slices.IndexFunc(c.Profiles, func(f ProfileConfig) bool { return f.Name == name })
	if i < 0 {
		return nil
	}
	return &c.Profiles[i]
}

// IDs gives the numbers of a user and of a group, by name or number.
func IDs(user, group Account) (uid, gid uint32, err error) {
	ids := newAccounts()
	if user != "" {
		if uid, err = ids.uid(user); err != nil {
			return 0, 0, err
		}
	}
	if group != "" {
		gid, err = ids.gid(group)
	}
	return uid, gid, err
}

// Inspect looks at a process as the parent would if it had just connected. The content
// is there if a rule asks for its digest.
func (c *Config) Inspect(pid int) (who privsep.Process, seen privsep.Inspected, content *privsep.Content, err error) {
	if who, err = privsep.ProcessOf(pid); err != nil {
		return who, seen, nil, err
	}
	i := look(&privsep.Inspect{File: true, Process: who}, c.processRules(), false)
	if i.file >= 0 {
		content, err = privsep.TakeContent(i.file)
	}
	if i.err != nil {
		err = i.err
	}
	return who, i.answer, content, err
}

// Imagine is Inspect of a process that is not there: it would run as such a user and
// group, and execute the file at a path, "" for one that no rule knows.
func (c *Config) Imagine(uid, gid uint32, path string) (who privsep.Process, seen privsep.Inspected, content *privsep.Content, err error) {
	who = privsep.Process{PID: 1, UID: uid, GID: gid, PidIno: 1}
	seen.Start = 1
	if path == "" {
		return who, seen, nil, nil
	}
	st, err := os.Stat(path)
	if err != nil {
		return who, seen, nil, err
	}
	seen.Link = path
	read := false
	for _, r := range c.processRules() {
		if !r.Looks() || !r.Owns(&who) {
			continue
		}
		if r.Executable != "" {
			if other, err := os.Stat(r.Executable); err != nil || !os.SameFile(st, other) {
				continue
			}
			if !slices.Contains(seen.Executables, r.Executable) {
				seen.Executables = append(seen.Executables, r.Executable)
			}
		}
		read = read || r.BySum
	}
	if read {
		content, err = privsep.OpenContent(path)
	}
	return who, seen, content, err
}
