import assert from "node:assert/strict";
import { killRouter, run } from "../session.mjs";
import { member, shares } from "./members.mjs";
import { ResponderLostError, Session, SessionGoneError } from "./modes.js";

// A session stays with its member, over a router's death, until its end.
await run(async (open) => {
  const nc = await open();
  const members = {};
  for (const name of ["a", "b", "c"]) members[name] = await member(open, name, "js.cart", "q");
  const [one, other] = [new Session(nc), new Session(nc)];
  const sticks = async (session, n = 5) => {
    const names = new Set();
    for (let i = 0; i < n; i++) names.add((await session.request("js.cart", "")).string());
    assert.equal(names.size, 1, [...names].join(" "));
    return [...names][0];
  };
  const home = await sticks(one);
  const second = await sticks(other);
  assert.notEqual(home, second, "one member serves both");
  await killRouter();
  assert.equal(await sticks(one), home);

  // Several answers to one request.
  const got = [];
  const answering = members[home].kept.next().then(({ value: m }) => {
    for (let i = 0; i < 100; i++) m.respond(String(i));
  });
  for await (const m of one.requests("js.cart", "keep")) if (got.push(m.string()) === 100) break;
  await answering;
  assert.deepEqual(got, Array.from({ length: 100 }, (_, i) => String(i)));

  // The end, which the member hears of.
  await one.close();
  assert.deepEqual(await shares(nc, "js.cart", 2), Object.fromEntries(["a", "b", "c"].filter((n) => n !== second).map((n) => [n, 1])));
  const last = members[home].heard.find((m) => m.headers?.has("Gatehouse-Session-End"));
  assert.equal(last.headers.get("Gatehouse-Session"), one.id);
  assert.equal(last.data.length + last.reply.length, 0);
  assert.equal((await other.request("js.cart", "", { end: true })).string(), second);

  // The member's loss, with a request and without.
  const lost = await sticks(one);
  const kept = one.request("js.cart", "keep");
  await members[lost].kept.next();
  members[lost].nc.close();
  await assert.rejects(kept, ResponderLostError);
  await assert.rejects(one.request("js.cart", ""), SessionGoneError);
  const next = await sticks(one);
  assert.notEqual(next, lost);
  members[next].sub.unsubscribe();
  await members[next].nc.flush();
  await assert.rejects(one.request("js.cart", ""), SessionGoneError);
  assert.ok(![next, lost].includes(await sticks(one)));

  // Another connection is another sender.
  const back = (async () => {
    for await (const s of nc.status()) if (s.type === "reconnect") return;
  })();
  await nc.reconnect();
  await back;
  await assert.rejects(one.request("js.cart", ""), SessionGoneError);
  await sticks(one);
});
