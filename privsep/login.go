package privsep

import "time"

// This file has what is said of who a client is: who there is (USER), who comes
// (LOGIN) and what becomes of it (VERDICT).

// LoginSettings bound what logins may cost. Sizes are in bytes.
type LoginSettings struct {
	Kinds        CredentialSet // that are configured
	Hashes       int           // passwords hashed at a time
	Memory       int           // for all of them together
	FailureRate  int           // failed logins of one address that are looked at, a second
	FailureBurst int           // and at once
	Backoff      time.Duration // longest, of one user at one address
}

func (p *LoginSettings) fields(c *coder) {
	c.u16((*uint16)(&p.Kinds))
	c.check(p.Kinds < 1<<numCredentials)
	c.number(&p.Hashes)
	c.number(&p.Memory)
	c.number(&p.FailureRate)
	c.number(&p.FailureBurst)
	c.duration(&p.Backoff)
}

// Credential is a kind of proof of who a client is.
type Credential uint8

// The kinds. Values are frozen: they travel.
const (
	CredentialNone Credential = iota
	CredentialPassword
	CredentialToken
	CredentialNKey
	CredentialTransfer
	CredentialX509    // a signature by the key of a certificate
	CredentialTLS     // the certificate of the TLS session
	CredentialProcess // what the client is that has connected to a Unix socket
	numCredentials
)

var credentialNames = [numCredentials]string{"none", "password", "token", "nkey", "transfer", "x509", "tls", "process"}

// String gives the name that INFO and logs have.
func (k Credential) String() string {
	if k < numCredentials {
		return credentialNames[k]
	}
	return "credential"
}

// CredentialSet is a set of kinds, one bit each.
type CredentialSet uint16

// Has tells whether k is in the set.
func (s CredentialSet) Has(k Credential) bool { return s&(1<<k) != 0 }

// With gives the set with k in it.
func (s CredentialSet) With(k Credential) CredentialSet { return s | 1<<k }

// Without gives the set without it.
func (s CredentialSet) Without(k Credential) CredentialSet { return s &^ (1 << k) }

// Names lists the set in its order.
func (s CredentialSet) Names() []string {
	names := []string{}
	for k := range numCredentials {
		if s.Has(k) {
			names = append(names, k.String())
		}
	}
	return names
}

// Limits of what is said of users.
const (
	MaxUsers     = 16384 // in a set; the rest is in bytes
	MaxHash      = 256   // of a password, in text
	MaxNKey      = 64
	MaxCertName  = 512
	MaxChallenge = 64
)

// User is one user of a set, which the one with Last completes. Without a name it is
// whoever knows the token; without a password, too, it is nobody, and the set is empty.
type User struct {
	Set          uint32
	Last         bool
	Mark         uint64 // of all that is known of the user: another where anything of it differs; never 0
	Name         string // this and the following but the next two: at most MaxSettingsText
	Password     string // hash, "": cannot log in by password; at most MaxHash
	NKey         string // public, "": cannot log in by nkey; at most MaxNKey
	Organisation string
	Profile      string
	// What a certificate of his must have, as package certname writes it; all "": cannot
	// log in by one. Each at most MaxCertName.
	Subject, SAN, Key string
	Process           ProcessRule // what a process of his must be
}

// Certified tells whether the user can log in by a certificate.
func (p *User) Certified() bool { return p.Subject+p.SAN+p.Key != "" }

func (p *User) fields(c *coder) {
	c.u32(&p.Set)
	c.flag(&p.Last)
	c.u64(&p.Mark)
	c.text(&p.Name, MaxSettingsText)
	c.text(&p.Password, MaxHash)
	c.text(&p.NKey, MaxNKey)
	c.text(&p.Organisation, MaxSettingsText)
	c.text(&p.Profile, MaxSettingsText)
	c.text(&p.Subject, MaxCertName)
	c.text(&p.SAN, MaxCertName)
	c.text(&p.Key, MaxCertName)
	p.Process.fields(c)
	c.check(!p.nobody() || p.Last && p.Mark == 0)
}

func (p *User) nobody() bool {
	return p.Name+p.Password+p.NKey+p.Organisation+p.Profile == "" && !p.Certified() && !p.Process.Given()
}

// String names the user and nothing else.
func (p *User) String() string { return "user " + p.Name }

// GoString hides the hash from %#v.
func (p *User) GoString() string { return p.String() }

// Bounds of marks: of Standing.Marks, and of all of a set together.
const (
	MaxMarks    = 4000
	MaxStanding = 8 * MaxUsers
)

// Standing is a part of the marks of all users there are, which the one with Last
// completes: a session with another mark is of a user who has been removed or
// changed. A router knows of users nothing but that.
type Standing struct {
	Set   uint32
	Last  bool
	Marks []uint64 // at most MaxMarks
}

