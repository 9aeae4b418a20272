// The demo page without faults.
import assert from "node:assert/strict";
import { PUBLISHED_HOST, button, entry, loaded, open, openAndSignIn, requests, scan, signIn, state, text, verdict } from "./steps.mjs";

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/;
const IDENTITY_KEYS = "/v1/identity/identity-keys";

export const demoCases = {
  async shopper_signs_in_and_the_gate_opens(page, url) {
    await open(page, url);
    assert.equal(await button(page, "Hold the code to the gate").isDisabled(), true);
    assert.equal(await button(page, "Send the same event again").isDisabled(), true);
    assert.equal(await text(page, "#who"), "No shopper is signed in");
    await signIn(page);
    await state(page, "phone", "code");
    assert.equal(await text(page, "#who"), "shopper-uuid-001 - active");
    assert.match(await text(page, "#code-text"), /^JWOACME[0-9A-Za-z]{32}[0-9]{10}$/);
    assert.match(await text(page, "#countdown"), /^valid for [0-9]+ s$/);
    assert.ok((await page.locator("#code").evaluate((image) => image.decode().then(() => image.naturalWidth))) > 100);
    await scan(page);
    await state(page, "barrier", "open");
    await verdict(page, "Open for shopper-uuid-001, SHOPPER");
    await scan(page, { store: "STORE-002", location: "Exit" });
    await entry(page).getByText("shopper-uuid-001 - active, Exit, STORE-002").waitFor();
    assert.equal(await page.locator("#scans > li").count(), 2);
  },

  async log_shows_the_request_and_the_answer_as_they_were(page, url) {
    const sent = requests(page, IDENTITY_KEYS);
    await openAndSignIn(page, url);
    await scan(page);
    await entry(page).locator("h3", { hasText: "Open for shopper-uuid-001, SHOPPER" }).waitFor();
    const summary = entry(page).locator("summary");
    assert.match(await summary.innerText(), /^Attempt 1\s+200 OK\s+[0-9.]+ ms$/);
    assert.equal(await entry(page).locator("pre").first().isVisible(), false, "shown on demand");
    await summary.click();
    const [request, answer] = await entry(page).locator("pre").allInnerTexts();
    assert.equal(request, sent[0].postData());
    const scanned = JSON.parse(request);
    assert.match(scanned.requestId, UUID);
    assert.match(scanned.authEvent.id, UUID);
    assert.equal(await entry(page).locator(".event code").innerText(), scanned.authEvent.id);
    assert.equal(atob(scanned.identityKey), await text(page, "#code-text"));
    assert.deepEqual(JSON.parse(answer), await (await sent[0].response()).json());
    assert.match(await entry(page).locator(".event code").evaluate((code) => getComputedStyle(code).fontFamily), /mono/i);
  },

  async same_event_again_gets_the_recorded_answer(page, url) {
    const sent = requests(page, IDENTITY_KEYS);
    await openAndSignIn(page, url);
    await scan(page);
    await verdict(page, "Open for");
    // Flagged after the decision: the record of the decision does not change.
    await button(page, "Flag this shopper").click();
    await button(page, "Unflag this shopper").waitFor();
    await button(page, "Send the same event again").click();
    await entry(page).getByText("The recorded answer, the same bytes as at").waitFor();
    await verdict(page, "Open for shopper-uuid-001, SHOPPER");
    const [first, again] = sent.map((request) => request.postDataJSON());
    assert.notEqual(first.requestId, again.requestId);
    assert.deepEqual({ ...first, requestId: "" }, { ...again, requestId: "" });
    // A new event is decided again, and its refusal is recorded too.
    await scan(page);
    await verdict(page, "Closed: Shopper account flagged");
    await button(page, "Unflag this shopper").click();
    await button(page, "Flag this shopper").waitFor();
    await button(page, "Send the same event again").click();
    await entry(page).getByText("The recorded answer").waitFor();
    assert.equal(await entry(page).locator("h3").innerText(), "Closed: Shopper account flagged");
    assert.equal(new Set(sent.map((request) => request.postDataJSON().authEvent.id)).size, 2);
  },

  async code_is_replaced_before_it_expires(page, url) {
    await page.clock.install();
    await openAndSignIn(page, url);
    const [first, left] = [await text(page, "#code-text"), await text(page, "#countdown")];
    await page.clock.fastForward(10_000);
    assert.notEqual(await text(page, "#countdown"), left);
    assert.equal(await text(page, "#code-text"), first);
    await page.clock.fastForward(36_000);
    await page.waitForFunction((first) => document.getElementById("code-text").textContent !== first, first);
  },

  async flagged_shopper_is_refused_until_unflagged(page, url) {
    await openAndSignIn(page, url);
    const code = await text(page, "#code-text");
    await button(page, "Flag this shopper").click();
    await button(page, "Unflag this shopper").waitFor();
    assert.equal(await text(page, "#who"), "shopper-uuid-001 - flagged");
    assert.equal(await text(page, "#code-text"), code, "the gate is to refuse a code that was good");
    await scan(page);
    await verdict(page, "Closed: Shopper account flagged");
    await state(page, "barrier", "refused");
    await button(page, "New code").click();
    await state(page, "phone", "refused");
    assert.match(await text(page, "#notice"), /on hold/);
    assert.equal(await button(page, "Hold the code to the gate").isDisabled(), true);
    await button(page, "Unflag this shopper").click();
    await state(page, "phone", "code");
    await scan(page);
    await verdict(page, "Open for shopper-uuid-001");
  },

  async refusals_are_explained(page, url) {
    await open(page, url);
    await signIn(page, "expired-payment-uuid-001");
    await state(page, "phone", "refused");
    assert.match(await text(page, "#notice"), /payment method has expired/);
    await signIn(page, "cash-shopper-uuid-001");
    await state(page, "phone", "code");
    await scan(page);
    await verdict(page, "Closed: Cash shoppers are not supported at this store");
    await scan(page, { store: "CASH-ENABLED-STORE-001" });
    await verdict(page, "Open for cash-shopper-uuid-001, CASH_SHOPPER");
  },

  async labels_tell_the_state_of_shoppers_and_stores(page, url) {
    await open(page, url);
    const options = (id) => page.locator(`#${id} option`).allInnerTexts();
    const shoppers = await options("shopper");
    for (const label of [
      "shopper-uuid-001 - active",
      "associate-uuid-001 - associate",
      "cash-shopper-uuid-001 - pays in cash",
      "expired-payment-uuid-001 - card expired",
      "flagged-shopper-uuid-001 - flagged",
    ]) {
      assert.ok(shoppers.includes(label), `${label} in ${shoppers}`);
    }
    const stores = await options("store");
    for (const label of [
      "STORE-001 - stays closed without a decision",
      "STORE-002 - opens without a decision",
      "CASH-ENABLED-STORE-001 - takes cash, stays closed without a decision",
    ]) {
      assert.ok(stores.includes(label), `${label} in ${stores}`);
    }
    // Computed from the rows, so that it does not depend on ids.
    const month = (ago) => new Date(Date.UTC(new Date().getUTCFullYear(), new Date().getUTCMonth() - ago)).toISOString().slice(0, 7);
    const rows = [
      { id: "a", type: "ASSOCIATE", account: "flagged" },
      { id: "b", type: "SHOPPER", account: "active", paymentMethod: { lastMonth: month(0) } },
      { id: "c", type: "SHOPPER", account: "flagged", paymentMethod: { lastMonth: month(1) } },
    ];
    await page.route("**/demo/shoppers", (route) => route.fulfill({ json: rows }));
    await page.reload();
    await page.locator("#shopper option").first().waitFor({ state: "attached" });
    assert.deepEqual(await options("shopper"), ["a - associate, flagged", "b - active", "c - flagged, card expired"]);
  },

  async choosing_another_shopper_signs_the_previous_one_out(page, url) {
    await page.clock.install();
    await openAndSignIn(page, url);
    const codes = requests(page, "/v1/scan-key-codes");
    const isSignedOut = async () => {
      assert.equal(await text(page, "#who"), "No shopper is signed in");
      assert.equal(await text(page, "#code-text"), "");
      for (const name of ["Hold the code to the gate", "Flag this shopper", "New code"]) {
        assert.equal(await button(page, name).isDisabled(), true, name);
      }
    };
    await page.selectOption("#shopper", "associate-uuid-001");
    await isSignedOut();
    await page.clock.fastForward(120_000);
    assert.equal(codes.length, 0, "the token is gone");
    // Also while the previous shopper is still signing in.
    let answer;
    const waits = new Promise((resolve) => page.route("**/demo/sign-in", (route) => resolve((answer = () => route.continue()))));
    await button(page, "Sign in").click();
    await waits;
    await page.selectOption("#shopper", "cash-shopper-uuid-001");
    const finished = page.waitForResponse("**/commerceapi/authentication/customercontext");
    await answer();
    await finished;
    await page.evaluate(() => new Promise((resolve) => requestAnimationFrame(resolve)));
    await isSignedOut();
    await page.unroute("**/demo/sign-in");
    await button(page, "Sign in").click();
    await state(page, "phone", "code");
    assert.equal(await text(page, "#who"), "cash-shopper-uuid-001 - pays in cash");
  },

  async root_leads_to_the_page(page, url) {
    await page.goto(`${url}/#key=of-a-demo-on-loopback`);
    await loaded(page);
    assert.equal(page.url(), `${url}/demo`);
  },

  async published_demo_needs_the_link_with_its_key(page, url) {
    const published = `http://${PUBLISHED_HOST}:${new URL(url).port}`;
    const problem = page.locator("#load-problem", { hasText: "Open the link that the demo printed when it started: it contains the key." });
    await page.goto(`${published}/demo`);
    assert.equal(await page.evaluate(() => isSecureContext), false, "as on any host without TLS");
    await problem.waitFor();
    assert.equal(await page.locator("#shopper option").count(), 0);
    // The same tab: the browser does not load the page again, since the links differ in the fragment only.
    await page.goto(`${published}/demo#key=a-wrong-key`);
    await page.waitForURL(`${published}/demo`);
    await problem.waitFor();
    await page.goto(`${published}/demo#key=${process.env.DEMO_KEY}`);
    await loaded(page);
    assert.equal(await page.locator("#load").isVisible(), false);
    assert.equal(page.url(), `${published}/demo`, "the address bar does not keep the key");
    await page.reload();
    await loaded(page);
    await signIn(page);
    await state(page, "phone", "code");
    await scan(page);
    await verdict(page, "Open for shopper-uuid-001");
    await button(page, "Flag this shopper").click();
    await button(page, "Unflag this shopper").click();
    await button(page, "Flag this shopper").waitFor();
    const other = await page.context().browser().newPage();
    await other.goto(`${published}/#key=${process.env.DEMO_KEY}`);
    await loaded(other);
    await other.close();
  },

  async picture(page, url, file) {
    await page.setViewportSize({ width: 1100, height: 700 });
    await openAndSignIn(page, url);
    await button(page, "Flag this shopper").click();
    await button(page, "Unflag this shopper").waitFor();
    await scan(page);
    await verdict(page, "Closed");
    await button(page, "Unflag this shopper").click();
    await button(page, "Flag this shopper").waitFor();
    await scan(page);
    await state(page, "barrier", "open");
    await entry(page).locator("summary").click();
    await page.mouse.move(0, 0);
    await page.locator("#barrier i").first().evaluate((half) => Promise.all(half.getAnimations().map(({ finished }) => finished)));
    await page.screenshot({ path: file, fullPage: true });
  },
};
