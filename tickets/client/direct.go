package client

import (
	"fmt"

	"github.com/nats-io/nats.go"
)

// DirectPrefix begins the subjects that belong to one application instance each.
const DirectPrefix = "_APP."

// Name has a connection carry the name of an application instance, type/instance, as
// nats.Connect's option. It is what [ToType] goes by and who may subscribe to [Direct].
// Both are 1 to 128 printable ASCII characters but blank, '.', '*', '>' and '/'.
func Name(kind, instance string) nats.Option {
	return func(o *nats.Options) error {
		if !isToken(kind) || !isToken(instance) {
			return fmt.Errorf("gatehouse: %q/%q cannot be the name of an application instance", kind, instance)
		}
		o.Name = kind + "/" + instance
		return nil
	}
}

// Direct gives the subject of an application instance. A message there reaches it and
// nobody else: only a connection with its [Name] may subscribe, and no wildcard sees it.
func Direct(kind, instance string) string { return DirectPrefix + kind + "." + instance }

func isToken(s string) bool {
	for i := range len(s) {
		if c := s[i]; c <= ' ' || c >= 0x7f || c == '.' || c == '*' || c == '>' || c == '/' {
			return false
		}
	}
	return len(s) > 0 && len(s) <= 128
}
