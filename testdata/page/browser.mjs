// Chromium, and what is asked of every page.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { join } from "node:path";
import { chromium } from "playwright-core";

const axe = await readFile(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

export const widths = [360, 820, 1440];
export const themes = ["light", "dark"];

export async function launch() {
  // As root Chromium has no sandbox of its own; it sees this broker's page alone.
  return chromium.launch({ executablePath: process.env.CHROMIUM, args: process.getuid() === 0 ? ["--no-sandbox"] : [] });
}

// Tab is a page that remembers what went wrong on it.
export class Tab {
  static async open(browser, url, { width = 1440, theme = "light", routes = {} } = {}) {
    const t = new Tab();
    t.name = `${width}-${theme}`;
    t.errors = [];
    t.context = await browser.newContext({ viewport: { width, height: 900 }, colorScheme: theme, timezoneId: "UTC" });
    t.page = await t.context.newPage();
    t.page.on("console", (m) => t.errors.push(m.text()));
    t.page.on("pageerror", (e) => t.errors.push(e.message));
    for (const [path, answer] of Object.entries(routes)) {
      await t.page.route((u) => u.pathname === path, (r) => r.fulfill({ json: answer }));
    }
    await t.page.goto(url);
    await t.state("good");
    // What is subscribed to is asked for when it is seen.
    await t.page.locator("#subjects").scrollIntoViewIfNeeded();
    await t.page.waitForSelector("#subjects-facts dt");
    await t.page.evaluate(() => scrollTo(0, 0));
    return t;
  }

  state(name) { return this.page.waitForSelector(`#link[data-state="${name}"]`, { timeout: 60000 }); }

  text(selector) { return this.page.locator(selector).innerText(); }

  // rounds waits until the page has asked so often.
  async rounds(n) {
    for (; n > 0; n--) await this.page.waitForResponse((r) => r.url().includes("/statusz"), { timeout: 60000 });
  }

  shot(name) { return this.page.screenshot({ path: join(process.env.SHOTS, `${name}-${this.name}.png`), fullPage: true, animations: "disabled" }); }

  async check({ errors = [] } = {}) {
    const wide = await this.page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
    assert.ok(wide <= 0, `${this.name}: ${wide} pixels too wide`);
    assert.equal(await this.page.evaluate(() => window.hurt), undefined, "a client's text was run");
    await this.page.evaluate(axe); // not by a script element, which the policy does not allow
    const { violations } = await this.page.evaluate(() => axe.run(document, { resultTypes: ["violations"],
      runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"] }));
    assert.deepEqual(violations.map((v) => [v.id, v.nodes.map((n) => n.html.slice(0, 200) + " " + n.failureSummary)]), [], this.name);
    assert.deepEqual(this.errors.filter((e) => !errors.some((known) => e.includes(known))), [], this.name);
  }

  focused() {
    return this.page.evaluate(() => {
      const e = document.activeElement;
      const box = e.getBoundingClientRect();
      const style = getComputedStyle(e);
      const at = document.elementFromPoint(box.left + Math.min(box.width / 2, 20), box.top + Math.min(box.height / 2, 10));
      return { tag: e.tagName, id: e.id, text: (e.getAttribute("aria-label") ?? e.innerText ?? "").trim(), ring: style.outlineStyle !== "none",
        seen: Boolean(at) && (at === e || e.contains(at) || at.contains(e)), section: e.closest("section, header, footer, dialog")?.id ?? "" };
    });
  }

  close() { return this.context.close(); }
}
