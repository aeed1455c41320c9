import assert from "node:assert/strict";
import { errors } from "@nats-io/transport-node";
import { numbers, run } from "./session.mjs";

await run(async (open) => {
  const [client, server] = [await open(), await open()];
  await assert.rejects(client.request("js.echo", "x", { timeout: 10_000 }), (err) => {
    assert.ok(err instanceof errors.NoRespondersError || err.cause instanceof errors.NoRespondersError, String(err));
    return true;
  });
  const service = server.subscribe("js.echo", { callback: (_, m) => m.respond(m.data) });
  await server.flush();
  const replies = await Promise.all(numbers(500).map((i) => client.request("js.echo", i, { timeout: 10_000 })));
  assert.deepEqual(replies.map((m) => m.string()), numbers(500));

  const own = await client.request("js.echo", "own inbox", { timeout: 10_000, noMux: true });
  assert.equal(own.string(), "own inbox");

  service.unsubscribe();
  await server.flush();
  await assert.rejects(client.request("js.echo", "x", { timeout: 10_000 }));
});
