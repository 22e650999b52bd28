// What tests of the page share: a browser, its visitors, what every page must hold. Prints a line for each check: "ok TEXT" or
// "FAIL TEXT: why".
//
// FRONT is the address of the member that is visited, with https:// before it or without.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

const { PAGE_MODULES, CHROMIUM, PICTURES, FRONT } = process.env;
const require = createRequire(PAGE_MODULES + "/");
const puppeteer = require("puppeteer-core");
const axe = require.resolve("axe-core/axe.min.js");
export const base = FRONT.includes("://") ? FRONT : `http://${FRONT}`;

export function check(text, truth, why = "") {
  console.log(truth ? `ok ${text}` : `FAIL ${text}: ${String(why).replaceAll("\n", " ").slice(0, 600)}`);
}
export const equal = (text, want, got) => check(text, want === got, `expected ${JSON.stringify(want)}, got ${JSON.stringify(got)}`);

export const basic = ({ username, password }) => "Basic " + Buffer.from(`${username}:${password}`).toString("base64");

export const browser = await puppeteer.launch({
  executablePath: CHROMIUM, headless: true,
  args: ["--no-sandbox", "--disable-gpu", "--no-proxy-server", "--disable-component-update", "--disable-background-networking"],
  // The members of a mesh of tests have certificates of an authority of their own.
  acceptInsecureCerts: true,
});

/** A page of somebody's, which notes what goes wrong in it. */
export async function visitor(login) {
  const context = await browser.createBrowserContext();
  const page = await context.newPage();
  const wrong = [];
  page.on("console", (message) => {
    // The browser's own line about a status is no fault of the page.
    if (message.type() === "error" && !message.text().startsWith("Failed to load resource")) wrong.push(message.text());
  });
  page.on("pageerror", (error) => wrong.push(error.message));
  page.on("dialog", (dialog) => { wrong.push(`a dialog: ${dialog.message()}`); dialog.dismiss(); });
  page.on("request", (request) => {
    if (!request.url().startsWith(base) && !request.url().startsWith("data:")) wrong.push(`a request to ${request.url()}`);
  });
  if (login) await page.authenticate(login);
  return { page, wrong };
}

export const text = (page, selector) => page.$eval(selector, (element) => element.textContent.trim());
export const follow = async (page, selector) => {
  await Promise.all([page.waitForNavigation(), page.click(selector)]);
};

/** What every page must hold; with a name, pictures of it. */
export async function examine({ page, wrong }, name, picture) {
  // axe is no part of the page: it is put in beside its policy, over the debugger.
  const source = readFileSync(axe, "utf8");
  await page.evaluate(source);
  const found = await page.evaluate(() => axe.run(document, { resultTypes: ["violations"] }));
  const violations = found.violations.map((one) => `${one.id} at ${one.nodes.map((node) => node.target).join(", ")}`);
  check(`${name}: axe-core finds nothing`, violations.length === 0, violations.join("; "));
  check(`${name}: nothing is blocked, nothing leaves the origin`, wrong.length === 0, wrong.join("; "));
  wrong.length = 0;
  const isTooWide = () => page.evaluate(() => document.documentElement.scrollWidth > document.documentElement.clientWidth);
  for (const theme of ["light", "dark"]) {
    await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: theme }]);
    if (theme === "dark") {
      const dark = await page.evaluate(() => axe.run(document, { runOnly: ["color-contrast"] }));
      const faint = dark.violations.flatMap((one) => one.nodes.map((node) => `${node.target}`));
      check(`${name}: in the dark all can be read, too`, faint.length === 0, faint.join("; "));
    }
    for (const width of [1280, 390]) {
      await page.setViewport({ width, height: 860 });
      if (theme === "light") check(`${name}: it fits ${width} pixels`, !(await isTooWide()), "it scrolls sideways");
      if (picture) await page.screenshot({ path: `${PICTURES}/${picture}-${width}-${theme}.png`, fullPage: true });
    }
  }
  await page.setViewport({ width: 1280, height: 860 });
  await page.emulateMediaFeatures([]);
}
