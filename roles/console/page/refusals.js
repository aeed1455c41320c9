// What was refused and who was cut off, by whom and how often.

// refusalsOf lists counters that are not zero, of the processes that there are now.
function refusalsOf({ status, router }) {
  const list = [];
  const add = (what, role, n) => n > 0 && list.push({ what, role, n });
  for (const p of status.processes ?? []) {
    add("slow consumers cut off", p.role, p.slow_consumers);
    add("TLS handshakes failed", p.role, p.handshakes_failed);
    add("HTTP requests refused", p.role, p.requests_refused);
  }
  for (const [reason, n] of Object.entries(router?.logins_refused ?? {})) add("logins: " + reason, "auth", n);
  add("operations that a profile does not permit", "router", router?.permission_violations);
  add("signatures", "parent", status.key?.refused);
  add("transfer tickets", "parent", status.transfer?.refused);
  add("logins that the directory did not answer", "auth", status.directory?.failed);
  return list;
}

class Refusals {
  constructor() {
    this.refused = new Table($("refusals-table"), {
      caption: "Refused, since each process started", empty: "Nothing was refused.", key: (r) => r.role + " " + r.what,
      columns: [
        { label: "What", text: (r) => plain(r.what) },
        { label: "By", text: (r) => r.role },
        { label: "Times", number: true, text: (r) => count(r.n) },
      ],
    });
    this.offences = new Table($("offences-table"), {
      caption: "Processes ended for breaking the role protocol", empty: "No process broke the role protocol.", key: (o) => [o.role, o.kind, o.reason].join(" "),
      columns: [
        { label: "Role", text: (o) => o.role },
        { label: "Message", text: (o) => plain(o.kind) || "–", code: true },
        { label: "Reason", text: (o) => plain(o.reason), code: true },
        { label: "Times", number: true, text: (o) => count(o.count) },
      ],
    });
    this.slow = new Table($("slow-table"), {
      caption: "Connections with the most bytes waiting", empty: "No connection has bytes waiting.", key: (c) => c.cid,
      columns: [
        { label: "No.", text: (c) => c.cid, cell: (c) => [detailButton(c.cid)] },
        { label: "Name", text: (c) => plain(c.name) || "–", code: true },
        { label: "Pending", number: true, text: (c) => size(c.pending_bytes) },
        { label: "Idle", number: true, text: (c) => spaced(c.idle) },
      ],
    });
    this.arenas = new Table($("arenas-table"), {
      caption: "Memory for message bodies", empty: "There is none.", key: (a) => a.cm,
      columns: [
        { label: "Of", text: (a) => "cm/" + a.cm },
        { label: "Used", number: true, text: (a) => size(a.used) },
        { label: "Size", number: true, text: (a) => size(a.size) },
        { label: "Bodies", number: true, text: (a) => count(a.bodies) },
        { label: "Full", text: (a) => full(a) + " %", cell: (a) => [el("meter", { min: 0, max: 100, high: 80, value: full(a), "aria-label": "full" }), " " + full(a) + " %"] },
      ],
    });
  }

  show(answer) {
    const { status } = answer;
    this.refused.fill(refusalsOf(answer));
    this.offences.fill(status.offences ?? []);
    this.arenas.fill(status.arenas ?? []);
  }

  showSlow(answer) {
    this.slow.fill((answer.connections ?? []).filter((c) => c.pending_bytes > 0));
  }
}

const full = (a) => (a.size > 0 ? Math.round((100 * a.used) / a.size) : 0);
