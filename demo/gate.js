// The gate, which behaves as Amazon's does: it asks the connector, retries while there is no decision, and at last uses the store's
// default decision. The numbers are those of the gate simulator (`identity-connector gate`).
import { Problem, call, now, uuid } from "./connector.js";

export const IDENTITY_KEYS = "/v1/identity/identity-keys";
const ATTEMPT_MS = 2000;
const BUDGET_MS = 6000;
const FIRST_BACKOFF_MS = 100;
const VISITORS = ["SHOPPER", "ASSOCIATE", "CASH_SHOPPER"];

// What a gate reads from a shopper's screen: one auth event.
export function event(code, storeId, location) {
  return {
    identityKey: btoa(code),
    storeId,
    authEvent: { id: uuid(), timestamp: new Date(now()).toISOString(), location },
    keyChannel: "OPTICAL",
  };
}

// Asks until there is a decision or the time is up. Returns whether the gate opens, why, and the answer with the decision. For a 400
// the answer is null: it is not recorded, so a repeated event cannot be compared with it.
// Calls `onAttempt` with each attempt and the wait after it.
export async function decide(scan, store, onAttempt) {
  const started = performance.now();
  const left = () => BUDGET_MS - (performance.now() - started);
  let lastStatus = null;
  for (let backoff = FIRST_BACKOFF_MS; ; backoff *= 2) {
    const attempt = await send(scan, Math.min(ATTEMPT_MS, left()));
    lastStatus = attempt.status ?? lastStatus;
    const decision = read(attempt);
    const wait = Math.max(backoff * (0.5 + Math.random()), 1000 * attempt.retryAfter);
    const isLast = decision !== null || wait >= left();
    onAttempt(attempt, isLast ? null : wait);
    if (decision !== null) return { ...decision, answer: attempt.status === 400 ? null : attempt.answer };
    if (isLast) return withoutDecision(lastStatus, store);
    await new Promise((resolve) => setTimeout(resolve, wait));
  }
}

async function send(scan, timeout) {
  // The log shows exactly this text.
  const request = JSON.stringify({ requestId: uuid(), ...scan }, null, 2);
  const sent = performance.now();
  const attempt = { request, status: null, answer: "", message: "", retryAfter: 0, body: null };
  try {
    const options = { method: "POST", body: request, headers: { "Content-Type": "application/json" } };
    const { status, text, body, headers } = await call(IDENTITY_KEYS, { ...options, signal: AbortSignal.timeout(timeout) });
    const seconds = headers.get("retry-after") ?? "";
    Object.assign(attempt, { status, answer: text, body, retryAfter: /^[0-9]+$/.test(seconds) ? Number(seconds) : 0 });
    attempt.message = body?.message ?? "";
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    attempt.message = error.message;
  }
  return { ...attempt, ms: performance.now() - sent };
}

// The decision of an answer; `null` if it has none.
function read({ status, body, message }) {
  const visitor = body?.visitorDetails;
  if (status === 200 && visitor?.id && VISITORS.includes(visitor.type)) {
    return { opens: true, words: `Open for ${visitor.id}, ${visitor.type}` };
  }
  return status === 400 || status === 401 ? { opens: false, words: `Closed: ${message}` } : null;
}

function withoutDecision(lastStatus, store) {
  if (lastStatus === 429) return { opens: false, words: "Closed: the connector answered 429 (too many requests)", answer: null };
  const opens = store.defaultGateDecision === "open";
  const words = opens
    ? "Open: no decision from the connector, this store opens by default"
    : "Closed: no decision from the connector, this store stays closed by default";
  return { opens, words, answer: null };
}
