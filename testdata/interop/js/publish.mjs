import assert from "node:assert/strict";
import { run } from "./session.mjs";

await run(async (open) => {
  const [pub, sub] = [await open(), await open()];
  const bodies = [new Uint8Array(), Uint8Array.of(0, 13, 10, 255), new TextEncoder().encode("grüße"), new Uint8Array(pub.info.max_payload).fill(7)];
  const s = sub.subscribe("js.publish", { max: bodies.length });
  await sub.flush();
  for (const b of bodies) pub.publish("js.publish", b);
  const got = [];
  for await (const m of s) got.push(m.data);
  assert.equal(got.length, bodies.length);
  for (const i of bodies.keys()) assert.deepEqual(Buffer.from(got[i]), Buffer.from(bodies[i]));
  assert.throws(() => pub.publish("js.publish", new Uint8Array(pub.info.max_payload + 1)));
});
