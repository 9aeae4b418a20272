// The shopper's app: signs a shopper in, and shows a valid code as long as the shopper is signed in.
import { Problem, ask, call, now, refused } from "./connector.js";

const RETRY_SECONDS = 3;
const at = (id) => document.getElementById(id);

let session = null; // of the shopper who is signed in: { shopper, token, context }
let beginning = null; // the session of a shopper who is signing in
let code = null; // on the screen: { text, expires, lifetime }
let renewal = 0;
let picture = null;
let signedInAgain = () => {};

// The shopper who is signed in, and the code on the screen.
export const signedIn = () => session?.shopper ?? null;
export const shownCode = () => code?.text ?? null;

// Sets an action for when the connector refuses a token that it issued: it was restarted and has lost all changes.
export function onRestart(action) {
  signedInAgain = action;
}

export async function signIn(shopper) {
  signOut();
  const own = { shopper, token: null, context: null };
  beginning = own;
  show("empty", "Signing in …");
  try {
    await authenticate(own);
  } catch (error) {
    if (beginning === own) show("refused", "Signing in failed.");
    throw error;
  }
  if (beginning !== own) return; // another shopper was chosen meanwhile
  session = own;
  at("flag").disabled = at("renew").disabled = false;
  await renew();
}

// Forgets the token and the code.
export function signOut() {
  session = beginning = null;
  at("flag").disabled = at("renew").disabled = true;
  dropCode("empty", "Sign in to get a code.");
}

// Replaces the code. If the connector has been restarted and so refuses the token, signs in again once.
export async function renew() {
  const own = session;
  if (own === null) return;
  clearTimeout(renewal);
  let answer;
  try {
    answer = await askForCode(own);
    if (answer.status === 401) {
      await authenticate(own);
      signedInAgain();
      answer = await askForCode(own);
    }
  } catch (error) {
    if (session === own) tryLater(error, RETRY_SECONDS);
    return;
  }
  if (session !== own) return; // another shopper was chosen meanwhile
  if (answer.status === 200) return showCode(answer);
  tryLater(refused("/v1/scan-key-codes", answer), Number(answer.headers.get("retry-after")) || RETRY_SECONDS);
}

// A refusal removes the code. Without an answer, or with a 429 or 5xx, the app keeps its code, even an expired one: the gate decides.
function tryLater(problem, seconds) {
  if (!(problem instanceof Problem)) throw problem;
  const isRefusal = problem.status !== null && problem.status < 500 && problem.status !== 429;
  if (isRefusal) return dropCode("refused", problem.message);
  const message = `No new code: ${problem.message} Trying again in ${seconds} s.`;
  if (code === null) dropCode("refused", message);
  else at("app-problem").textContent = message;
  renewal = setTimeout(renew, 1000 * seconds);
}

async function authenticate(own) {
  const token = await ask("/demo/sign-in", { method: "POST", body: JSON.stringify({ shopper: own.shopper }) });
  const headers = { Authorization: `Bearer ${token.body.accessToken}` };
  const context = await ask("/commerceapi/authentication/customercontext", { headers });
  Object.assign(own, { token: token.body.accessToken, context: context.body.customerContext });
}

function askForCode({ token, context }) {
  const headers = { Authorization: `Bearer ${token}`, "X-Customer-Context": context, Accept: "image/svg+xml" };
  return call("/v1/scan-key-codes", { method: "POST", headers });
}

function showCode({ headers, blob }) {
  const expires = Date.parse(headers.get("x-scan-key-code-expires-at"));
  const lifetime = Math.max(1, Math.ceil((expires - now()) / 1000));
  code = { text: headers.get("x-scan-key-code"), expires, lifetime };
  if (picture) URL.revokeObjectURL(picture);
  picture = URL.createObjectURL(blob);
  at("code").src = picture;
  at("code-text").textContent = code.text;
  at("app-problem").textContent = "";
  show("code", "");
  tick();
  renewal = setTimeout(renew, 1000 * Number(headers.get("x-scan-key-code-refresh-after")));
}

function dropCode(state, notice) {
  clearTimeout(renewal);
  code = null;
  at("code-text").textContent = "";
  tick();
  show(state, notice);
}

function show(state, notice) {
  at("phone").dataset.state = state;
  at("notice").textContent = notice;
  at("code").hidden = state !== "code";
  at("hold").disabled = code === null;
}

// Shows how long the code is still valid.
export function tick() {
  const left = code === null ? 0 : Math.max(0, Math.ceil((code.expires - now()) / 1000));
  at("countdown").textContent = code === null ? "no code" : left > 0 ? `valid for ${left} s` : "expired";
  at("left").max = code?.lifetime ?? 60;
  at("left").value = left;
  at("left").textContent = `${left} seconds`;
}
