// Package client has what an application needs of Gatehouse beside nats.go: requests
// in the messaging modes, who sent a message, and logging in by certificate or to
// another environment. All of it is headers, subjects, statuses and credentials that any
// NATS client can send and read; this package knows how.
//
//	Request                 to the queue-group member with the fewest requests
//	                        outstanding, with an error of its own when it is lost
//	Session.Request         all requests of a session go to the same member
//	Fanout                  to everybody; the loop over the answers ends when all
//	                        have answered
//	Name, Direct            one instance of an application, and its subject
//	Sender                  who sent a message, as the broker has verified it
//	X509                    log in by a certificate and its key
//	Transfer                log in to another environment by a ticket of this one
//
// Each takes a connection that the application has opened with nats.go, and works on
// it beside everything else: what is subscribed here has an inbox of its own and ends
// with the call or with [Session.Close].
//
//	for answer, err := range client.Fanout(ctx, nc, &nats.Msg{Subject: "stock", Data: item}) {
//		if err != nil {
//			return err // of those that came before, all are good
//		}
//		total += count(answer)
//	}
//
// # Answering
//
// There is nothing to it: [nats.Msg.Respond], on the connection that has the
// subscription, since that is how the broker knows who has answered. Everybody who gets a
// fanout counts, so whoever subscribes to its subject only to look on makes it run into
// its time-out. A member of a queue group may pass a request on, with its reply subject,
// and then owes no answer any more.
//
// # Never
//
// A request in the mode fanout must not be sent by [nats.Conn.Request]: it takes the
// first message for the answer, and that is a status.
package client
