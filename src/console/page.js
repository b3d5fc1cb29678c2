"use strict";
// The page for people: the reference made from /openapi.json, and a console for whoever has an API key.
// The credential lives in one variable of this closure. Nothing is stored, and nobody is asked but the own server.
(() => {
const IDLE_MILLIS = 15 * 60 * 1000;
const SAMPLE_MILLIS = 2000;
const SAMPLES = 150;
const LOG_LINES = 200;
const SVG = "http://www.w3.org/2000/svg";
const byId = (id) => document.getElementById(id);
const main = byId("main");

// Elements.

function make(tag, given, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(given || {})) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "value") element.value = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat(Infinity).filter((child) => child !== undefined && child !== null && child !== false));
  return element;
}

function draw(tag, given, ...children) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(given || {})) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

let lastId = 0;
const fresh = (stem) => `${stem}-${++lastId}`;

function field(label, control, wide) {
  if (!control.id) control.id = fresh("f");
  return make("div", { class: wide ? "wide" : null }, make("label", { for: control.id }, label), control);
}

function check(label, control) {
  if (!control.id) control.id = fresh("f");
  return make("div", { class: "check" }, control, make("label", { for: control.id }, label));
}

function button(text, act, kind) {
  const element = make("button", { type: "button", class: kind }, text);
  element.addEventListener("click", () => busy(element, act));
  return element;
}

async function busy(element, act) {
  element.disabled = true;
  try { await act(); } catch (error) { tell(error.message); } finally { element.disabled = false; }
}

function form(fields, text, act) {
  const submit = make("button", { type: "submit" }, text);
  const element = make("form", { autocomplete: "off" }, make("div", { class: "fields" }, fields), make("div", { class: "row" }, submit));
  element.addEventListener("submit", (event) => { event.preventDefault(); busy(submit, act); });
  return element;
}

// On a narrow screen each row stands as a block with the heads beside its cells, which would take away what a table is
// to who listens: so the roles are written out.
function labelled(row, heads) {
  row.setAttribute("role", "row");
  [...row.children].forEach((cell, at) => { cell.setAttribute("role", "cell"); cell.dataset.head = heads[at] || ""; });
  return row;
}

function table(caption, heads, rows, given) {
  for (const one of rows) labelled(one, heads);
  return make("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": caption, ...given },
    make("table", { role: "table" },
      make("thead", { role: "rowgroup" }, make("tr", { role: "row" }, heads.map((head) => make("th", { scope: "col", role: "columnheader" }, head)))),
      make("tbody", { role: "rowgroup" }, rows)));
}

const row = (...cells) => make("tr", {}, cells.map((cell) => cell instanceof HTMLTableCellElement ? cell : make("td", {}, cell)));
const tight = (...content) => make("td", { class: "tight" }, content);
const badge = (text, kind) => make("span", { class: `badge ${kind}` }, text);
const code = (text) => make("code", {}, text);
const select = (names, given) => make("select", given, names.map((name) => make("option", { value: name }, name)));
const time = (text) => text ? make("time", { datetime: text }, text.replace("T", " ").replace(/\.\d+Z$|Z$/, "")) : "";

let noticeTimer;
function tell(text) {
  const notice = byId("notice");
  notice.textContent = text;
  notice.hidden = false;
  clearTimeout(noticeTimer);
  noticeTimer = setTimeout(() => { notice.hidden = true; }, 9000);
}

function ask(title, text, yes) {
  const dialog = byId("ask");
  byId("ask-title").textContent = title;
  byId("ask-text").textContent = text;
  byId("ask-yes").textContent = yes;
  dialog.returnValue = "no";
  dialog.showModal();
  return new Promise((resolve) => dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true }));
}

// The few marks of the description's texts: paragraphs, lists, `code`, **bold**.
function prose(text) {
  const inline = (line) => line.split(/(`[^`]+`|\*\*[^*]+\*\*)/).map((piece) => {
    if (piece.startsWith("`")) return code(piece.slice(1, -1));
    if (piece.startsWith("**")) return make("strong", {}, inline(piece.slice(2, -2)));
    return piece;
  });
  return (text || "").trim().split(/\n\s*\n/).map((block) => {
    const lines = block.split("\n");
    if (lines.every((line) => line.startsWith("- "))) return make("ul", { class: "plainlist" }, lines.map((line) => make("li", {}, inline(line.slice(2)))));
    return make("p", {}, inline(lines.join(" ")));
  });
}

// Requests.

let credential = "";
let idleTimer;
const scopes = { all: [] };

class Refused extends Error {
  constructor(status, problem) {
    super(problem && problem.code ? `${status} ${problem.code}: ${problem.detail}` : `The server answered ${status}.`);
    this.status = status;
    this.problem = problem;
  }
}

function fields(more) {
  const made = new Headers(more);
  if (credential.startsWith("qk_")) made.set("X-API-Key", credential);
  else if (credential) made.set("Authorization", `Bearer ${credential}`);
  return made;
}

function send(method, path, options = {}) {
  watchIdle();
  return fetch(path, { method, cache: "no-store", credentials: "same-origin", redirect: "error", referrerPolicy: "no-referrer", ...options, headers: fields(options.headers) });
}

async function call(method, path, body) {
  const options = body === undefined ? {} : { body: JSON.stringify(body), headers: { "Content-Type": "application/json" } };
  let reply;
  try { reply = await send(method, path, options); } catch { throw new Error("The server does not answer."); }
  const value = await reply.json().catch(() => null);
  if (!reply.ok) throw new Refused(reply.status, value);
  return value;
}

