// Uses the demo page and the API reference page in a real browser: node page.mjs CASE URL MANAGEMENT_URL.
// Prints nothing when the case passes. `picture` takes the screenshot of the README:
//   CHROMIUM=/usr/bin/chromium node page.mjs picture http://127.0.0.1:8080 docs/demo.png
import assert from "node:assert/strict";
import { chromium } from "playwright-core";
import { accessibilityCases } from "./accessibility.mjs";
import { demoCases } from "./demo.mjs";
import { faultCases } from "./faults.mjs";
import { PUBLISHED_HOST } from "./steps.mjs";

const [name, url, argument] = process.argv.slice(2);
const TIMEOUT = 20_000;
const OWN = new RegExp(`^(blob:)?http://(127\\.0\\.0\\.1|${PUBLISHED_HOST.replaceAll(".", "\\.")}):`);

const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM,
  args: ["--no-sandbox", `--host-resolver-rules=MAP ${PUBLISHED_HOST} 127.0.0.1`],
});
try {
  const page = await browser.newPage();
  page.setDefaultTimeout(TIMEOUT);
  const wrong = [];
  // The browser reports a refusal as an error, but the page made no mistake.
  page.on("console", (message) => message.type() === "error" && !/^Failed to load resource/.test(message.text()) && wrong.push(message.text()));
  page.on("pageerror", (error) => wrong.push(error.message));
  page.on("request", (request) => !OWN.test(request.url()) && wrong.push(`a request to ${request.url()}`));
  page.on("response", (response) => response.status() === 404 && wrong.push(`404 for ${response.url()}`));
  const cases = { ...demoCases, ...faultCases, ...accessibilityCases };
  await cases[name](page, url, argument);
  assert.deepEqual(wrong, []);
} finally {
  await browser.close();
}
