// The app and the gate, played against the connector's own endpoints. Nothing is kept: reload, and nobody is signed in.
"use strict";

const at = (id) => document.getElementById(id);
const app = { shopper: null, token: null, context: null, code: null, expires: 0, window: 60, renewal: 0, picture: null };
const flagged = new Map();

async function call(path, options = {}) {
  const response = await fetch(path, options);
  const type = response.headers.get("content-type") ?? "";
  const body = type.startsWith("application/json") ? await response.json() : await response.blob();
  return { status: response.status, headers: response.headers, body };
}

function show(state, notice = "") {
  at("phone").dataset.state = state;
  at("notice").textContent = notice;
  at("notice").hidden = notice === "";
  at("code").hidden = state !== "code";
  at("hold").disabled = app.code === null;
}

function drop(state, notice) {
  clearTimeout(app.renewal);
  app.code = null;
  at("code-text").textContent = "";
  tick();
  show(state, notice);
}

// The code's time left, by this machine's clock, which is the connector's: a demo does not leave it.
function tick() {
  const left = app.code === null ? 0 : Math.max(0, Math.ceil((app.expires - Date.now()) / 1000));
  at("countdown").textContent = app.code === null ? "\u00a0" : left > 0 ? `valid for ${left} s` : "expired";
  at("left").max = app.window;
  at("left").value = left;
  at("left").textContent = `${left} seconds`;
}

async function renew() {
  clearTimeout(app.renewal);
  if (app.token === null) return;
  const headers = { Authorization: `Bearer ${app.token}`, "X-Customer-Context": app.context, Accept: "image/svg+xml" };
  let answer;
  try {
    answer = await call("/v1/scan-key-codes", { method: "POST", headers });
  } catch {
    return drop("refused", "The connector does not answer.");
  }
  if (answer.status !== 200) return drop("refused", answer.body.message ?? `Answer ${answer.status}`);
  app.code = answer.headers.get("x-scan-key-code");
  app.expires = Date.parse(answer.headers.get("x-scan-key-code-expires-at"));
  app.window = Math.max(1, Math.ceil((app.expires - Date.now()) / 1000));
  if (app.picture) URL.revokeObjectURL(app.picture);
  app.picture = URL.createObjectURL(answer.body);
  at("code").src = app.picture;
  at("code-text").textContent = app.code;
  show("code");
  tick();
  app.renewal = setTimeout(renew, 1000 * Number(answer.headers.get("x-scan-key-code-refresh-after")));
}

async function signIn(event) {
  event.preventDefault();
  const shopper = at("shopper").value;
  app.token = null;
  drop("empty", "Signing in …");
  try {
    const token = await call("/demo/sign-in", { method: "POST", body: JSON.stringify({ shopper }) });
    if (token.status !== 200) return drop("refused", token.body.message);
    const headers = { Authorization: `Bearer ${token.body.accessToken}` };
    const context = await call("/commerceapi/authentication/customercontext", { headers });
    if (context.status !== 200) return drop("refused", context.body.message);
    Object.assign(app, { shopper, token: token.body.accessToken, context: context.body.customerContext });
  } catch {
    return drop("refused", "The connector does not answer.");
  }
  at("flag").disabled = at("renew").disabled = false;
  nameFlag();
  await renew();
}

function nameFlag() {
  at("flag").textContent = flagged.get(app.shopper) ? "Unflag this shopper" : "Flag this shopper";
}

// The code on the screen stays as it is: the gate asks anew each time.
async function toggleFlag() {
  const action = flagged.get(app.shopper) ? "unflag" : "flag";
  const answer = await call(`/demo/shoppers/${encodeURIComponent(app.shopper)}/${action}`, { method: "POST" });
  if (answer.status !== 200) return drop("refused", answer.body.message);
  remember(answer.body);
  nameFlag();
  if (app.code === null) await renew();
}

function remember(shopper) {
  flagged.set(shopper.id, shopper.account === "flagged");
}

async function scan(event) {
  event.preventDefault();
  if (app.code === null) return;
  const [store, where] = [at("store").value, new FormData(at("scan")).get("location")];
  const request = {
    requestId: crypto.randomUUID(),
    identityKey: btoa(app.code),
    storeId: store,
    authEvent: { id: crypto.randomUUID(), timestamp: new Date().toISOString(), location: where },
    keyChannel: "OPTICAL",
  };
  let answer;
  try {
    answer = await call("/v1/identity/identity-keys", { method: "POST", body: JSON.stringify(request) });
  } catch {
    answer = { status: "none", body: { message: "The connector does not answer" } };
  }
  const opens = answer.status === 200;
  const visitor = answer.body.visitorDetails;
  const words = opens ? `Open for ${visitor.id}, ${visitor.type}` : `Shut: ${answer.body.message}`;
  at("doors").dataset.state = opens ? "open" : "refused";
  at("verdict").textContent = words;
  at("verdict").className = `verdict ${opens ? "good" : "bad"}`;
  note([new Date().toLocaleTimeString(), app.shopper, `${where === "EXIT" ? "Exit" : "Entry"}, ${store}`, `${answer.status} ${words}`], opens);
  clearTimeout(scan.closing);
  scan.closing = setTimeout(() => {
    at("doors").dataset.state = "shut";
    if (opens) Object.assign(at("verdict"), { className: "verdict", textContent: "The gate has shut again." });
  }, 4000);
}

function note(texts, opens) {
  const row = document.createElement("tr");
  for (const text of texts) row.append(Object.assign(document.createElement("td"), { textContent: text }));
  row.lastChild.className = opens ? "good" : "bad";
  if (!note.any) at("events").replaceChildren();
  note.any = true;
  at("events").prepend(row);
  while (at("events").children.length > 20) at("events").lastChild.remove();
}

function offer(select, entries) {
  select.replaceChildren(...entries.map(([value, text]) => new Option(text, value)));
}

async function begin() {
  const kinds = { SHOPPER: "shopper", ASSOCIATE: "associate", CASH_SHOPPER: "pays in cash" };
  const [shoppers, stores] = await Promise.all([call("/demo/shoppers"), call("/demo/stores")]);
  shoppers.body.forEach(remember);
  offer(at("shopper"), shoppers.body.map(({ id, type }) => [id, `${id} (${kinds[type] ?? type})`]));
  offer(at("store"), stores.body.map(({ id }) => [id, id]));
  // Those with whom everything goes well come first.
  for (const [select, id] of [["shopper", "shopper-uuid-001"], ["store", "STORE-001"]]) {
    if ([...at(select).options].some((option) => option.value === id)) at(select).value = id;
  }
}

at("sign-in").addEventListener("submit", signIn);
at("flag").addEventListener("click", toggleFlag);
at("renew").addEventListener("click", renew);
at("scan").addEventListener("submit", scan);
setInterval(tick, 250);
begin().catch(() => drop("refused", "The connector does not answer."));
