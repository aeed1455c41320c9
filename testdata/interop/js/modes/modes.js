// Gatehouse's messaging modes for nats.js. It is one file to be copied into an
// application; what it does is headers, subjects and statuses, which the README lists.
//
//   for await (const answer of fanout(nc, "stock", item)) total += answer.json().count;
//
//   const session = new Session(nc);
//   await session.request("cart.add", item);
//   await session.close();
//
//   nc.subscribe(direct("pricer", "1"), ...)   // connected with name: "pricer/1"
//
// To answer takes nothing but respond(), on the connection that has the subscription.
// nc.request() must not be used for a fanout: its first message is a status.
import { createInbox, errors, headers } from "@nats-io/transport-node";

// ResponderLostError: who had the request went away without an answer. It may have
// acted on it.
export class ResponderLostError extends Error {
  name = "ResponderLostError";
}

// SessionGoneError: the member that the session goes to went away, or this connection was
// lost. The next request begins the session anew.
export class SessionGoneError extends Error {
  name = "SessionGoneError";
}

// StatusError is any other status of the broker, like 400 for a malformed header.
export class StatusError extends Error {
  name = "StatusError";
  constructor(code, description) {
    super(`${code} ${description}`);
    this.code = code;
  }
}

// FanoutError: not as many have answered as were expected. cause is a ResponderLostError
// when all others have answered, a TimeoutError, or what ended the connection.
export class FanoutError extends Error {
  name = "FanoutError";
  constructor(expected, answered, lost, cause) {
    super(`${answered} of ${expected} answered, ${lost} lost: ${cause.message}`, { cause });
    Object.assign(this, { expected, answered, lost });
  }
}

// direct is the subject of an application instance. It is for the client that is
// connected with the name "type/instance" alone.
export const direct = (type, instance) => `_APP.${type}.${instance}`;

// request is nc.request() with a ResponderLostError of its own. options: timeout in ms,
// headers, toType, toOrganisation.
export async function request(nc, subject, payload, options = {}) {
  const answers = new Answers(nc, options.timeout ?? 10_000);
  const sub = nc.subscribe(inbox(nc), { callback: (err, m) => answers.take(err, m) });
  try {
    nc.publish(subject, payload, { reply: sub.getSubject(), headers: asked(options) });
    return checked(await answers.next(), subject);
  } finally {
    answers.end();
    sub.unsubscribe();
  }
}

// fanout asks everybody who subscribes, all members of queue groups too, and gives their
// answers as they come. It ends when all have answered; otherwise with an error, the
// FanoutError being the one after which what came is good. options: headers, toType,
// toOrganisation, and timeout in ms, within which the broker ends it.
export async function* fanout(nc, subject, payload, options = {}) {
  const answers = new Answers(nc);
  const sub = nc.subscribe(inbox(nc), { callback: (err, m) => answers.take(err, m) });
  try {
    nc.publish(subject, payload, { reply: sub.getSubject(), headers: asked(options, "fanout") });
    const expected = await begun(nc, answers, subject);
    for (let answered = 0; ; answered++) {
      const m = await answers.next().catch((err) => {
        throw new FanoutError(expected, answered, 0, err);
      });
      if (!isEnd(m)) {
        yield m;
        continue;
      }
      const [answeredAll, lost] = [number(m, "Gatehouse-Answered"), number(m, "Gatehouse-Lost")];
      if (m.headers.code === 504) throw new FanoutError(expected, answeredAll, lost, new errors.TimeoutError());
      if (lost > 0) throw new FanoutError(expected, answeredAll, lost, new ResponderLostError("responder lost"));
      return;
    }
  } finally {
    answers.end();
    sub.unsubscribe();
  }
}

// begun waits for the first message, which says how many are to answer. The broker has sent
// it, or another status, before it answers a PING that came after the request.
async function begun(nc, answers, subject) {
  await nc.flush();
  if (answers.silent()) throw new Error(`${subject}: not permitted, or the broker does not know the mode fanout`);
  const m = checked(await answers.next(), subject);
  const expected = number(m, "Gatehouse-Expect");
  if (expected < 0) throw new Error("the broker does not know the mode fanout");
  return expected;
}

// isEnd tells whether a message is the last status of a fanout: nobody but the broker can
// send that header.
const isEnd = (m) => number(m, "Gatehouse-Answered") >= 0;

const number = (m, name) => (m.headers?.has(name) ? Number(m.headers.get(name)) : -1);

// Session keeps its requests together: on each subject all of them go to the same member of
// a queue group, for as long as that and this connection are there and the broker's
// session_idle does not pass without a request.
export class Session {
  id = crypto.randomUUID();
  #nc;
  #sub;
  #calls = new Map(); // Answers by the last token of their reply subject
  #subjects = new Set(); // that the session goes on with
  #number = 0;
  #losses = 0;

  constructor(nc) {
    this.#nc = nc;
  }

  // request sends one and waits for the answer. options: timeout in ms, headers, toType,
  // toOrganisation, and end for the last one of the session on its subject.
  async request(subject, payload, options = {}) {
    for await (const m of this.requests(subject, payload, options)) return m;
  }

