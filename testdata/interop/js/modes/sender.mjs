import assert from "node:assert/strict";
import { headers } from "@nats-io/transport-node";
import { run } from "../session.mjs";
import { sender } from "./modes.js";

// The broker says who has sent a message, and nobody else can.
await run(async (open) => {
  const [sub, known, unknown] = [await open(), await open({ name: "pricer/1" }), await open({ name: "trader/1" })];
  const messages = sub.subscribe("js.from")[Symbol.asyncIterator]();
  await sub.flush();
  const forged = headers();
  forged.append("Gatehouse-From", "user=root");
  for (const [nc, want] of [[known, { type: "pricer", instance: "1" }], [unknown, {}]]) {
    nc.publish("js.from", "plain");
    nc.publish("js.from", "forged", { headers: forged });
    for (const body of ["plain", "forged"]) {
      const { value: m } = await messages.next();
      assert.equal(m.string(), body);
      assert.deepEqual(sender(m), want);
    }
  }
  const said = (value) => ({ headers: Object.assign(headers(), { values: () => [value] }) });
  assert.deepEqual(sender(said("user=a%3B%20b; organisation=ORGA")), { user: "a; b", organisation: "ORGA" });
  for (const bad of ["", "user", "user=", "role=root", "user=%FF"]) assert.equal(sender(said(bad)), undefined, bad);
});
