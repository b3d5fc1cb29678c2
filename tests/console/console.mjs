// Uses the page /docs as a person would, in headless Chromium.
//
//     node console.mjs URL KEYFILE [FOLDER FOR SCREENSHOTS]
//
// Prints a line `did: …` for each thing that was done and seen. Anything else ends it with what went wrong.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";

// The packages lie in the folder in which this is run, not beside this file.
const require = createRequire(join(process.cwd(), "package.json"));
const { chromium } = require("playwright-core");
const axeSource = readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");

const [url, keyFile, pictures] = process.argv.slice(2);
const key = readFileSync(keyFile, "utf8").trim();
const PARTS = ["reference", "keys", "access", "audit", "traffic", "integrity"];

const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM || "/usr/bin/chromium",
  timeout: 120000,
  args: ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"],
});

function must(holds, what) {
  if (!holds) throw new Error(what);
}

function did(what) {
  console.log(`did: ${what}`);
}

// A page that fails the run for whatever the browser complains about, and for every request to anybody else.
async function opened(options) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, ...options });
  const page = await context.newPage();
  page.setDefaultTimeout(120000);
  const complaints = [];
  page.on("console", (message) => { if (["error", "warning"].includes(message.type()) && !/status of 4\d\d/.test(message.text())) complaints.push(message.text()); });
  page.on("pageerror", (error) => complaints.push(String(error)));
  page.on("request", (request) => { if (!request.url().startsWith(url) && !request.url().startsWith("data:")) complaints.push(`a request to ${request.url()}`); });
  await page.goto(`${url}/docs`);
  await page.getByRole("heading", { name: "Reference" }).waitFor();
  return { context, page, complaints };
}

async function logIn(page, text) {
  await page.getByLabel("API key or token").fill(text);
  await page.keyboard.press("Enter");
  await page.getByRole("button", { name: "Forget it" }).waitFor();
}

async function part(page, name) {
  await page.evaluate((wanted) => { location.hash = wanted; }, name);
  await page.locator(`nav a[href="#${name}"][aria-current=page]`).waitFor();
}

// The notice says what became of what was asked for.
const notice = (page, text) => page.locator("#notice", { hasText: text }).waitFor();
const confirm = (page, yes) => page.getByRole("dialog").getByRole("button", { name: yes }).click();

async function reference(page) {
  const operations = await page.locator("main details[id^=op-]").count();
  const described = await (await fetch(`${url}/openapi.json`)).json();
  const wanted = Object.values(described.paths).flatMap((item) => Object.keys(item).filter((name) => name !== "parameters")).length;
  must(operations === wanted, `${operations} operations are shown, ${wanted} described`);
  await page.getByLabel("Filter").fill("decryption_failed");
  must(await page.locator("#op-readHealth").isHidden(), "the filter hides nothing");
  await page.getByLabel("Filter").fill("");
  for (const one of await page.locator("main details[id^=op-] > summary").all()) {
    await one.click();
    await one.click();
  }
  did("the reference shows every operation");
  await page.locator("#op-hash > summary").click();
  await page.locator("#op-hash").getByRole("button", { name: "Send" }).click();
  await page.locator("#op-hash pre[aria-label=Reply]", { hasText: "LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=" }).waitFor();
  did("try it");
}

async function keys(page) {
  await part(page, "keys");
  await page.locator("#new-key").fill("console");
  await page.getByRole("button", { name: "Make the key" }).click();
  const card = page.getByRole("region", { name: "Key console", exact: true });
  await card.getByText("Version", { exact: true }).waitFor();
  did("create a key");
  await card.getByLabel("Text, or a ciphertext").fill("grüße");
  await card.getByRole("button", { name: "Encrypt" }).click();
  await card.getByLabel("Result").filter({ hasText: "quantonium:v1:" }).waitFor();
  did("encrypt");
  await card.getByRole("button", { name: "Take the result as text" }).click();
  await card.getByRole("button", { name: "Decrypt", exact: true }).click();
  await card.getByLabel("Result").filter({ hasText: /^grüße$/ }).waitFor();
  did("decrypt");
  await card.getByRole("button", { name: "Rotate" }).click();
  await notice(page, "has a new version");
  must(await card.locator("tbody tr").count() === 2, "a rotation makes a second version");
  did("rotate");
  await card.getByRole("row", { name: /^1 / }).getByRole("button", { name: "Disable" }).click();
  await notice(page, "Version 1 of console is disabled");
  await card.getByRole("row", { name: /^1 / }).getByText("disabled").waitFor();
  did("disable a version");
  await card.getByRole("button", { name: "Lift the guard" }).click();
  await notice(page, "may be deleted");
  await card.getByRole("row", { name: /^1 / }).getByRole("button", { name: "Destroy" }).click();
  await confirm(page, "Destroy it");
  await card.getByRole("row", { name: /^1 / }).getByText("destroyed").waitFor();
  did("destroy a version");
}

