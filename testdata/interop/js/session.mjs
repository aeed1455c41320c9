// run(body) hands body a function that opens connections to the broker named on
// the command line, closes them afterwards, and turns the outcome into an exit
// code. Nothing may take longer than the deadline. TLS_CA and its kin ask for TLS.
import { connect } from "@nats-io/transport-node";

const deadline = 20_000;

const { TLS_CA, TLS_CERT, TLS_KEY, TLS_FIRST } = process.env;

// secure is the tls option of a connection.
export const secure = TLS_CA && {
  caFile: TLS_CA, certFile: TLS_CERT, keyFile: TLS_KEY, handshakeFirst: TLS_FIRST === "true",
};

export async function run(body) {
  const opened = [];
  const open = async (options = {}) => {
    const nc = await connect({ servers: process.argv[2], ...(secure && { tls: secure }), ...options });
    opened.push(nc);
    return nc;
  };
  const timer = setTimeout(() => fail(new Error(`not done after ${deadline} ms`)), deadline);
  try {
    await body(open);
  } catch (err) {
    fail(err);
  }
  clearTimeout(timer);
  await Promise.all(opened.map((nc) => nc.close()));
  console.log("ok");
}

// killRouter has the test kill the broker's router, and returns when there is another.
export async function killRouter() {
  console.log("kill router");
  await new Promise((resolve) => process.stdin.resume().once("data", resolve));
  process.stdin.pause();
}

function fail(err) {
  console.error(err);
  process.exit(1);
}

// strings collects the bodies of a subscription up to the one that says "end".
export async function strings(sub) {
  const bodies = [];
  for await (const m of sub) {
    if (m.string() === "end") break;
    bodies.push(m.string());
  }
  return bodies;
}

export const numbers = (n) => Array.from({ length: n }, (_, i) => String(i));
