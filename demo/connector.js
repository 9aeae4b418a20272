// Requests to the connector, the key of a published demo, and the connector's clock.

const STORED_KEY = "identity-connector-demo-key";
const KEY_IS_MISSING = "Open the link that the demo printed when it started: it contains the key.";

// Why a request failed, with a message for the page. The status is null if there was no answer.
export class Problem extends Error {
  constructor(message, status = null) {
    super(message);
    this.status = status;
  }
}

let key = null;
let offset = 0;

// Takes the key from the link's fragment, which a browser never sends, and removes it from the address bar. The tab keeps it for a
// reload. Returns whether the link had a key.
export function takeKey() {
  const given = new URLSearchParams(location.hash.slice(1)).get("key");
  try {
    if (given) sessionStorage.setItem(STORED_KEY, given);
    key = given ?? sessionStorage.getItem(STORED_KEY);
  } catch {
    key = given; // the browser stores nothing for this page
  }
  if (given) history.replaceState(null, "", location.pathname);
  return Boolean(given);
}

// The connector's time in milliseconds. The browser's machine may have another time than a published demo's.
export function now() {
  return Date.now() + offset;
}

// A version 4 UUID. `crypto.randomUUID` is missing on a page that is not on loopback and has no TLS.
export function uuid() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = (bytes[6] & 0x0f) | 0x40;
  bytes[8] = (bytes[8] & 0x3f) | 0x80;
  const hex = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
}

// Sends a request and reads the whole answer. Throws a `Problem` if no answer arrives.
export async function call(path, options = {}) {
  const headers = { ...options.headers };
  if (key !== null && path.startsWith("/demo/")) headers["X-Demo-Key"] = key;
  try {
    const response = await fetch(path, { ...options, headers });
    const isPicture = response.headers.get("content-type")?.startsWith("image/");
    const [blob, text] = isPicture ? [await response.blob(), ""] : [null, await response.text()];
    readClock(response.headers.get("date"));
    return { status: response.status, headers: response.headers, blob, text, body: parse(text) };
  } catch (error) {
    const late = error.name === "TimeoutError";
    throw new Problem(late ? "The connector does not answer in time." : "The connector does not answer. Check that it is running.");
  }
}

// Like `call`, but throws a `Problem` unless the answer is a 200.
export async function ask(path, options) {
  const answer = await call(path, options);
  if (answer.status !== 200) throw refused(path, answer);
  return answer;
}

export function refused(path, { status, body }) {
  if (status === 401 && path.startsWith("/demo/")) return new Problem(KEY_IS_MISSING, status);
  return new Problem(body?.message ? `${body.message} (${status})` : `The connector answers ${status}.`, status);
}

function parse(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

// Corrects for the connector's clock. The header has whole seconds, so a difference up to 2 s is ignored.
function readClock(date) {
  const difference = Date.parse(date) - Date.now();
  if (!Number.isNaN(difference)) offset = Math.abs(difference) > 2000 ? difference : 0;
}
