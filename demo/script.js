// The page: connects its buttons with the app, the gate and the connector. A reload keeps nothing but the demo's key.
import { shownCode, signIn, signOut, signedIn, onRestart, renew, tick } from "./app.js";
import { Problem, ask, takeKey } from "./connector.js";
import { decide, event } from "./gate.js";
import { begin } from "./log.js";

const OPEN_MS = 4000;
const KINDS = { ASSOCIATE: "associate", CASH_SHOPPER: "pays in cash" };
const at = (id) => document.getElementById(id);
const shoppers = new Map();
const stores = new Map();
let last = null; // the last scan, to be sent again: { scan, shopper, time, answer }
let closing = 0;

// Runs a button's action, and shows its problem, if there is one, beside the button.
async function run(problem, action) {
  at(problem).textContent = "";
  try {
    await action();
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    at(problem).textContent = error.message;
  }
}

// The label of a shopper: what affects a scan. A card is valid until the end of its last month, in UTC.
function label({ id, type, account, paymentMethod }) {
  const month = new Date().toISOString().slice(0, 7);
  const words = [KINDS[type], account === "flagged" && "flagged", paymentMethod?.lastMonth < month && "card expired"];
  return `${id} - ${words.filter(Boolean).join(", ") || "active"}`;
}

function describe({ id, takesCash, defaultGateDecision }) {
  return `${id} - ${takesCash ? "takes cash, " : ""}${withoutDecision(defaultGateDecision)}`;
}

const withoutDecision = (decision) => (decision === "open" ? "opens without a decision" : "stays closed without a decision");

function showShoppers() {
  const id = signedIn();
  for (const option of at("shopper").options) option.textContent = label(shoppers.get(option.value));
  at("who").textContent = id === null ? "No shopper is signed in" : label(shoppers.get(id));
  at("flag").textContent = shoppers.get(id)?.account === "flagged" ? "Unflag this shopper" : "Flag this shopper";
}

function showStore() {
  const store = stores.get(at("store").value);
  at("store-note").textContent = store
    ? `This gate ${withoutDecision(store.defaultGateDecision)} from the connector.${store.takesCash ? " The store takes cash." : ""}`
    : "";
}

// Fills a list and keeps its selection. `first` is selected at first.
function offer(select, rows, describe, first) {
  const chosen = [select.value, first].find((id) => rows.has(id));
  select.replaceChildren(...Array.from(rows.values(), (row) => new Option(describe(row), row.id)));
  if (chosen) select.value = chosen;
}

async function load() {
  const paths = ["/demo/shoppers", "/demo/stores", "/demo/backend"];
  const [shopperRows, storeRows, backend] = await Promise.all(paths.map(async (path) => (await ask(path)).body));
  shoppers.clear();
  stores.clear();
  for (const row of shopperRows) shoppers.set(row.id, row);
  for (const row of storeRows) stores.set(row.id, row);
  offer(at("shopper"), shoppers, label, "shopper-uuid-001");
  offer(at("store"), stores, describe, "STORE-001");
  showBackend(backend.down);
  at("load").hidden = true;
  showShoppers();
  showStore();
}

async function start() {
  try {
    await load();
  } catch (error) {
    at("load").hidden = false;
    throw error;
  }
}

let flagging = null;
async function toggleFlag() {
  const id = signedIn();
  const action = shoppers.get(id)?.account === "flagged" ? "unflag" : "flag";
  const { body } = await ask(`/demo/shoppers/${encodeURIComponent(id)}/${action}`, { method: "POST" });
  shoppers.set(id, body);
  showShoppers();
  // The code on the screen stays as it is: the connector decides again at each scan.
  if (shownCode() === null) await renew();
}

// Sends one change after another, so that the last one takes effect.
let changing = Promise.resolve();
function setBackend() {
  const down = at("backend").checked;
  const change = async () => {
    try {
      showBackend((await ask("/demo/backend", { method: "PUT", body: JSON.stringify({ down }) })).body.down);
    } catch (error) {
      at("backend").checked = !down;
      throw error;
    }
  };
  const changed = changing.then(change);
  changing = changed.catch(() => {});
  return changed;
}

