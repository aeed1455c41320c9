package main

import (
	"encoding/json"
	"fmt"
	"strings"

	"golang.org/x/crypto/bcrypt"
)

// table is one of a list: [[user]], [[profile]].
type table struct {
	list   string
	values map[string]any
}

// user is one of a spec's users, as nats-server's configuration has them.
type user struct {
	User        string          `json:"user"`
	Pass        string          `json:"pass"` // plain, or a hash by bcrypt
	NKey        string          `json:"nkey"`
	Account     string          `json:"account"`
	Permissions json.RawMessage `json:"permissions"`
}

// hash is what the broker takes for a password, as cheap as there is.
func hash(pass string) (string, error) {
	if _, err := bcrypt.Cost([]byte(pass)); err == nil {
		return pass, nil
	}
	b, err := bcrypt.GenerateFromPassword([]byte(pass), bcrypt.MinCost)
	return string(b), err
}

func token(c *config, v json.RawMessage) error {
	var s string
	err := json.Unmarshal(v, &s)
	if err == nil {
		c.values["auth.token"], err = hash(s)
	}
	return err
}

func single(field func(*user) *string) func(*config, json.RawMessage) error {
	return func(c *config, v json.RawMessage) error { return json.Unmarshal(v, field(&c.single)) }
}

func users(c *config, v json.RawMessage) error { return json.Unmarshal(v, &c.users) }

func defaultPermissions(c *config, v json.RawMessage) error {
	c.permissions = v
	return nil
}

// logins makes tables of the users and of what they may do.
func (c *config) logins() error {
	if c.single.User != "" {
		c.users = append(c.users, c.single)
	}
	for i, u := range c.users {
		t := map[string]any{"name": u.User}
		switch {
		case u.Account != "":
			return &unmappedError{"users.account"}
		case u.Pass == "" && u.NKey == "":
			return &unmappedError{"a user without a password"}
		}
		if u.NKey != "" {
			t["name"], t["nkey"] = fmt.Sprintf("nkey%d", i), u.NKey
		}
		if u.Pass != "" {
			h, err := hash(u.Pass)
			if err != nil {
				return err
			}
			t["password"] = h
		}
		p := u.Permissions
		if p == nil {
			p = c.permissions
		}
		if p != nil {
			t["profile"] = fmt.Sprintf("profile%d", i)
			if err := c.profile(fmt.Sprintf("profile%d", i), p); err != nil {
				return err
			}
		}
		c.tables = append(c.tables, table{"user", t})
	}
	return nil
}

// permissionKeys says what each key of permissions becomes.
var permissionKeys = map[string]string{"pub_allow": "publish", "pub_deny": "publish_deny", "sub_allow": "subscribe", "sub_deny": "subscribe_deny"}

func (c *config) profile(name string, v json.RawMessage) error {
	var keys map[string]json.RawMessage
	if err := json.Unmarshal(v, &keys); err != nil {
		return err
	}
	t := map[string]any{"name": name}
	for key, v := range keys {
		to := permissionKeys[key]
		var subjects []string
		if to == "" || json.Unmarshal(v, &subjects) != nil {
			return &unmappedError{"permissions." + key}
		}
		for _, s := range subjects {
			if strings.Contains(s, " ") {
				return &unmappedError{"permissions for a queue group"}
			}
		}
		t[to] = subjects
	}
	c.tables = append(c.tables, table{"profile", t})
	return nil
}
