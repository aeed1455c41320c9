package roles

import (
	"fmt"
	"net/netip"
	"time"

	"gatehouse/privsep"
	"gatehouse/store"
)

// consolePeers stands in for those whose shared memory the console reads. Browsers are
// real.
type consolePeers struct {
	d        *driver
	table    *store.ConnTable
	columns  []*store.ConnColumns
	sessions *store.Sessions
	listener privsep.ListenerFD
	addr     netip.AddrPort
}

func newConsolePeers(d *driver) (peers, error) {
	p := &consolePeers{d: d}
	var err error
	if p.table, err = d.mem.Table(); err != nil {
		return nil, err
	}
	for i := range d.cms {
		columns, err := d.mem.Columns(i, true)
		if err != nil {
			return nil, err
		}
		p.columns = append(p.columns, columns)
	}
	if p.sessions, err = d.mem.Sessions(true); err != nil {
		return nil, err
	}
	fd, addr, err := privsep.ListenTCP(netip.MustParseAddrPort("127.0.0.1:0"))
	if err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	p.addr = addr
	p.listener = privsep.ListenerFD{Listener: privsep.Listener{Network: privsep.NetConsole, Address: addr.String()}, FD: fd}
	return p, nil
}

func (p *consolePeers) listeners() []privsep.ListenerFD { return []privsep.ListenerFD{p.listener} }

func (p *consolePeers) address() netip.AddrPort { return p.addr }

func (p *consolePeers) start(*privsep.Boot) error { return nil }

// kindConn is what dispatcher, cm and router show of a connection, not a message.
const kindConn = "CONN"

func (p *consolePeers) lines() map[string]func(*coder) error {
	return map[string]func(*coder) error{
		kindConn:                    p.conn,
		kindClosed:                  p.closed,
		privsep.KindStatus.String(): p.status,
	}
}

// conn shows a connection as it is now.
func (p *consolePeers) conn(c *coder) error {
	i := cmOf(c, len(p.columns))
	info := store.ConnInfo{CM: uint16(i), Accepted: time.Now().UnixNano()}
	var session store.SessionInfo
	var slot uint32
	var in, out, inBytes, outBytes, pending uint64
	number(c, "slot", &slot)
	number(c, "uid", &info.UID)
	c.addr("addr", &info.Addr)
	number(c, "port", &info.Port)
	number(c, "in_msgs", &in)
	number(c, "out_msgs", &out)
	number(c, "in_bytes", &inBytes)
	number(c, "out_bytes", &outBytes)
	number(c, "pending", &pending)
	number(c, "subscriptions", &session.Subscriptions)
	shortText(c, "user", &session.User)
	shortText(c, "name", &session.Name)
	shortText(c, "lang", &session.Lang)
	shortText(c, "version", &session.Version)
	if err := c.end(); err != nil {
		return err
	}
	row, column := p.table.Row(int(slot)), p.columns[i].Row(int(slot))
	if row == nil || info.UID == 0 {
		return fmt.Errorf("no connection is %d in slot %d", info.UID, slot)
	}
	p.table.Reach(int(slot))
	row.Set(&info)
	column.InMsgs.Store(in)
	column.OutMsgs.Store(out)
	column.InBytes.Store(inBytes)
	column.OutBytes.Store(outBytes)
	column.SetBusy(pending, 0, 0)
	column.UID.Store(info.UID)
	session.UID, session.Admitted = info.UID, true
	p.sessions.Row(int(slot)).Set(&session)
	return nil
}

// closed ends a connection.
func (p *consolePeers) closed(c *coder) error {
	i := cmOf(c, len(p.columns))
	var slot uint32
	number(c, "slot", &slot)
	if err := c.end(); err != nil {
		return err
	}
	row := p.table.Row(int(slot))
	if row == nil || row.UID() == 0 {
		return fmt.Errorf("no connection in slot %d", slot)
	}
	row.Clear()
	p.columns[i].Row(int(slot)).UID.Store(0)
	p.sessions.Row(int(slot)).Clear()
	return nil
}

// status answers a STATUS_GET.
func (p *consolePeers) status(c *coder) error {
	var m privsep.StatusText
	var text []byte
	ident(c, "id", &m.ID)
	c.text("text", &text)
	if err := c.end(); err != nil {
		return err
	}
	if len(text) == 0 {
		return fmt.Errorf("an empty status")
	}
	m.Size = uint32(len(text))
	fd, err := privsep.Parcel("status", text)
	if err != nil {
		return err
	}
	defer privsep.CloseFD(fd)
	return p.d.send(privsep.KindStatus, m.Append(nil), fd)
}

// statusGet is the line of a STATUS_GET.
func statusGet(m *privsep.Message) ([]byte, error) {
	var g privsep.StatusGet
	if err := g.Parse(m.Payload); err != nil {
		return nil, err
	}
	c := newLine(m.Kind.String())
	ident(c, "id", &g.ID)
	return c.line(), nil
}

func (p *consolePeers) event(uint64) error { return nil }

func (p *consolePeers) read() (bool, error) { return false, nil }

func (p *consolePeers) settle() error { return nil }

func (p *consolePeers) sleep() bool { return true }

func (p *consolePeers) awake() {}
