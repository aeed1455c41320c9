package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/signal"
	"strings"
	"time"
)

const usage = `torture puts a broker under load, kills and restarts what it consists of at
random moments, and counts what is lost, doubled, out of order, damaged, dropped
or leaked. It builds the broker from this checkout and needs root.

  go run ./torture [options]

A plan is a list of ACTION:ROLE=NUMBER, done in an order that the seed decides,
each to a broker that is whole again after the one before:

  kill:ROLE       SIGKILL to router, dispatcher, auth, cm, cm/1 or parent; the
                  parent gets a successor with the same configuration
  stop            SIGSTOP to one of them, SIGCONT up to 300 ms later
  hup             SIGHUP to the parent
  restart:ROLE    gatehouse restart ROLE
  upgrade         another build in place of the binary, then gatehouse upgrade

Then the load ends in good order, the broker is compared with what it was before
the load, and gets SIGTERM in the middle of more of it. Exit code 0: nothing was
lost, and nothing left.

A connection manager that is killed takes its connections along. What they had
sent and was not known to be read, and what was on its way to them, is counted
apart. Everything else must be zero whatever is done, but connections in TLS may
end when their connection manager is replaced.

With -tlsd nothing is killed: short callers use the sessions of a tlsd for that time, and
its memory, descriptors and threads must not grow.

GATEHOUSE_TORTURE=FILE takes that binary in place of one that is built here.

`

func main() {
	o, err := parseOptions(os.Args[1:], os.Stderr)
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	if err != nil {
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	fmt.Printf("seed %d\n", o.seed)
	ok, err := run(ctx, o)
	if err != nil {
		fmt.Fprintf(os.Stderr, "torture: %v\n", err)
	}
	if !ok {
		os.Exit(1)
	}
}

// run builds the broker, tortures it, and prints the account.
func run(ctx context.Context, o options) (ok bool, err error) {
	dir, err := os.MkdirTemp("", "ghtbuild")
	if err != nil {
		return false, err
	}
	defer os.RemoveAll(dir)
	if o.builds, err = build(dir); err != nil {
		return false, err
	}
	if o.soak > 0 {
		return soakTLSD(ctx, o, os.Stdout)
	}
	r, err := torture(ctx, o)
	if err != nil {
		return false, err
	}
	r.write(os.Stdout)
	return r.ok(), nil
}

func parseOptions(args []string, out io.Writer) (o options, err error) {
	f := flag.NewFlagSet("torture", flag.ContinueOnError)
	f.SetOutput(out)
	f.Usage = func() {
		fmt.Fprint(out, usage)
		f.PrintDefaults()
	}
	plan := f.String("plan", "kill:router=20,kill:dispatcher=20,kill:cm=5,kill:parent=5,stop=10,hup=5", "what to do, and how often")
	allowed := f.String("actions", strings.Join(actionNames, ","), "of the plan, do only these")
	f.Uint64Var(&o.seed, "seed", 0, "repeats the choices of a run; 0: another one each time")
	f.DurationVar(&o.gap, "gap", 500*time.Millisecond, "between two deeds, on average")
	f.DurationVar(&o.least, "least", 50*time.Millisecond, "between two deeds, at least")
	f.DurationVar(&o.absent, "absent", time.Second, "longest time without a parent")
	f.DurationVar(&o.span, "span", 10*time.Second, "least time of load")
	f.IntVar(&o.crowd.cells, "cells", 14, "groups of clients at a time, of 2 to 9 connections each")
	f.IntVar(&o.crowd.idle, "idle", 0, "idle connections")
	f.DurationVar(&o.crowd.opens, "opens", 50*time.Millisecond, "between two connections that come and go, on average")
	f.DurationVar(&o.crowd.life, "life", 8*time.Second, "longest life of a group but for the first, which last to the end")
	f.IntVar(&o.cms, "cms", 2, "connection managers")
	f.DurationVar(&o.patience, "patience", 30*time.Second, "for whatever must happen")
	f.DurationVar(&o.still, "still", 15*time.Second, "what has not come after so long without a message is lost")
	f.DurationVar(&o.soak, "tlsd", 0, "no plan, but tlsd for so long, with all its sessions in use")
	f.IntVar(&o.sessions, "sessions", 1000, "of tlsd")
	logs := f.Bool("log", false, "show the broker's log in the end")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	if f.NArg() > 0 {
		err = fmt.Errorf("%q is no option", f.Arg(0))
	}
	if err == nil {
		o.plan, err = parsePlan(*plan)
	}
	if err != nil {
		fmt.Fprintf(out, "torture: %v\n", err)
		return o, err
	}
	o.actions, o.progress = strings.Split(*allowed, ","), os.Stderr
	if *logs {
		o.log = os.Stderr
	}
	for o.seed == 0 {
		o.seed = rand.Uint64N(1 << 32)
	}
	return o, nil
}
