// Torture puts a broker of real processes under load while it kills, stops,
// restarts and upgrades what the broker consists of, and gives an account to the
// message. make torture runs it for long, the tests here for a few seconds each.
//
//	killer --SIGKILL, ...--> gatehouse: parent, router, dispatcher, cm/0, cm/1
//	                             ^ plaintext, Unix, TLS
//	cells, visitors, idle -------+
//	   |  what was sent, what came
//	   v
//	 book --> the report: lost, doubled, ... all of which must be zero
//
// The load is made of cells: a few connections whose clients talk among
// themselves only. A cell subscribes, publishes for a while, settles until all
// that is due has come, gives its account and closes. The first ones of each
// shape last to the end of the run: connections must survive everything, not
// only the next thing. When a connection of a cell ends, the others come to an
// end in good order, and another cell takes its place; nobody ever reconnects.
//
// What counts:
//
//   - Due is what was sent, and over a connection that then ended, only what a
//     PONG had shown to be read.
//   - Nobody subscribes to what has begun, so every stream begins at 1 for all.
//   - A connection that ends is dropped, unless we closed it, or its cm was
//     killed: a cm that is to die is stopped first, and whose ends it holds is
//     read from /proc. After an upgrade, or a restart of a cm, those in TLS may
//     end too.
//   - What is missing where a party has gone with its cm (the receiver, a member of
//     its group, who would have answered) is counted apart. Half of the groups
//     have all members on one cm, so that the other one's death excuses nothing.
//
// The seed decides what is done, to whom, in which order, and what the clients are
// like. It does not decide what meets what in time, which is the machine's doing.
//
// Afterwards the broker without clients must have no more than before them, by
// kind and number: descriptors, mappings, processes, segments, uids, places,
// bodies. Then comes SIGTERM, with publishers in full flow.
//
// Files: ledger/ (numbered messages), client/ (a raw client), book.go and report.go
// (the account), link.go (a connection), cell.go, settle.go, publish.go (a cell),
// shapes.go, churn.go, natsgo.go, visit.go (what clients do), run.go (all of them),
// broker.go (the processes), homes.go (who holds whose connection), plan.go and
// killer.go (what is done to it), leaks.go, term.go (the end), torture.go (all of
// it in turn), soak.go (tlsd, for long and in peace), main.go (options). proxy_test.go shows that each fault is found.
package main
