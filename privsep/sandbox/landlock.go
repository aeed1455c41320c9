package sandbox

import (
	"github.com/landlock-lsm/go-landlock/landlock"
	ll "github.com/landlock-lsm/go-landlock/landlock/syscall"
)

// abis are the rule sets by ABI, each of all that its ABI can restrict.
var abis = []landlock.Config{
	1: landlock.V1, landlock.V2, landlock.V3, landlock.V4, landlock.V5,
	landlock.V6, landlock.V7, landlock.V8, landlock.V9, landlock.V10,
}

// restrict forbids, on every thread, all that Landlock knows on this kernel, but to
// connect to some ports. It gives the ABI in force, 0: no Landlock here.
func restrict(connect []uint16) (int, error) {
	abi := kernelABI()
	if abi == 0 {
		return 0, nil
	}
	var rules []landlock.Rule
	for _, port := range connect {
		if abi >= tcpABI {
			rules = append(rules, landlock.ConnectTCP(port))
		}
	}
	return abi, abis[abi].Restrict(rules...)
}

// tcpABI is the first that knows of TCP.
const tcpABI = 4

// kernelABI leaves the scopes of ABI 6 out where the kernel does not let the
// threads of one process signal each other (erratum 2): Go preempts by signals.
func kernelABI() int {
	v, err := ll.LandlockGetABIVersion()
	if err != nil || v < 1 {
		return 0
	}
	if v >= 6 {
		if errata, err := ll.LandlockGetErrata(); err != nil || errata&0x2 == 0 {
			v = 5
		}
	}
	return min(v, len(abis)-1)
}
