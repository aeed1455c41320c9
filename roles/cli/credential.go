package cli

import (
	"fmt"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/urfave/cli/v2"

	"gatehouse/roles/parent"
	"gatehouse/tickets/client"
)

func certFlag() cli.Flag {
	return &cli.StringFlag{Name: "cert", EnvVars: []string{"GATEHOUSE_CERT"}, Usage: "log in by the certificate in PEM `FILE`, with those that vouch for it behind it; by TLS it is shown there, too"}
}

func keyFlag() cli.Flag {
	return &cli.StringFlag{Name: "key", EnvVars: []string{"GATEHOUSE_KEY"}, Usage: "its private key, PEM `FILE`"}
}

// certificate are the options of a client that logs in by certificate.
func certificate(c *cli.Context) ([]nats.Option, error) {
	cert, key := c.String("cert"), c.String("key")
	switch {
	case cert == "" && key == "":
		return nil, nil
	case cert == "" || key == "":
		return nil, misuse(c, "--cert and --key go together")
	}
	environment := c.String("environment")
	if environment == "" {
		environment = parent.Defaults().Environment.Name
	}
	login, err := client.X509(environment, cert, key)
	if err != nil {
		return nil, fmt.Errorf("--cert: %w", err)
	}
	opts := []nats.Option{login}
	if byTLS(c) {
		opts = append(opts, nats.ClientCert(cert, key))
	}
	return opts, nil
}

// byTLS tells whether the client wants TLS in any case: without it a certificate
// cannot be shown, and must not be the reason for it.
func byTLS(c *cli.Context) bool {
	return c.String("ca") != "" || c.Bool("tls-first") || strings.HasPrefix(c.String("server"), "tls://")
}