const segment = encodeURIComponent;
const encode = (text) => btoa(String.fromCharCode(...new TextEncoder().encode(text)));
function decode(text) {
  const bytes = Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
  try { return new TextDecoder("utf-8", { fatal: true }).decode(bytes); } catch { return `base64: ${text}`; }
}

// Who asks.

function watchIdle() {
  clearTimeout(idleTimer);
  if (credential) idleTimer = setTimeout(() => forget("The credential was forgotten after 15 minutes without use."), IDLE_MILLIS);
}

function forget(text) {
  credential = "";
  scopes.all = [];
  byId("key").value = "";
  byId("forget").hidden = true;
  byId("who").textContent = text;
  show();
}

async function useKey(event) {
  event.preventDefault();
  const input = byId("key");
  credential = input.value.trim();
  input.value = "";
  if (!credential) { forget("No credential."); return; }
  try {
    const profile = await call("GET", "/api/auth/profile");
    scopes.all = profile.scopes;
    byId("who").textContent = `${profile.name} (${profile.id}), recognised by ${profile.recognised_by.replace("_", " ")}: ${profile.scopes.join(", ")}`;
    byId("forget").hidden = false;
    show();
  } catch (error) {
    forget(error.message);
  }
}

const may = (permission) => scopes.all.some((scope) => scope === "admin" || scope.split(":")[0] === permission);

function needs(permission) {
  if (may(permission)) return null;
  const text = credential ? `The credential does not have ${permission}.` : `Type in an API key that has ${permission} to see this.`;
  return make("p", { class: "quiet" }, text);
}

// The reference.

let description;
const resolved = (value) => value && value.$ref ? value.$ref.slice(2).split("/").reduce((at, name) => at[name], description) : value;

function shape(schema, depth = 0) {
  const name = schema && schema.$ref ? schema.$ref.split("/").pop() : "";
  const full = resolved(schema) || {};
  const choices = full.oneOf || full.anyOf;
  if (choices) return choices.map((one) => shape(one, depth)).join(" or ");
  if (full.const !== undefined) return JSON.stringify(full.const);
  if (full.enum) return full.enum.map((one) => JSON.stringify(one)).join(" | ");
  const type = Array.isArray(full.type) ? full.type.join(" or ") : full.type || "any";
  if (type.startsWith("array")) return `array of ${shape(full.items, depth + 1)}`;
  const bounds = [];
  if (full.minimum !== undefined || full.maximum !== undefined) bounds.push(`${full.minimum ?? ""}–${full.maximum ?? ""}`);
  if (full.maxLength) bounds.push(`at most ${full.maxLength} characters`);
  if (full.format) bounds.push(full.format);
  if (full.contentEncoding) bounds.push(full.contentEncoding);
  if (full.default !== undefined) bounds.push(`default ${JSON.stringify(full.default)}`);
  return [name && depth > 0 && type === "object" ? name : type, bounds.length ? `(${bounds.join(", ")})` : ""].join(" ").trim();
}

function members(schema) {
  const full = resolved(schema) || {};
  const choices = full.oneOf || full.anyOf;
  if (choices) return choices.map((one, at) => [at > 0 ? make("p", { class: "small quiet" }, "or") : null, members(one)]);
  if (full.type === "array" && resolved(full.items)?.properties) return [make("p", { class: "small" }, "An array of objects:"), members(full.items)];
  if (!full.properties) return prose([shape(full), full.description].filter(Boolean).join(": "));
  const required = new Set(full.required);
  const rows = Object.entries(full.properties).map(([name, given]) => {
    const inner = resolved(given);
    const nested = inner.type === "array" ? resolved(inner.items) : inner;
    return row(tight(code(name), required.has(name) ? make("span", { class: "small" }, " required") : ""),
      [make("span", { class: "small quiet" }, shape(given)), prose(given.description || inner.description),
        nested && nested.properties ? make("details", {}, make("summary", {}, "Members"), make("div", { class: "inner" }, members(nested))) : null]);
  });
  return [full.description ? prose(full.description) : null, table("Members", ["Member", "What it is"], rows)];
}

function parametersOf(item, operation) {
  return [...(item.parameters || []), ...(operation.parameters || [])].map(resolved);
}

function examplesOf(media) {
  return Object.entries((media && media.examples) || {});
}

const asText = (value) => typeof value === "string" ? value : JSON.stringify(value, null, 2);

function operationView(path, method, item, operation) {
  const inner = make("div", { class: "inner" });
  const view = make("details", { id: `op-${operation.operationId}` },
    make("summary", {}, make("span", { class: `method ${method.toUpperCase()}` }, method.toUpperCase()), make("span", { class: "path" }, path), make("span", {}, operation.summary)),
    inner);
  view.addEventListener("toggle", () => {
    if (view.open && !inner.childElementCount) inner.append(...operationBody(path, method, item, operation).flat(Infinity).filter(Boolean));
  });
  return view;
}

