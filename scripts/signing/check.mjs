// Checks a Sigstore bundle with a public key by Sigstore's own reader, which shares no code with scripts/sign.sh.
//
//   node check.mjs PUBLIC-KEY BUNDLE [FILE]      FILE for a signature over it, none for a statement
import { createPublicKey } from "node:crypto";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";

// The packages lie where the script was started.
const require = createRequire(join(process.cwd(), "package.json"));
const { bundleFromJSON } = require("@sigstore/bundle");
const { Verifier, toSignedEntity, toTrustMaterial } = require("@sigstore/verify");

const [key, path, file] = process.argv.slice(2);
const bundle = bundleFromJSON(JSON.parse(readFileSync(path, "utf8")));
const publicKey = createPublicKey(readFileSync(key));
const trusted = toTrustMaterial(
  { certificateAuthorities: [], tlogs: [], ctlogs: [], timestampAuthorities: [] },
  () => ({ publicKey, validFor: () => true }),
);
const verifier = new Verifier(trusted, { tlogThreshold: 0, ctlogThreshold: 0, timestampThreshold: 0 });
verifier.verify(toSignedEntity(bundle, file === undefined ? undefined : readFileSync(file)));
console.log(`${path}: verified by @sigstore/verify`);
