package client_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"time"

	"github.com/nats-io/nats.go"

	"gatehouse/tickets/client"
)

// Ask everybody for what they have, and make do with those that answer within a second.
func ExampleFanout() {
	nc, err := nats.Connect(nats.DefaultURL)
	if err != nil {
		log.Fatal(err)
	}
	defer nc.Close()
	for answer, err := range client.Fanout(context.Background(), nc, &nats.Msg{Subject: "stock"}, client.Within(time.Second)) {
		var some *client.FanoutError
		switch {
		case errors.As(err, &some):
			fmt.Printf("%d of %d have not answered\n", some.Expected-some.Answered, some.Expected)
		case err != nil:
			log.Fatal(err)
		default:
			fmt.Printf("%s\n", answer.Data)
		}
	}
}

// Keep to one member, and begin again with another one when it has gone.
func ExampleSession() {
	nc, err := nats.Connect(nats.DefaultURL)
	if err != nil {
		log.Fatal(err)
	}
	defer nc.Close()
	ctx, stop := context.WithTimeout(context.Background(), 10*time.Second)
	defer stop()
	s := client.NewSession(nc)
	defer s.Close(ctx)
	for _, item := range []string{"bread", "butter"} {
		_, err := s.Request(ctx, &nats.Msg{Subject: "cart.add", Data: []byte(item)})
		if errors.Is(err, client.ErrSessionGone) {
			fmt.Println("the cart is gone, fill it again")
			return
		}
		if err != nil {
			log.Fatal(err)
		}
	}
}

// Be one instance of an application, which others reach by its name, and see who they are.
func ExampleDirect() {
	nc, err := nats.Connect(nats.DefaultURL, client.Name("pricer", "1"))
	if err != nil {
		log.Fatal(err)
	}
	defer nc.Close()
	_, err = nc.Subscribe(client.Direct("pricer", "1"), func(m *nats.Msg) {
		if id, ok := client.Sender(m); ok && !id.Anonymous() {
			fmt.Println("asked by", id.User)
		}
		m.Respond([]byte("1.0832"))
	})
	if err != nil {
		log.Fatal(err)
	}
}