async function access(page) {
  await part(page, "access");
  await page.locator("#new-api-key").fill("reader");
  await page.getByLabel("Scopes, with blanks between them").fill("keys.read audit.read");
  await page.getByRole("button", { name: "Make the API key" }).click();
  const secret = await page.locator("#secret").inputValue();
  must(/^qk_[0-9a-f]{8}\./.test(secret), `an API key: ${secret.slice(0, 3)}`);
  did("make an API key");
  return secret;
}

async function revoke(page, secret) {
  await part(page, "access");
  const line = page.getByRole("row", { name: /^reader / });
  await line.getByRole("button", { name: "Revoke" }).click();
  await confirm(page, "Revoke it");
  await line.getByText("revoked").waitFor();
  const reply = await fetch(`${url}/api/auth/profile`, { headers: { "X-API-Key": secret } });
  must(reply.status === 401, `a revoked API key is answered ${reply.status}`);
  did("revoke an API key");
}

async function audit(page) {
  await part(page, "audit");
  await page.getByRole("button", { name: "Follow" }).click();
  await page.getByText("Following: new lines come on top.").waitFor();
  await fetch(`${url}/api/hash`, { method: "POST", headers: { "X-API-Key": key }, body: JSON.stringify({ input: "" }) });
  await page.locator("#log tbody tr", { hasText: "hash" }).first().waitFor();
  did("follow the audit log");
}

async function traffic(page) {
  await part(page, "traffic");
  const there = (await fetch(`${url}/api/metrics`, { headers: { "X-API-Key": key } })).status === 200;
  if (!there) {
    await page.getByRole("img", { name: /^Requests in a second: no data/ }).waitFor();
    did("a server without metrics is told from one that does nothing");
    return;
  }
  const line = page.getByRole("region", { name: "Requests in a second" }).locator("polyline").first();
  const drawn = async () => (await line.getAttribute("points")) || "";
  while ((await drawn()).split(" ").length < 2) await page.waitForTimeout(200);
  const before = await drawn();
  for (let at = 0; at < 200; at += 1) await fetch(`${url}/api/health`);
  while ((await drawn()) === before) await page.waitForTimeout(200);
  const told = await page.getByRole("img", { name: /^Time to answer/ }).getAttribute("aria-label");
  must(!told.includes("median no data"), told);
  did("the plots move");
}

async function integrity(page) {
  await part(page, "integrity");
  await page.getByRole("heading", { name: "Lock-down" }).waitFor();
  await page.getByRole("row", { name: /^seccomp done/ }).waitFor();
  await page.getByRole("row", { name: /^no new privileges true/ }).waitFor();
  did("the state of integrity");
}

async function axe(page, where) {
  // The page's policy lets nothing run but its script, so that the checker comes by the browser's own way.
  await page.evaluate(axeSource);
  const found = await page.evaluate(() => globalThis.axe.run(document, { resultTypes: ["violations"] }));
  const told = found.violations.filter((one) => ["serious", "critical", "moderate"].includes(one.impact));
  must(!told.length, `${where}: ${told.map((one) => `${one.id} (${one.impact}): ${one.nodes.slice(0, 3).map((node) => node.html.slice(0, 160)).join(" | ")}`).join("\n")}`);
}

