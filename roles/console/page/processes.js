// The process tree, and what each of its processes can no longer do.

// sandboxOf lists what keeps a process in, as `gatehouse status` names it; bad is what is
// not as it should be.
function sandboxOf(p) {
  const words = [];
  if (p.no_new_privs) words.push({ text: "nnp" });
  if (p.no_caps) words.push({ text: "nocaps" });
  if (p.seccomp === 2) words.push({ text: "seccomp" });
  else if (p.seccomp === -1) words.push({ text: "seccomp on some threads only", bad: true });
  else if (p.seccomp) words.push({ text: "seccomp mode " + p.seccomp });
  if (p.landlock > 0) words.push({ text: "landlock " + p.landlock });
  if (p.own_network) words.push({ text: "netns" });
  for (const m of p.missing ?? []) words.push({ text: "no " + m, bad: true });
  if (p.capabilities?.length) words.push({ text: "caps " + p.capabilities.join(" "), caps: true });
  return words;
}

function chips(words) {
  if (!words.length) return ["none"];
  return [el("ul", { class: "chips" }, ...words.map((w) => el("li", { class: w.bad ? "bad" : w.caps ? "caps" : null },
    w.bad ? el("span", { class: "glyph", "aria-hidden": "true" }) : null, plain(w.text))))];
}

const stateLooks = { running: "good", standby: "info", starting: "info", retiring: "info" };

class Processes {
  constructor() {
    this.table = new Table($("processes-table"), {
      caption: "Processes of the broker",
      empty: "No processes are known.", titled: true,
      key: (p) => p.role,
      columns: [
        { label: "Role", text: (p) => p.branch + p.role, cell: (p) => [el("span", { class: "branch", "aria-hidden": "true" }, p.branch), p.role] },
        { label: "State", text: (p) => p.state + (p.adopted ? ", adopted" : ""), cell: (p) => [el("span", { class: "state " + (stateLooks[p.state] ?? "bad") },
          el("span", { class: "glyph", "aria-hidden": "true" }), plain(p.state) + (p.adopted ? ", adopted" : ""))] },
        { label: "UID", number: true, text: (p) => p.uid },
        { label: "Restarts", number: true, text: (p) => count(p.restarts) },
        { label: "Up", number: true, text: (p) => (p.pid ? age(since(p.started, this.now)) : "–") },
        { label: "Memory", number: true, text: (p) => size(p.memory) },
        { label: "CPU", number: true, text: (p) => this.load(p) },
        { label: "Sandbox", wide: true, text: (p) => JSON.stringify(sandboxOf(p)), cell: (p) => chips(sandboxOf(p)) },
        { label: "Conns", number: true, text: (p) => count(p.connections) },
        { label: "Subs", number: true, text: (p) => count(p.subscriptions) },
        { label: "Msgs in", number: true, text: (p) => count(p.in_msgs) },
        { label: "Msgs out", number: true, text: (p) => count(p.out_msgs) },
        { label: "PID", number: true, text: (p) => p.pid || "–" },
        { label: "Threads", number: true, text: (p) => count(p.threads) },
      ],
    });
  }

  // load is how much of a core a process took since the last look.
  load(p) {
    const was = this.was?.get(p.pid);
    const took = since(this.wasAt, this.at);
    return was === undefined || !(took > 0) ? "–" : ((100 * Math.max(0, p.cpu_seconds - was)) / took).toFixed(1) + " %";
  }

  show(status, now, at) {
    this.now = now;
    const all = status.processes ?? [];
    if (at === this.at) return; // the parent has not told anything new
    [this.was, this.wasAt] = [this.is, this.at];
    [this.is, this.at] = [new Map(all.map((p) => [p.pid, p.cpu_seconds])), at];
    this.table.fill(all.map((p, i) => ({ ...p, branch: p.role === "parent" ? "" : i === all.length - 1 ? "└─ " : "├─ " })));
  }
}
