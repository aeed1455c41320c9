// Keys and certificates: what they are for, where they are, until when they hold.

// certificatesOf lists those that end.
function certificatesOf(status) {
  const list = [];
  if (status.key) list.push({ what: "the TLS listeners", until: status.key.not_after });
  if (status.identity) list.push({ what: "tlsd", until: status.identity.not_after });
  return list;
}

function keysOf(status) {
  const list = [];
  const { key, transfer, identity } = status;
  if (key) {
    list.push({ what: "TLS listeners", about: `${key.algorithm}, ${key.use === "release" ? "given to the connection managers" : "used by the parent alone"}, number ${key.number}`,
      subject: key.subject, until: key.not_after, memory: key.memory, erased: key.erased, used: key.signatures, refused: key.refused });
  }
  if (transfer) {
    list.push({ what: "transfer tickets", about: transfer.algorithm, memory: transfer.memory, erased: transfer.erased, used: transfer.signed, refused: transfer.refused });
  }
  if (identity) {
    list.push({ what: "tlsd to servers", about: "", subject: identity.subject, until: identity.not_after, memory: identity.memory, erased: identity.erased, used: identity.signed });
  }
  return list;
}

class Keys {
  constructor() {
    this.table = new Table($("keys-table"), {
      caption: "Keys and certificates", titled: true, empty: "The broker has no private key.", key: (k) => k.what,
      columns: [
        { label: "For", text: (k) => k.what },
        { label: "Key", text: (k) => plain(k.about) || "–" },
        { label: "Certificate", text: (k) => plain(k.subject) || "–", code: true },
        { label: "Expires", text: (k) => this.left(k.until) },
        { label: "Kept in", text: (k) => k.memory + (k.erased ? ", erased after use" : ", not erased after use") },
        { label: "Used", number: true, text: (k) => count(k.used) },
        { label: "Refused", number: true, text: (k) => count(k.refused) },
      ],
    });
  }

  left(until) {
    if (!until || day(until) === "–") return "–";
    const days = Math.floor(since(this.now, until) / 86400);
    return day(until) + (days < 0 ? ", expired" : ", in " + plural(days, "day"));
  }

  show(status, now) {
    this.now = now;
    this.table.fill(keysOf(status));
    const d = status.directory;
    facts($("keys-facts"), [
      ["Listens at", (status.listeners ?? []).map(plain).join(", ")],
      ["Console at", (status.console ?? []).map(plain).join(", ")],
      ["Server’s name for clients", plain(status.server_id)],
      ["Directory", d && d.urls.map(plain).join(", ")],
      ["Directory is", d && `${d.state} for ${age(since(d.since, now))}, asked ${plural(d.asked, "time")}`],
      ["Its last error", d && plain(d.last_error)],
    ]);
  }
}