  // requests is request for several answers. Which is the last is between the application
  // and its responders: the loop goes on until it is left, or timeout ends it.
  async *requests(subject, payload, options = {}) {
    const answers = new Answers(this.#nc, options.timeout ?? 10_000);
    const token = String(++this.#number);
    try {
      this.#here(answers);
      this.#open();
      this.#calls.set(token, answers);
      const reply = this.#sub.getSubject().replace("*", token);
      this.#nc.publish(subject, payload, { reply, headers: this.#headers(options) });
      if (options.end) this.#subjects.delete(subject);
      else this.#subjects.add(subject);
      for (;;) yield checked(await answers.next(), subject);
    } catch (err) {
      throw this.#judged(subject, err);
    } finally {
      answers.end();
      this.#calls.delete(token);
    }
  }

  // close tells the members that the session goes to that it is over, by an empty message
  // with the header Gatehouse-Session-End, and waits until the broker has that.
  async close() {
    if (!this.#sub) return;
    if (watch(this.#nc).losses === this.#losses) {
      for (const subject of this.#subjects) this.#nc.publish(subject, "", { headers: this.#headers({ end: true }) });
    }
    this.#subjects.clear();
    this.#sub.unsubscribe();
    this.#sub = undefined;
    await this.#nc.flush();
  }

  // here: the broker keeps sessions by connection.
  #here(answers) {
    const before = this.#losses;
    this.#losses = answers.losses;
    if (this.#subjects.size > 0 && before !== answers.losses) throw new SessionGoneError("connection lost");
  }

  #open() {
    this.#sub ??= this.#nc.subscribe(`${inbox(this.#nc)}.*`, {
      callback: (err, m) => {
        if (err) this.#calls.forEach((c) => c.take(err));
        else this.#calls.get(m.subject.split(".").at(-1))?.take(null, m);
      },
    });
  }

  #headers(options) {
    const h = asked(options, "session");
    h.set("Gatehouse-Session", this.id);
    if (options.end) h.set("Gatehouse-Session-End", "true");
    return h;
  }

  #judged(subject, err) {
    if (err instanceof LostError) err = new SessionGoneError(err.message, { cause: err });
    if (err instanceof SessionGoneError && err.message === "connection lost") this.#subjects.clear();
    else if (err instanceof SessionGoneError || err instanceof errors.NoRespondersError) this.#subjects.delete(subject);
    return err;
  }
}

// sender is who sent a message as the broker has verified it: { user, organisation, type,
// instance }, of which any may be missing; undefined where the broker has said nothing.
export function sender(m) {
  const values = m.headers?.values("Gatehouse-From") ?? [];
  if (values.length !== 1) return undefined;
  if (values[0] === "anonymous") return {};
  try {
    const fields = values[0].split("; ").map((f) => /^(user|organisation|type|instance)=(.+)$/.exec(f).slice(1));
    return Object.fromEntries(fields.map(([key, value]) => [key, decodeURIComponent(value)]));
  } catch {
    return undefined;
  }
}

// checked gives an answer, or throws what the status in its place stands for.
function checked(m, subject) {
  const { code, description } = m.headers ?? {};
  if (!code || m.data.length > 0) return m;
  if (code === 503 && description === "Responder Lost") throw new ResponderLostError(`${subject}: responder lost`);
  if (code === 503 && !description) throw new errors.NoRespondersError(subject);
  if (code === 410) throw new SessionGoneError(`${subject}: session gone`);
  if (code === 400 || code === 503) throw new StatusError(code, description);
  return m;
}

// asked are the headers of a request.
function asked({ headers: given, timeout, toType, toOrganisation }, mode) {
  const h = headers();
  for (const [name, values] of given ?? []) values.forEach((v) => h.append(name, v));
  if (mode) h.set("Gatehouse-Mode", mode);
  if (mode === "fanout" && timeout) h.set("Gatehouse-Timeout", String(timeout));
  if (toType) h.set("Gatehouse-To-Type", toType);
  if (toOrganisation) h.set("Gatehouse-To-Organisation", toOrganisation);
  return h;
}

const inbox = (nc) => createInbox(nc.options?.inboxPrefix);

// LostError: the connection went down; what was on its way will not be answered.
class LostError extends Error {
  name = "LostError";
}

// Answers are the messages that come for one request, in a list without a bound.
class Answers {
  #waiting = [];
  #wake;
  #error;
  #timer;
  #watch;

  constructor(nc, timeout) {
    this.#watch = watch(nc);
    this.#watch.calls.add(this);
    this.losses = this.#watch.losses;
    if (timeout) this.#timer = setTimeout(() => this.take(new errors.TimeoutError()), timeout);
  }

  take(err, m) {
    if (err) this.#error ??= err;
    else this.#waiting.push(m);
    this.#wake?.();
  }

  silent() {
    return this.#waiting.length === 0 && !this.#error;
  }

  async next() {
    while (this.#waiting.length === 0) {
      if (this.#error) throw this.#error;
      await new Promise((wake) => (this.#wake = wake));
    }
    return this.#waiting.shift();
  }

  end() {
    clearTimeout(this.#timer);
    this.#watch.calls.delete(this);
  }
}

// watch counts the losses of a connection, and ends what waits at each.
const watched = new WeakMap();

function watch(nc) {
  let w = watched.get(nc);
  if (w) return w;
  w = { losses: 0, calls: new Set() };
  watched.set(nc, w);
  const lose = () => {
    w.losses++;
    w.calls.forEach((c) => c.take(new LostError("connection lost")));
  };
  (async () => {
    for await (const s of nc.status()) if (s.type === "disconnect") lose();
    lose();
  })();
  return w;
}
