// Asking the broker, again and again, and saying when it does not answer.

const every = 2000;
const patience = 5000; // for one answer
const slowly = 5; // rounds between two looks at lists that take the router some work

async function ask(path) {
  const stop = new AbortController();
  const timer = setTimeout(() => stop.abort(), patience);
  try {
    const answer = await fetch(path, { signal: stop.signal, cache: "no-store", credentials: "omit", redirect: "error" });
    if (!answer.ok) throw new Error(`answer ${answer.status}, ${plain((await answer.text()).trim()) || "without a word"}`);
    return await answer.json();
  } catch (err) {
    throw err.name === "AbortError" ? new Error("no answer for " + patience / 1000 + " s") : err;
  } finally {
    clearTimeout(timer);
  }
}

// Link is what is known of the way to the broker. It is shown in words, and said to
// screen readers when it changes, not every time.
class Link {
  constructor() {
    this.heard = null; // when the broker answered last
    this.lost = null; // when it did not, first
  }

  good() {
    const was = this.lost;
    this.heard = Date.now();
    this.lost = null;
    document.body.classList.remove("lost");
    $("lost").hidden = true;
    this.state("good", "Live, " + clock(this.heard));
    if (was !== null) put($("said"), `The broker answers again, since ${clock(this.heard)}.`);
  }

  bad(err) {
    if (this.lost === null) {
      this.lost = this.heard ?? Date.now();
      const text = this.heard === null ? "The broker does not answer." : `The broker has not answered since ${clock(this.lost)}.`;
      put($("lost-what"), text);
      put($("said"), text);
    }
    document.body.classList.add("lost");
    $("lost").hidden = false;
    put($("lost-long"), `${this.heard === null ? "" : `That is ${age((Date.now() - this.lost) / 1000)}; what is below is from then. `}It is asked again every ${every / 1000} s.`);
    this.state("bad", "Lost, " + clock(this.lost));
  }

  state(name, text) {
    $("link").dataset.state = name;
    put($("link-text"), text);
  }
}

// Past keeps the history that has been fetched, so that only what is new is asked for. A
// series is a list of times and one for each figure.
class Past {
  constructor() { this.series = {}; }

  get newest() { return this.series.recent?.time.at(-1) ?? 0; }

  add(history) {
    for (const [name, { step, time, rates, levels }] of Object.entries(history ?? {})) {
      const old = this.series[name] ?? {};
      const last = old.time?.at(-1) ?? 0;
      const from = time.findIndex((t) => t > last);
      const joined = { step };
      for (const [key, list] of Object.entries({ time, ...rates, ...levels })) {
        joined[key] = [...(old[key] ?? []), ...(from < 0 ? [] : list.slice(from))].slice(-300);
      }
      this.series[name] = joined;
    }
  }

  // now is the last value of each figure.
  now() {
    const { step, ...lists } = this.series.recent ?? {};
    return Object.fromEntries(Object.entries(lists).map(([key, list]) => [key, list.at(-1)]));
  }
}

const link = new Link();
const past = new Past();
const overview = new Overview();
const processes = new Processes();
const connections = new Connections(() => refreshConnections());
const subjects = new Subjects(() => refreshSubjects());
const refusals = new Refusals();
const keys = new Keys();
const detail = new Detail();
const perSecond = (format) => (v) => format(v) + "/s";
const charts = [
  new Chart($("charts"), { title: "Messages", steps: 10, format: perSecond(rate), lines: [{ key: "in_msgs", label: "in", style: "a" }, { key: "out_msgs", label: "out", style: "b" }] }),
  new Chart($("charts"), { title: "Bytes", steps: 1024, format: perSecond(size), lines: [{ key: "in_bytes", label: "in", style: "a" }, { key: "out_bytes", label: "out", style: "b" }] }),
  new Chart($("charts"), { title: "Connections", steps: 10, format: count, lines: [{ key: "connections", label: "connected", style: "a" }] }),
  new Chart($("charts"), { title: "Logins", steps: 10, format: perSecond(rate), lines: [{ key: "logins", label: "accepted", style: "a" }, { key: "logins_refused", label: "refused", style: "b" }] }),
];

let rounds = 0;

async function refreshStatus() {
  const answer = await ask("statusz?since=" + past.newest);
  answer.status ??= {}; // the parent has not told it yet
  const { status, now } = answer;
  past.add(answer.history);
  overview.show(answer, past.now());
  processes.show(status, now, answer.status_at ?? now);
  refusals.show(answer);
  keys.show(status, now);
  drawCharts(Date.parse(now) / 1000);
}

let drawn = null;

function drawCharts(now) {
  drawn = now ?? drawn;
  const name = $("range").value;
  const series = past.series[name];
  if (series && drawn) charts.forEach((c) => c.draw(series, drawn, name === "day" ? 86400 : 600));
}

// A list that cannot be had says so itself: that is not the end of the others. What was
// asked for before somebody has turned the page is not shown.
const refresh = (view) => async () => {
  const query = view.query();
  try {
    const answer = await ask(query);
    if (query === view.query()) view.show(answer);
  } catch (err) {
    view.fail(err.message);
  }
};
const refreshConnections = refresh(connections);
const refreshSubjects = refresh(subjects);

async function refreshSlow() {
  try {
    refusals.showSlow(await ask("connz?sort=pending&limit=5"));
  } catch { /* the list of connections says it */ }
}

async function round() {
  try {
    await refreshStatus();
    link.good();
  } catch (err) {
    link.bad(err);
    return;
  }
  const slow = rounds++ % slowly === 0;
  await Promise.all([refreshConnections(), detail.refresh(slow), slow && refreshSlow(), slow && subjectsSeen && refreshSubjects()]);
}

// The router is asked what is subscribed to while somebody looks at it.
let subjectsSeen = false;
new IntersectionObserver(([entry]) => {
  subjectsSeen = entry.isIntersecting;
  if (subjectsSeen) refreshSubjects();
}, { rootMargin: "50%" }).observe($("subjects"));

// Loop asks while somebody can see it.
let paused = false;
let timer = null;

async function loop() {
  clearTimeout(timer);
  timer = null;
  if (paused || document.hidden) return;
  await round();
  clearTimeout(timer);
  timer = setTimeout(loop, every);
}

document.addEventListener("visibilitychange", () => document.hidden || loop());
$("range").addEventListener("change", () => drawCharts(null));
$("pause").addEventListener("click", () => {
  paused = !paused;
  $("pause").setAttribute("aria-pressed", String(paused));
  if (paused) link.state("wait", "Paused, " + clock(Date.now()));
  else loop();
});

// The theme is this browser's affair.
function theme(name) {
  if (name) document.documentElement.dataset.theme = name;
  else delete document.documentElement.dataset.theme;
}
const store = {
  get: () => { try { return localStorage.getItem("theme") ?? ""; } catch { return ""; } },
  set: (name) => { try { localStorage.setItem("theme", name); } catch { /* then it is for now */ } },
};
$("theme").value = store.get();
theme($("theme").value);
$("theme").addEventListener("change", () => {
  store.set($("theme").value);
  theme($("theme").value);
});

loop();
