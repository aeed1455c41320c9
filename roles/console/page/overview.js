// What needs attention, and the figures of the moment.

const severities = { bad: "Problem", warn: "Warning", info: "Note" };

// notesOf judges a status. Each note has a severity, a text and the section that tells more.
function notesOf({ status, varz, now, stale, status_at: at }) {
  const notes = [];
  const note = (severity, where, text) => notes.push({ severity, where, text });
  if (stale) note("bad", null, at ? `the parent has not answered since ${clock(Date.parse(at))}; what is said of processes, refusals and keys is from then` : "the parent has not answered yet");
  for (const w of status.warnings ?? []) note("warn", null, w);
  for (const p of status.processes ?? []) processNotes(p, note, now);
  for (const o of status.offences ?? []) {
    note("bad", "refusals", `${o.role} broke the role protocol and was ended: ${[o.kind, o.reason].filter(Boolean).join(", ")} (${plural(o.count, "time")})`);
  }
  if (varz?.slow_consumers > 0) note("warn", "refusals", `${plural(varz.slow_consumers, "slow consumer")} cut off`);
  for (const a of status.arenas ?? []) {
    if (a.size > 0 && a.used / a.size > 0.8) note("warn", "refusals", `message memory of cm/${a.cm} is ${Math.round((100 * a.used) / a.size)} % full`);
  }
  for (const c of certificatesOf(status)) {
    const left = since(now, c.until) / 86400;
    if (left < 0) note("bad", "keys", `the certificate of ${c.what} has expired (${day(c.until)})`);
    else if (left < 30) note(left < 7 ? "bad" : "warn", "keys", `the certificate of ${c.what} expires in ${plural(Math.floor(left), "day")} (${day(c.until)})`);
  }
  if (status.directory?.state === "down") note("bad", "keys", `no server of the directory answers, for ${age(since(status.directory.since, now))}`);
  for (const h of status.next_start ?? []) note("info", null, `${h.key} = ${h.file} in the file; ${h.running} until the next start`);
  const order = Object.keys(severities);
  return notes.sort((a, b) => order.indexOf(a.severity) - order.indexOf(b.severity));
}

function processNotes(p, note, now) {
  if (p.state === "retiring") {
    note("info", "processes", `${p.role} retires to ${p.successor}: ${plural(p.moved ?? 0, "connection")} moved, ${count(p.left ?? 0)} left, ${count(p.stay ?? 0)} stay until ${clock(Date.parse(p.until))}`);
  } else if (!["running", "standby"].includes(p.state)) {
    note(p.state === "starting" ? "info" : "bad", "processes", `${p.role} is ${p.state}`);
  }
  if (p.missing?.length) note("warn", "processes", `this kernel does not give ${p.role} ${p.missing.join(", ")}`);
  if (p.seccomp === -1) note("bad", "processes", `${p.role} has its filter of system calls on some threads only`);
  if (p.restarts > 0) note("info", "processes", `${p.role} was started again ${plural(p.restarts, "time")}, last ${age(since(p.started, now))} ago`);
}

class Overview {
  constructor() {
    this.tiles = new Map();
    this.shown = null;
  }

  show(answer, sample) {
    const { status, varz, now } = answer;
    put($("broker"), plain(status.broker || "Gatehouse"));
    document.title = plain(status.broker || "Gatehouse") + " – Gatehouse";
    put($("about"), `environment ${plain(status.environment)} · version ${plain(status.version)} · up ${age(since(status.started, now))}${status.root ? "" : " · without root"}`);
    this.notes(notesOf(answer));
    const total = (key) => (status.processes ?? []).reduce((n, p) => n + (p[key] ?? 0), 0);
    this.tile("Connections", count(varz?.connections ?? total("connections")), varz?.total_connections > 0 ? count(varz.total_connections) + " so far" : "");
    this.tile("Subscriptions", count(varz?.subscriptions ?? total("subscriptions")), "");
    this.tile("Messages in", rate(sample.in_msgs) + "/s", count(varz?.in_msgs) + " in all");
    this.tile("Messages out", rate(sample.out_msgs) + "/s", count(varz?.out_msgs) + " in all");
    this.tile("Bytes in", size(sample.in_bytes) + "/s", size(varz?.in_bytes) + " in all");
    this.tile("Bytes out", size(sample.out_bytes) + "/s", size(varz?.out_bytes) + " in all");
    this.tile("Slow consumers", count(varz?.slow_consumers ?? total("slow_consumers")), "cut off");
    this.tile("Processor", Number.isFinite(varz?.cpu) ? varz.cpu.toFixed(varz.cpu < 10 ? 1 : 0) + " %" : "–", "of one core");
    this.tile("Memory", size(total("memory")), plural(status.processes?.length ?? 0, "process", "processes"));
  }

  tile(name, value, more) {
    let t = this.tiles.get(name);
    if (!t) {
      t = { value: el("dd"), more: el("dd", { class: "more" }) };
      $("tiles").append(el("div", {}, el("dt", {}, name), t.value, t.more));
      this.tiles.set(name, t);
    }
    put(t.value, value);
    put(t.more, more);
  }

  notes(list) {
    const text = JSON.stringify(list);
    if (text === this.shown) return;
    this.shown = text;
    $("notes").replaceChildren(...(list.length ? list.map((n) => el("li", { class: n.severity },
      el("span", { class: "glyph", "aria-hidden": "true" }), el("b", {}, severities[n.severity]),
      el("span", {}, plain(n.text)), n.where && el("a", { href: "#" + n.where }, n.where)))
      : [el("li", { class: "good" }, el("span", { class: "glyph", "aria-hidden": "true" }), el("span", {}, "Nothing needs attention."))]));
  }
}
