// Logging in to another environment of Gatehouse by a ticket of one's own, for nats.js
// under node. It is one file to be copied into an application.
//
//   const home = await transfer({ servers: "tls://orga.example", user, pass }, "orgb");
//   const nc = await connect({ servers: "tls://orgb.example", authenticator: home.authenticator });
//   ...
//   await home.close(); // nc lasts, but cannot be made again
//
// The first argument says how to log in at home. A connection of its own there asks for a
// ticket each time that one to the other environment is made. nats.js wants the answer at
// once, and a ticket takes a round trip: so that connection lives in a thread of its own,
// and the program stands still for as long as that takes, 1.5 s at most. What goes to a
// thread is copied: the options can have no functions in them, no authenticator.
import { isMainThread, parentPort, Worker, workerData } from "node:worker_threads";
import { connect } from "@nats-io/transport-node";

const patience = 1_500; // ms; the other broker waits meanwhile, and has an auth_timeout
const largest = 4_096; // bytes of a ticket

export async function transfer(options, environment) {
  const worker = new Worker(new URL(import.meta.url), { workerData: { gatehouseTransfer: { options, environment } } });
  const problem = await new Promise((resolve, reject) => {
    worker.once("message", resolve);
    worker.once("error", reject);
  });
  if (problem) throw new Error(problem);
  worker.unref(); // from here on it keeps no program from ending
  return {
    authenticator: (nonce) => ({ jwt: "transfer", user: options.user, sig: ask(worker, nonce) }),
    close: async () => {
      worker.ref();
      worker.postMessage({ close: true });
      await new Promise((resolve) => worker.once("exit", resolve));
    },
  };
}

// ask waits for the thread's answer. Each question has memory of its own, so that an
// answer that comes too late is nobody's.
function ask(worker, nonce) {
  const memory = new SharedArrayBuffer(8 + largest);
  const [done, size] = [0, 1]; // words of it
  const words = new Int32Array(memory, 0, 2);
  worker.postMessage({ nonce, memory });
  if (Atomics.wait(words, done, 0, patience) === "timed-out") throw new Error("no ticket in time");
  const text = Buffer.from(new Uint8Array(memory, 8, Math.abs(words[size]))).toString();
  if (words[size] < 0) throw new Error(`no ticket: ${text}`);
  return text;
}

function answer(memory, text, good) {
  const bytes = Buffer.from(text).subarray(0, largest);
  new Uint8Array(memory, 8).set(bytes);
  const words = new Int32Array(memory, 0, 2);
  words[1] = good ? bytes.length : -bytes.length;
  Atomics.store(words, 0, 1);
  Atomics.notify(words, 0);
}

// serve is the thread: a connection at home that asks for tickets.
async function serve({ options, environment }) {
  let home;
  try {
    home = await connect({ ...options, maxReconnectAttempts: -1 });
  } catch (err) {
    parentPort.postMessage(`no connection at home: ${err.message}`);
    return;
  }
  parentPort.on("message", async ({ close, nonce, memory }) => {
    if (close) {
      await home.close();
      parentPort.close();
      return;
    }
    try {
      answer(memory, await ticket(home, nonce, environment), true);
    } catch (err) {
      answer(memory, err.message, false);
    }
  });
  parentPort.postMessage("");
}

// ticket asks again where there is none now, or no answer: the router may have ended
// with the question.
async function ticket(home, nonce, environment) {
  for (const end = Date.now() + patience; ;) {
    let problem;
    try {
      const m = await home.request("$GATE.ticket", JSON.stringify({ nonce, environment }), { timeout: 500 });
      if (!m.headers?.code) return m.string();
      problem = new Error(`${m.headers.code} ${m.headers.description}`);
      if (m.headers.code !== 429 && m.headers.code !== 504) throw problem;
    } catch (err) {
      if (err === problem || err.name !== "TimeoutError") throw err;
      problem = err;
    }
    if (Date.now() + 650 > end) throw problem;
    await new Promise((resolve) => setTimeout(resolve, 150));
  }
}

if (!isMainThread && workerData?.gatehouseTransfer) await serve(workerData.gatehouseTransfer);
