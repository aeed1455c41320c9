// Chart draws lines over time. It is a slider, too: arrow keys and the pointer choose a
// moment, whose values are then said and shown. Lines differ by their weight and by what
// is below them, not by colour alone.
const chartHeight = 100;
const chartWidth = 600;

class Chart {
  constructor(place, { title, lines, format, steps }) {
    Object.assign(this, { title, lines, format, steps, at: null, series: null });
    this.values = lines.map(() => el("span", { class: "value" }));
    const legend = el("ul", { class: "legend" }, ...lines.map((l, i) => el("li", {},
      el("svg", { "aria-hidden": "true", viewBox: "0 0 24 10", width: 24, height: 10 },
        el("path", { class: "area " + l.style, d: "M0 3H24V10H0Z" }), el("path", { class: "line " + l.style, d: "M0 3H24" })),
      l.label + " ", this.values[i])));
    this.paths = lines.map((l) => el("path", { class: "line " + l.style }));
    this.areas = lines.map((l) => el("path", { class: "area " + l.style }));
    this.cross = el("line", { class: "cross", y1: 0, y2: chartHeight, visibility: "hidden" });
    this.top = el("span", { class: "top", "aria-hidden": "true" });
    this.when = el("span", { class: "when", "aria-hidden": "true" });
    this.plot = el("div", { class: "plot", role: "slider", tabindex: 0, "aria-label": title + ", moment shown",
      "aria-valuemin": 0, "aria-valuemax": 0, "aria-valuenow": 0, "aria-valuetext": "no values yet" },
    el("svg", { "aria-hidden": "true", viewBox: `0 0 ${chartWidth} ${chartHeight}`, preserveAspectRatio: "none" },
      el("line", { class: "grid", x1: 0, x2: chartWidth, y1: chartHeight / 2, y2: chartHeight / 2 }),
      ...this.areas, ...this.paths, this.cross), this.top, this.when);
    this.left = el("span");
    this.right = el("span");
    place.append(el("figure", {}, el("figcaption", {}, el("h3", {}, title), legend), this.plot,
      el("div", { class: "axis", "aria-hidden": "true" }, this.left, this.right)));
    this.listen();
  }

  listen() {
    const steps = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1, PageDown: -30, PageUp: 30, Home: -Infinity, End: Infinity };
    this.plot.addEventListener("keydown", (e) => {
      if (e.key === "Escape") this.choose(null);
      if (!(e.key in steps)) return;
      e.preventDefault();
      this.choose((this.at ?? this.last()) + steps[e.key]);
    });
    this.plot.addEventListener("pointermove", (e) => {
      const box = this.plot.getBoundingClientRect();
      this.choose(this.nearest((e.clientX - box.left) / box.width));
    });
    this.plot.addEventListener("pointerleave", () => this.choose(null));
    this.plot.addEventListener("blur", () => this.choose(null));
  }

  last() { return (this.series?.time.length ?? 0) - 1; }

  nearest(part) {
    const t = this.from + part * (this.to - this.from);
    let best = this.last();
    this.series?.time.forEach((x, i) => {
      if (Math.abs(x - t) < Math.abs(this.series.time[best] - t)) best = i;
    });
    return best;
  }

  choose(index) {
    this.at = index === null || this.last() < 0 ? null : Math.min(this.last(), Math.max(0, index));
    this.tell();
  }

  // draw shows a series of so many seconds that ends at to.
  draw(series, to, span) {
    this.to = to;
    this.from = to - span;
    // A moment that is chosen stays chosen when others come after it or are forgotten.
    const chosen = this.at === null ? null : this.series?.time[this.at];
    this.series = series;
    if (chosen != null) this.at = Math.max(0, series.time.indexOf(chosen));
    const peak = Math.max(0, ...this.lines.flatMap((l) => series[l.key]));
    this.limit = this.ceiling(peak);
    put(this.top, this.format(this.limit));
    const far = span > 86000;
    put(this.left, clock(this.from * 1000).slice(0, far ? 5 : 8));
    put(this.right, clock(this.to * 1000).slice(0, far ? 5 : 8));
    this.lines.forEach((l, i) => {
      const [line, area] = this.trace(series, l.key);
      this.paths[i].setAttribute("d", line);
      this.areas[i].setAttribute("d", area);
    });
    this.tell();
  }

  // ceiling is a round number with some room below it.
  ceiling(peak) {
    if (peak <= 0) return this.steps === 1024 ? 1024 : 10;
    peak *= 1.05;
    const power = this.steps ** Math.floor(Math.log(peak) / Math.log(this.steps));
    const nice = this.steps === 1024 ? [1, 2, 3, 5, 8, 10, 20, 30, 50, 80, 100, 200, 300, 500, 800, 1024] : [1, 1.5, 2, 3, 4, 6, 8, 10];
    return power * (nice.find((n) => n * power >= peak) ?? this.steps);
  }

  // trace leaves out what there are no samples of.
  trace(series, key) {
    const x = (t) => ((t - this.from) / (this.to - this.from)) * chartWidth;
    const y = (v) => chartHeight - (v / this.limit) * (chartHeight - 2) - 1;
    let line = "", area = "", started = null;
    series.time.forEach((t, i) => {
      if (t < this.from) return;
      const point = x(t).toFixed(1) + " " + y(series[key][i]).toFixed(1);
      const apart = started === null || t - series.time[i - 1] > 2 * series.step;
      if (apart) {
        if (started !== null) area += `V${chartHeight}H${started}Z`;
        started = x(t).toFixed(1);
        line += "M" + point + "h.1";
        area += `M${started} ${chartHeight}L${point}`;
      } else {
        line += "L" + point;
        area += "L" + point;
      }
    });
    if (started !== null) area += `V${chartHeight}H${started}Z`;
    return [line, area];
  }

  tell() {
    const i = this.at ?? this.last();
    const known = i >= 0;
    const value = (l) => (known ? this.format(this.series[l.key][i]) : "–");
    this.lines.forEach((l, k) => put(this.values[k], value(l)));
    const time = known ? clock(this.series.time[i] * 1000) : "";
    this.plot.setAttribute("aria-valuemax", Math.max(0, this.last()));
    this.plot.setAttribute("aria-valuenow", Math.max(0, i));
    this.plot.setAttribute("aria-valuetext", known ? time + ": " + this.lines.map((l) => l.label + " " + value(l)).join(", ") : "no values yet");
    put(this.when, this.at === null ? "" : time);
    this.cross.setAttribute("visibility", this.at === null ? "hidden" : "visible");
    if (this.at === null) return;
    const x = ((this.series.time[i] - this.from) / (this.to - this.from)) * chartWidth;
    this.cross.setAttribute("x1", x);
    this.cross.setAttribute("x2", x);
  }
}
