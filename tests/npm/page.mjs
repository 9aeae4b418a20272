// What a person does on the demo's page, in a real browser: node page.mjs CASE URL. Says nothing when all is well.
// One case is about the page of the management port, whose URL follows.
// `picture` takes the one that stands in the README: node page.mjs picture http://127.0.0.1:8080 docs/demo.png
import assert from "node:assert/strict";
import { chromium } from "playwright-core";

const [name, url, argument] = process.argv.slice(2);
const TIMEOUT = 20_000;

const text = (page, selector) => page.locator(selector).innerText();
const state = (page, id, wanted) => page.locator(`#${id}[data-state=${wanted}]`).waitFor();
const verdict = (page, words) => page.locator("#verdict", { hasText: words }).waitFor();

async function open(page) {
  await page.goto(`${url}/demo`);
  await page.locator("#shopper option[value=shopper-uuid-001]").waitFor({ state: "attached" });
  await page.locator("#store option[value=STORE-001]").waitFor({ state: "attached" });
}

async function signIn(page, shopper = "shopper-uuid-001") {
  await page.selectOption("#shopper", shopper);
  await page.getByRole("button", { name: "Sign in" }).click();
}

async function scan(page, { store, location } = {}) {
  if (store) await page.selectOption("#store", store);
  if (location) await page.getByLabel(location).check();
  await page.getByRole("button", { name: "Hold the code to the gate" }).click();
}

const cases = {
  async a_shopper_signs_in_and_the_gate_opens(page) {
    await open(page);
    assert.equal(await page.getByRole("button", { name: "Hold the code to the gate" }).isDisabled(), true);
    await signIn(page);
    await state(page, "phone", "code");
    assert.match(await text(page, "#code-text"), /^JWOACME[0-9A-Za-z]{32}[0-9]{10}$/);
    assert.match(await text(page, "#countdown"), /^valid for [0-9]+ s$/);
    assert.ok((await page.locator("#code").evaluate((image) => image.decode().then(() => image.naturalWidth))) > 100);
    await scan(page);
    await state(page, "doors", "open");
    await verdict(page, "Open for shopper-uuid-001, SHOPPER");
    assert.match(await text(page, "#events"), /shopper-uuid-001\s+Entry, STORE-001\s+200 Open/);
    await scan(page, { store: "STORE-002", location: "Exit" });
    await page.locator("#events", { hasText: "Exit, STORE-002" }).waitFor();
  },

  async the_code_is_replaced_before_it_ends(page) {
    await page.clock.install();
    await open(page);
    await signIn(page);
    await state(page, "phone", "code");
    const [first, left] = [await text(page, "#code-text"), await text(page, "#countdown")];
    await page.clock.fastForward(10_000);
    assert.notEqual(await text(page, "#countdown"), left);
    assert.equal(await text(page, "#code-text"), first);
    await page.clock.fastForward(36_000);
    await page.waitForFunction((first) => document.getElementById("code-text").textContent !== first, first);
  },

  async who_is_flagged_stays_outside_until_that_is_taken_back(page) {
    await open(page);
    await signIn(page);
    await state(page, "phone", "code");
    const code = await text(page, "#code-text");
    await page.getByRole("button", { name: "Flag this shopper" }).click();
    await page.getByRole("button", { name: "Unflag this shopper" }).waitFor();
    assert.equal(await text(page, "#code-text"), code, "the gate is to refuse a code that was good");
    await scan(page);
    await verdict(page, "Shut: Shopper account flagged");
    await state(page, "doors", "refused");
    await page.getByRole("button", { name: "New code" }).click();
    await state(page, "phone", "refused");
    assert.match(await text(page, "#notice"), /on hold/);
    assert.equal(await page.getByRole("button", { name: "Hold the code to the gate" }).isDisabled(), true);
    await page.getByRole("button", { name: "Unflag this shopper" }).click();
    await state(page, "phone", "code");
    await scan(page);
    await verdict(page, "Open for shopper-uuid-001");
  },

  async others_are_told_why_not(page) {
    await open(page);
    await signIn(page, "expired-payment-uuid-001");
    await state(page, "phone", "refused");
    assert.match(await text(page, "#notice"), /payment method has expired/);
    await signIn(page, "cash-shopper-uuid-001");
    await state(page, "phone", "code");
    await scan(page);
    await verdict(page, "Shut: Cash shoppers are not supported at this store");
    await scan(page, { store: "CASH-ENABLED-STORE-001" });
    await verdict(page, "Open for cash-shopper-uuid-001, CASH_SHOPPER");
  },

  async the_keyboard_alone_will_do(page) {
    await open(page);
    const press = async (key, id) => {
      for (let tries = 0; tries < 20; tries += 1) {
        if (await page.evaluate((id) => document.activeElement.matches(id), id)) return page.keyboard.press(key);
        await page.keyboard.press("Tab");
      }
      assert.fail(`${id} is not reached`);
    };
    await press("Enter", "#sign-in button");
    await state(page, "phone", "code");
    await press("ArrowDown", "#store");
    assert.equal(await page.locator("#store").inputValue(), "STORE-002");
    await press("ArrowRight", "[name=location]");
    assert.equal(await page.getByLabel("Exit").isChecked(), true);
    await press("Enter", "#hold");
    await verdict(page, "Open for shopper-uuid-001");
    const outline = await page.locator("#hold").evaluate((button) => getComputedStyle(button).outlineStyle);
    assert.equal(outline, "solid", "where the keyboard is must be seen");
  },

  async it_can_be_read_in_light_and_dark_and_on_a_phone(page) {
    for (const colorScheme of ["light", "dark"]) {
      await page.emulateMedia({ colorScheme });
      await open(page);
      await signIn(page);
      await state(page, "phone", "code");
      await scan(page);
      await verdict(page, "Open");
      for (const selector of ["h1", "header p", "h2", "label", "#sign-in button", "#flag", "#hold", "#countdown", "#code-text", "#verdict", "th", "td"]) {
        const ratio = await page.locator(selector).first().evaluate(contrast);
        assert.ok(ratio >= 4.5, `${selector} in ${colorScheme}: ${ratio}`);
      }
    }
    await page.setViewportSize({ width: 340, height: 700 });
    assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= 340), "it is wider than the screen");
  },

  async a_connector_that_is_gone_is_said_to_be(page) {
    await open(page);
    await signIn(page);
    await state(page, "phone", "code");
    await page.route("**/v1/**", (route) => route.abort());
    await scan(page);
    await verdict(page, "The connector does not answer");
    await page.getByRole("button", { name: "New code" }).click();
    await page.locator("#notice", { hasText: "does not answer" }).waitFor();
  },

  async the_api_can_be_read(page) {
    for (const colorScheme of ["light", "dark"]) {
      await page.emulateMedia({ colorScheme });
      await page.goto(`${argument}/openapi`);
      await page.locator("#contents a", { hasText: "/v1/identity/identity-keys" }).click();
      await page.locator("#verifyIdentityKey[open]", { hasText: "Shopper account flagged" }).waitFor();
      await page.locator("#verifyIdentityKey", { hasText: "Internal server error" }).waitFor();
      const document = await page.evaluate(() => fetch("/openapi.json").then((response) => response.json()));
      const calls = Object.values(document.paths).flatMap((item) => Object.keys(item));
      assert.equal(await page.locator("#calls details").count(), calls.length);
      assert.equal(await page.locator("#calls details", { hasText: "undefined" }).count(), 0);
      for (const selector of ["h1", "h2", "h3", "p", "summary code", "summary span", "#contents a", "td", "b.post", "b.get", "b.put", "b.delete"]) {
        const ratio = await page.locator(selector).first().evaluate(contrast);
        assert.ok(ratio >= 4.5, `${selector} in ${colorScheme}: ${ratio}`);
      }
    }
    await page.setViewportSize({ width: 340, height: 700 });
    assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= 340), "it is wider than the screen");
  },

  async picture(page) {
    await page.setViewportSize({ width: 1100, height: 700 });
    await open(page);
    await signIn(page);
    await state(page, "phone", "code");
    await scan(page);
    await verdict(page, "Open for");
    await page.getByRole("button", { name: "Flag this shopper" }).click();
    await page.getByRole("button", { name: "Unflag this shopper" }).waitFor();
    await scan(page);
    await verdict(page, "Shut");
    await page.getByRole("button", { name: "Unflag this shopper" }).click();
    await page.getByRole("button", { name: "Flag this shopper", exact: true }).waitFor();
    await scan(page);
    await state(page, "doors", "open");
    await page.locator("#doors i").first().evaluate((door) => Promise.all(door.getAnimations().map(({ finished }) => finished)));
    await page.screenshot({ path: argument, fullPage: true });
  },
};

