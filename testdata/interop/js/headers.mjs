import assert from "node:assert/strict";
import { headers } from "@nats-io/transport-node";
import { run } from "./session.mjs";

await run(async (open) => {
  const [pub, sub] = [await open(), await open()];
  assert.equal(pub.info.headers, true);
  const s = sub.subscribe("js.headers", { max: 2 });
  await sub.flush();
  const h = headers();
  h.append("Multi", "one");
  h.append("Multi", "two: with a colon");
  h.set("Empty", "");
  pub.publish("js.headers", "body", { headers: h });
  pub.publish("js.headers", "", { headers: h });
  const bodies = [];
  for await (const m of s) {
    bodies.push(m.string());
    assert.deepEqual(m.headers.values("Multi"), ["one", "two: with a colon"]);
    assert.equal(m.headers.get("Empty"), "");
    assert.deepEqual([...m.headers.keys()].sort(), ["Empty", "Multi"]);
  }
  assert.deepEqual(bodies, ["body", ""]);
});
