package main

import (
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// machineTime is the CPU time of the whole machine since boot.
type machineTime struct{ busy, total time.Duration }

func readMachine() (m machineTime) {
	b, err := os.ReadFile("/proc/stat")
	if err != nil {
		return m
	}
	line, _, _ := strings.Cut(string(b), "\n")
	// cpu user nice system idle iowait irq softirq steal; guest is in user.
	for i, f := range strings.Fields(line) {
		n, err := strconv.ParseInt(f, 10, 64)
		if err != nil || i > 8 {
			continue
		}
		m.total += time.Duration(n) * tick
		if i != 4 && i != 5 {
			m.busy += time.Duration(n) * tick
		}
	}
	return m
}

// ownTime is the CPU time of this process and of all it has waited for.
func ownTime() (sum time.Duration) {
	for _, who := range []int{syscall.RUSAGE_SELF, syscall.RUSAGE_CHILDREN} {
		var u syscall.Rusage
		if syscall.Getrusage(who, &u) == nil {
			sum += time.Duration(u.Utime.Nano() + u.Stime.Nano())
		}
	}
	return sum
}

// bystanders tells what share of the machine others used while a run lasted:
// on a busy machine the figures mean little.
type bystanders struct {
	machine machineTime
	own     time.Duration
}

func watchBystanders() bystanders { return bystanders{readMachine(), ownTime()} }

func (b bystanders) share() float64 {
	now := readMachine()
	total := now.total - b.machine.total
	if total <= 0 {
		return 0
	}
	others := now.busy - b.machine.busy - (ownTime() - b.own)
	return max(0, float64(others)/float64(total))
}
