// The page as a visitor uses it, for tests/page.sh.
import { createHash } from "node:crypto";
import { writeFileSync } from "node:fs";

import { base, basic, browser, check, equal, examine, follow, text, visitor } from "./browser.mjs";

const { KEY_FILE, OWNER, FRONT, OTHER, IMAGE, CHART } = process.env;
const logins = {
  pusher: { username: "pusher", password: process.env.PUSHER_SECRET },
  reader: { username: "reader", password: process.env.READER_SECRET },
};

// --- Content ---
const digestOf = (bytes) => "sha256:" + createHash("sha256").update(bytes).digest("hex");

async function put(method, path, body, headers = {}) {
  const answer = await fetch(`http://${OWNER}${path}`, {
    method, body, headers: { authorization: basic(logins.pusher), ...headers },
  });
  if (answer.status !== 201) throw new Error(`${method} ${path}: ${answer.status} ${await answer.text()}`);
}

async function blob(repository, bytes, mediaType) {
  const digest = digestOf(bytes);
  const type = { "content-type": "application/octet-stream" };
  await put("POST", `/v2/${repository}/blobs/uploads/?digest=${digest}`, bytes, type);
  return { mediaType, digest, size: bytes.length };
}

async function manifest(repository, reference, document) {
  const bytes = Buffer.from(JSON.stringify(document));
  const digest = digestOf(bytes);
  const type = { "content-type": document.mediaType };
  await put("PUT", `/v2/${repository}/manifests/${reference ?? digest}`, bytes, type);
  return { mediaType: document.mediaType, digest, size: bytes.length };
}

const OCI = "application/vnd.oci.image";
const empty = (repository) => blob(repository, Buffer.from("{}"), "application/vnd.oci.empty.v1+json");
const when = (days) => new Date(Date.now() - days * 86400e3).toISOString();

async function image(repository, tag, architecture, words, days) {
  const layers = [];
  for (const [n, size] of [3_400_000, 820_000, 12_000, 51_000].entries()) {
    layers.push(await blob(repository, Buffer.alloc(size, `${architecture}${words}${n}`), `${OCI}.layer.v1.tar+gzip`));
  }
  const steps = [
    "/bin/sh -c #(nop) ADD file:51c2e2b1f8a6 in / ", "/bin/sh -c apk add --no-cache ca-certificates tzdata nginx",
    null, "COPY conf/ /etc/nginx/ # buildkit", "COPY --chown=web:web dist/ /srv/www # buildkit",
  ];
  const config = await blob(repository, Buffer.from(JSON.stringify({
    created: when(days), author: "The web team", os: "linux", architecture,
    config: {
      User: "web", ExposedPorts: { "8080/tcp": {} }, Env: ["PATH=/usr/local/bin:/usr/bin:/bin", "NGINX_VERSION=1.29.3"],
      Entrypoint: ["/usr/sbin/nginx"], Cmd: ["-g", "daemon off;"], WorkingDir: "/srv/www",
      Labels: { "org.opencontainers.image.licenses": "Apache-2.0", maintainer: "web@example.org" },
    },
    rootfs: { type: "layers", diff_ids: layers.map((layer) => layer.digest) },
    history: steps.map((step) => step === null
      ? { created: when(days), created_by: "ENV NGINX_VERSION=1.29.3", empty_layer: true }
      : { created: when(days), created_by: step }),
  })), `${OCI}.config.v1+json`);
  return manifest(repository, tag, {
    schemaVersion: 2, mediaType: `${OCI}.manifest.v1+json`, config, layers,
    annotations: {
      "org.opencontainers.image.description": words, "org.opencontainers.image.source": "https://example.org/shop/web",
      "org.opencontainers.image.version": tag ?? "", "org.opencontainers.image.created": when(days),
    },
  });
}

async function refer(repository, subject, artifactType, content) {
  const layer = await blob(repository, Buffer.from(content), artifactType);
  return manifest(repository, null, {
    schemaVersion: 2, mediaType: `${OCI}.manifest.v1+json`, artifactType, config: await empty(repository), layers: [layer], subject,
    annotations: { "org.opencontainers.image.created": when(0.1) },
  });
}

const hostile = `<script>alert(1)</script><img src=x onerror=alert(1)>"'`;

