import assert from "node:assert/strict";
import { numbers, run, strings } from "./session.mjs";

const n = 900;

await run(async (open) => {
  const pub = await open();
  const members = [];
  for (const [subject, queue] of [["q.a", "one"], ["q.*", "one"], ["q.>", "one"], ["q.a", "two"], ["q.a", undefined]]) {
    const nc = await open();
    const sub = nc.subscribe(subject, { queue });
    nc.subscribe("q.end", { callback: () => sub.drain() });
    await nc.flush();
    members.push({ queue, got: strings(sub) });
  }
  for (const i of numbers(n)) pub.publish("q.a", i);
  await pub.flush();
  pub.publish("q.end");

  for (const queue of ["one", "two", undefined]) {
    const parts = await Promise.all(members.filter((m) => m.queue === queue).map((m) => m.got));
    const all = parts.flat().filter((b) => b !== "").map(Number).sort((a, b) => a - b);
    assert.deepEqual(all, numbers(n).map(Number), `group ${queue}: each message once`);
    for (const p of parts) assert.ok(p.length > 0, `group ${queue}: a member without work`);
  }
});
