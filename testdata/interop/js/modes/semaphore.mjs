import assert from "node:assert/strict";
import { errors } from "@nats-io/transport-node";
import { run, killRouter } from "../session.mjs";
import { member, shares } from "./members.mjs";
import { request, ResponderLostError } from "./modes.js";

// The member that owes the fewest answers gets a request; a lost one is told of.
await run(async (open) => {
  const nc = await open();
  const members = {};
  for (const name of ["a", "b", "c"]) members[name] = await member(open, name, "js.work", "q");
  assert.deepEqual(await shares(nc, "js.work", 9), { a: 3, b: 3, c: 3 });

  const kept = nc.request("js.work", "keep", { timeout: 10_000 });
  const busy = await Promise.race(Object.values(members).map((m) => m.kept.next().then(({ value }) => ({ m, value }))));
  const idle = Object.fromEntries(Object.keys(members).filter((n) => n !== busy.m.name).map((n) => [n, 5]));
  assert.deepEqual(await shares(nc, "js.work", 10), idle);
  await killRouter();
  assert.deepEqual(await shares(nc, "js.work", 10), idle, "after a router's death");
  busy.value.respond("late");
  assert.equal((await kept).string(), "late");
  assert.deepEqual(await shares(nc, "js.work", 9), { a: 3, b: 3, c: 3 });

  // Many requests at once while routers die: each has its answer.
  const many = Promise.all(Array.from({ length: 500 }, () => request(nc, "js.work", "", { timeout: 15_000 })));
  await killRouter();
  for (const m of await many) assert.ok(members[m.string()]);

  const lost = [request(nc, "js.lost", "keep"), nc.request("js.lost", "keep", { timeout: 10_000 })];
  await Promise.all([
    assert.rejects(lost[0], errors.NoRespondersError),
    assert.rejects(lost[1], (err) => err instanceof errors.NoRespondersError || err.cause instanceof errors.NoRespondersError),
  ]);
  const only = await member(open, "only", "js.lost", "q");
  const told = [request(nc, "js.lost", "keep"), nc.request("js.lost", "keep", { timeout: 10_000 })];
  await only.kept.next();
  await only.kept.next();
  only.nc.close();
  await Promise.all([
    assert.rejects(told[0], ResponderLostError),
    assert.rejects(told[1], (err) => err instanceof errors.NoRespondersError || err.cause instanceof errors.NoRespondersError),
  ]);
});
