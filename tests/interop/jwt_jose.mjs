// jose and Quantonium read one another's tokens.
//
// Standard input is one JSON object: `secret` (hexadecimal), `now`, `token`, and its `claims`. The token must verify,
// and must not where it should not. Each line of standard output is one JSON object with a `token` made here: `what` it
// is, and `code`, with which it must be refused, or `accepted`.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { webcrypto } from "node:crypto";

// Node has it as a global only since version 19.
globalThis.crypto ??= webcrypto;
const { SignJWT, UnsecuredJWT, jwtVerify, errors } = await import("jose");

const { secret: hex, now, token, claims } = JSON.parse(readFileSync(0, "utf8"));
const secret = new Uint8Array(Buffer.from(hex, "hex"));
const other = new Uint8Array(32);

function verify(text, { key = secret, audience = claims.aud, issuer = claims.iss } = {}) {
  const requiredClaims = ["sub", "iat", "nbf", "exp", "jti", "scope", "gen"];
  return jwtVerify(text, key, { algorithms: ["HS256"], typ: "JWT", audience, issuer, requiredClaims });
}

function print(what, code, made) {
  console.log(JSON.stringify({ what, code, token: made }));
}

async function make(what, code, changed = {}, { header = {}, key = secret } = {}) {
  const payload = { ...claims, ...changed };
  for (const [name, value] of Object.entries(payload)) if (value === undefined) delete payload[name];
  print(what, code, await new SignJWT(payload).setProtectedHeader({ alg: "HS256", ...header }).sign(key));
}

const { payload, protectedHeader } = await verify(token);
assert.deepEqual({ ...payload }, claims);
assert.deepEqual({ ...protectedHeader }, { alg: "HS256", typ: "JWT" });
const altered = token.slice(0, -4) + (token.endsWith("AAAA") ? "BBBB" : "AAAA");
await assert.rejects(verify(token, { key: other }), errors.JWSSignatureVerificationFailed);
await assert.rejects(verify(altered), errors.JWSSignatureVerificationFailed);
await assert.rejects(verify(token, { audience: "others" }), errors.JWTClaimValidationFailed);
await assert.rejects(verify(token, { issuer: "others" }), errors.JWTClaimValidationFailed);

const ok = "accepted";
await make("as issued", ok, {}, { header: { typ: "JWT" } });
await make("fractional times", ok, { iat: now - 0.5, nbf: now - 0.25, exp: now + 60.125 });
await make("audience among others", ok, { aud: ["others", claims.aud] });
await make("further claims", ok, { name: "grün \u2603 \u{1f600} \"\\", nested: { a: [1, { b: null }] } });
await make("no type", ok);
await make("type in lower case", ok, {}, { header: { typ: "jwt" } });
await make("expired within the leeway", ok, { iat: now - 60, nbf: now - 60, exp: now - 29 });
await make("begins within the leeway", ok, { iat: now + 30, nbf: now + 30 });
print("no algorithm", "token_alg", new UnsecuredJWT(claims).encode());
await make("HS384", "token_alg", {}, { header: { alg: "HS384" } });
await make("HS512", "token_alg", {}, { header: { alg: "HS512" } });
await make("other type", "token_typ", {}, { header: { typ: "at+jwt" } });
await make("key id in the header", "token_header", {}, { header: { kid: claims.sub } });
await make("address of keys in the header", "token_header", {}, { header: { jku: "https://example.com/keys" } });
await make("content type in the header", "token_header", {}, { header: { cty: "JWT" } });
await make("other secret", "token_signature", {}, { key: other });
await make("other issuer", "token_issuer", { iss: "others" });
await make("other audience", "token_audience", { aud: "others" });
await make("other audiences", "token_audience", { aud: ["others", `${claims.aud}x`] });
await make("expired", "token_expired", { iat: now - 60, nbf: now - 60, exp: now - 30 });
await make("begins later", "token_not_yet", { nbf: now + 31 });
await make("made later", "token_not_yet", { iat: now + 31 });
await make("lives too long", "token_lifetime", { exp: claims.iat + 86_401 });
await make("text as time", "token_claims", { exp: String(claims.exp) });
await make("nothing as time", "token_claims", { nbf: null });
await make("no beginning", "token_claims", { nbf: undefined });
await make("no end", "token_claims", { exp: undefined });
await make("no scope", "token_claims", { scope: undefined });
