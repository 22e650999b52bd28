// The mesh as an administrator watches it while a member is killed and comes back, for tests/page.sh, which kills and starts it:
// "kill" and "start" on a line ask for that.
import { createHash } from "node:crypto";

import { base, basic, browser, check, equal, examine, text, visitor } from "./browser.mjs";

const { OWNERS, VICTIM } = process.env;
const owners = OWNERS.split(" ");
const admin = { username: "pusher", password: process.env.PUSHER_SECRET };
const victim = owners[VICTIM];

async function put(method, path, body, type) {
  const answer = await fetch(base + path, {
    method, body, headers: { authorization: basic(admin), "content-type": type },
  });
  if (answer.status !== 201) throw new Error(`${method} ${path}: ${answer.status} ${await answer.text()}`);
}

async function push(repository, tag) {
  const bytes = Buffer.alloc(200_000, repository + tag);
  const digest = "sha256:" + createHash("sha256").update(bytes).digest("hex");
  await put("POST", `/v2/${repository}/blobs/uploads/?digest=${digest}`, bytes, "application/octet-stream");
  const config = Buffer.from(JSON.stringify({ os: "linux", architecture: "amd64", config: { Labels: { tag } } }));
  const configDigest = "sha256:" + createHash("sha256").update(config).digest("hex");
  await put("POST", `/v2/${repository}/blobs/uploads/?digest=${configDigest}`, config, "application/octet-stream");
  const mediaType = "application/vnd.oci.image.manifest.v1+json";
  await put("PUT", `/v2/${repository}/manifests/${tag}`, JSON.stringify({
    schemaVersion: 2, mediaType,
    config: { mediaType: "application/vnd.oci.image.config.v1+json", digest: configDigest, size: config.length },
    layers: [{ mediaType: "application/vnd.oci.image.layer.v1.tar", digest, size: bytes.length }],
  }), mediaType);
}

/** Waits until the page says so, without being loaded again. */
const until = (page, what, ...of) => page.waitForFunction(what, { timeout: 60_000, polling: 200 }, ...of);
const live = (page, number) => until(page, (text) => document.querySelector("#mesh-now").textContent.startsWith(text), `${number} of 3`);
/** The card of a member, by what it says. */
const says = (page, member, word) => until(page, (member, word) =>
  [...document.querySelectorAll("#mesh-members > li")].some((card) =>
    card.querySelector("h3").textContent.includes(member) && card.textContent.includes(word)), member, word);

try {
  const names = ["shop/web", "shop/api", "shop/worker", "charts/web", "edge/filter", "models/tiny", "team/tools", "team/ci",
    "library/alpine", "library/debian", "library/nginx", "library/redis"];
  const ann = await visitor(admin);
  const { page } = ann;
  // A member that doesn't know of the others yet does everything by itself.
  await page.goto(`${base}/mesh`);
  await live(page, 3);
  for (const name of names) await push(name, "v1");
  await page.goto(`${base}/`);
  check("an administrator has a way to the mesh", (await page.$$('nav a[href="/mesh"]')).length === 1);
  await page.goto(`${base}/mesh`);
  equal("the mesh shows its members", 3, (await page.$$("#mesh-members > li")).length);
  equal("and a picture of who owns what", 3, (await page.$$("svg.placement .arc")).length);
  const owned = await page.$$eval(".shares .number:nth-child(3)", (cells) => cells.map((cell) => parseInt(cell.textContent, 10)));
  equal("in which each repository has one owner", names.length, owned.reduce((sum, number) => sum + number, 0));
  for (const owner of owners) await says(page, owner, "live");
  check("of all members something is told", true);
  await until(page, () => document.querySelector("#mesh-members dd").textContent.endsWith("/s"));
  check("the figures come anew by themselves", true);
  equal("what this member sent on is told", 2, (await page.$$("#mesh-traffic tbody tr")).length);
  await examine(ann, "the mesh", "mesh");

  // Of the repositories of each member, by the links in its card.
  const taken = await page.$$eval("#mesh-members > li", (cards, victim) => cards
    .filter((card) => card.querySelector("h3").textContent.includes(victim))
    .flatMap((card) => [...card.querySelectorAll(".owned a")].map((link) => link.textContent)), victim);
  check("the member that is killed owns something", taken.length > 0);
  console.log("kill");
  await live(page, 2);
  check("a killed member is seen to be gone", true);
  await says(page, victim, "gone");
  await until(page, () => document.querySelectorAll("svg.placement .arc").length === 2);
  check("the others have its place", true);
  await push(taken[0], "v2");
  await until(page, (name) => document.querySelector("#mesh-taken").textContent.includes(name), taken[0]);
  check("and a take-over is shown as it happens", (await text(page, "#mesh-taken")).includes(victim));
  await examine(ann, "the mesh without a member", "mesh-gone");
  console.log("start");
  await live(page, 3);
  await says(page, victim, "live");
  await until(page, () => document.querySelectorAll("svg.placement .arc").length === 3);
  check("a member that comes back is seen to be live", true);

  await page.click("[data-pause]");
  equal("it can be paused", "Go on", await text(page, "[data-pause]"));
  await page.setJavaScriptEnabled(false);
  await page.goto(`${base}/mesh`);
  equal("without scripts it is the same", 3, (await page.$$("#mesh-members > li")).length);
} catch (error) {
  check("the visit came to its end", false, error.stack);
}
await browser.close();