function operationBody(path, method, item, operation) {
  const permission = operation["x-permission"];
  const who = { none: "Everybody may call it.", any: "Whoever is recognised may call it." }[permission];
  const parameters = parametersOf(item, operation);
  const body = operation.requestBody;
  return [
    prose(operation.description),
    who ? make("p", {}, who) : make("p", {}, "Needs ", code(permission), "."),
    parameters.length ? [make("h3", {}, "Parameters"), table("Parameters", ["Name", "What it is"], parameters.map((one) =>
      row(tight(code(one.name), make("span", { class: "small quiet" }, ` ${one.in}${one.required ? ", required" : ""}`)), [make("span", { class: "small quiet" }, shape(one.schema)), prose(one.description)])))] : null,
    body ? [make("h3", {}, "Body"), Object.entries(body.content).map(([type, media]) => [
      make("h4", {}, code(type)), members(media.schema),
      examplesOf(media).map(([, example]) => [make("p", { class: "small" }, example.summary || "Example"), make("pre", { tabindex: "0" }, asText(example.value))]),
    ])] : null,
    make("h3", {}, "Replies"),
    Object.entries(operation.responses).map(([status, given]) => {
      const reply = resolved(given);
      const good = status < "400";
      return make("details", {},
        make("summary", {}, badge(status, good ? "good" : "off"), make("span", {}, good ? reply.description : (reply.description.match(/`(\w+)`/g) || []).slice(0, 4).join(", ").replaceAll("`", "") || reply.description.slice(0, 60))),
        make("div", { class: "inner" }, good ? null : prose(reply.description),
          Object.entries(reply.content || {}).map(([type, media]) => type === "application/problem+json" ? null : [
            make("h4", {}, code(type)), members(media.schema),
            examplesOf(media).map(([, example]) => make("pre", { tabindex: "0" }, asText(example.value))),
          ]),
          make("p", { class: "small" }, "Fields: ", Object.keys(reply.headers || {}).join(", "))));
    }),
    make("h3", {}, "Try it"), tryView(path, method, parameters, operation),
  ];
}

function tryView(path, method, parameters, operation) {
  const inputs = parameters.map((one) => {
    const values = resolved(one.schema).enum;
    const control = values ? select(["", ...values]) : make("input", { spellcheck: "false", autocapitalize: "off", value: one.in === "path" ? one.example || "" : "" });
    return { one, control };
  });
  const types = Object.keys(operation.requestBody?.content || {});
  const type = types.length > 1 ? select(types) : null;
  const first = (kind) => { const [found] = examplesOf(operation.requestBody.content[kind]); return found ? asText(found[1].value) : ""; };
  const text = types.length ? make("textarea", { spellcheck: "false", value: first(types[0]) }) : null;
  if (type) type.addEventListener("change", () => { text.value = first(type.value); });
  const result = make("div", { role: "status" });
  const act = async () => {
    let target = path;
    const query = new URLSearchParams();
    const headers = {};
    for (const { one, control } of inputs) {
      if (one.in === "path") target = target.replace(`{${one.name}}`, segment(control.value));
      else if (control.value && one.in === "query") query.set(one.name, control.value);
      else if (control.value) headers[one.name] = control.value;
    }
    if (query.size) target += `?${query}`;
    if (text && (text.value || operation.requestBody.required)) headers["Content-Type"] = type ? type.value : types[0];
    const body = text && text.value ? text.value : undefined;
    result.replaceChildren(make("p", {}, "asking …"));
    const stopper = new AbortController();
    const begun = performance.now();
    let reply;
    try { reply = await send(method.toUpperCase(), target, { headers, body, signal: stopper.signal }); } catch { result.replaceChildren(make("p", {}, "The server does not answer.")); return; }
    const kind = reply.headers.get("Content-Type") || "";
    let shown;
    if (kind.startsWith("text/event-stream")) { stopper.abort(); shown = "A stream: see Audit for one that goes on."; }
    else if (kind.includes("json")) { const all = await reply.text(); try { shown = JSON.stringify(JSON.parse(all), null, 2); } catch { shown = all; } }
    else if (kind.startsWith("text/")) shown = (await reply.text()).slice(0, 20000);
    else { const bytes = new Uint8Array(await reply.arrayBuffer()); shown = `${bytes.length} bytes: ${[...bytes.slice(0, 256)].map((byte) => byte.toString(16).padStart(2, "0")).join("")}${bytes.length > 256 ? " …" : ""}`; }
    const took = Math.round(performance.now() - begun);
    result.replaceChildren(
      make("p", {}, badge(String(reply.status), reply.ok ? "good" : "bad"), ` in ${took} ms `, make("span", { class: "small quiet" }, kind)),
      make("pre", { tabindex: "0", "aria-label": "Reply" }, shown || "(empty)"),
      make("details", {}, make("summary", {}, "Fields of the reply"), make("div", { class: "inner" }, make("pre", {}, [...reply.headers].map(([name, value]) => `${name}: ${value}`).join("\n")))));
  };
  const controls = [
    inputs.map(({ one, control }) => field(`${one.name} (${one.in})`, control)),
    type ? field("Content type", type) : null,
    text ? field("Body", text, true) : null,
  ].flat().filter(Boolean);
  return [credential || operation["x-permission"] === "none" ? null : make("p", { class: "small quiet" }, "Type in an API key above first."), form(controls, "Send", act), result];
}

