// Table is a table that is filled again and again. Rows are known by their key and
// keep their elements, so that focus and selection survive. At phone width a row is a
// card, and its cells say their own heading; roles are written out, since a browser
// drops those of tables that are laid out as something else.
//
// A column has a name, a label, and of a row its text; or cell, which makes elements and
// is called when text has changed. sort is what the broker is asked to sort by.
class Table {
  constructor(place, { caption, columns, empty, key, onsort, sorted, titled }) {
    Object.assign(this, { columns, empty, key, onsort, sorted, rows: new Map() });
    // A caption that says what the heading above says is for those who do not see that.
    this.caption = el("caption", { class: titled ? "unseen" : null }, caption);
    this.heads = columns.map((c) => this.head(c));
    this.body = el("tbody", { role: "rowgroup" });
    this.nothing = el("p", { class: "nothing", hidden: true }, titled ? null : el("b", {}, caption), empty);
    this.table = el("table", { role: "table" }, this.caption,
      el("thead", { role: "rowgroup" }, el("tr", { role: "row" }, ...this.heads)), this.body);
    const scroll = el("div", { class: "scroll" }, this.table);
    new ResizeObserver(() => this.reachable(scroll, caption)).observe(scroll);
    place.append(...(onsort ? [this.picker()] : []), scroll, this.nothing);
    this.markSorted();
  }

  // reachable lets the keyboard scroll what is wider than its place, and nothing else.
  reachable(scroll, caption) {
    const wide = scroll.scrollWidth > scroll.clientWidth;
    for (const [name, value] of [["tabindex", "0"], ["role", "group"], ["aria-label", caption + ", can be scrolled"]]) {
      if (wide) scroll.setAttribute(name, value);
      else scroll.removeAttribute(name);
    }
  }

  head(c) {
    const th = el("th", { scope: "col", role: "columnheader", class: c.number ? "n" : null });
    if (!c.sort) {
      th.append(c.label);
      return th;
    }
    const b = el("button", { type: "button", class: "sort" }, c.label, el("span", { class: "arrow", "aria-hidden": "true" }));
    b.addEventListener("click", () => this.sortBy(c.sort, this.sorted.by === c.sort && !this.sorted.reversed));
    th.append(b);
    return th;
  }

  // picker does at phone width, where there are no heads, what these do.
  picker() {
    this.select = el("select", {}, ...this.columns.filter((c) => c.sort).map((c) => el("option", { value: c.sort }, c.label)));
    this.turn = el("button", { type: "button", "aria-pressed": "false" }, "Reverse");
    this.select.addEventListener("change", () => this.sortBy(this.select.value, false));
    this.turn.addEventListener("click", () => this.sortBy(this.sorted.by, !this.sorted.reversed));
    return el("div", { class: "picker" }, el("label", {}, "Sort by ", this.select), this.turn);
  }

  sortBy(by, reversed) {
    this.sorted = { by, reversed };
    this.markSorted();
    this.onsort(this.sorted);
  }

  markSorted() {
    if (!this.sorted) return;
    this.columns.forEach((c, i) => {
      const on = c.sort && c.sort === this.sorted.by;
      const up = on && Boolean(c.ascending) !== this.sorted.reversed;
      if (on) this.heads[i].setAttribute("aria-sort", up ? "ascending" : "descending");
      else this.heads[i].removeAttribute("aria-sort");
      const arrow = this.heads[i].querySelector(".arrow");
      if (arrow) put(arrow, on ? (up ? " ▲" : " ▼") : "");
    });
    if (!this.select) return;
    this.select.value = this.sorted.by;
    this.turn.setAttribute("aria-pressed", String(this.sorted.reversed));
  }

  fill(list) {
    const items = new Map(list.map((item) => [this.key(item), item]));
    for (const [key, row] of this.rows) {
      if (items.has(key)) continue;
      row.tr.remove();
      this.rows.delete(key);
    }
    const focused = document.activeElement;
    let at = this.body.firstChild;
    for (const [key, item] of items) {
      const row = this.rows.get(key) ?? this.add(key);
      this.columns.forEach((c, i) => this.show(row.cells[i], c, item));
      if (row.tr === at) at = at.nextSibling;
      else this.body.insertBefore(row.tr, at);
    }
    // A row that was moved has lost it.
    if (focused !== document.activeElement && this.body.contains(focused)) focused.focus({ preventScroll: true });
    this.nothing.hidden = items.size > 0;
    this.table.parentNode.hidden = items.size === 0;
    this.reachable(this.table.parentNode, this.caption.textContent);
  }

  add(key) {
    const cells = this.columns.map((c, i) => el(i === 0 ? "th" : "td", {
      scope: i === 0 ? "row" : null, role: i === 0 ? "rowheader" : "cell", "data-label": c.label,
      class: [c.number ? "n" : "", c.wide ? "wide" : "", c.code ? "code cut" : c.cut ? "cut" : ""].join(" ").trim() || null,
    }));
    const row = { cells, tr: el("tr", { role: "row" }, ...cells) };
    this.rows.set(key, row);
    return row;
  }

  show(cell, column, item) {
    const text = column.text(item) ?? "";
    if (!column.cell) return put(cell, text);
    if (cell.shown === text) return;
    cell.shown = text;
    cell.replaceChildren(...column.cell(item));
  }
}

// Pager is "51 to 100 of 1,000" and the buttons for it.
class Pager {
  constructor(place, name, onmove) {
    this.offset = 0;
    this.limit = matchMedia("(max-width: 719px)").matches ? 10 : 25;
    this.total = 0;
    this.onmove = onmove;
    this.said = el("span", { class: "range" });
    this.back = el("button", { type: "button", "aria-label": "Previous page of " + name }, "‹ Previous");
    this.next = el("button", { type: "button", "aria-label": "Next page of " + name }, "Next ›");
    const select = el("select", { "aria-label": name + " on a page" }, ...[10, 25, 50, 100, 200].map((n) => el("option", { selected: n === this.limit }, String(n))));
    this.back.addEventListener("click", () => this.go(this.offset - this.limit, this.back));
    this.next.addEventListener("click", () => this.go(this.offset + this.limit, this.next));
    select.addEventListener("change", () => {
      this.limit = Number(select.value);
      this.go(this.offset - (this.offset % this.limit));
    });
    place.append(el("div", { class: "pager", role: "group", "aria-label": "Pages of " + name },
      this.said, this.back, this.next, el("label", {}, select, " a page")));
  }

  go(offset, button) {
    if (button?.getAttribute("aria-disabled") === "true") return;
    this.offset = Math.max(0, offset);
    this.onmove();
  }

  show(total, shown) {
    this.total = total;
    const last = this.offset + shown;
    put(this.said, shown ? count(this.offset + 1) + " to " + count(last) + " of " + count(total) : "none of " + count(total));
    // Not disabled: that would take the focus of who presses them.
    this.back.setAttribute("aria-disabled", String(this.offset === 0));
    this.next.setAttribute("aria-disabled", String(last >= total));
    if (shown === 0 && this.offset > 0 && total > 0) {
      this.go(Math.floor((total - 1) / this.limit) * this.limit); // the page has gone meanwhile
    }
  }
}

// facts fills a list of names and values.
function facts(place, list) {
  const wanted = list.filter(([, value]) => value !== null && value !== undefined && value !== "");
  const text = JSON.stringify(wanted);
  if (place.shown === text) return;
  place.shown = text;
  place.replaceChildren(...wanted.map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, String(value)))));
}
