// Command gatehouse is a message broker that NATS clients can use unchanged,
// split into processes that trust each other as little as possible.
package main

import (
	"fmt"
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
		if name == parent.CheckName && len(os.Args) > 3 {
			os.Exit(upgradeCheck(os.Args[3]))
		}
		os.Exit(roles.Main(name))
	}
	serve := func(cfg *parent.Config, source string) error { return parent.Serve(cfg, source, version) }
	os.Exit(cli.Main(os.Args, cli.Env{Version: version, Serve: serve, Debug: roles.Debug}))
}

// upgradeCheck is this binary's trial by a running broker.
func upgradeCheck(source string) int {
	if err := parent.UpgradeCheck(source); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}