function referenceView() {
  const filter = make("input", { type: "search", placeholder: "encrypt, /api/keys, decryption_failed …" });
  const list = make("div");
  const all = Object.entries(description.paths).flatMap(([path, item]) => Object.entries(item).filter(([name]) => name !== "parameters").map(([method, operation]) => {
    const words = [path, method, operation.operationId, operation.summary, operation.description, operation["x-permission"], ...Object.values(operation.responses).map((reply) => resolved(reply).description)].join(" ").toLowerCase();
    return { tag: operation.tags[0], words, view: operationView(path, method, item, operation) };
  }));
  const problems = make("details", {}, make("summary", {}, "Codes of problems"), make("div", { class: "inner" }, table("Codes of problems", ["Code", "Status", "When"], Object.entries(description["x-problems"]).map(([name, one]) => row(code(name), String(one.status), prose(one.when))))));
  const sections = description.tags.map((tag) => ({ section: make("section", { "aria-label": tag.name }, make("h2", {}, tag.name), make("p", { class: "quiet" }, tag.description), all.filter((one) => one.tag === tag.name).map((one) => one.view)), tag }));
  filter.addEventListener("input", () => {
    const wanted = filter.value.trim().toLowerCase();
    for (const one of all) one.view.hidden = !one.words.includes(wanted);
    for (const { section, tag } of sections) section.hidden = !all.some((one) => one.tag === tag.name && !one.view.hidden);
  });
  list.append(...sections.map((one) => one.section));
  return [make("h2", {}, "Reference"), make("p", {}, "Made from ", make("a", { href: "/openapi.json" }, "/openapi.json"), `, OpenAPI ${description.openapi}.`),
    make("details", {}, make("summary", {}, "What holds for every request"), make("div", { class: "inner" }, prose(description.info.description))), problems,
    make("div", { class: "fields" }, field("Filter", filter)), list];
}

// Keys.

function keysView() {
  const missing = needs("keys.read");
  if (missing) return [make("h2", {}, "Keys"), missing];
  const list = make("div");
  const detail = make("div");
  let pages = [""];
  let shown = "";
  const refresh = async () => {
    const after = pages[pages.length - 1];
    const deleted = gone.checked ? "&deleted=true" : "";
    const page = await call("GET", `/api/keys?limit=50${deleted}${after ? `&after=${segment(after)}` : ""}`);
    list.replaceChildren(page.keys.length ? table("Keys", ["Name", "Type", "Latest version", ""], page.keys.map((key) =>
      row(make("td", { class: "mono" }, key.name), key.type, String(key.latest_version), tight(button("Open", () => open(key.name), "plain"))))) : make("p", { class: "quiet" }, "None."),
      make("div", { class: "row" },
        pages.length > 1 ? button("First page", () => { pages = [""]; return refresh(); }, "plain") : "",
        page.next ? button("Next page", () => { pages.push(page.next); return refresh(); }, "plain") : "",
        button("Refresh", refresh, "plain")));
  };
  const open = async (name, made) => {
    shown = name;
    const key = made || await call("GET", `/api/keys/${segment(name)}`);
    const full = key.versions ? key : await call("GET", `/api/keys/${segment(name)}`);
    detail.replaceChildren(keyCard(full, open, refresh));
    detail.querySelector("h3").focus();
  };
  const gone = make("input", { type: "checkbox", id: fresh("gone") });
  gone.addEventListener("change", () => { pages = [""]; refresh().catch((error) => tell(error.message)); });
  const name = make("input", { required: true, maxlength: "128", pattern: "[A-Za-z0-9][A-Za-z0-9._\\-]*", spellcheck: "false", autocapitalize: "off", id: "new-key" });
  const type = select(["xchacha20-poly1305", "chacha20-poly1305", "hmac-sha256", "hmac-sha384", "hmac-sha512"]);
  const derived = make("input", { type: "checkbox" });
  const exportable = make("input", { type: "checkbox" });
  const create = may("keys.manage") ? make("section", { class: "card", "aria-label": "Make a key" }, make("h3", {}, "Make a key"), form([
    field("Name", name), field("Type", type), check("Derived: each use names a context", derived), check("Exportable: the material may be given out", exportable),
  ], "Make the key", async () => {
    const body = { name: name.value, type: type.value };
    if (derived.checked) body.derived = true;
    if (exportable.checked) body.exportable = true;
    const key = await call("POST", "/api/keys", body);
    name.value = "";
    await refresh();
    await open(key.name, key);
  })) : "";
  busy(make("button"), refresh);
  return [make("h2", {}, "Keys"), create, check("Show deleted keys instead", gone), list, detail];
}

const STATES = { enabled: "good", "decrypt-only": "warn", disabled: "off", destroyed: "bad" };

function keyCard(key, open, refresh) {
  const at = `/api/keys/${segment(key.name)}`;
  const act = async (method, path, body, text) => { const changed = await call(method, path, body); await refresh(); await open(key.name, changed); tell(text); };
  const state = (version, wanted) => act("PATCH", at, { versions: [{ version, state: wanted }] }, `Version ${version} of ${key.name} is ${wanted}.`);
  const destroy = async (version) => {
    if (await ask(`Destroy version ${version} of ${key.name}?`, "What was sealed with it can never be opened again. This cannot be taken back.", "Destroy it")) await state(version, "destroyed");
  };
  const manage = may("keys.manage") && !key.deleted_at;
  const rows = [...key.versions].reverse().map((one) => row(String(one.version), badge(one.state, STATES[one.state]), time(one.created_at), [String(one.uses), one.last_used_at ? [", last ", time(one.last_used_at)] : ""],
    manage && one.state !== "destroyed" ? make("td", {},
      one.state === "enabled" ? "" : button("Enable", () => state(one.version, "enabled"), "plain"),
      one.state === "decrypt-only" ? "" : button("Decrypt only", () => state(one.version, "decrypt-only"), "plain"),
      one.state === "disabled" ? "" : button("Disable", () => state(one.version, "disabled"), "plain"),
      key.deletion_allowed ? button("Destroy", () => destroy(one.version), "danger") : "") : ""));
  const title = make("h3", { tabindex: "-1" }, "Key ", make("span", { class: "mono" }, key.name));
  const flags = ["derived", "exportable", "plaintext_backup"].filter((flag) => key[flag]);
  const actions = make("div", { class: "row" });
  if (manage) {
    actions.append(
      button("Rotate", () => act("POST", `${at}/rotate`, undefined, `${key.name} has a new version.`)),
      key.deletion_allowed ? button("Guard it", () => act("PATCH", at, { deletion_allowed: false }, `${key.name} is guarded.`), "plain")
        : button("Lift the guard", () => act("PATCH", at, { deletion_allowed: true }, `${key.name} may be deleted.`), "plain"));
    if (key.deletion_allowed) actions.append(button("Delete", async () => {
      if (await ask(`Delete ${key.name}?`, "It can be brought back for a while, then it is destroyed with all that it sealed.", "Delete it")) await act("DELETE", at, undefined, `${key.name} is deleted.`);
    }, "danger"));
  }
  if (key.deleted_at && may("keys.manage")) actions.append(button("Bring it back", () => act("POST", `${at}/undelete`, undefined, `${key.name} is back.`)));
  return make("section", { class: "card", "aria-label": `Key ${key.name}` }, title,
    make("p", { class: "small quiet" }, `${key.type}${flags.length ? `, ${flags.join(", ")}` : ""}; made `, time(key.created_at), key.auto_rotate_seconds ? `; rotates every ${key.auto_rotate_seconds} s` : "", key.deletion_allowed ? "; may be deleted" : "; guarded"),
    key.deleted_at ? make("p", { class: "bad-text" }, "Deleted ", time(key.deleted_at), "; destroyed ", time(key.purge_at), ".") : "",
    actions, table(`Versions of ${key.name}`, ["Version", "State", "Made", "Uses", "Change"], rows),
    key.deleted_at ? "" : tryKey(key));
}

