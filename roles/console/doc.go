// Package console is the role that shows how the broker is, over HTTP.
//
//	          listeners                     sealed parcel (STATUS)
//	browser ------------> +-----------+ <---------------------------- parent
//	nats-top    GET       |  console  |      STATUS_GET, 4 a second
//	Prometheus            +-----------+ <---------------------------> router
//	                        ^   ^   ^   reads only       SUBS_GET, SUBS: who subscribes
//	                        |   |   |                    to what, page by page
//	   connection table ----+   |   +---- sessions (the router's word on connections,
//	   (dispatcher's)        columns      its figures and histograms)
//	                         (cms')
//
// It accepts at sockets that the parent has opened, answers GET and HEAD, and changes
// nothing: there is no message by which it could. What it reads in shared memory is
// another role's word, bounded and copied once; what it asks the parent for is what
// `gatehouse status` shows. It knows no secret: there is none in what it maps.
//
// A client of it is a stranger. Requests have bounds of time and size, connections of
// number, those over Unix sockets and those over TCP apart; a Host that is a name must be
// one of the configuration (a page of another site could reach a loopback address by a name
// of its own); an answer says that nobody may keep it, frame it or guess its type.
//
// Paths: /healthz /varz /connz /subsz have nats-server's names and fields; /metrics is
// Prometheus' text format; /statusz is everything, for `gatehouse top` and the status page:
//
//	{"now": RFC 3339, "status": as `gatehouse status --json`, "stale": bool,
//	 "varz": as /varz, "router": figures and histograms, "history": rates over time}
//
// Of the history ?since= leaves out what is not newer (Unix, seconds). / is the status
// page: one document, the same for everybody and always, whose script asks for these. It
// puts what it gets in as text; the policy that it is served with allows nothing else.
//
// Where a profile allows requests for the state of the broker, the console is a client of
// it, too, by a connection that the parent makes: what clients ask on $SYS.REQ. it answers as
// HTTP would. Of messages it hears those requests alone, and it may do nothing but answer.
//
// Without a parent it goes on for orphan_grace with what it sees; status is then the last
// one and stale, and /healthz says so.
//
// Files: console.go (the loop), setup.go (start), orphan.go, server.go (HTTP and its
// bounds), transport.go, status.go (the parent's word), view.go (shared memory),
// history.go, subs.go (the router's word); system.go (the console as a client),
// system_talk.go (its protocol), system_answer.go and system_stats.go (its answers); one
// file for each path, page.go and page/ for the page.
package console
