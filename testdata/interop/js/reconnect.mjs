import assert from "node:assert/strict";
import { run } from "./session.mjs";

// Says "ready" when the broker may be restarted, and expects to be back by
// itself afterwards, subscriptions included. (What nats.js publishes while it
// is away is lost by its own choice.)
await run(async (open) => {
  const nc = await open({ reconnectTimeWait: 20, reconnectJitter: 0, maxReconnectAttempts: -1 });
  const messages = nc.subscribe("js.again.*")[Symbol.asyncIterator]();
  nc.subscribe("js.service", { queue: "q", callback: (_, m) => m.respond("served") });
  const states = nc.status()[Symbol.asyncIterator]();
  const until = async (type) => {
    while ((await states.next()).value.type !== type);
  };
  await nc.flush();
  for (const round of ["first", "second"]) {
    console.log("ready");
    await until("disconnect");
    await until("reconnect");
    nc.publish("js.again.x", round);
    assert.equal((await messages.next()).value.string(), round);
    assert.equal((await nc.request("js.service", "", { timeout: 10_000 })).string(), "served");
  }
});