function tryKey(key) {
  const mac = key.type.startsWith("hmac");
  const text = make("textarea", { spellcheck: "false", id: fresh("try") });
  const context = key.derived ? make("input", { value: "example" }) : null;
  const result = make("pre", { "aria-label": "Result", role: "status", tabindex: "0" }, " ");
  const more = () => context ? { context: encode(context.value) } : {};
  const put = async (act) => { result.textContent = await act(); };
  const run = (text, permission, act) => may(permission) ? button(text, () => put(act), "plain") : "";
  return make("div", {}, make("h3", {}, "Use it"), field(mac ? "Text to sign" : "Text, or a ciphertext", text), context ? field("Context", context) : "",
    make("div", { class: "row" },
      mac ? "" : run("Encrypt", "encrypt", async () => (await call("POST", "/api/encrypt", { key: key.name, plaintext: encode(text.value), ...more() })).ciphertext),
      mac ? "" : run("Decrypt", "decrypt", async () => decode((await call("POST", "/api/decrypt", { key: key.name, ciphertext: text.value.trim(), ...more() })).plaintext)),
      run("Sign", "sign", async () => (await call("POST", "/api/sign", { key: key.name, input: encode(text.value) })).signature),
      button("Take the result as text", () => { text.value = result.textContent.trim(); }, "plain")), result);
}

// API keys.

function accessView() {
  const missing = needs("auth.manage");
  if (missing) return [make("h2", {}, "API keys"), missing];
  const list = make("div");
  const secret = make("div", { role: "status" });
  const refresh = async () => {
    const page = await call("GET", "/api/auth/keys?limit=1000");
    list.replaceChildren(table("API keys", ["Name", "State", "Scopes", "Made, ends", "Uses", "Change"], page.keys.map(apiKeyRow)));
    if (page.next) list.append(make("p", { class: "quiet" }, "There are more than 1,000; only these are shown."));
  };
  const tellSecret = (made) => {
    const text = make("input", { readonly: true, value: made.api_key, class: "mono", id: "secret" });
    secret.replaceChildren(make("div", { class: "secret" }, field(`The API key ${made.name}. It is shown this once: keep it, the server does not.`, text),
      make("div", { class: "row" }, button("Copy", async () => { await navigator.clipboard.writeText(made.api_key); tell("Copied."); }), button("Take it away", () => secret.replaceChildren(), "plain"))));
  };
  const act = async (method, path, body, text) => { const made = await call(method, path, body); if (made.api_key) tellSecret(made); await refresh(); tell(text); };
  const apiKeyRow = (key) => {
    const at = `/api/auth/keys/${key.id}`;
    const kind = { active: "good", expired: "warn", revoked: "bad" }[key.state];
    return row([key.name, make("div", { class: "small mono" }, key.id)], badge(key.state, kind), make("td", { class: "mono" }, key.scopes.join(" ")),
      [time(key.created_at), key.expires_at ? [", ", time(key.expires_at)] : ""], String(key.uses),
      make("td", {},
        key.state === "active" ? button("Rotate", async () => {
          if (await ask(`Rotate ${key.name}?`, "It gets another secret. The old one works for another day; its tokens end at once.", "Rotate it")) await act("POST", `${at}/rotate`, {}, `${key.name} has another secret.`);
        }, "plain") : "",
        key.state !== "revoked" ? button("Revoke", async () => {
          if (await ask(`Revoke ${key.name}?`, "It and its tokens end at once, for good.", "Revoke it")) await act("POST", `${at}/revoke`, undefined, `${key.name} is revoked.`);
        }, "danger") : "",
        key.state !== "active" ? button("Forget", () => act("DELETE", at, undefined, `${key.name} is forgotten.`), "danger") : ""));
  };
  const name = make("input", { required: true, maxlength: "64", id: "new-api-key" });
  const allowed = make("input", { required: true, spellcheck: "false", autocapitalize: "off", placeholder: "encrypt:orders-* hash" });
  const days = make("input", { type: "number", min: "1", max: "36500", placeholder: "never" });
  busy(make("button"), refresh);
  return [make("h2", {}, "API keys"),
    make("section", { class: "card", "aria-label": "Make an API key" }, make("h3", {}, "Make an API key"), form([field("Name", name), field("Scopes, with blanks between them", allowed), field("Ends after days", days)], "Make the API key", async () => {
      const body = { name: name.value, scopes: allowed.value.split(/[\s,]+/).filter(Boolean) };
      if (days.value) body.expires_in = Number(days.value) * 86400;
      await act("POST", "/api/auth/keys", body, `${body.name} was made.`);
      name.value = "";
    })), secret, list];
}