async function fill() {
  const words = "The shop’s web server: static pages, compressed, with sensible headers.";
  const amd = await image(IMAGE, "1.0", "amd64", words, 40);
  await image(IMAGE, "1.1", "amd64", words + " Now quicker.", 3);
  await image(IMAGE, "latest", "amd64", words, 40);
  const first = await image(IMAGE, "latest", "amd64", words + " Now quicker.", 3);
  const arm = await image(IMAGE, null, "arm64", words, 3);
  await manifest(IMAGE, "multi", {
    schemaVersion: 2, mediaType: `${OCI}.index.v1+json`,
    manifests: [
      { ...amd, platform: { os: "linux", architecture: "amd64" } },
      { ...arm, platform: { os: "linux", architecture: "arm64", variant: "v8" } },
    ],
  });
  const sbom = await refer(IMAGE, first, "application/spdx+json", '{"spdxVersion":"SPDX-2.3"}');
  await refer(IMAGE, sbom, "application/vnd.dev.sigstore.bundle.v0.3+json", "{}");
  await refer(IMAGE, first, "application/vnd.cncf.notary.signature", "signature");
  await refer(IMAGE, first, "application/vnd.in-toto+json", '{"predicateType":"https://slsa.dev/provenance/v1"}');

  const chart = { name: "web", version: "1.4.0", appVersion: "1.1", apiVersion: "v2", type: "application",
    description: "The shop’s web server on Kubernetes", keywords: ["web", "nginx"],
    maintainers: [{ name: "Ann", email: "ann@example.org" }], home: "https://example.org/shop" };
  await manifest(CHART, "1.4.0", {
    schemaVersion: 2, mediaType: `${OCI}.manifest.v1+json`,
    config: await blob(CHART, Buffer.from(JSON.stringify(chart)), "application/vnd.cncf.helm.config.v1+json"),
    layers: [await blob(CHART, Buffer.from("a chart"), "application/vnd.cncf.helm.chart.content.v1.tar+gzip")],
  });
  const others = [
    ["edge/filter", "application/vnd.wasm.config.v0+json", "application/wasm"],
    ["models/tiny", "application/vnd.cncf.model.config.v1+json", "application/vnd.cncf.model.weight.v1.raw"],
  ];
  for (const [repository, config, layer] of others) {
    await manifest(repository, "v1", {
      schemaVersion: 2, mediaType: `${OCI}.manifest.v1+json`,
      config: await blob(repository, Buffer.from('{"descriptor":{"name":"tiny","family":"demo"}}'), config),
      layers: [await blob(repository, Buffer.from("weights or code"), layer)],
    });
  }
  await manifest("hidden/thing", "v1", {
    schemaVersion: 2, mediaType: `${OCI}.manifest.v1+json`, config: await empty("hidden/thing"), layers: [],
    artifactType: "application/vnd.example.thing",
  });
  await manifest("odd/words", "v1", {
    schemaVersion: 2, mediaType: `${OCI}.manifest.v1+json`, config: await empty("odd/words"), layers: [],
    artifactType: "application/vnd.example.thing",
    annotations: { "org.opencontainers.image.description": hostile, [hostile]: hostile, readme: `# Odd\n${hostile}\njavascript:alert(1)`,
      "org.opencontainers.image.source": "javascript:alert(1)" },
  });
}