async function lookedAt(width, scheme) {
  const { context, page, complaints } = await opened({ viewport: { width, height: 800 }, colorScheme: scheme });
  await logIn(page, key);
  for (const name of PARTS) {
    await part(page, name);
    if (name === "reference") await page.locator("#op-encrypt > summary").click();
    if (name === "keys") await page.getByRole("row", { name: /^console / }).getByRole("button", { name: "Open" }).click();
    if (name === "keys") await page.getByRole("region", { name: "Key console", exact: true }).waitFor();
    if (name === "access") await page.getByRole("row", { name: /^admin / }).waitFor();
    if (name === "audit") await page.getByRole("button", { name: "Follow" }).click();
    if (name === "audit") await page.getByText("Following: new lines come on top.").waitFor();
    if (name === "traffic") await page.waitForTimeout(pictures ? 9000 : 500);
    if (name === "integrity") await page.getByRole("heading", { name: "Lock-down" }).waitFor();
    must(!(await page.locator("body").innerText()).includes("[object "), `${name} shows an object as text`);
    const wide = await page.evaluate(() => document.documentElement.scrollWidth);
    must(wide <= width, `${name} at ${width} pixels is ${wide} wide`);
    await axe(page, `${name} at ${width} pixels, ${scheme}`);
    if (pictures) await page.screenshot({ path: join(pictures, `${name}-${width}-${scheme}.png`), fullPage: name !== "reference" });
  }
  must(!complaints.length, complaints.join("\n"));
  await context.close();
  did(`every part at ${width} pixels, ${scheme}: fits, and axe finds nothing`);
}

// By the keyboard alone: the skip link, the credential, the parts.
async function keyboard() {
  const { context, page } = await opened();
  await page.keyboard.press("Tab");
  must(await page.evaluate(() => document.activeElement.textContent) === "Skip to the content", "the first stop is the skip link");
  await page.getByLabel("API key or token").focus();
  await page.keyboard.type(key);
  await page.keyboard.press("Enter");
  await page.getByRole("button", { name: "Forget it" }).waitFor();
  await page.getByRole("link", { name: "Keys", exact: true }).focus();
  await page.keyboard.press("Enter");
  await page.getByRole("heading", { name: "Keys" }).waitFor();
  must(await page.evaluate(() => document.activeElement.id) === "main", "the focus goes to the content");
  await page.locator("#new-key").focus();
  await page.keyboard.type("by-keyboard");
  await page.keyboard.press("Enter");
  await page.getByRole("region", { name: "Key by-keyboard", exact: true }).waitFor();
  did("by the keyboard alone");
  await context.close();
}

async function secretsAreForgotten() {
  const { context, page } = await opened();
  await logIn(page, key);
  const kept = await page.evaluate(() => JSON.stringify([{ ...localStorage }, { ...sessionStorage }, document.cookie, document.documentElement.outerHTML]));
  must(!kept.includes(key), "the credential stands in the page or in its storage");
  await page.getByRole("button", { name: "Forget it" }).click();
  await part(page, "keys");
  await page.getByText("Type in an API key that has keys.read").waitFor();
  await page.getByLabel("API key or token").fill("qk_00000000.AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA");
  await page.keyboard.press("Enter");
  await page.locator("#who", { hasText: "401 credential_invalid" }).waitFor();
  did("a credential is kept in memory alone, and a wrong one is told");
  await context.close();
}

try {
  const { context, page, complaints } = await opened();
  await logIn(page, key);
  await reference(page);
  await keys(page);
  const secret = await access(page);
  const other = await opened();
  await logIn(other.page, secret);
  await part(other.page, "access");
  await other.page.getByText("The credential does not have auth.manage.").waitFor();
  await other.context.close();
  did("what a credential may not do is not offered");
  await revoke(page, secret);
  await audit(page);
  await traffic(page);
  await integrity(page);
  must(!complaints.length, complaints.join("\n"));
  await context.close();
  await keyboard();
  await secretsAreForgotten();
  for (const width of [1280, 360]) for (const scheme of ["dark", "light"]) await lookedAt(width, scheme);
} catch (error) {
  console.error(error);
  process.exitCode = 1;
} finally {
  await browser.close();
}
