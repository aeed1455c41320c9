// Package client gives programs TLS sessions that tlsd keeps for them. A session that
// is shared is there when the program ends, and the next one, or another process at
// the same time, uses it without a handshake:
//
//	conn, err := client.Dial(ctx, "api.example:443", client.Options{Session: "api"})
//	if err != nil {
//		return err
//	}
//	defer conn.Close()
//	fmt.Fprintf(conn, "...")
//
// Session is what makes it shared; without one the session is the program's own, made
// here by crypto/tls, and tlsd knows nothing of it. The difference is in Options
// alone.
//
// Close lets a shared session go. In exclusive mode, which is how sessions are shared
// where nothing else is said, one program has it at a time, and should let it go
// between one exchange and the next: what a program has not read the next one gets.
// A program that ends without Close leaves tlsd no choice but to end the session,
// unless its policy says keep.
//
// Framed and raw mode are for several programs at a time, see package protocol.
package client
