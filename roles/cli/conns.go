package cli

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"gatehouse/roles/parent"
)

// connSorts are the orders of connections, as the console has them. The first one is the
// usual one.
var connSorts = []string{"cid", "subs", "pending", "msgs_from", "msgs_to", "bytes_from", "bytes_to", "last", "idle", "uptime"}

func (p *program) connsCommand() *cli.Command {
	return &cli.Command{
		Name:      "conns",
		Category:  groupBroker,
		Usage:     "list the connections of a running broker",
		UsageText: "gatehouse conns [-c FILE | --runtime-dir DIR] [--user NAME] [--sort ORDER] [--limit N] [--json]",
		Description: "Asks the console over its Unix socket, which is for root or for the user that runs the\n" +
			"broker. What clients say of themselves (NAME, LANG, VERSION) nobody has checked. IN and OUT\n" +
			"are seen from the broker; PENDING is what the client has not taken yet, in bytes.\n" +
			"ORDER is " + strings.Join(connSorts[:len(connSorts)-1], ", ") + " or " + connSorts[len(connSorts)-1] + ": by cid from the\n" +
			"lowest, otherwise from what there is most of; of last and uptime the latest first.",
		Flags: brokerFlags(
			&cli.StringFlag{Name: "user", Usage: "only those that have logged in as `NAME`"},
			&cli.StringFlag{Name: "sort", Value: connSorts[0], Usage: "in this `ORDER`"},
			&cli.IntFlag{Name: "limit", Usage: "only the first `N`"},
			&cli.BoolFlag{Name: "json", Usage: "print everything as JSON"},
		),
		Action: p.conns,
	}
}

func (p *program) conns(c *cli.Context) error {
	if err := arguments(c, 0, 0); err != nil {
		return err
	}
	if err := checkSort(c); err != nil {
		return err
	}
	if err := atLeast(c, 0, "limit"); err != nil {
		return err
	}
	path, err := consolePath(c)
	if err != nil {
		return err
	}
	ctx, cancel := interruptible(c)
	defer cancel()
	w := newWatcher(path)
	defer w.close()
	page, list, err := w.connections(ctx, c.String("sort"), c.String("user"), c.Int("limit"))
	if err != nil {
		return err
	}
	if c.Bool("json") {
		b, err := json.MarshalIndent(page, "", "  ")
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(p.env.Stdout, "%s\n", parent.ASCIIJSON(b))
		return err
	}
	_, err = io.WriteString(p.env.Stdout, connsText(page, list))
	return err
}

func checkSort(c *cli.Context) error {
	if order := c.String("sort"); !slices.Contains(connSorts, order) {
		return misuse(c, "--sort %q is none of %s", order, strings.Join(connSorts, ", "))
	}
	return nil
}

func connsText(page *connectionPage, list []connection) string {
	t := newTable("CID", "ADDRESS", "USER", "NAME", "LANG", "VERSION", "CM", "TLS", "SUBS", "MSGS IN", "MSGS OUT", "IN", "OUT", "PENDING", "IDLE", "UP")
	t.left(1, 2, 3, 4, 5, 6, 7)
	for i := range list {
		c := &list[i]
		t.row(c.CID, c.address(), shown(c.User, 24), shown(c.Name, 24), shown(c.Lang, 12), shown(c.Version, 12), shown(c.CM, 8), cmp.Or(shown(c.TLS, 8), "-"), count(c.Subscriptions),
			count(c.InMsgs), count(c.OutMsgs), size(c.InBytes), size(c.OutBytes), size(c.Pending), page.ago(c.LastActivity), page.ago(c.Start))
	}
	text := t.String()
	if more := page.Total - len(list); more > 0 {
		text += fmt.Sprintf("and %s more\n", count(uint64(more)))
	}
	return text
}

// ago is how long before the answer something was.
func (p *connectionPage) ago(t time.Time) string { return age(p.Now.Sub(t)) }
