package parent

import (
	"encoding/hex"
	"fmt"
	osuser "os/user"
	"path/filepath"
	"slices"
	"strconv"

	"gatehouse/privsep"
)

// Account is a user or group of this host, by name or number.
type Account string

func accountOf(raw any) (Account, error) {
	switch v := raw.(type) {
	case string:
		return Account(v), nil
	case int64:
		return Account(strconv.FormatInt(v, 10)), nil
	}
	return "", fmt.Errorf("%s is neither a name nor a number", show(raw))
}

// accounts remembers what names have been looked up, of users and of groups.
type accounts struct{ uids, gids map[Account]uint32 }

func newAccounts() *accounts { return &accounts{map[Account]uint32{}, map[Account]uint32{}} }

// nobodysID is the uid or gid that no process has: all ones.
const nobodysID = 1<<32 - 1

func (a *accounts) uid(name Account) (uint32, error) {
	return number(a.uids, name, func(s string) (string, error) {
		u, err := osuser.Lookup(s)
		if err != nil {
			return "", fmt.Errorf("%s is no user here", show(s))
		}
		return u.Uid, nil
	})
}

func (a *accounts) gid(name Account) (uint32, error) {
	return number(a.gids, name, func(s string) (string, error) {
		g, err := osuser.LookupGroup(s)
		if err != nil {
			return "", fmt.Errorf("%s is no group here", show(s))
		}
		return g.Gid, nil
	})
}

func number(known map[Account]uint32, name Account, lookup func(string) (string, error)) (uint32, error) {
	if id, ok := known[name]; ok {
		return id, nil
	}
	id, err := strconv.ParseUint(string(name), 10, 32)
	if err != nil {
		text, err := lookup(string(name))
		if err != nil {
			return nobodysID, err
		}
		if id, err = strconv.ParseUint(text, 10, 32); err != nil {
			return nobodysID, fmt.Errorf("%s has the number %q", show(string(name)), text)
		}
	}
	if id == nobodysID {
		return nobodysID, fmt.Errorf("%s stands for nobody", show(string(name)))
	}
	known[name] = uint32(id)
	return uint32(id), nil
}

// processed tells whether the user can log in by a process.
func (u *UserConfig) processed() bool { return u.UID+u.GID != "" }

// processRule reads what somebody has written. In faults there is an error for each
// option that is wrong, and nothing fits what is wrong.
func (u *UserConfig) processRule(ids *accounts) (r privsep.ProcessRule, faults map[string]error) {
	faults = map[string]error{}
	fault := func(option string, err error) {
		if err != nil {
			faults[option] = err
		}
	}
	if !u.processed() {
		return r, faults
	}
	var err error
	if r.ByUID = u.UID != ""; r.ByUID {
		r.UID, err = ids.uid(u.UID)
		fault("uid", err)
	}
	if r.ByGID = u.GID != ""; r.ByGID {
		r.GID, err = ids.gid(u.GID)
		fault("gid", err)
	}
	r.Executable = u.Executable
	if u.Executable != "" {
		fault("executable", checkExecutable(u.Executable))
	}
	if r.BySum = u.SHA256 != ""; r.BySum {
		sum, err := hex.DecodeString(u.SHA256)
		if err != nil || len(sum) != len(r.SHA256) {
			fault("sha256", fmt.Errorf("%s is not the 64 hexadecimal digits of a SHA-256", show(u.SHA256)))
		}
		copy(r.SHA256[:], sum)
	}
	return r, faults
}

// checkExecutable allows the one way to write a path.
func checkExecutable(path string) error {
	if !filepath.IsAbs(path) || filepath.Clean(path) != path || len(path) > privsep.MaxExecutable {
		return fmt.Errorf("%s is not a whole path, from / on, without detours, of at most %d bytes", show(path), privsep.MaxExecutable)
	}
	return nil
}

// checkProcess says what is wrong with a user's process, by option.
func (c *Config) checkProcess(u *UserConfig, ids *accounts, seen map[string]bool, add func(key, text string)) {
	if !u.processed() {
		for option, written := range map[string]string{"executable": u.Executable, "sha256": u.SHA256} {
			if written != "" {
				add(option, "needs a uid or a gid: whoever may run a program can make it do what he likes")
			}
		}
		return
	}
	first := "uid"
	if u.UID == "" {
		first = "gid"
	}
	r, faults := u.processRule(ids)
	for option, err := range faults {
		add(option, err.Error())
	}
	switch id := fmt.Sprintf("process %v", r); {
	case len(faults) > 0:
	case seen[id]:
		add(first, "is another user's, too, with the same executable and sha256")
	default:
		seen[id] = true
	}
	if len(c.Listen.Unix) == 0 {
		add(first, "needs a Unix socket, in listen.unix")
	}
}

// processRules are those of all users.
func (c *Config) processRules() (all []privsep.ProcessRule) {
	ids := newAccounts()
	for i := range c.Users {
		if r, faults := c.Users[i].processRule(ids); r.Given() && len(faults) == 0 {
			all = append(all, r)
		}
	}
	return all
}

// looksAtProcesses tells whether a process must be more than of some uid or gid.
func (c *Config) looksAtProcesses() bool { return c.looksAtUsers() || c.looksAtCallers() }

// looksAtUsers tells whether that of some user must.
func (c *Config) looksAtUsers() bool {
	return slices.ContainsFunc(c.Users, func(u UserConfig) bool { return u.processed() && u.Executable+u.SHA256 != "" })
}
