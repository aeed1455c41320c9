import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { after, before, test } from "node:test";
import { Broker, Crowd, connect } from "./broker.mjs";
import { launch, Tab, themes, widths } from "./browser.mjs";

const crowd = 1000;
let broker, browser, clients;

before(async () => {
  broker = await Broker.start();
  clients = await Crowd.gather(broker.client, crowd);
  browser = await launch();
});

after(async () => {
  clients?.leave();
  await browser?.close();
  await broker?.remove();
});

const fixture = async (name) => JSON.parse(await readFile(new URL(`fixtures/${name}.json`, import.meta.url)));

for (const width of widths) {
  for (const theme of themes) {
    test(`${crowd} connections, ${width} pixels, ${theme}`, async () => {
      const t = await Tab.open(browser, broker.url, { width, theme });
      const rows = width < 720 ? 10 : 25;
      await t.page.waitForFunction((n) => document.querySelector("#tiles dd").textContent === n, crowd.toLocaleString("en"));
      await t.page.waitForFunction((n) => document.querySelectorAll("#subjects tbody tr").length === n, rows);
      assert.equal(await t.page.locator("#connections tbody tr").count(), rows);
      assert.match(await t.text("#connections .pager"), new RegExp(`1 to ${rows} of 1,000`));
      for (const role of ["parent", "router", "dispatcher", "console", "cm/0", "cm/1"]) {
        assert.equal(await t.page.locator("#processes tbody th", { hasText: role }).count(), 1, role);
      }
      await t.page.waitForFunction(() => /L/.test(document.querySelector("#charts .plot path.line.b").getAttribute("d")), null, { timeout: 60000 });
      await t.shot("crowd");
      await t.check();
      await t.close();
    });
  }
}

test("a client's words are text", async () => {
  const t = await Tab.open(browser, broker.url);
  const names = await t.page.locator("#connections tbody td[data-label=Name]").allInnerTexts();
  assert.ok(names.includes(`<img src=x onerror="window.hurt=1">`), names[0]);
  assert.ok(names.includes("turned\\u{202e}gpj.exe\\u{7}"), names[1]);
  await t.page.locator("#connections tbody button").first().click();
  await t.page.waitForFunction(() => document.querySelectorAll("#detail-facts dt").length > 5);
  await t.page.waitForFunction(() => document.querySelector("#detail-table tbody th")?.textContent === "<script>window.hurt=1</script>");
  await t.shot("detail");
  await t.check();
  await t.close();
});

test("sorting and pages", async () => {
  const t = await Tab.open(browser, broker.url);
  const column = (label) => t.page.locator(`#connections tbody [data-label="${label}"]`).allInnerTexts();
  await t.page.getByRole("button", { name: "Subs", exact: true }).click();
  await t.page.waitForFunction(() => document.querySelector("#connections tbody [data-label=Subs]").textContent === "60");
  assert.equal(await t.page.locator("#connections th[aria-sort]").getAttribute("aria-sort"), "descending");
  await t.page.getByRole("button", { name: "Subs", exact: true }).click();
  await t.page.waitForFunction(() => document.querySelector("#connections tbody [data-label=Subs]").textContent === "1");
  assert.equal(await t.page.locator("#connections th[aria-sort]").getAttribute("aria-sort"), "ascending");
  await t.page.getByRole("button", { name: "No." }).click();
  await t.page.waitForFunction(() => document.querySelector("#connections tbody [data-label=Name]").textContent.startsWith("<img"));
  const first = await column("No.");
  await t.page.getByLabel("Next page of connections").click();
  await t.page.waitForFunction(() => document.querySelector("#connections .range").textContent.startsWith("26 to 50"));
  const second = await column("No.");
  assert.equal(new Set([...first, ...second]).size, 50);
  await t.page.getByLabel("connections on a page").selectOption("200");
  await t.page.waitForFunction(() => document.querySelectorAll("#connections tbody tr").length === 200);
  await t.page.getByLabel("Subscriptions that match the subject").fill("many.7.x");
  await t.page.getByRole("button", { name: "Show", exact: true }).click();
  await t.page.waitForFunction(() => document.querySelectorAll("#subjects tbody tr").length === 1);
  assert.equal(await t.text("#subjects tbody th"), "many.7.>");
  await t.check();
  await t.close();
});

