// The pages must be usable by everyone: with the keyboard alone, on a narrow screen, in light and dark mode, and with
// assistive technology (as far as axe can check).
import assert from "node:assert/strict";
import axe from "axe-core";
import { backendSwitch, button, entry, open, openAndSignIn, scan, signIn, state, verdict } from "./steps.mjs";

// In CSS pixels.
const SMALLEST_TARGET = 44;

// The states of the demo's page in which it is checked, each reached from the previous one.
const STATES = {
  "signed out": (page, url) => open(page, url),
  "a code is shown": async (page) => {
    await signIn(page);
    await state(page, "phone", "code");
  },
  "the gate is open and the log has an entry": async (page) => {
    await scan(page);
    await verdict(page, "Open for");
    await entry(page).locator("summary").click();
  },
  "the same event was sent again": async (page) => {
    await button(page, "Send the same event again").click();
    await entry(page).getByText("The recorded answer").waitFor();
  },
  "the backend is down": async (page) => {
    await backendSwitch(page).check();
    await page.locator("#backend-state", { hasText: "is down" }).waitFor();
    await scan(page, { store: "STORE-001" });
    await verdict(page, "Closed: no decision");
    await backendSwitch(page).uncheck();
    await page.locator("#backend-state", { hasText: "works" }).waitFor();
  },
  "the app is refused": async (page) => {
    await signIn(page, "expired-payment-uuid-001");
    await state(page, "phone", "refused");
  },
  "errors are shown": async (page) => {
    await page.route("**/demo/**", (route) => route.fulfill({ status: 500, json: { message: "Internal server error" } }));
    await button(page, "Flag this shopper").click();
    await backendSwitch(page).click();
    await page.locator("#backend-problem", { hasText: "500" }).waitFor();
    await page.unroute("**/demo/**");
  },
  "the page could not be loaded": async (page, url) => {
    await page.route("**/demo/stores", (route) => route.abort());
    await page.goto(`${url}/demo`);
    await page.locator("#load-problem", { hasText: "does not answer" }).waitFor();
    await page.unroute("**/demo/stores");
  },
};

async function everyState(page, url, check) {
  for (const [name, reach] of Object.entries(STATES)) {
    await reach(page, url);
    await check(name);
  }
}

export const accessibilityCases = {
  async axe_finds_nothing_on_the_demo_page(page, url) {
    // During a transition, the measured contrast would be that of a mixed colour.
    await page.emulateMedia({ reducedMotion: "reduce" });
    await everyState(page, url, async (name) => {
      for (const colorScheme of ["light", "dark"]) {
        for (const width of [320, 1100]) {
          await page.emulateMedia({ colorScheme });
          await page.setViewportSize({ width, height: 800 });
          await page.evaluate(axe.source);
          const { violations, incomplete } = await page.evaluate(() => window.axe.run());
          const found = violations.map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html).join("\n")}`);
          assert.deepEqual(found, [], `${name}, ${colorScheme}, ${width} px`);
          const unclear = incomplete.map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html).join("\n")}`);
          assert.deepEqual(unclear, [], `${name}, ${colorScheme}, ${width} px: axe cannot tell`);
        }
      }
    });
  },

  async targets_are_large_and_nothing_is_wider_than_320_px(page, url) {
    for (const width of [320, 1100]) {
      await page.setViewportSize({ width, height: 700 });
      await everyState(page, url, async (name) => {
        assert.equal(await page.evaluate(() => document.documentElement.scrollWidth), width, `${name} at ${width} px`);
        const small = await page.evaluate((smallest) => {
          const targets = [...document.querySelectorAll("button, select, input, summary, a")].map((element) => element.closest("label") ?? element);
          return targets
            .map((element) => [element.outerHTML, element.getBoundingClientRect()])
            .filter(([, { width, height }]) => width > 0 && (width < smallest || height < smallest))
            .map(([html, { width, height }]) => `${width} x ${height}: ${html}`);
        }, SMALLEST_TARGET);
        assert.deepEqual(small, [], `${name} at ${width} px`);
      });
    }
  },

  async page_works_with_the_keyboard_alone(page, url) {
    await open(page, url);
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
    assert.equal(outline, "solid", "the focus is visible");
    await press("Enter", "#repeat");
    await entry(page).getByText("The recorded answer").waitFor();
    await press("Space", "#backend");
    await page.locator("#backend-state", { hasText: "is down" }).waitFor();
    await press("Space", "#backend");
    await page.locator("#backend-state", { hasText: "works" }).waitFor();
    await press("Enter", "summary");
    await entry(page).locator("pre").first().waitFor();
  },

  async motion_is_reduced_on_request(page, url) {
    const duration = () => page.locator("#barrier i").first().evaluate((half) => getComputedStyle(half).transitionDuration);
    await openAndSignIn(page, url);
    assert.equal(await duration(), "0.5s");
    await page.emulateMedia({ reducedMotion: "reduce" });
    assert.equal(await duration(), "0s");
  },

  async api_reference_is_readable(page, url, management) {
    const requested = [];
    page.on("request", (request) => requested.push(new URL(request.url())));
    await page.goto(`${management}/openapi`);
    await page.locator(".opblock-summary-control", { hasText: "/v1/identity/identity-keys" }).click();
    await page.getByText("The gate opens for this visitor.").waitFor();
    const document = await page.evaluate(() => fetch("/openapi.json").then((response) => response.json()));
    const calls = Object.values(document.paths).flatMap((item) => Object.keys(item));
    assert.equal(await page.locator(".opblock").count(), calls.length);
    const own = (url) => url.protocol === "data:" || url.origin === new URL(management).origin;
    assert.deepEqual(requested.filter((url) => !own(url)), [], "requests to other servers");
  },
};
