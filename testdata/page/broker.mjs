// A broker of its own for the tests, and crowds of clients of it that know no more of the
// protocol than they need.

import { spawn, execFile } from "node:child_process";
import { mkdtemp, chmod, rm, writeFile } from "node:fs/promises";
import net from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { promisify } from "node:util";

const gatehouse = process.env.GATEHOUSE;

export class Broker {
  // start runs a broker; one that has been stopped comes back at the same addresses.
  static async start() {
    const b = new Broker();
    b.dir = await mkdtemp(join(tmpdir(), "gh"));
    await chmod(b.dir, 0o755);
    await b.run(0, 0);
    return b;
  }

  async run(client, page) {
    const config = join(this.dir, "broker.toml");
    await writeFile(config, `[environment]
name = "orga"
broker = "gate-1"
[listen]
tcp = ["127.0.0.1:${client}"]
[privsep]
runtime_dir = "${this.dir}/run"
uid_base = 65200
[cm]
count = 2
[console]
unix = ""
tcp = ["127.0.0.1:${page}"]
[log]
format = "json"
`);
    this.process = spawn(gatehouse, ["serve", "-c", config], { stdio: ["ignore", "inherit", "pipe"] });
    this.log = [];
    const ready = await this.hear("ready");
    this.client ??= Number(ready.listen[0].match(/:(\d+)$/)[1]);
    this.page ??= Number((await this.status()).console[0].match(/:(\d+)$/)[1]);
  }

  get url() { return `http://127.0.0.1:${this.page}/`; }

  // hear waits for a line of the log. The log is read to its end.
  hear(message) {
    return new Promise((resolve, reject) => {
      createInterface({ input: this.process.stderr }).on("line", (text) => {
        this.log.push(text);
        const line = JSON.parse(text);
        if (line.message === message) resolve(line);
      });
      this.process.once("exit", (code) => reject(new Error(`the broker ended with ${code}:\n${this.log.join("\n")}`)));
    });
  }

  async status() {
    const { stdout } = await promisify(execFile)(gatehouse, ["status", "--runtime-dir", join(this.dir, "run"), "--json"]);
    return JSON.parse(stdout);
  }

  async stop() {
    if (this.process.exitCode !== null || this.process.signalCode !== null) return;
    const ended = new Promise((resolve) => this.process.once("exit", resolve));
    this.process.kill("SIGTERM");
    await ended;
  }

  again() { return this.run(this.client, this.page); }

  async remove() {
    await this.stop();
    await rm(this.dir, { recursive: true, force: true });
  }
}

// connect makes a client and is done when the broker has answered it.
export function connect(port, name, ...lines) {
  return new Promise((resolve, reject) => {
    const s = net.connect(port, "127.0.0.1");
    s.on("error", reject);
    const options = { name, lang: "node", version: "1.0.0", verbose: false, pedantic: false, headers: true, no_responders: true };
    s.write(["CONNECT " + JSON.stringify(options), ...lines, "PING", ""].join("\r\n"));
    let answered = false;
    s.on("data", (d) => {
      const text = d.toString("latin1");
      if (text.includes("-ERR")) reject(new Error(text));
      if (text.startsWith("PING") || text.includes("\r\nPING\r\n")) s.write("PONG\r\n");
      if (!answered && text.includes("PONG")) {
        answered = true;
        s.removeListener("error", reject);
        s.on("error", () => {}); // the end of a broker is no news here
        resolve(s);
      }
    });
  });
}

// Crowd is n clients, of whom some talk all the time.
export class Crowd {
  static async gather(port, n) {
    const c = new Crowd();
    c.clients = [
      await connect(port, `<img src=x onerror="window.hurt=1">`, "SUB <script>window.hurt=1</script> 1"),
      await connect(port, "turned\u202egpj.exe\u0007", "SUB turned.\u202egpj 1"),
      await connect(port, "n".repeat(200), ...Array.from({ length: 60 }, (_, i) => `SUB many.${i}.> group${i % 3} ${i}`)),
    ];
    while (c.clients.length < n) {
      const from = c.clients.length;
      c.clients.push(...await Promise.all(Array.from({ length: Math.min(50, n - from) }, (_, i) =>
        connect(port, `desk/${from + i}`, `SUB prices.${(from + i) % 40} 1`, "SUB jobs.* workers 2"))));
    }
    const talk = () => c.clients.slice(3, 13).forEach((s, i) => s.write(`PUB prices.${i} 64\r\n${"x".repeat(64)}\r\n`.repeat(5)));
    c.timer = setInterval(talk, 100);
    return c;
  }

  leave() {
    clearInterval(this.timer);
    this.clients.forEach((s) => s.destroy());
  }
}