test("the keyboard alone", async () => {
  const t = await Tab.open(browser, broker.url);
  const walk = [];
  for (let i = 0; i < 120; i++) {
    await t.page.keyboard.press("Tab");
    const at = await t.focused();
    if (at.tag === "BODY") break;
    assert.ok(at.ring && at.seen, `the focus is not to be seen at ${JSON.stringify(at)}`);
    walk.push(at);
  }
  assert.match(walk[0].text, /^Skip/);
  const order = [...new Set(walk.map((w) => w.section).filter(Boolean))];
  assert.deepEqual(order, ["attention", "rates", "processes", "connections", "subjects"].filter((s) => order.includes(s)).concat(order.includes("refusals") ? ["refusals"] : []));
  for (const id of ["pause", "theme", "range"]) assert.ok(walk.some((w) => w.id === id), id);
  assert.ok(walk.some((w) => /^Next page of connections/.test(w.text)), "no way to the next page");

  await t.page.locator("#charts .plot").first().focus();
  const before = await t.page.locator("#charts .plot").first().getAttribute("aria-valuetext");
  await t.page.keyboard.press("ArrowLeft");
  assert.notEqual(await t.page.locator("#charts .plot").first().getAttribute("aria-valuetext"), before);
  await t.page.keyboard.press("Escape");

  const row = t.page.locator("#connections tbody button").nth(3);
  await row.focus();
  const label = (await t.focused()).text;
  await t.rounds(2);
  assert.equal((await t.focused()).text, label, "a refresh took the focus");
  await t.page.keyboard.press("Enter");
  await t.page.waitForSelector("#detail[open]");
  await t.page.waitForFunction(() => document.querySelectorAll("#detail-facts dt").length > 5);
  await t.check();
  await t.page.keyboard.press("Escape");
  await t.page.waitForSelector("#detail", { state: "hidden" });
  assert.equal((await t.focused()).text, label, "the dialog did not give the focus back");
  await t.close();
});

test("the theme is kept", async () => {
  const t = await Tab.open(browser, broker.url, { theme: "light" });
  const sheet = () => t.page.evaluate(() => getComputedStyle(document.querySelector("section")).backgroundColor);
  const light = await sheet();
  await t.page.locator("#theme").selectOption("dark");
  assert.notEqual(await sheet(), light);
  await t.check();
  await t.page.reload();
  await t.state("good");
  assert.notEqual(await sheet(), light);
  await t.close();
});

test("what was before is there after a reload", async () => {
  const t = await Tab.open(browser, broker.url);
  const moments = () => t.page.locator("#charts .plot").first().getAttribute("aria-valuemax").then(Number);
  await t.page.waitForFunction(() => Number(document.querySelector("#charts .plot").getAttribute("aria-valuemax")) >= 3, null, { timeout: 60000 });
  const was = await moments();
  await t.page.reload();
  await t.state("good");
  assert.ok(await moments() >= was, `${await moments()} moments, before ${was}`);
  await t.close();
});

test("troubles are told", async () => {
  for (const width of widths) {
    for (const theme of themes) {
      const t = await Tab.open(browser, broker.url, { width, theme, routes: {
        "/statusz": await fixture("statusz"), "/connz": await fixture("connz"), "/subsz": await fixture("subsz") } });
      const notes = await t.text("#notes");
      for (const word of ["cm/1 is stalled", "has expired", "expires in 3 days", "4 slow consumers", "no server of the directory", "cm.count = 4", "impostor"]) {
        assert.ok(notes.includes(word), `${word} is not in ${notes}`);
      }
      await t.shot("trouble");
      await t.check();
      await t.close();
    }
  }
});

test("the broker is stopped, and is back", async () => {
  const tabs = [];
  for (const width of widths) {
    for (const theme of themes) tabs.push(await Tab.open(browser, broker.url, { width, theme }));
  }
  clients.leave();
  await broker.stop();
  for (const t of tabs) {
    await t.page.bringToFront();
    await t.state("bad");
    assert.match(await t.text("#lost"), /The broker has not answered since \d\d:\d\d:\d\d\. That is [\dms ]+;/);
    assert.match(await t.page.locator("#said").textContent(), /has not answered since/);
    await t.shot("stopped");
    await t.check({ errors: ["Failed to load resource"] });
  }
  await broker.again();
  await connect(broker.client, "after", "SUB after 1");
  for (const t of tabs) {
    await t.page.bringToFront();
    await t.state("good");
    assert.equal(await t.page.locator("#lost").isVisible(), false);
    assert.match(await t.page.locator("#said").textContent(), /answers again/);
    await t.page.waitForFunction(() => document.querySelector("#connections tbody [data-label=Name]")?.textContent === "after");
    await t.close();
  }
});
