// Steps on the demo page that several cases use.

// Chromium resolves this name to loopback. The browser treats it as another host, without the privileges of loopback.
export const PUBLISHED_HOST = "published.test";

export const text = (page, selector) => page.locator(selector).innerText();
export const state = (page, id, wanted) => page.locator(`#${id}[data-state=${wanted}]`).waitFor();
export const verdict = (page, words) => page.locator("#verdict", { hasText: words }).waitFor();
export const button = (page, name) => page.getByRole("button", { name, exact: true });
export const backendSwitch = (page) => page.getByRole("switch", { name: "Backend is down" });
// The entries of the list of scans, the newest first.
export const entry = (page, number = 0) => page.locator("#scans > li").nth(number);

export async function loaded(page) {
  await page.locator("#shopper option[value=shopper-uuid-001]").waitFor({ state: "attached" });
  await page.locator("#store option[value=STORE-001]").waitFor({ state: "attached" });
}

export async function open(page, url) {
  await page.goto(`${url}/demo`);
  await loaded(page);
}

export async function signIn(page, shopper = "shopper-uuid-001") {
  await page.selectOption("#shopper", shopper);
  await button(page, "Sign in").click();
}

export async function openAndSignIn(page, url, shopper) {
  await open(page, url);
  await signIn(page, shopper);
  await state(page, "phone", "code");
}

export async function scan(page, { store, location } = {}) {
  if (store) await page.selectOption("#store", store);
  if (location) await page.getByLabel(location, { exact: true }).check();
  await button(page, "Hold the code to the gate").click();
}

// The requests that the page sends to a path, from now on.
export function requests(page, path) {
  const found = [];
  page.on("request", (request) => new URL(request.url()).pathname === path && found.push(request));
  return found;
}
