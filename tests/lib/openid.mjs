// A person with a browser at a mesh that wants a login at a provider, for tests/openid.sh. Prints a line for each check: "ok TEXT" or
// "FAIL TEXT: why".
//
// usage: node openid.mjs logins|expiry
import { base, browser, check, equal } from "./browser.mjs";

const { ISSUER, REPOSITORY, SECONDS } = process.env;

/** A browser of its own, with nothing in it. */
async function visitor() {
  const page = await (await browser.createBrowserContext()).newPage();
  page.setDefaultTimeout(60_000);
  return page;
}

/** Sends the one form of the provider's page, which leads to the next. */
async function send(page) {
  await Promise.all([page.waitForNavigation(), page.click("button[type=submit]")]);
}

/** From the registry to the provider, through its two forms, and back to the page. */
async function log_in(page, user, to = "/") {
  await page.goto(`${base}/zot/auth/login?provider=oidc&callback_ui=${encodeURIComponent(to)}`);
  check(`${user} is sent to the provider`, page.url().startsWith(ISSUER), page.url());
  await page.type("input[name=login]", user);
  await page.type("input[name=password]", "whatever");
  await send(page);
  await send(page);
  equal(`${user} is back where they wanted to go`, `${base}${to}`, page.url());
}

/** The status of a request that the page makes, by a script of its own origin. */
const asked = (page, method, path) => page.evaluate(
  async (method, path) => (await fetch(path, { method })).status, method, path);

async function shown(page, path) {
  const answer = await page.goto(base + path);
  return { status: answer.status(), text: await page.evaluate(() => document.body.innerText) };
}

async function session(page) {
  const cookies = await page.browserContext().cookies();
  return cookies.find((cookie) => cookie.name.endsWith("portolan-session"));
}

async function logins() {
  const ann = await visitor();
  equal("who hasn't logged in is asked to", 401, (await shown(ann, `/image/${REPOSITORY}`)).status);
  await log_in(ann, "ann", `/image/${REPOSITORY}`);
  const seen = await shown(ann, `/image/${REPOSITORY}`);
  equal("ann sees what her group may read", 200, seen.status);
  check("by its name", seen.text.includes(REPOSITORY), seen.text);
  check("and who she is", seen.text.includes("ann@example.org"), seen.text);
  const cookie = await session(ann);
  check("the session is nothing for scripts, and for no other site",
    cookie?.httpOnly && cookie.sameSite === "Lax", JSON.stringify(cookie && { ...cookie, value: "" }));
  equal("ann pushes from a page", 202, await asked(ann, "POST", `/v2/${REPOSITORY}/blobs/uploads/`));
  equal("and not where no group of hers may", 403, await asked(ann, "POST", "/v2/other/app/blobs/uploads/"));

  const bob = await visitor();
  await log_in(bob, "bob");
  equal("bob, who is in no group, doesn't see it", 404, (await shown(bob, `/image/${REPOSITORY}`)).status);
  equal("nor does he read it", 403, await asked(bob, "GET", `/v2/${REPOSITORY}/tags/list`));
  const list = await shown(bob, "/");
  check("nor is it in his list", list.status === 200 && !list.text.includes(REPOSITORY), list.text);

  await shown(ann, "/");
  const out = await ann.evaluate(async () => {
    const answer = await fetch("/zot/auth/logout", { method: "POST" });
    return { status: answer.status, ...(await answer.json()) };
  });
  equal("ann logs out", 200, out.status);
  check("her browser has no session any more", !(await session(ann)), "there is one");
  equal("and is asked to log in", 401, (await shown(ann, `/image/${REPOSITORY}`)).status);
  check("she can log out at the provider, too", String(out.endSessionUrl).startsWith(ISSUER), JSON.stringify(out));
  await ann.goto(out.endSessionUrl);
  await Promise.all([ann.waitForNavigation(), ann.click("button[name=logout]")]);
  await ann.goto(`${base}/zot/auth/login?provider=oidc`);
  check("which asks then who she is", Boolean(await ann.$("input[name=login]")), ann.url());
  equal("bob is still there", 200, (await shown(bob, "/")).status);
}

async function expiry() {
  const ann = await visitor();
  await log_in(ann, "ann", `/image/${REPOSITORY}`);
  equal("ann is somebody", 200, await asked(ann, "GET", "/v2/_catalog"));
  // Its length by the clock of the browser, and one second for that of the member.
  await new Promise((go) => setTimeout(go, (Number(SECONDS) + 1) * 1000));
  equal("until her session is over", 401, (await shown(ann, `/image/${REPOSITORY}`)).status);
  await ann.goto(`${base}/zot/auth/login?provider=oidc&callback_ui=/`);
  equal("the provider knows her still, and one click is enough", `${base}/`, ann.url());
  equal("to be somebody again", 200, (await shown(ann, `/image/${REPOSITORY}`)).status);
}

try {
  await { logins, expiry }[process.argv[2]]();
} catch (error) {
  check("the browser's part came to its end", false, error.stack);
}
await browser.close();
