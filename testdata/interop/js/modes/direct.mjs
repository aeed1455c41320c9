import assert from "node:assert/strict";
import { errors } from "@nats-io/transport-node";
import { killRouter, run } from "../session.mjs";
import { member } from "./members.mjs";
import { direct } from "./modes.js";

// Who is connected under a name has its subject, and nobody else, over a router's death.
await run(async (open) => {
  const subject = direct("pricer", "js");
  const nc = await open();
  const owner = await member(open, "owner", subject, undefined, { name: "pricer/js" });
  const monitor = await member(open, "monitor", ">");
  const refused = async (name) => {
    const other = await open({ name });
    const sub = other.subscribe(subject, { callback: () => {} });
    const err = await Promise.race([sub.closed, other.flush().then(() => sub.closed)]);
    assert.ok(err instanceof errors.PermissionViolationError, String(err));
  };
  const ask = async () => assert.equal((await nc.request(subject, "secret", { timeout: 10_000 })).string(), "owner");
  await ask();
  await refused("pricer/other");
  await refused("pricer/js");
  const kept = nc.request(subject, "keep", { timeout: 10_000 });
  const { value } = await owner.kept.next();
  await killRouter();
  value.respond("late");
  assert.equal((await kept).string(), "late");
  await refused("pricer/js");
  await ask();
  owner.nc.close();
  await owner.nc.closed();
  await assert.rejects(nc.request(direct("pricer", "none"), "", { timeout: 10_000 }));
  await monitor.nc.flush();
  assert.ok(!monitor.heard.some((m) => m.subject === subject), "a wildcard has seen it");
});
