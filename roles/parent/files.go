package parent

import (
	"errors"
	"io/fs"
	"os"
	"strings"

	"gatehouse/privsep"
	"gatehouse/privsep/custody"
)

// files are what stands in the files that a configuration names.
type files struct {
	approval  *approval
	cred      *credential // nil without TLS
	transfer  *custody.TicketKey
	issuers   []privsep.Issuer
	directory *directoryText // nil: there is none
	shared    *sharingRead
}

// readFiles reads them, but for a certificate that is still to be made (develop). An
// error is a *ConfigError, or wraps custody.ErrIdentity; after one nothing is open. What
// is pardoned is left out; nil pardons nothing.
func (c *Config) readFiles(pardon func(error) bool) (*files, error) {
	f := new(files)
	for _, read := range []func() error{
		func() (err error) { f.approval, err = loadApproval(c); return err },
		func() (err error) {
			if len(c.Listen.TLS) > 0 && c.TLS.Cert != "" {
				f.cred, err = loadCredential(c)
			}
			return err
		},
		func() (err error) { f.transfer, err = loadTransferKey(c, f.cred); return err },
		func() (err error) { f.issuers, err = loadIssuers(c); return err },
		func() (err error) { f.directory, err = loadDirectory(c); return err },
		func() (err error) { f.shared, err = loadSharing(c, f.cred, f.transfer); return err },
	} {
		if err := read(); err != nil && (pardon == nil || !pardon(err)) {
			f.close()
			return nil, err
		}
	}
	return f, nil
}

// close erases the secrets among them.
func (f *files) close() {
	if f.cred != nil {
		f.cred.key.Close()
	}
	if f.transfer != nil {
		f.transfer.Close()
	}
	if f.directory != nil {
		f.directory.close()
	}
	if f.shared != nil && f.shared.identity != nil {
		f.shared.identity.key.Close()
	}
}

// CheckFiles says what is wrong with the files that a configuration names, as serve would
// find them. Who is not root may not see all that root's broker will: that is no fault.
// An error is as those of Find.
func CheckFiles(c *Config, source string) error {
	if _, err := custody.Harden(); err != nil {
		return err
	}
	f, err := c.readFiles(pardoned)
	if err != nil {
		return located(err, source)
	}
	f.close()
	return nil
}

// pardoned tells of an error that is no fault of the configuration: what only root may
// read, and what a service manager shows to a unit that runs and to nobody else.
func pardoned(err error) bool {
	var at *fs.PathError
	return os.Geteuid() != 0 && errors.Is(err, fs.ErrPermission) ||
		errors.Is(err, fs.ErrNotExist) && errors.As(err, &at) && strings.HasPrefix(at.Path, "/run/credentials/")
}

// fileFault is a *ConfigError of what became of reading a file.
func fileFault(key string, err error) *ConfigError {
	return &ConfigError{Key: key, Text: err.Error(), cause: err}
}