// Audit.

let leave = () => {};

function auditView() {
  const missing = needs("audit.read");
  if (missing) return [make("h2", {}, "Audit"), missing];
  const HEADS = ["Time (UTC)", "Event", "Outcome", "Status", "API key", "About", "Took"];
  const lines = table("Audit lines", HEADS, [], { id: "log" });
  const body = lines.querySelector("tbody");
  const state = make("p", { role: "status", class: "small quiet" }, "Not following.");
  const event = make("input", { placeholder: "key.*", spellcheck: "false", autocapitalize: "off" });
  const principal = make("input", { placeholder: "1f2e3d4c", spellcheck: "false", autocapitalize: "off" });
  const outcome = select(["", "success", "failure", "attempt", "begin"]);
  let stopper;
  const query = () => {
    const made = new URLSearchParams();
    for (const [name, control] of [["event", event], ["principal", principal], ["outcome", outcome]]) if (control.value.trim()) made.set(name, control.value.trim());
    return made;
  };
  const put = (line, last) => {
    const bad = line.outcome === "failure";
    const made = row(tight(time(line.ts)), line.event, make("td", {}, make("span", { class: bad ? "bad-text" : "" }, line.outcome), line.code ? [" ", code(line.code)] : ""), line.status ? String(line.status) : "", make("td", { class: "mono" }, line.principal || ""), make("td", { class: "mono" }, line.key || line.api_key || ""), line.elapsed_us === undefined ? "" : `${line.elapsed_us} µs`);
    labelled(made, HEADS);
    if (last) body.append(made); else body.prepend(made);
    while (body.childElementCount > LOG_LINES) body.lastElementChild.remove();
  };
  const stop = () => { if (stopper) stopper.abort(); stopper = undefined; follow.textContent = "Follow"; state.textContent = "Not following."; };
  const start = async () => {
    const mine = new AbortController();
    stopper = mine;
    follow.textContent = "Stop";
    let place = "";
    try {
      const made = query();
      made.set("limit", "50");
      const page = await call("GET", `/api/audit?${made}`);
      body.replaceChildren();
      for (const line of page.events) put(line, true);
      place = page.newest;
      while (stopper === mine) {
        const asked = query();
        const reply = await send("GET", `/api/audit/stream?${asked}`, { signal: mine.signal, headers: { "Last-Event-ID": place } });
        if (!reply.ok) throw new Refused(reply.status, await reply.json().catch(() => null));
        state.textContent = "Following: new lines come on top.";
        place = await events(reply, place, put, state);
        watchIdle();
        await new Promise((resolve) => setTimeout(resolve, 2000));
      }
    } catch (error) {
      if (stopper !== mine) return;
      stop();
      state.textContent = error.name === "AbortError" ? "Not following." : `Stopped: ${error.message}`;
    }
  };
  const follow = make("button", { type: "button", id: "follow" }, "Follow");
  follow.addEventListener("click", () => { if (stopper) stop(); else start(); });
  leave = stop;
  return [make("h2", {}, "Audit"), make("div", { class: "fields" }, field("Event", event), field("API key", principal), field("Outcome", outcome)), make("div", { class: "row" }, follow), state,
    lines];
}

// Reads server-sent events until the stream ends; gives back the place of the last one.
async function events(reply, place, put, state) {
  const reader = reply.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) { state.textContent = "The stream ended; asking again …"; return place; }
    rest += value;
    const blocks = rest.split("\n\n");
    rest = blocks.pop();
    for (const block of blocks) {
      const found = {};
      for (const line of block.split("\n")) { const at = line.indexOf(": "); if (at > 0) found[line.slice(0, at)] = line.slice(at + 2); }
      if (found.id) place = found.id;
      if (found.event === "audit") { watchIdle(); put(JSON.parse(found.data)); }
      if (found.event === "gap") state.textContent = "Some lines were missed: read the files.";
    }
  }
}

// Traffic.

