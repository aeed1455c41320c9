// Command gatehouse is a message broker that NATS clients can use unchanged,
// split into processes that trust each other as little as possible.
package main

import (
	"os"

	"gatehouse/privsep"
	"gatehouse/roles"
	"gatehouse/roles/cli"
	"gatehouse/roles/parent"
)

// version is set when the binary is linked.
var version = "dev"

func main() {
	if len(os.Args) > 1 && os.Args[1] == privsep.ChildFlag {
		name := ""
		if len(os.Args) > 2 {
			name = os.Args[2]
		}
		os.Exit(roles.Main(name))
	}
	serve := func(cfg *parent.Config, source string) error { return parent.Serve(cfg, source, version) }
	os.Exit(cli.Main(os.Args, cli.Env{Version: version, Serve: serve, Debug: roles.Debug}))
}
