package cli

import (
	"fmt"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/urfave/cli/v2"

	"gatehouse/tickets/client"
)

func certFlag() cli.Flag {
	return &cli.StringFlag{
		Name: "cert", EnvVars: []string{"GATEHOUSE_CERT"},
		Usage: "log in by the certificate in PEM `FILE`, behind which are those that vouch for it; by TLS it is shown there, too; " +
			"needs --key and --environment",
	}
}

func keyFlag() cli.Flag {
	return &cli.StringFlag{Name: "key", EnvVars: []string{"GATEHOUSE_KEY"}, Usage: "its private key, PEM `FILE`"}
}

// certificate are the options of a client that logs in by certificate.
func certificate(c *cli.Context) ([]nats.Option, error) {
	cert, key, environment := c.String("cert"), c.String("key"), c.String("environment")
	switch {
	case cert == "" && key == "":
		return nil, nil
	case cert == "" || key == "":
		return nil, misuse(c, "--cert and --key go together")
	case environment == "":
		return nil, misuse(c, "--cert needs --environment, which the signature is for")
	case c.String("transfer-from") != "":
		return nil, misuse(c, "--cert and --transfer-from are two ways to log in to --server")
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
