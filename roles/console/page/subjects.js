// What is subscribed to: the index of the router, and a page of its subscriptions.

class Subjects {
  constructor(again) {
    const place = $("subjects-table");
    this.list = el("div"); // there is none where the router tells none
    this.filter = el("input", { type: "text", size: 24, spellcheck: "false", autocomplete: "off", autocapitalize: "off", placeholder: "any" });
    const form = el("form", { class: "picker always" }, el("label", {}, "Subscriptions that match the subject ", this.filter),
      el("button", { type: "submit" }, "Show"));
    form.addEventListener("submit", (e) => {
      e.preventDefault();
      this.pager.offset = 0;
      again();
    });
    this.error = el("p", { class: "failed", hidden: true });
    this.list.append(form);
    place.append(this.error, this.list);
    this.table = new Table(this.list, {
      caption: "Subscriptions", titled: true, empty: "There are no subscriptions.", key: (s) => s.cid + " " + s.sid,
      columns: [
        { label: "Subject", text: (s) => plain(s.subject), code: true },
        { label: "Queue", text: (s) => plain(s.qgroup) || "–", code: true },
        { label: "Connection", number: true, text: (s) => s.cid, cell: (s) => [detailButton(s.cid)] },
        { label: "SID", number: true, text: (s) => plain(s.sid) },
        { label: "Messages", number: true, text: (s) => count(s.msgs) },
      ],
    });
    this.pager = new Pager(this.list, "subscriptions", again);
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
      ["Messages matched", count(answer.num_matches)],
      ["Receivers of each", answer.num_matches > 0 && answer.avg_fanout >= 0 ? answer.avg_fanout.toFixed(1) : ""],
      ["At most", answer.max_fanout > 0 ? count(answer.max_fanout) : ""],
      ["Found in a cache", answer.cache_hit_rate > 0 ? Math.round(100 * answer.cache_hit_rate) + " %" : ""],
    ]);
    const list = answer.subscriptions_list;
    this.list.hidden = !list;
    this.table.fill(list ?? []);
    this.pager.show(answer.total ?? 0, list?.length ?? 0);
  }

  fail(text) {
    this.error.hidden = false;
    put(this.error, "The subscriptions cannot be had: " + text);
  }
}
