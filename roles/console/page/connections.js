// The connections: a page of them at a time, sorted by the broker.

const connectionColumns = [
  { label: "No.", sort: "cid", ascending: true, text: (c) => c.cid, cell: (c) => [detailButton(c.cid)] },
  { label: "Name", text: (c) => plain(c.name) || "–", code: true },
  { label: "User", text: (c) => plain(c.authorized_user) || "–", code: true },
  { label: "Address", text: addressOf, code: true },
  { label: "Via", text: (c) => [plain(c.cm), c.tls ? "TLS" : ""].filter(Boolean).join(", ") || "–" },
  { label: "Client", text: (c) => plain([c.lang, c.version].filter(Boolean).join(" ")) || "–", cut: true },
  { label: "Subs", number: true, sort: "subs", text: (c) => count(c.subscriptions) },
  { label: "Pending", number: true, sort: "pending", text: (c) => size(c.pending_bytes) },
  { label: "Msgs in", number: true, sort: "msgs_from", text: (c) => count(c.in_msgs) },
  { label: "Msgs out", number: true, sort: "msgs_to", text: (c) => count(c.out_msgs) },
  { label: "In", number: true, sort: "bytes_from", text: (c) => size(c.in_bytes) },
  { label: "Out", number: true, sort: "bytes_to", text: (c) => size(c.out_bytes) },
  { label: "Up", number: true, sort: "uptime", ascending: true, text: (c) => spaced(c.uptime) },
  { label: "Idle", number: true, sort: "idle", text: (c) => spaced(c.idle) },
];

function addressOf(c) {
  if (c.unix) return `unix, pid ${c.pid}, uid ${c.uid ?? 0}`;
  return c.ip ? (c.ip.includes(":") ? `[${c.ip}]:${c.port}` : `${c.ip}:${c.port}`) : plain(c.kind);
}

// spaced sets the units of nats-server's durations apart, and leaves two of them.
const spaced = (text) => plain(text).match(/\d+[a-z]+/g)?.slice(0, 2).join(" ") ?? "–";

function detailButton(cid) {
  const b = el("button", { type: "button", class: "plain", "aria-haspopup": "dialog", "aria-label": "Connection " + cid }, String(cid));
  b.addEventListener("click", () => detail.open(cid, b));
  return b;
}

class Connections {
  constructor(again) {
    const place = $("connections-table");
    this.error = el("p", { class: "failed", hidden: true });
    place.append(this.error);
    this.sorted = { by: "cid", reversed: false };
    this.table = new Table(place, {
      caption: "Connections", titled: true, empty: "Nobody is connected.", columns: connectionColumns,
      key: (c) => c.cid, sorted: this.sorted,
      onsort: (sorted) => {
        this.sorted = sorted;
        this.pager.offset = 0;
        again();
      },
    });
    this.pager = new Pager(place, "connections", again);
  }

  // The broker sorts one way only: the other way is read from the end.
  query() {
    const { offset, limit, total } = this.pager;
    if (!this.sorted.reversed) return `connz?auth=1&sort=${this.sorted.by}&offset=${offset}&limit=${limit}`;
    const end = Math.max(0, total - offset);
    const from = Math.max(0, end - limit);
    return `connz?auth=1&sort=${this.sorted.by}&offset=${from}&limit=${Math.max(1, end - from)}`;
  }

  show(answer) {
    this.error.hidden = true;
    const list = answer.connections ?? [];
    if (this.sorted.reversed) list.reverse();
    this.table.fill(list);
    this.pager.show(answer.total ?? list.length, list.length);
  }

  fail(text) {
    this.error.hidden = false;
    put(this.error, "The connections cannot be had: " + text);
  }
}

// Detail is all that is known of one connection, in a dialog.
class Detail {
  constructor() {
    this.dialog = $("detail");
    this.table = new Table($("detail-table"), {
      caption: "Subscriptions of this connection", titled: true, empty: "It has none.", key: (s) => s.sid,
      columns: [
        { label: "Subject", text: (s) => plain(s.subject), code: true },
        { label: "Queue", text: (s) => plain(s.qgroup) || "–", code: true },
        { label: "SID", text: (s) => plain(s.sid) },
        { label: "Messages", number: true, text: (s) => count(s.msgs) },
      ],
    });
    $("detail-close").addEventListener("click", () => this.dialog.close());
    this.dialog.addEventListener("close", () => {
      this.cid = null;
      this.from?.focus();
    });
  }

  open(cid, from) {
    this.cid = cid;
    this.from = from;
    put($("detail-h"), "Connection " + cid);
    put($("detail-note"), "Asking the broker.");
    facts($("detail-facts"), []);
    $("detail-list").hidden = true;
    this.dialog.showModal();
    this.refresh(true);
  }

  async refresh(lists) {
    const cid = this.cid;
    if (cid == null) return;
    try {
      const answer = await ask(`connz?auth=1&cid=${cid}` + (lists ? "&subs=detail" : ""));
      if (cid === this.cid) this.show(answer.connections?.[0], answer.now);
    } catch (err) {
      if (cid === this.cid) put($("detail-note"), "It cannot be had: " + err.message);
    }
  }

  show(c, now) {
    put($("detail-note"), c ? "As of " + clock(Date.parse(now)) : "It has ended.");
    if (!c) return;
    facts($("detail-facts"), [
      ["Name", plain(c.name)], ["User", plain(c.authorized_user)], ["Account", plain(c.account)],
      ["Address", addressOf(c)], ["Via", plain(c.cm)],
      ["Client", plain([c.lang, c.version].filter(Boolean).join(" "))],
      ["TLS", c.tls ? plain([c.tls_version, c.tls_cipher_suite].filter(Boolean).join(", ")) || "yes" : "no"],
      ["Since", c.start && new Date(c.start).toLocaleString("en-GB")], ["Up", spaced(c.uptime)], ["Idle", spaced(c.idle)],
      ["Round trip", plain(c.rtt)], ["Pending", size(c.pending_bytes)], ["Subscriptions", count(c.subscriptions)],
      ["Messages in", count(c.in_msgs)], ["Messages out", count(c.out_msgs)], ["In", size(c.in_bytes)], ["Out", size(c.out_bytes)],
    ]);
    const list = c.subscriptions_list_detail;
    if (!list) return;
    $("detail-list").hidden = false;
    this.table.fill(list);
  }
}