func (p *Standing) fields(c *coder) {
	c.u32(&p.Set)
	c.flag(&p.Last)
	c.words(&p.Marks, MaxMarks)
}

// MaxConnect bounds the JSON of a CONNECT, in bytes.
const MaxConnect = 64 << 10

// MaxChain bounds the certificates of a client, in bytes.
const MaxChain = 32 << 10

// Login asks who a client is.
type Login struct {
	ID        uint64   // connection UID
	Try       uint32   // comes back; another one for each that the router makes
	Addr      [16]byte // IPv4-mapped for IPv4, zero for Unix
	Unix, TLS bool
	Again     bool    // it may have been asked before, and the verdict lost
	Challenge string  // that the client was given, at most MaxChallenge; "": it has been used
	Process   Process // of a Unix socket
	Chain     []byte  // DER of the certificates of its TLS session, its own first, at most MaxChain
	JSON      []byte  // its CONNECT, at most MaxConnect
}

func (p *Login) fields(c *coder) {
	c.u64(&p.ID)
	c.u32(&p.Try)
	c.fixed(p.Addr[:])
	c.flag(&p.Unix)
	c.flag(&p.TLS)
	c.flag(&p.Again)
	c.text(&p.Challenge, MaxChallenge)
	p.Process.fields(c)
	c.check(p.Unix || p.Process == Process{})
	c.blob(&p.Chain, MaxChain)
	c.check(p.TLS || len(p.Chain) == 0)
	c.rest(&p.JSON, MaxConnect)
}

// String hides what the client sent.
func (p *Login) String() string { return "login ********" }

// GoString hides it, too.
func (p *Login) GoString() string { return p.String() }

// Verdict answers the Login with the same ID and Try. What is known of the client is
// there if it is OK, and zero if not.
type Verdict struct {
	ID           uint64
	Try          uint32
	OK           bool
	Reason       Reason
	Credential   Credential // that was looked at
	Mark         uint64     // of the user
	User         string     // this and the following: at most MaxSettingsText
	Organisation string
	Profile      string
}

func (p *Verdict) fields(c *coder) {
	c.u64(&p.ID)
	c.u32(&p.Try)
	c.flag(&p.OK)
	c.u8((*uint8)(&p.Reason))
	c.u8((*uint8)(&p.Credential))
	c.u64(&p.Mark)
	c.text(&p.User, MaxSettingsText)
	c.text(&p.Organisation, MaxSettingsText)
	c.text(&p.Profile, MaxSettingsText)
	c.check(p.Reason < numReasons && p.Credential < numCredentials && p.OK == (p.Reason == ReasonNone))
	c.check(p.OK == (p.Mark != 0) && (p.OK || p.User+p.Organisation+p.Profile == ""))
}

// Reason is why a client is refused: for logs, never for the client.
type Reason uint8

// The reasons, of which the README has a table. Values are frozen: they travel.
const (
	ReasonNone          Reason = iota // accepted
	ReasonMalformed                   // the CONNECT makes no sense
	ReasonNoCredential                // it has none
	ReasonNotConfigured               // of a kind that nobody here has
	ReasonUnknownUser
	ReasonNoPassword // of the user
	ReasonWrongPassword
	ReasonWrongToken
	ReasonBadNKey // not the public key of a user
	ReasonUnknownNKey
	ReasonBadSignature // not that of the nkey over this connection's challenge
	ReasonRate         // too many failures of the address
	ReasonBackoff      // of the user at the address
	ReasonCrowded      // more wait than there is room for
	ReasonLate         // waited for longer than a client may take

	// Of transfer tickets, in the order in which they are looked for.
	ReasonTicketNonce        // not for this connection's challenge
	ReasonTicketForm         // no transfer ticket
	ReasonTicketIssuer       // of an environment that is not approved here
	ReasonTicketSignature    // not by one of the issuer's keys
	ReasonTicketAudience     // for another environment
	ReasonTicketEarly        // of a time to come
	ReasonTicketExpired      // past
	ReasonTicketUser         // the client says that it is another one
	ReasonTicketSender       // the issuer may not send this user
	ReasonTicketSeen         // shown before
	ReasonTicketOrganisation // not that of the user here

	// Of certificates: of the message that is signed, of what vouches for the
	// certificate, and of whose it is.
	ReasonChallengeUsed          // a second try by the same challenge
	ReasonCMSForm                // not the DER of the form that it must have
	ReasonCMSAttributes          // without signed attributes, or wrong ones
	ReasonCMSAlgorithm           // a digest, signature or key that is not accepted
	ReasonCMSCertificates        // unreadable ones, or the signer's is not there
	ReasonCMSContent             // another challenge or environment was signed
	ReasonCMSSignature           // not that of the certificate's key
	ReasonCertificateUnapproved  // no way to an approved key
	ReasonCertificateExpired     // it or one above it
	ReasonCertificateNotYetValid // the same
	ReasonCertificateUsage       // not for clients, or not for signing
	ReasonCertificateConstraint  // of one above it, or a critical extension
	ReasonCertificateKey         // of an algorithm or length that is not accepted
	ReasonCertificateRevoked     // it or one above it
	ReasonCertificateNoList      // no revocation list of its issuer that is valid now
	ReasonCertificateNobody      // of no user here
	ReasonCertificateAmbiguous   // of several, and the client says not which

	// Of the directory: of what the client says, of what the directory knows of him, and
	// of the directory itself.
	ReasonDirectoryPassword     // which a directory takes for no login at all
	ReasonDirectoryName         // that no user can have
	ReasonDirectoryRefused      // the password was not even looked at
	ReasonDirectoryAmbiguous    // several entries
	ReasonDirectoryReferral     // another server knows
	ReasonDirectoryOrganisation // none, several, or not one that is let in
	ReasonDirectoryProfile      // no profile goes with what the user has
	ReasonDirectoryDown         // no server has answered, and it is not time to try again
	ReasonDirectoryUnreachable  // no connection, or it was lost
	ReasonDirectoryTLS          // not the server that it should be
	ReasonDirectoryTimeout
	ReasonDirectoryProtocol // an answer that makes no sense, or is too long
	ReasonDirectoryAccount  // the account that searches cannot log in

	// Of processes, of which the parent tells the first four.
	ReasonProcessUnknown    // the kernel does not say which one has connected
	ReasonProcessGone       // it has ended
	ReasonProcessChanged    // it is not what it was when it connected, or was looked at
	ReasonProcessUnreadable // its executable cannot be looked at
	ReasonProcessNobody     // of no user here
	ReasonProcessDigest     // of nobody, but would be if its executable held something else
	ReasonProcessAmbiguous  // of several
	numReasons
)

