import assert from "node:assert/strict";
import { errors } from "@nats-io/transport-node";
import { killRouter, run } from "../session.mjs";
import { member } from "./members.mjs";
import { fanout, FanoutError, ResponderLostError, sender, StatusError } from "./modes.js";

const n = 20;

// collect gives the answers of a fanout in order, and the error at its end.
async function collect(answers) {
  const names = [];
  try {
    for await (const m of answers) names.push(m.string());
  } catch (err) {
    return [names.sort(), err];
  }
  return [names.sort(), undefined];
}

// Everybody answers a fanout, and it ends when all have, with a router that dies amid it.
await run(async (open) => {
  const nc = await open();
  assert.ok((await collect(fanout(nc, "js.who", "")))[1] instanceof errors.NoRespondersError);
  const members = [];
  for (let i = 0; i < n; i++) {
    const name = String(i).padStart(2, "0");
    members.push(await member(open, name, "js.who", i % 3 ? "q" : undefined, { name: `${i % 2 ? "pricer" : "trader"}/${name}` }));
  }
  const all = members.map((m) => m.name);
  assert.deepEqual(await collect(fanout(nc, "js.who", "")), [all, undefined]);
  const pricers = all.filter((_, i) => i % 2);
  assert.deepEqual(await collect(fanout(nc, "js.who", "", { toType: "pricer" })), [pricers, undefined]);
  for await (const m of fanout(nc, "js.who", "")) {
    assert.equal(sender(m), undefined);
    break; // the others are dropped
  }

  const whole = collect(fanout(nc, "js.who", "keep"));
  for (const [i, m] of members.entries()) {
    const { value } = await m.kept.next();
    if (i === n / 2) await killRouter();
    value.respond(m.name);
  }
  assert.deepEqual(await whole, [all, undefined]);

  let [names, err] = await collect(fanout(nc, "js.who", "keep", { timeout: 100 }));
  assert.ok(err instanceof FanoutError && err.cause instanceof errors.TimeoutError, String(err));
  assert.deepEqual([names, err.expected, err.answered, err.lost], [[], n, 0, 0]);
  for (const m of members) await m.kept.next();

  const losing = collect(fanout(nc, "js.who", "keep"));
  for (const m of members) {
    const { value } = await m.kept.next();
    if (m === members[7]) m.nc.close();
    else value.respond(m.name);
  }
  [names, err] = await losing;
  assert.ok(err instanceof FanoutError && err.cause instanceof ResponderLostError, String(err));
  assert.deepEqual([names.length, err.expected, err.answered, err.lost], [n - 1, n, n - 1, 1]);

  [names, err] = await collect(fanout(nc, "js.who", "", { toType: "two words" }));
  assert.ok(err instanceof StatusError && err.code === 400 && err.message.includes("Gatehouse-To-Type"), String(err));
});
