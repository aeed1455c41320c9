import assert from "node:assert/strict";
import { numbers, run, strings } from "./session.mjs";

await run(async (open) => {
  const [pub, sub] = [await open(), await open()];
  const want = { "js.a.b": "1", "js.*.b": "1 3", "js.a.*": "1 2", "js.>": "1 2 3 4", "js.a": "" };
  const subs = Object.keys(want).map((subject) => [subject, sub.subscribe(subject)]);
  const all = sub.subscribe("many");
  const few = sub.subscribe("many", { max: 3 });
  await sub.flush();

  for (const [subject, body] of [["js.a.b", "1"], ["js.a.c", "2"], ["js.x.b", "3"], ["js.a.b.c", "4"]]) pub.publish(subject, body);
  for (const n of numbers(2000)) pub.publish("many", n);
  pub.publish("many", "end");
  assert.deepEqual(await strings(all), numbers(2000));
  assert.deepEqual(await strings(few), numbers(3));

  // All of it came before what "many" brought on the same connection.
  for (const [subject, s] of subs) {
    s.unsubscribe();
    assert.equal((await strings(s)).join(" "), want[subject], subject);
  }
  pub.publish("js.a.b", "to nobody");
  await pub.flush();
});
