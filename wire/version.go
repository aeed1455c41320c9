package wire

// ServerVersion is the nats-server whose behaviour this package keeps; clients
// gate features on it.
const ServerVersion = "2.15.2"

// Known tells whether c is a code of the table.
func (c Code) Known() bool { return c < numCodes }
