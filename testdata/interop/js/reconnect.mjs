import assert from "node:assert/strict";
import { run } from "./session.mjs";

// Says "ready" when the broker may be restarted, and expects to be back by
// itself afterwards with its subscriptions and what was published meanwhile.
await run(async (open) => {
  const nc = await open({ reconnectTimeWait: 20, reconnectJitter: 0, maxReconnectAttempts: -1 });
  const messages = nc.subscribe("js.again.*")[Symbol.asyncIterator]();
  const states = nc.status()[Symbol.asyncIterator]();
  const until = async (type) => {
    while ((await states.next()).value.type !== type);
  };
  await nc.flush();
  console.log("ready");
  await until("disconnect");
  nc.publish("js.again.x", "while down");
  await until("reconnect");
  nc.publish("js.again.x", "when up");
  for (const want of ["while down", "when up"]) {
    assert.equal((await messages.next()).value.string(), want);
  }
});
