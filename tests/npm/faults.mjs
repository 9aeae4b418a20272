// The demo page when the backend or the connector fails, or when an answer is malformed.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { createServer } from "node:net";
import { backendSwitch, button, entry, loaded, open, openAndSignIn, requests, scan, signIn, state, text, verdict } from "./steps.mjs";

const GONE = "The connector does not answer.";

export const faultCases = {
  async backend_down_leads_to_the_stores_default_decision(page, url) {
    await openAndSignIn(page, url);
    await scan(page);
    await verdict(page, "Open for");
    await backendSwitch(page).check();
    await page.locator("#backend-state", { hasText: "The backend is down." }).waitFor();
    // A recorded decision needs no look-up.
    await button(page, "Send the same event again").click();
    await entry(page).getByText("The recorded answer").waitFor();
    for (const [store, words, barrier] of [
      ["STORE-002", "Open: no decision from the connector, this store opens by default", "open"],
      ["STORE-001", "Closed: no decision from the connector, this store stays closed by default", "refused"],
    ]) {
      const sent = requests(page, "/v1/identity/identity-keys");
      const started = Date.now();
      await scan(page, { store });
      await state(page, "barrier", "asking");
      await verdict(page, words);
      assert.ok(Date.now() - started < 8000, "the gate has 6 s");
      await state(page, "barrier", barrier);
      assert.equal(await entry(page).locator("h3").innerText(), words);
      const attempts = await entry(page).locator("summary").allInnerTexts();
      assert.ok(attempts.length > 3, `${attempts}`);
      assert.equal(attempts.length, sent.length);
      attempts.forEach((attempt, index) => {
        assert.match(attempt, new RegExp(`^Attempt ${index + 1}\\s+500 Internal Server Error\\s+[0-9.]+ ms`));
        assert.equal(/next attempt in [0-9]+ ms/.test(attempt), index < attempts.length - 1);
      });
      const bodies = sent.map((request) => request.postDataJSON());
      assert.equal(new Set(bodies.map(({ authEvent }) => authEvent.id)).size, 1);
      assert.equal(new Set(bodies.map(({ requestId }) => requestId)).size, bodies.length);
      page.removeAllListeners("request");
    }
    // The switch is the server's: a reload and another tab show it.
    await page.reload();
    await loaded(page);
    assert.equal(await backendSwitch(page).isChecked(), true);
    await backendSwitch(page).uncheck();
    await page.locator("#backend-state", { hasText: "The backend works." }).waitFor();
    await signIn(page);
    await state(page, "phone", "code");
    await scan(page);
    await verdict(page, "Open for");
  },

  async retry_reaches_the_decision_when_the_backend_is_back(page, url) {
    await openAndSignIn(page, url);
    await backendSwitch(page).check();
    await page.locator("#backend-state", { hasText: "The backend is down." }).waitFor();
    await scan(page, { store: "STORE-002" });
    await entry(page).locator("summary").nth(1).waitFor();
    assert.equal(await button(page, "Hold the code to the gate").getAttribute("aria-disabled"), "true", "one scan at a time");
    await backendSwitch(page).uncheck();
    await verdict(page, "Open for shopper-uuid-001, SHOPPER");
    assert.match(await entry(page).locator("summary").last().innerText(), /200 OK/);
  },

  async event_without_a_decision_is_decided_when_it_is_sent_again(page, url) {
    await openAndSignIn(page, url);
    await page.route("**/v1/identity/identity-keys", (route) => route.fulfill({ status: 429, headers: { "Retry-After": "9" }, json: { message: "Too Many Requests" } }));
    await scan(page, { store: "STORE-002" });
    await verdict(page, "Closed: the connector answered 429 (too many requests)");
    assert.equal(await entry(page).locator("summary").count(), 1, "Retry-After is longer than the gate's time");
    await page.unroute("**/v1/identity/identity-keys");
    await button(page, "Send the same event again").click();
    await verdict(page, "Open for shopper-uuid-001");
    await entry(page).getByText("The connector had recorded no answer for this event, so this decision is new.").waitFor();
  },

  async lost_connector_is_reported_and_the_gate_falls_back(page, url) {
    await openAndSignIn(page, url);
    const code = await text(page, "#code-text");
    await page.route("**/v1/**", (route) => route.abort());
    await scan(page);
    await entry(page).locator("summary", { hasText: `No answer ${GONE}` }).first().waitFor();
    await button(page, "New code").click();
    await page.locator("#app-problem", { hasText: GONE }).waitFor();
    assert.equal(await text(page, "#code-text"), code, "the app keeps the code that it has");
    await verdict(page, "Closed: no decision from the connector, this store stays closed by default");
    await page.unroute("**/v1/**");
    await page.waitForFunction((code) => document.getElementById("code-text").textContent !== code, code);
    assert.equal(await text(page, "#app-problem"), "", "the app has asked again by itself");
  },

  async slow_connector_is_asked_again_after_two_seconds(page, url) {
    await openAndSignIn(page, url);
    await page.route("**/v1/identity/identity-keys", () => {}, { times: 1 });
    await scan(page);
    await verdict(page, "Open for");
    const attempts = await entry(page).locator("summary").allInnerTexts();
    assert.equal(attempts.length, 2);
    assert.match(attempts[0], /^Attempt 1\s+No answer\s+The connector does not answer in time\.\s+2[0-9]{3} ms/);
  },

  async every_button_shows_its_error(page, url) {
    const failures = [
      [(route) => route.abort(), GONE],
      [(route) => route.fulfill({ status: 500, json: { message: "Internal server error" } }), "Internal server error (500)"],
      [(route) => route.fulfill({ status: 403, json: { message: "No" } }), "No (403)"],
      [(route) => route.fulfill({ status: 502, body: "<h1>a proxy</h1>" }), "The connector answers 502."],
    ];
    for (const [fail, words] of failures) {
      const shows = (problem) => page.locator(`#${problem}`, { hasText: words }).waitFor();
      for (const path of ["shoppers", "stores", "backend"]) {
        await page.route(`**/demo/${path}`, fail);
        await page.goto(`${url}/demo`);
        await shows("load-problem");
        await page.unroute(`**/demo/${path}`);
        await button(page, "Try again").click();
        await loaded(page);
        assert.equal(await page.locator("#load").isVisible(), false);
      }
      await page.goto("about:blank");
      await open(page, url);
      for (const path of ["/demo/sign-in", "/commerceapi/authentication/customercontext"]) {
        await page.route(`**${path}`, fail);
        await signIn(page);
        await shows("app-problem");
        await state(page, "phone", "refused");
        assert.equal(await text(page, "#who"), "No shopper is signed in");
        await page.unroute(`**${path}`);
      }
      await signIn(page);
      await state(page, "phone", "code");
      assert.equal(await text(page, "#app-problem"), "");
      for (const [action, next] of [["Flag this shopper", "Unflag this shopper"], ["Unflag this shopper", "Flag this shopper"]]) {
        await page.route("**/demo/shoppers/**", fail);
        await button(page, action).click();
        await shows("app-problem");
        await page.unroute("**/demo/shoppers/**");
        await button(page, action).click();
        await button(page, next).waitFor();
        assert.equal(await text(page, "#app-problem"), "");
      }
      for (const isDown of [true, false]) {
        await page.route("**/demo/backend", fail);
        await backendSwitch(page).click();
        await shows("backend-problem");
        assert.equal(await backendSwitch(page).isChecked(), !isDown, "the switch shows what is");
        await page.unroute("**/demo/backend");
        await backendSwitch(page).click();
        await page.locator("#backend-state", { hasText: isDown ? "is down" : "works" }).waitFor();
        assert.equal(await text(page, "#backend-problem"), "");
      }
      await page.route("**/v1/scan-key-codes", fail);
      await button(page, "New code").click();
      await page.locator("#app-problem, #notice", { hasText: words }).first().waitFor();
      await page.unroute("**/v1/scan-key-codes");
    }
  },

  async restarted_connector_gets_a_new_sign_in(page) {
    const port = await freePort();
    const url = `http://127.0.0.1:${port}`;
    let connector = await startConnector(port);
    try {
      const signIns = requests(page, "/demo/sign-in");
      await openAndSignIn(page, url);
      await button(page, "Flag this shopper").click();
      await button(page, "Unflag this shopper").waitFor();
      await backendSwitch(page).check();
      await page.locator("#backend-state", { hasText: "is down" }).waitFor();
      const code = await text(page, "#code-text");
      await stop(connector);
      connector = await startConnector(port);
      await button(page, "New code").click();
      await page.waitForFunction((code) => !["", code].includes(document.getElementById("code-text").textContent), code);
      assert.equal(signIns.length, 2, "once for the user and once by itself");
      // The new process has none of the changes, and the page shows that.
      await page.locator("#backend-state", { hasText: "works" }).waitFor();
      assert.equal(await text(page, "#who"), "shopper-uuid-001 - active");
      await stop(connector);
      connector = await startConnector(port);
      const old = await text(page, "#code-text");
      await scan(page);
      await verdict(page, "Closed: Identity key not found");
      await page.waitForFunction((old) => !["", old].includes(document.getElementById("code-text").textContent), old);
      assert.equal(signIns.length, 3);
      await scan(page);
      await verdict(page, "Open for shopper-uuid-001");
    } finally {
      await stop(connector);
    }
  },

  async token_that_stays_refused_is_an_error_after_one_sign_in(page, url) {
    await openAndSignIn(page, url);
    const signIns = requests(page, "/demo/sign-in");
    await page.route("**/v1/scan-key-codes", (route) => route.fulfill({ status: 401, json: { message: "Unauthorized" } }));
    await button(page, "New code").click();
    await page.locator("#notice", { hasText: "Unauthorized (401)" }).waitFor();
    assert.equal(signIns.length, 1);
    assert.equal(await button(page, "Hold the code to the gate").isDisabled(), true);
  },
};

async function freePort() {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address();
  await new Promise((resolve) => server.close(resolve));
  return port;
}

// A demo in a process of its own. Returns once it is ready.
async function startConnector(port) {
  const env = {
    ...process.env,
    CONNECTOR__SERVER__BIND: `127.0.0.1:${port}`,
    CONNECTOR__MANAGEMENT__BIND: "127.0.0.1:0",
    CONNECTOR__SERVER__GRACE_PERIOD: "1s",
  };
  const connector = spawn(process.env.CONNECTOR, ["demo"], { env, stdio: ["ignore", "ignore", "pipe"] });
  for await (const chunk of connector.stderr) {
    if (chunk.includes(" ready ")) break;
  }
  assert.equal(connector.exitCode, null, "the demo has started");
  return connector;
}

async function stop(connector) {
  if (connector.exitCode !== null) return;
  const exit = once(connector, "exit");
  connector.kill("SIGTERM");
  await exit;
}