// Of an element's ink and what is behind it (WCAG 2.2, 1.4.3).
function contrast(element) {
  const channels = (color) => color.match(/[\d.]+/g).map(Number);
  const luminance = (color) => {
    const [r, g, b] = channels(color).map((value) => (value / 255 <= 0.04045 ? value / 255 / 12.92 : ((value / 255 + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  let behind = element;
  while (behind && channels(getComputedStyle(behind).backgroundColor)[3] === 0) behind = behind.parentElement;
  const ground = behind ? getComputedStyle(behind).backgroundColor : "rgb(255, 255, 255)";
  const [one, other] = [luminance(getComputedStyle(element).color), luminance(ground)];
  return (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
}

const browser = await chromium.launch({ executablePath: process.env.CHROMIUM, args: ["--no-sandbox"] });
try {
  const page = await browser.newPage();
  page.setDefaultTimeout(TIMEOUT);
  const wrong = [];
  // A refusal is no mistake of the page's, though the browser reports it as one.
  page.on("console", (said) => said.type() === "error" && !/^Failed to load resource/.test(said.text()) && wrong.push(said.text()));
  page.on("pageerror", (error) => wrong.push(error.message));
  page.on("request", (request) => !/^(blob:)?http:\/\/127\.0\.0\.1:/.test(request.url()) && wrong.push(`asks ${request.url()}`));
  page.on("response", (response) => response.status() === 404 && wrong.push(`finds no ${response.url()}`));
  await cases[name](page);
  assert.deepEqual(wrong, []);
} finally {
  await browser.close();
}
