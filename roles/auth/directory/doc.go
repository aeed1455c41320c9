// Package directory asks an LDAP server who a user is, and whether a password is his.
//
//	Login, Lookup --a link each--> guard --TLS--> stream of the Dialer --> server
//
// Its owner bounds how many ask at a time, and makes the connections (Dialer). A link is
// one connection; it is used by one at a time, kept when that went well, and closed
// otherwise. Everything that is asked has an end in time, whatever the server does.
//
// A user is known in one of two ways: by a template of his DN, by which a login binds at
// once, or by a search as the account of ours, which must find exactly one entry, and a
// bind as that. In both the attribute that the template names must have, among its
// values, the very name that the client said: directories take "Alice" for "alice", we
// do not. Names come into a template only where nothing of them can change what it says.
//
// What holds of every server: TLS with a certificate that is right for its name, before
// anything else is said; no referral is followed; no alias either.
//
// A server is hostile until it has proved who it is, and may be broken afterwards. The
// guard hands the library whole messages only, in the one form that LDAP allows, of a
// bounded depth, and so many bytes for each question.
//
// A server that cannot be reached is left alone for a second, then two, up to half a
// minute; the next one is asked instead. As long as none answers, logins fail at once.
//
// Files: directory.go (questions), link.go (a connection), servers.go (which server, and
// how they are), guard.go, template.go, entry.go (what is made of an entry).
package directory
