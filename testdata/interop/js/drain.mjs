import assert from "node:assert/strict";
import { numbers, run } from "./session.mjs";

const n = 2000;

// A connection that drains handles all it was sent and answers it; the other
// member of its group gets the rest.
await run(async (open) => {
  const client = await open();
  const handled = { leaver: 0, stayer: 0 };
  const members = {};
  for (const name of Object.keys(handled)) {
    const nc = (members[name] = await open());
    nc.subscribe("js.work", {
      queue: "workers",
      callback: (_, m) => {
        handled[name]++;
        m.respond(m.data);
      },
    });
    await nc.flush();
  }
  const replies = client.subscribe("js.done", { max: n });
  await client.flush();
  for (const i of numbers(n)) {
    client.publish("js.work", i, { reply: "js.done" });
    if (Number(i) === n / 2) {
      await client.flush();
      members.leaver.drain();
    }
  }
  const answered = new Set();
  for await (const m of replies) answered.add(m.string());
  assert.equal(answered.size, n);
  assert.equal(await members.leaver.closed(), undefined);
  assert.equal(handled.leaver + handled.stayer, n);
  assert.ok(handled.leaver > 0 && handled.stayer > 0, JSON.stringify(handled));
});