var reasonNames = [numReasons]string{
	"none", "malformed", "no_credential", "not_configured", "unknown_user", "no_password", "wrong_password",
	"wrong_token", "bad_nkey", "unknown_nkey", "bad_signature", "rate", "backoff", "crowded", "late",
	"ticket_nonce", "ticket_form", "ticket_issuer", "ticket_signature", "ticket_audience", "ticket_early", "ticket_expired",
	"ticket_user", "ticket_sender", "ticket_seen", "ticket_organisation",
	"challenge_used", "cms_form", "cms_attributes", "cms_algorithm", "cms_certificates", "cms_content", "cms_signature",
	"certificate_unapproved", "certificate_expired", "certificate_not_yet_valid", "certificate_usage", "certificate_constraint",
	"certificate_key", "certificate_revoked", "certificate_no_list", "certificate_nobody", "certificate_ambiguous",
	"directory_password", "directory_name", "directory_refused", "directory_ambiguous", "directory_referral", "directory_organisation",
	"directory_profile", "directory_down", "directory_unreachable", "directory_tls", "directory_timeout", "directory_protocol", "directory_account",
	"process_unknown", "process_gone", "process_changed", "process_unreadable", "process_nobody", "process_digest", "process_ambiguous",
}

// String gives the reason as it stands in logs.
func (r Reason) String() string {
	if r < numReasons {
		return reasonNames[r]
	}
	return "reason"
}

// Known tells whether there is such a reason.
func (r Reason) Known() bool { return r < numReasons }

// AuthFault asks the parent to end auth.
type AuthFault struct {
	Reason     Fault
	Generation uint64 // of the process that is meant
}

func (p *AuthFault) fields(c *coder) {
	c.u8((*uint8)(&p.Reason))
	c.check(p.Reason > FaultNone && p.Reason < numFaults)
	c.u64(&p.Generation)
}

// Append encodes p.
func (p *User) Append(dst []byte) []byte { return encode(p, dst) }

// Parse decodes all of b or fails with ErrShape.
func (p *User) Parse(b []byte) error { return decode(p, b) }

// Append encodes p.
func (p *Standing) Append(dst []byte) []byte { return encode(p, dst) }

// Parse decodes all of b or fails with ErrShape.
func (p *Standing) Parse(b []byte) error { return decode(p, b) }

// Append encodes p.
func (p *Login) Append(dst []byte) []byte { return encode(p, dst) }

// Parse decodes all of b or fails with ErrShape.
func (p *Login) Parse(b []byte) error { return decode(p, b) }

// Append encodes p.
func (p *Verdict) Append(dst []byte) []byte { return encode(p, dst) }

// Parse decodes all of b or fails with ErrShape.
func (p *Verdict) Parse(b []byte) error { return decode(p, b) }

// Append encodes p.
func (p *AuthFault) Append(dst []byte) []byte { return encode(p, dst) }

// Parse decodes all of b or fails with ErrShape.
func (p *AuthFault) Parse(b []byte) error { return decode(p, b) }