function showBackend(down) {
  at("backend").checked = down;
  at("backend-state").textContent = down ? "The backend is down." : "The backend works.";
  at("backend-state").className = down ? "bad" : "good";
}

async function hold() {
  const code = shownCode();
  if (code === null) return;
  const scan = event(code, at("store").value, new FormData(at("scan")).get("location"));
  await play({ scan, shopper: label(shoppers.get(signedIn())), time: null, answer: null });
}

async function repeat() {
  if (last !== null) await play(last);
}

// Plays one scan at the gate. `before` has the scan and, if it was sent before, the time and the answer.
async function play(before) {
  const { scan, shopper } = before;
  const { id, location } = scan.authEvent;
  const isRepeated = before.time !== null;
  const entry = begin({ shopper, store: scan.storeId, location, id, isRepeated });
  clearTimeout(closing);
  showGate("asking", "", "Asking the connector …");
  setBusy(true);
  try {
    const { opens, words, answer } = await decide(scan, stores.get(scan.storeId), (attempt, wait) => {
      entry.add(attempt, wait);
      if (wait !== null) showGate("asking", "", "No decision yet. The gate tries again …");
    });
    entry.decide(opens, words);
    if (isRepeated) entry.note(compare(before, answer));
    showGate(opens ? "open" : "refused", opens ? "good" : "bad", words);
    closing = setTimeout(() => showGate("closed", "", opens ? "The gate is closed again." : words), OPEN_MS);
    last = { scan, shopper, time: entry.time, answer: answer ?? before.answer };
    at("repeat").disabled = false;
    // The connector does not know a code that it made before a restart.
    if (answer?.includes("Identity key not found")) await renew();
  } finally {
    setBusy(false);
  }
}

function compare({ time, answer: recorded }, answer) {
  if (answer === null) return "The connector has recorded no answer for this event.";
  if (recorded === null) return "The connector had recorded no answer for this event, so this decision is new.";
  if (answer === recorded) return `The recorded answer, the same bytes as at ${time}: the connector did not decide again.`;
  return `This answer differs from that at ${time}. A demo that was restarted has lost its records.`;
}

function showGate(state, className, words) {
  at("barrier").dataset.state = state;
  if (at("verdict").textContent !== words) at("verdict").textContent = words;
  at("verdict").className = `verdict ${className}`;
}

// One scan at a time. The buttons keep the keyboard's focus meanwhile.
let isBusy = false;
function setBusy(busy) {
  isBusy = busy;
  for (const id of ["hold", "repeat"]) at(id).setAttribute("aria-disabled", busy);
}

at("sign-in").addEventListener("submit", (event) => {
  event.preventDefault();
  run("app-problem", async () => {
    const signingIn = signIn(at("shopper").value).finally(showShoppers);
    showShoppers();
    await signingIn;
  });
});
at("shopper").addEventListener("change", () => {
  signOut();
  at("app-problem").textContent = "";
  showShoppers();
});
at("flag").addEventListener("click", () => {
  // A double click is one click: it must not flag and unflag.
  flagging ??= run("app-problem", toggleFlag).finally(() => (flagging = null));
});
at("renew").addEventListener("click", () => run("app-problem", renew));
at("scan").addEventListener("submit", (event) => {
  event.preventDefault();
  if (!isBusy) run("gate-problem", hold);
});
at("repeat").addEventListener("click", () => isBusy || run("gate-problem", repeat));
at("store").addEventListener("change", showStore);
at("backend").addEventListener("change", () => run("backend-problem", setBackend));
at("load-again").addEventListener("click", () => run("load-problem", start));
addEventListener("hashchange", () => takeKey() && run("load-problem", start));
onRestart(() => run("load-problem", start));
setInterval(tick, 250);
takeKey();
run("load-problem", start);
