package privsep

import "time"

// This file has what is said of a directory (LDAP) that knows who else there is: which
// one (DIRECTORY), and the way to it. Auth has no network and opens no socket. It asks
// for one (DIAL), and the parent makes it and begins to connect it to an address of the
// configuration, which auth does not even know.

// Bounds of a Directory. Names in it are at most MaxSettingsText.
const (
	MaxDirectory         = 64 << 10 // bytes of a whole DIRECTORY, without its parcel
	MaxDirectoryServers  = 16
	MaxDirectoryServer   = 300  // bytes of what one is called
	MaxDirectoryText     = 1024 // bytes of a DN or filter
	MaxDirectorySecret   = 1023
	MaxDirectoryProfiles = 256
	MaxDirectoryCA       = 1 << 20 // bytes
	MaxDirectoryLinks    = 32      // at a time: auth may have 64 files open
)

// Directory comes with a parcel: the certificates, in PEM, of whom to believe that a
// server is the directory.
type Directory struct {
	Number  uint32
	Mark    uint64   // of all that says who somebody is, as a User's; 0: there is none, all else is zero
	CA      uint32   // bytes
	Servers []string // "ldaps://HOST:PORT", or "ldap://": StartTLS; what is dialled is their index
	Name    string   // that their certificates have, "": HOST

	UserDN           string // template of whom to be, "": he is searched for
	Base, Filter     string // to search by; Filter is a template
	BindDN, BindPass string // who searches, "": nobody can be looked up

	OrganisationAttribute string   // "": all are of the one organisation there is
	Organisations         []string // that are let in; empty: any
	ProfileAttribute      string   // "": all have Profile
	Values, Profiles      []string // pairs: who has that value has that profile
	Profile               string   // of those who have none of them
	MustMatch             bool     // there is no such profile

	Timeout time.Duration
	Links   int // connections at a time
}

func (p *Directory) fields(c *coder) {
	c.u32(&p.Number)
	c.u64(&p.Mark)
	if p.Mark == 0 {
		return
	}
	c.u32(&p.CA)
	c.check(p.CA > 0 && p.CA <= MaxDirectoryCA)
	c.texts(&p.Servers, MaxDirectoryServers, MaxDirectoryServer)
	c.check(len(p.Servers) > 0)
	c.text(&p.Name, MaxSettingsText)
	for _, s := range []*string{&p.UserDN, &p.Base, &p.Filter, &p.BindDN, &p.BindPass} {
		c.text(s, MaxDirectoryText)
	}
	c.text(&p.OrganisationAttribute, MaxSettingsText)
	c.texts(&p.Organisations, MaxIssuerList, MaxSettingsText)
	c.text(&p.ProfileAttribute, MaxSettingsText)
	c.texts(&p.Values, MaxDirectoryProfiles, MaxDirectoryText)
	c.texts(&p.Profiles, MaxDirectoryProfiles, MaxSettingsText)
	c.check(len(p.Values) == len(p.Profiles))
	c.text(&p.Profile, MaxSettingsText)
	c.flag(&p.MustMatch)
	c.duration(&p.Timeout)
	c.number(&p.Links)
	c.check(p.Timeout > 0 && p.Links > 0 && p.Links <= MaxDirectoryLinks)
}

// String says nothing of it: it has a secret.
func (p *Directory) String() string { return "directory ********" }

// GoString hides that, too.
func (p *Directory) GoString() string { return p.String() }

// TakeDirectory reads the parcel of a DIRECTORY, whose fd it closes.
func TakeDirectory(m *Message) (d *Directory, ca []byte, err error) {
	defer m.CloseFDs()
	defer clear(m.Payload)
	d = new(Directory)
	if err := d.Parse(m.Payload); err != nil {
		return nil, nil, err
	}
	ca, err = ReadParcel(m.FDs[0], int(d.CA))
	return d, ca, err
}

// Dial asks for a connection to a server of the directory.
type Dial struct {
	ID     uint64 // comes back
	Number uint32 // of the Directory
	Server uint16
}

func (p *Dial) fields(c *coder) {
	c.u64(&p.ID)
	c.u32(&p.Number)
	c.u16(&p.Server)
}

// Dialed answers a Dial with a socket, which is not connected yet, or never will be.
type Dialed struct{ ID uint64 }

func (p *Dialed) fields(c *coder) { c.u64(&p.ID) }

// DialFailed answers a Dial that nothing comes of.
type DialFailed struct {
	ID    uint64
	Errno uint16
}

func (p *DialFailed) fields(c *coder) {
	c.u64(&p.ID)
	c.u16(&p.Errno)
	c.check(p.Errno != 0)
}

// DirectoryState is how a directory is.
type DirectoryState uint8

// The states. Values are frozen: they travel.
const (
	DirectoryNone    DirectoryState = iota // there is none
	DirectoryUnknown                       // nothing has been heard yet
	DirectoryUp
	DirectoryDown // no server answers
	numDirectoryStates
)

var directoryStateNames = [numDirectoryStates]string{"none", "unknown", "up", "down"}

// String gives the state as status has it.
func (s DirectoryState) String() string {
	if s < numDirectoryStates {
		return directoryStateNames[s]
	}
	return "state"
}

// Append encodes p.
func (p *Directory) Append(dst []byte) []byte { return encode(p, dst) }

// Parse decodes all of b or fails with ErrShape.
func (p *Directory) Parse(b []byte) error { return decode(p, b) }

// Append encodes p.
func (p *Dial) Append(dst []byte) []byte { return encode(p, dst) }

// Parse decodes all of b or fails with ErrShape.
func (p *Dial) Parse(b []byte) error { return decode(p, b) }

// Append encodes p.
func (p *Dialed) Append(dst []byte) []byte { return encode(p, dst) }

// Parse decodes all of b or fails with ErrShape.
func (p *Dialed) Parse(b []byte) error { return decode(p, b) }

// Append encodes p.
func (p *DialFailed) Append(dst []byte) []byte { return encode(p, dst) }

// Parse decodes all of b or fails with ErrShape.
func (p *DialFailed) Parse(b []byte) error { return decode(p, b) }
