import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { run } from "../session.mjs";
import { certificate } from "./x509.js";

// X509 names pairs of certificate and key: those at even places are alice's, the rest
// nobody's.
const pairs = process.env.X509.split(",").map((name) => [`${name}.pem`, `${name}.key`]);

await run(async (open) => {
  const fails = { reconnect: false, maxReconnectAttempts: 0, timeout: 3_000 };
  for (const [i, files] of pairs.entries()) {
    const [cert, key] = await Promise.all(files.map((f) => readFile(f)));
    const options = { ...fails, authenticator: certificate("local", cert, key) };
    if (i % 2 === 1) {
      await assert.rejects(open(options), /Authorization Violation/i);
      continue;
    }
    const nc = await open(options);
    const messages = nc.subscribe("js.x509", { max: 1 })[Symbol.asyncIterator]();
    nc.publish("js.x509", "in");
    assert.equal((await messages.next()).value.string(), "in");
    await assert.rejects(open({ ...fails, authenticator: certificate("elsewhere", cert, key) }), /Authorization Violation/i);
  }
  await assert.rejects(open(fails));
});
