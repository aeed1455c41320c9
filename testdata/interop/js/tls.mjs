import assert from "node:assert/strict";
import { run, secure } from "./session.mjs";

// Only who trusts the broker, and is trusted by it, gets in; then large bodies
// arrive as they are.
await run(async (open) => {
  const fails = { reconnect: false, maxReconnectAttempts: 0, timeout: 3_000 };
  await assert.rejects(open({ ...fails, tls: { ...secure, caFile: undefined } }));
  await assert.rejects(open({ ...fails, tls: { ...secure, certFile: undefined, keyFile: undefined } }));
  const [pub, sub] = [await open(), await open()];
  assert.equal(pub.info.tls_required, true);
  assert.equal(pub.info.tls_verify, true);
  const bodies = [1, 16_384, 65_536].map((n) => crypto.getRandomValues(new Uint8Array(n)));
  bodies.push(new Uint8Array(1_048_576).fill(7));
  const messages = sub.subscribe("js.large")[Symbol.asyncIterator]();
  await sub.flush();
  bodies.forEach((b) => pub.publish("js.large", b));
  for (const b of bodies) assert.deepEqual(Buffer.from((await messages.next()).value.data), Buffer.from(b));
});