// --- The visit ---
try {
  await fill();
  const ann = await visitor(logins.pusher);
  const { page } = ann;

  await page.goto(base + "/");
  check("all repositories are listed", (await text(page, "#results")).includes("models/tiny"));
  await examine(ann, "repositories", "repositories");
  await page.type("input[name=q]", "shop/w");
  await page.waitForFunction(() => document.querySelectorAll("#results li.row").length === 1);
  check("search as you type finds one", (await text(page, "#results h2")) === IMAGE);
  check("and the address says so", page.url().includes("q=shop%2Fw"), page.url());
  await page.select("select[name=arch]", "riscv64");
  await page.waitForFunction(() => document.querySelectorAll("#results li.row").length === 0);
  check("a filter leaves nothing", (await text(page, "#results")).includes("Nothing fits"));
  await examine(ann, "nothing found", "nothing");
  await page.select("select[name=arch]", "");
  await page.waitForSelector("#results h2 a");

  await follow(page, "#results h2 a");
  equal("a repository", IMAGE, await text(page, "h1"));
  const tags = await page.$$eval("table.tags tbody th a", (links) => links.map((link) => link.textContent).sort());
  equal("has its tags", "1.0,1.1,latest,multi", tags.join());
  check("and how it is pulled", (await text(page, ".pull")).includes(`docker pull ${FRONT}/${IMAGE}:`), await text(page, ".pull"));
  await examine(ann, "a repository", "repository");

  await page.goto(`${base}/image/${IMAGE}:latest`);
  equal("an image has its layers", 5, (await page.$$(".layers li")).length);
  check("with their history", (await text(page, ".layers")).includes("apk add --no-cache"));
  const tree = await page.$$eval(".tree > li > .leaf > a", (links) => links.map((link) => link.textContent));
  for (const kind of ["SBOM (SPDX)", "Signature bundle (sigstore)", "Signature (Notation)", "Attestation (in-toto)"]) {
    check(`what refers to it is called by name: ${kind}`, tree.includes(kind), tree.join());
  }
  equal("the signature of the SBOM stands below it", 1, (await page.$$(".tree .tree")).length);
  equal("and what the tag named before", 2, (await page.$$(".history li")).length);
  await examine(ann, "an image", "image");
  await page.goto(`${base}/image/${IMAGE}:multi`);
  check("an index shows its platforms", (await text(page, "tbody")).includes("linux/arm64/v8"));
  await examine(ann, "an index", "index");
  await follow(page, "tbody th a");
  check("each of which leads to its image", (await text(page, "h1")).startsWith("sha256:"));

  for (const [repository, tag, kind, words] of [
    [CHART, "1.4.0", "Helm chart", "ann@example.org"], ["edge/filter", "v1", "WebAssembly module", "demo"],
    ["models/tiny", "v1", "AI model", "demo"], ["odd/words", "v1", "Artifact", "application/vnd.example.thing"],
  ]) {
    await page.goto(`${base}/image/${repository}:${tag}`);
    equal(`${repository} is shown by name`, kind, await text(page, ".kind"));
    check(`${repository} shows what it says of itself`, (await text(page, "main")).includes(words));
    await examine(ann, kind, kind === "Helm chart" ? "chart" : null);
  }
  check("what others wrote is text", (await text(page, "main")).includes(hostile));
  equal("and no link", 0, (await page.$$('main a[href^="javascript:"]')).length);

  await page.goto(`${base}/keys`);
  await page.type("input[name=label]", "tests");
  await page.type("input[name=scopes]", `repository:${CHART}:read`);
  await follow(page, "form.stack button");
  writeFileSync(KEY_FILE, await text(page, "#made"));
  check("an API key is made and shown", (await text(page, "#made")).startsWith("zak_"));
  await examine(ann, "API keys", "keys");

  await page.goto(`${base}/delete/${IMAGE}:1.0`);
  check("before deleting it is said what goes", (await text(page, ".sheet")).includes("The tag 1.0 goes from"));
  await examine(ann, "deleting", "delete");
  await follow(page, "button.danger");
  check("a deleted tag shows what it named", (await text(page, "main")).includes("This tag is deleted"));
  await examine(ann, "a deleted tag", "deleted");
  const answer = await fetch(`http://${OTHER}/v2/${IMAGE}/manifests/1.0`, { headers: { authorization: basic(logins.pusher) } });
  equal("and is gone on every member", 404, answer.status);

  equal("what it named can be restored", 1, (await page.$$(".history form button")).length);
  await follow(page, ".history form button");
  check("a restored tag is there", (await text(page, "h1")) === "1.0" && (await page.$$(".layers li")).length === 5);
  const restored = await fetch(`http://${OTHER}/v2/${IMAGE}/manifests/1.0`, { headers: { authorization: basic(logins.pusher) } });
  equal("on every member", 200, restored.status);
  await examine(ann, "a restored tag", "restored");
  await follow(page, "a.quiet.end");
  await follow(page, "button.danger");
  check("and is deleted again", (await text(page, "main")).includes("This tag is deleted"));

  const eve = await visitor({ username: "pusher", password: "wrong" });
  const refused = await eve.page.goto(base + "/").catch((error) => error);
  equal("a wrong login is refused", 401, refused.status?.());
  await examine(eve, "a wrong login", "login");
  const bob = await visitor(logins.reader);
  await bob.page.goto(`${base}/image/${IMAGE}`);
  equal("who may not delete sees no button for it", 0, (await bob.page.$$('a[href^="/delete/"]')).length);
  const hidden = await bob.page.goto(`${base}/mesh`);
  equal("who is no administrator doesn't see the mesh", 403, hidden.status());
  equal("nor a way to it", 0, (await bob.page.$$('nav a[href="/mesh"]')).length);
  const unseen = await bob.page.goto(`${base}/image/hidden/thing:v1`);
  equal("a repository that one may not see", 403, unseen.status());
  check("isn't shown", !(await text(bob.page, "main")).includes("sha256"));
  await examine(bob, "what one may not see", "unseen");
  await bob.page.goto(`${base}/?q=hidden`);
  check("and isn't found", (await text(bob.page, "#results")).includes("0 repositories"));
  await bob.page.goto(`${base}/image/${IMAGE}:latest`);
  equal("who may not change tags isn't offered their past", 0, (await bob.page.$$(".history form")).length);
  const nothing = await bob.page.goto(`${base}/image/no/such`);
  equal("what isn't there is 404", 404, nothing.status());
  await examine(bob, "what isn't there", "missing");

  await page.setJavaScriptEnabled(false);
  await page.goto(`${base}/?q=charts`);
  check("without scripts it is the same", (await text(page, "#results")).includes(CHART));
} catch (error) {
  check("the visit came to its end", false, error.stack);
}
await browser.close();