function parseMetrics(text) {
  const found = new Map();
  for (const line of text.split("\n")) {
    const match = /^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? ([^ #]+)/.exec(line);
    if (!match) continue;
    const labels = {};
    for (const [, name, value] of (match[2] || "").matchAll(/(\w+)="((?:[^"\\]|\\.)*)"/g)) labels[name] = value;
    if (!found.has(match[1])) found.set(match[1], []);
    found.get(match[1]).push({ labels, value: Number(match[3].replace("Inf", "Infinity")) });
  }
  return found;
}

function sum(metrics, name, fits = () => true) {
  const all = metrics.get(name);
  return all ? all.filter((one) => fits(one.labels)).reduce((total, one) => total + one.value, 0) : undefined;
}

// The count of each bucket of a histogram, all routes together but those that last as long as their client likes, by
// upper bound.
function buckets(metrics, name) {
  const made = new Map();
  for (const { labels, value } of metrics.get(`${name}_bucket`) || []) {
    if ((labels.route || "").includes("/stream")) continue;
    const bound = Number(labels.le.replace("Inf", "Infinity"));
    made.set(bound, (made.get(bound) || 0) + value);
  }
  return [...made].sort((one, other) => one[0] - other[0]);
}

function quantile(before, after, part) {
  const old = new Map(before);
  const grown = after.map(([bound, count]) => [bound, count - (old.get(bound) || 0)]);
  const total = grown.length ? grown[grown.length - 1][1] : 0;
  if (!(total > 0)) return undefined;
  const wanted = total * part;
  let [low, count] = [0, 0];
  for (const [bound, until] of grown) {
    if (until >= wanted) {
      if (bound === Infinity) return low;
      return low + (bound - low) * (until > count ? (wanted - count) / (until - count) : 1);
    }
    [low, count] = [bound, until];
  }
  return low;
}

const human = (value) => {
  if (value === undefined) return "no data";
  for (const [size, unit] of [[1e9, "G"], [1e6, "M"], [1e3, "k"]]) if (Math.abs(value) >= size) return `${(value / size).toPrecision(3)} ${unit}`;
  if (value === 0) return "0 ";
  return `${Number(value.toPrecision(3))} `;
};

function plot(title, unit, names) {
  const data = names.map(() => []);
  const [wide, high, left, top, bottom] = [innerWidth < 640 ? 330 : 600, 190, 68, 12, 24];
  const lines = names.map((_, at) => draw("polyline", { class: `s${at}`, points: "" }));
  const marks = [0, .5, 1].map((part) => ({ part, text: draw("text", { x: left - 6, y: top + (high - top - bottom) * (1 - part) + 4, "text-anchor": "end" }) }));
  const rules = marks.map(({ part }) => draw("line", { class: "rule", x1: left, x2: wide - 8, y1: top + (high - top - bottom) * (1 - part), y2: top + (high - top - bottom) * (1 - part) }));
  const none = draw("text", { x: wide / 2, y: high / 2, "text-anchor": "middle" });
  none.textContent = "no data";
  const span = draw("text", { x: left, y: high - 6 });
  span.textContent = `the last ${SAMPLES * SAMPLE_MILLIS / 60000} minutes`;
  const figure = draw("svg", { class: "plot", viewBox: `0 0 ${wide} ${high}`, role: "img", "aria-label": `${title}: no data` }, ...rules, ...marks.map((mark) => mark.text), ...lines, none, span);
  const values = names.map(() => make("span", {}, "no data"));
  const legend = make("ul", { class: "legend" }, names.map((name, at) => make("li", {}, draw("svg", { viewBox: "0 0 26 10", "aria-hidden": "true" }, draw("line", { class: `s${at}`, x1: 0, x2: 26, y1: 5, y2: 5 })), `${name}: `, values[at])));
  const view = make("section", { class: "card", "aria-label": title }, make("h3", {}, title), figure, legend);
  const add = (given) => {
    given.forEach((value, at) => { data[at].push(value); if (data[at].length > SAMPLES) data[at].shift(); });
    const known = data.flat().filter((value) => value !== undefined);
    none.setAttribute("visibility", known.length ? "hidden" : "visible");
    const most = Math.max(...known, 0) || 1;
    marks.forEach(({ part, text }) => { text.textContent = known.length ? `${human(most * part)}${unit}` : ""; });
    lines.forEach((line, at) => {
      const first = SAMPLES - data[at].length;
      line.setAttribute("points", data[at].map((value, place) => value === undefined ? "" : `${(left + (wide - 8 - left) * (first + place) / (SAMPLES - 1)).toFixed(1)},${(top + (high - top - bottom) * (1 - value / most)).toFixed(1)}`).filter(Boolean).join(" "));
      const last = given[at];
      values[at].textContent = last === undefined ? "no data" : `${human(last)}${unit}`;
    });
    figure.setAttribute("aria-label", `${title}: ${names.map((name, at) => `${name} ${values[at].textContent}`).join(", ")}`);
  };
  return { view, add };
}

function trafficView() {
  const missing = needs("metrics.read");
  if (missing) return [make("h2", {}, "Traffic"), missing];
  const requests = plot("Requests in a second", "/s", ["good", "refused (4xx)", "failed (5xx)"]);
  const latency = plot("Time to answer", "ms", ["median", "99 of 100"]);
  const bytes = plot("Bytes in a second", "B/s", ["received", "sent"]);
  const connections = plot("Connections", "", ["open"]);
  const memory = plot("Memory of requests", "B", ["leased"]);
  const refusals = plot("Turned away in a second", "/s", ["over a limit", "not recognised"]);
  const state = make("p", { role: "status", class: "small quiet" }, "asking …");
  let before;
  let ended = false;
  let timer;
  const sample = async () => {
    try {
      const reply = await send("GET", "/api/metrics", { headers: { Accept: "text/plain" } });
      if (!reply.ok) throw new Refused(reply.status, await reply.json().catch(() => null));
      const metrics = parseMetrics(await reply.text());
      const now = performance.now();
      const seconds = before ? (now - before.now) / 1000 : undefined;
      const rate = (name, fits) => {
        const [old, fresh] = [before && sum(before.metrics, name, fits), sum(metrics, name, fits)];
        return old === undefined || fresh === undefined ? undefined : Math.max(0, fresh - old) / seconds;
      };
      const ofClass = (...firsts) => rate("quantonium_http_requests_total", (labels) => firsts.includes((labels.status || labels.code || "")[0]));
      const name = "quantonium_http_request_duration_seconds";
      const part = (which) => before ? quantile(buckets(before.metrics, name), buckets(metrics, name), which) : undefined;
      requests.add([ofClass("1", "2", "3"), ofClass("4"), ofClass("5")]);
      latency.add([part(.5), part(.99)].map((seconds) => seconds === undefined ? undefined : seconds * 1000));
      bytes.add([rate("quantonium_received_bytes_total"), rate("quantonium_sent_bytes_total")]);
      connections.add([sum(metrics, "quantonium_connections")]);
      memory.add([sum(metrics, "quantonium_memory_leased_bytes")]);
      refusals.add([rate("quantonium_rate_limited_total"), rate("quantonium_auth_failures_total")]);
      before = { metrics, now };
      state.textContent = `Asked every ${SAMPLE_MILLIS / 1000} seconds; this page's own requests are in it.`;
    } catch (error) {
      state.textContent = error.message;
    }
    if (!ended) timer = setTimeout(sample, SAMPLE_MILLIS);
  };
  leave = () => { ended = true; clearTimeout(timer); };
  sample();
  return [make("h2", {}, "Traffic"), state, make("div", { class: "grid" }, [requests, latency, bytes, connections, memory, refusals].map((one) => one.view))];
}

// Integrity.

function integrityView() {
  const missing = needs("metrics.read");
  if (missing) return [make("h2", {}, "Integrity"), missing];
  const body = make("div");
  const refresh = async () => {
    const found = await call("GET", "/api/integrity");
    const kinds = { done: "good", partial: "warn", skipped: "warn", "not-needed": "off", ok: "good", failed: "bad", pending: "off" };
    const kernel = found.kernel;
    body.replaceChildren(
      make("p", {}, "Status: ", badge(found.status, found.status === "ok" ? "good" : "bad")),
      make("h3", {}, "Checks"), table("Checks", ["Check", "State", "Last look", "Looks", "Findings"], found.checks.map((one) => row(one.check, badge(one.state, kinds[one.state]), time(one.last_at), String(one.looks), [String(one.findings), one.finding ? `: ${one.finding}` : ""]))),
      make("h3", {}, "Lock-down"), make("p", { class: "small quiet" }, `Mode ${found.sandbox.mode}; Landlock revision ${found.sandbox.landlock_abi}; allowed to be missing: ${found.sandbox.allowed_missing.join(", ") || "nothing"}.`),
      table("Steps of the lock-down", ["Step", "Outcome", "Reason"], found.sandbox.steps.map((one) => row(one.step, badge(one.outcome, kinds[one.outcome]), one.reason || ""))),
      ...(kernel ? [make("h3", {}, "What the kernel says"), table("What the kernel says", ["Of", "It says"], [
        row("users", kernel.uid.join(" ")), row("groups", [...kernel.gid, ...kernel.groups].join(" ")),
        ...Object.entries(kernel.capabilities).map(([name, value]) => row(`capabilities, ${name}`, make("td", { class: "mono" }, value))),
        row("no new privileges", String(kernel.no_new_privs)), row("seccomp", kernel.seccomp === 2 ? "filter" : String(kernel.seccomp)), row("threads", String(kernel.threads)), row("tracer", kernel.tracer ? String(kernel.tracer) : "none")])] : []),
      make("h3", {}, "Program"), table("Program", ["Of", "It is"], [row("version", found.binary.version), row("commit", make("td", { class: "mono" }, found.binary.commit)), row("SHA-256", make("td", { class: "mono" }, found.binary.sha256 || "not known yet"))]));
  };
  busy(make("button"), refresh);
  return [make("h2", {}, "Integrity"), make("div", { class: "row" }, button("Look again", refresh, "plain")), body];
}

// The page.

const PARTS = [["reference", "Reference", referenceView], ["keys", "Keys", keysView], ["access", "API keys", accessView], ["audit", "Audit", auditView], ["traffic", "Traffic", trafficView], ["integrity", "Integrity", integrityView]];

function show() {
  if (!description) return;
  leave();
  leave = () => {};
  const wanted = location.hash.slice(1);
  const [name, title, view] = PARTS.find(([part]) => part === wanted) || PARTS[0];
  for (const link of byId("tabs").querySelectorAll("a")) {
    if (link.hash === `#${name}`) link.setAttribute("aria-current", "page"); else link.removeAttribute("aria-current");
  }
  document.title = `${title} - Quantonium`;
  main.replaceChildren(...view().flat(Infinity).filter(Boolean));
  const operation = wanted.startsWith("op-") && byId(wanted);
  if (operation) { operation.open = true; operation.scrollIntoView(); }
}

async function health() {
  const line = byId("health");
  try {
    const reply = await fetch("/api/health", { cache: "no-store" });
    const found = await reply.json();
    byId("version").textContent = found.version || "";
    line.className = `health ${{ ok: "good", degraded: "warn" }[found.status] || "bad"}`;
    const details = Object.entries(found.components || {}).filter(([, one]) => one.detail).map(([name, one]) => `${name}: ${one.detail}`);
    byId("health-text").textContent = [found.status || `${reply.status}`, ...details].join("; ");
  } catch {
    line.className = "health bad";
    byId("health-text").textContent = "does not answer";
  }
  setTimeout(health, 10000);
}

byId("tabs").append(...PARTS.map(([name, title]) => make("li", {}, make("a", { href: `#${name}` }, title))));
byId("credential").addEventListener("submit", useKey);
byId("forget").addEventListener("click", () => forget("The credential was forgotten."));
byId("theme").addEventListener("change", (event) => { document.documentElement.dataset.theme = event.target.value; });
addEventListener("hashchange", () => { show(); main.focus(); });
health();
fetch("/openapi.json").then((reply) => reply.json()).then((read) => { description = read; show(); }, () => { main.textContent = "The description of the API could not be read."; });
})();
