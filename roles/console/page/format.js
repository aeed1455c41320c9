// Whatever comes from the broker is put in as text, by textContent and createElement;
// the policy that this page is served with forbids anything else.

const $ = (id) => document.getElementById(id);

// el makes an element. Attributes are this page's own, children may be anybody's text.
function el(tag, attributes = {}, ...children) {
  const svg = ["svg", "path", "line", "circle"].includes(tag);
  const e = svg ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== false && value != null) e.setAttribute(name, value === true ? "" : value);
  }
  e.append(...children.filter((c) => c != null));
  return e;
}

// put changes a text only where it is another one, so that a selection stays.
function put(e, text) {
  const t = String(text ?? "");
  if (e.textContent !== t) e.textContent = t;
}

// plain is what a client has chosen, shown as what it is: control characters and those
// that turn the direction of writing by their number, no more than 256 of all.
function plain(text) {
  const t = String(text ?? "").replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Cs}]/gu,
    (c) => "\\u{" + c.codePointAt(0).toString(16) + "}");
  return t.length > 256 ? t.slice(0, 256) + "…" : t;
}

// The formats of `gatehouse status` and `gatehouse top`.

const grouped = new Intl.NumberFormat("en");
const count = (n) => (Number.isFinite(n) ? grouped.format(n) : "–");

function rate(n) {
  if (!Number.isFinite(n)) return "–";
  if (n >= 1e6) return (n / 1e6).toFixed(2) + " M";
  if (n >= 1e4) return (n / 1e3).toFixed(1) + " k";
  return n > 0 && n < 10 ? n.toFixed(1) : grouped.format(Math.round(n));
}

function size(bytes) {
  if (!Number.isFinite(bytes)) return "–";
  if (bytes < 1024) return Math.round(bytes) + " B";
  let unit = "";
  for (unit of ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"]) {
    bytes /= 1024;
    if (bytes < 999.5) break;
  }
  return bytes.toFixed(bytes < 9.95 ? 1 : 0) + " " + unit;
}

// age gives seconds in their two largest units: 3d 4h, 5m 12s.
function age(seconds) {
  if (!Number.isFinite(seconds)) return "–";
  const s = Math.max(0, Math.floor(seconds));
  if (s < 60) return s + "s";
  if (s < 3600) return Math.floor(s / 60) + "m " + (s % 60) + "s";
  if (s < 86400) return Math.floor(s / 3600) + "h " + (Math.floor(s / 60) % 60) + "m";
  return Math.floor(s / 86400) + "d " + (Math.floor(s / 3600) % 24) + "h";
}

// since gives the seconds between two times of the broker's clock.
const since = (from, to) => (Date.parse(to) - Date.parse(from)) / 1000;

const clock = (ms) => new Date(ms).toLocaleTimeString("en-GB");
const day = (text) => {
  const t = new Date(text);
  return Number.isNaN(t.getTime()) || t.getUTCFullYear() < 2 ? "–" : t.toISOString().slice(0, 10);
};

const plural = (n, one, many) => count(n) + " " + (n === 1 ? one : many ?? one + "s");
