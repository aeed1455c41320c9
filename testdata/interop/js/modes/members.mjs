// member answers requests with its name, but gives those that say "keep" to the test, by
// kept, an async iterator. It is active when it is returned.
export async function member(open, name, subject, queue, options) {
  const nc = await open(options);
  const m = { name, nc, heard: [] };
  const waiting = [];
  let wake;
  m.kept = (async function* () {
    for (;;) {
      while (waiting.length > 0) yield waiting.shift();
      await new Promise((resolve) => (wake = resolve));
    }
  })();
  m.sub = nc.subscribe(subject, {
    queue,
    callback: (err, msg) => {
      if (err) return;
      m.heard.push(msg);
      if (msg.string().startsWith("keep")) {
        waiting.push(msg);
        wake?.();
      } else if (msg.reply) {
        msg.respond(name);
      }
    },
  });
  await nc.flush();
  return m;
}

// shares counts who answers n requests, sent one after the other.
export async function shares(nc, subject, n) {
  const count = {};
  for (let i = 0; i < n; i++) {
    const name = (await nc.request(subject, "", { timeout: 10_000 })).string();
    count[name] = (count[name] ?? 0) + 1;
  }
  return Object.fromEntries(Object.entries(count).sort());
}
