package client

import (
	"context"

	"github.com/nats-io/nats.go"
)

// Request sends a request and waits for the first answer, as [nats.Conn.RequestMsgWithContext]
// does. It differs in its errors: [ErrResponderLost] when the member that had the
// request went before it answered, where nats.go has [nats.ErrNoResponders] for that, too;
// [nats.ErrNoResponders] when there was none; a [*StatusError]. It has a subscription for
// each request and so is for requests of some weight; msg is not changed, and its reply
// subject not used.
func Request(ctx context.Context, nc *nats.Conn, msg *nats.Msg, opts ...Option) (*nats.Msg, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	c := newCall(nc)
	defer c.end()
	sub, err := c.inbox()
	if err != nil {
		return nil, err
	}
	defer sub.Unsubscribe()
	if err := nc.PublishMsg(ask(msg, sub.Subject, "", opts)); err != nil {
		return nil, err
	}
	m, err := c.next(ctx)
	if err != nil {
		return nil, err
	}
	if err := Status(m); err != nil {
		return nil, err
	}
	return m, nil
}
