import assert from "node:assert/strict";
import { killRouter, run } from "../session.mjs";
import { transfer } from "./transfer.js";

// HOME_URL is the broker of orga, where alice may go to orgb, and carol may not.
const { HOME_URL } = process.env;

await run(async (open) => {
  const home = await transfer({ servers: HOME_URL, user: "alice", pass: "battery" }, "orgb");
  const nc = await open({ authenticator: home.authenticator, ignoreAuthErrorAbort: true, reconnectTimeWait: 100, maxReconnectAttempts: -1 });
  const roundTrip = async (body) => {
    const messages = nc.subscribe("js.transfer", { max: 1 })[Symbol.asyncIterator]();
    nc.publish("js.transfer", body);
    assert.equal((await messages.next()).value.string(), body);
  };
  await roundTrip("in");

  // A connection that was lost is made again, with another ticket.
  const again = (async () => {
    for await (const s of nc.status()) if (s.type === "reconnect") return;
  })();
  await nc.reconnect();
  await again;
  await roundTrip("in again");

  await killRouter(); // neither end of it is lost by that
  await roundTrip("still in");

  const fails = { reconnect: false, maxReconnectAttempts: 0, timeout: 3_000 };
  const carol = await transfer({ servers: HOME_URL, user: "carol", pass: "battery" }, "orgb");
  await assert.rejects(open({ ...fails, authenticator: carol.authenticator }), /403 Transfer Not Permitted/);
  const elsewhere = await transfer({ servers: HOME_URL, user: "alice", pass: "battery" }, "orgc");
  await assert.rejects(open({ ...fails, authenticator: elsewhere.authenticator }), /403 Transfer Not Permitted/);
  await assert.rejects(transfer({ servers: HOME_URL, user: "alice", pass: "mule", ...fails }, "orgb"), /Authorization Violation/i);
  for (const h of [home, carol, elsewhere]) await h.close();
  await roundTrip("stays in");
});
