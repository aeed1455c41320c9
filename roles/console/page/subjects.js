// What is subscribed to: the index of the router, and a page of its subscriptions.

class Subjects {
  constructor(again) {
    const place = $("subjects-table");
    this.filter = el("input", { type: "text", size: 24, spellcheck: "false", autocomplete: "off", autocapitalize: "off", placeholder: "any" });
    const form = el("form", { class: "picker always" }, el("label", {}, "Subscriptions that match the subject ", this.filter),
      el("button", { type: "submit" }, "Show"));
    form.addEventListener("submit", (e) => {
      e.preventDefault();
      this.pager.offset = 0;
      again();
    });
    this.error = el("p", { class: "failed", hidden: true });
    place.append(form, this.error);
    this.table = new Table(place, {
      caption: "Subscriptions", titled: true, empty: "There are no subscriptions.", key: (s) => s.cid + " " + s.sid,
      columns: [
        { label: "Subject", text: (s) => plain(s.subject), code: true },
        { label: "Queue", text: (s) => plain(s.qgroup) || "–", code: true },
        { label: "Connection", number: true, text: (s) => s.cid, cell: (s) => [detailButton(s.cid)] },
        { label: "SID", number: true, text: (s) => plain(s.sid) },
        { label: "Messages", number: true, text: (s) => count(s.msgs) },
      ],
    });
    this.pager = new Pager(place, "subscriptions", again);
  }

  query() {
    const test = this.filter.value.trim();
    return `subsz?subs=1&offset=${this.pager.offset}&limit=${this.pager.limit}` + (test ? "&test=" + encodeURIComponent(test) : "");
  }

  show(answer) {
    this.error.hidden = true;
    facts($("subjects-facts"), [
      ["Subscriptions", count(answer.num_subscriptions)],
      ["Added", count(answer.num_inserts)], ["Removed", count(answer.num_removes)],
      ["Matches", count(answer.num_matches)],
      ["Found in the cache", answer.cache_hit_rate >= 0 ? Math.round(100 * answer.cache_hit_rate) + " %" : ""],
      ["Receivers, on average", answer.avg_fanout >= 0 ? answer.avg_fanout.toFixed(1) : ""],
      ["Receivers, at most", count(answer.max_fanout)],
    ]);
    const list = answer.subscriptions_list ?? [];
    this.table.fill(list);
    this.pager.show(answer.total ?? list.length, list.length);
  }

  fail(text) {
    this.error.hidden = false;
    put(this.error, "The subscriptions cannot be had: " + text);
  }
}
