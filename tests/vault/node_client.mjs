// Drives a server with node-vault, unmodified: node node_client.mjs URL TOKEN_FILE
//
// Says `covered: NAME` for everything that was done and held.
import { strict as assert } from "node:assert";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";

const require = createRequire(join(process.cwd(), "package.json"));
const [endpoint, file] = process.argv.slice(2);
const token = readFileSync(file, "ascii").trim();
const vault = require("node-vault")({ endpoint, token });

const b64 = (text) => Buffer.from(text).toString("base64");
const covered = (name, holds) => {
  assert.ok(holds, name);
  console.log(`covered: ${name}`);
};
const refused = async (promise, status) => {
  try {
    await promise;
  } catch (error) {
    return error.response?.statusCode === status;
  }
  return false;
};

covered("health", (await vault.health()).initialized);
covered("status", !(await vault.status()).sealed && (await vault.initialized()).initialized);
covered("tokenLookupSelf", (await vault.tokenLookupSelf()).data.type === "service");
covered("mounts", "transit/" in (await vault.mounts()).data);
await vault.write("transit/keys/n", { type: "chacha20-poly1305" });
covered("create and read", (await vault.read("transit/keys/n")).data.latest_version === 1);
covered("read of none", await refused(vault.read("transit/keys/none"), 404));
covered("list", (await vault.list("transit/keys")).data.keys.includes("n"));
const sealed = (await vault.encryptData({ name: "n", plaintext: b64("hello") })).data.ciphertext;
covered("encrypt and decrypt", (await vault.decryptData({ name: "n", ciphertext: sealed })).data.plaintext === b64("hello"));
await vault.write("transit/keys/n/rotate", {});
covered("rotate and rewrap", (await vault.write("transit/rewrap/n", { ciphertext: sealed })).data.key_version === 2);
covered("datakey", (await vault.write("transit/datakey/plaintext/n", {})).data.plaintext.length === 44);
const { hmac } = (await vault.write("transit/hmac/n", { input: b64("x") })).data;
covered("hmac and verify", (await vault.write("transit/verify/n", { name: "n", input: b64("x"), hmac })).data.valid);
covered("random", (await vault.write("transit/random/9", { format: "hex" })).data.random_bytes.length === 18);
covered("hash", (await vault.write("transit/hash", { input: b64("x") })).data.sum.length === 64);
const batch = (await vault.write("transit/encrypt/n", { batch_input: [{ plaintext: b64("a") }, { plaintext: b64("b") }] })).data;
covered("batch", batch.batch_results.length === 2 && batch.batch_results.every((item) => item.key_version === 2));
covered("refusal", await refused(vault.write("transit/encrypt/n", { plaintext: "!!" }), 400));
await vault.write("transit/keys/n/config", { deletion_allowed: true });
await vault.delete("transit/keys/n");
covered("delete", await refused(vault.read("transit/keys/n"), 404));
const [role_id, secret_id] = token.split(".");
const { auth } = await vault.approleLogin({ role_id, secret_id });
covered("approle", auth.client_token.length > 20);
vault.token = auth.client_token;
await vault.tokenRevokeSelf();
covered("revoke-self", await refused(vault.list("transit/keys"), 403));
