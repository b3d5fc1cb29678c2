//! Commands that ask a running server, and what does the same without one.
//!
//! Owns their rows. Invariant: no flag takes a secret; it takes the name of a file that holds one.

use super::{Flag, Spec, Taken, Value};

const JSON: Flag = Flag::new("json", Value::Switch, "the server's answer in JSON");

/// How a server is reached, and as whom.
const SERVER: [Flag; 6] = [
    Flag::new(
        "url",
        Value::Text("URL"),
        "http://, https:// or unix:/PATH [QUANTONIUM_URL; the address configured here]",
    ),
    Flag::new(
        "api-key-file",
        Value::Path("FILE"),
        "file with an API key or token [QUANTONIUM_API_KEY_FILE; the key itself in QUANTONIUM_API_KEY]",
    ),
    Flag::new("ca-cert", Value::Path("FILE"), "who signs the server's certificate [QUANTONIUM_CA_CERT]"),
    Flag::new("client-cert", Value::Path("FILE"), "certificate to be known by [QUANTONIUM_CLIENT_CERT]"),
    Flag::new("client-key", Value::Path("FILE"), "the key of that certificate [QUANTONIUM_CLIENT_KEY]"),
    JSON,
];

/// Where what comes goes.
const OUTPUT: [Flag; 2] = [
    Flag::new("out", Value::Path("FILE"), "write there, whole or not at all; else to standard output"),
    Flag::new("force", Value::Switch, "replace the file of --out if it exists"),
];

const KEY: Flag = Flag::new("key", Value::Text("NAME"), "the key to use");
const KEY_FILE: Flag =
    Flag::new("key-file", Value::Path("FILE"), "an exported key in JSON, or an unsealed backup");
const VERSION: Flag = Flag::new("key-version", Value::Text("N"), "the version of the key; the latest");
const FORM: Flag = Flag::new(
    "form",
    Value::Words("FORM", &["auto", "text", "binary", "stream"]),
    "text up to 1 MiB, else stream (auto); text, binary, stream",
);

/// What a ciphertext is bound to.
const BINDING: [Flag; 4] = [
    Flag::new("associated-data", Value::Text("TEXT"), "bind the ciphertext to this text"),
    Flag::new("associated-data-file", Value::Path("FILE"), "bind it to the content of a file"),
    Flag::new("context", Value::Text("TEXT"), "derived keys: what to derive the key from"),
    Flag::new("context-file", Value::Path("FILE"), "the same from a file"),
];

/// What is settled about a key when it is made.
const OPTIONS: [Flag; 4] = [
    Flag::new(
        "type",
        Value::Words(
            "TYPE",
            &["xchacha20-poly1305", "chacha20-poly1305", "hmac-sha256", "hmac-sha384", "hmac-sha512"],
        ),
        "what it is for (xchacha20-poly1305)",
    ),
    Flag::new("derived", Value::Switch, "each use names a context"),
    Flag::new("exportable", Value::Switch, "its material may be given out"),
    Flag::new("plaintext-backup", Value::Switch, "a backup of it may leave unsealed"),
];

/// What can be changed about a key.
const POLICY: [Flag; 5] = [
    Flag::new("min-decryption-version", Value::Text("N"), "older versions decrypt no more"),
    Flag::new("min-encryption-version", Value::Text("N"), "older versions encrypt no more; 0: none"),
    Flag::new("keep-versions", Value::Text("N"), "how many versions a rotation keeps; 0: all"),
    Flag::new(
        "auto-rotate",
        Value::Text("TIME"),
        "rotate when the latest version is as old: 30d, 12h; 0: never",
    ),
    Flag::new(
        "deletion-allowed",
        Value::Words("BOOL", &["true", "false"]),
        "whether it may be deleted and its versions destroyed",
    ),
];

const fn spec(
    words: &'static str,
    operands: &'static [&'static str],
    summary: &'static str,
    text: &'static str,
    flags: &'static [&'static [Flag]],
) -> Spec {
    Spec { words, operands, summary, text, settings: Taken::These(&[]), flags }
}

/// The rows.
pub(super) const COMMANDS: [Spec; 25] = [
    spec(
        "encrypt",
        &["[FILE]"],
        "encrypt a file, or what comes in",
        "  quantonium encrypt --key orders --out backup.tar.enc backup.tar
  pg_dump shop | quantonium encrypt --key orders --out shop.sql.enc

Input of any size, from FILE or standard input. Up to 1 MiB it becomes text, one line that begins
with quantonium:v; what is longer becomes a sealed stream, which is binary. decrypt tells them
apart by their first bytes.",
        &[&[KEY, FORM, VERSION], &BINDING, &OUTPUT, &SERVER],
    ),
    spec(
        "decrypt",
        &["[FILE]"],
        "decrypt what encrypt made",
        "  quantonium decrypt --key orders --out backup.tar backup.tar.enc
  quantonium decrypt --key orders < shop.sql.enc | psql shop

With --out the file appears when all of it was verified, and not otherwise. On standard output
each piece was verified before it is written, but only exit code 0 says that it was all.",
        &[&[KEY], &BINDING, &OUTPUT, &SERVER],
    ),
    spec(
        "rewrap",
        &["[FILE]"],
        "put a ciphertext under another version of its key",
        "  quantonium rewrap --key orders --out new.enc old.enc

The plaintext does not leave the server. For ciphertexts up to 1 MiB, as text or binary; a stream
is decrypted and encrypted again instead.",
        &[&[KEY, VERSION], &BINDING, &OUTPUT, &SERVER],
    ),
    spec(
        "sign",
        &["[FILE]"],
        "make a signature (HMAC) of up to 1 MiB",
        "  quantonium sign --key invoices invoice.pdf > invoice.sig",
        &[&[KEY, VERSION], &OUTPUT, &SERVER],
    ),
    spec(
        "verify",
        &["[FILE]"],
        "say whether a signature is right",
        "  quantonium verify --key invoices --signature-file invoice.sig invoice.pdf

Says valid or invalid; exit code 1: invalid.",
        &[
            &[
                KEY,
                Flag::new("signature", Value::Text("TEXT"), "the signature"),
                Flag::new("signature-file", Value::Path("FILE"), "the file that holds it"),
            ],
            &SERVER,
        ],
    ),
    spec(
        "random",
        &["BYTES"],
        "give random bytes",
        "  quantonium random 32
  quantonium random --form raw --out noise 100000000",
        &[
            &[Flag::new(
                "form",
                Value::Words("FORM", &["hex", "base64", "raw"]),
                "how they are written (hex)",
            )],
            &OUTPUT,
            &SERVER,
        ],
    ),
    spec(
        "hash",
        &["[FILE]"],
        "hash up to 1 MiB with SHA-2",
        "  quantonium hash --algorithm sha512 invoice.pdf",
        &[
            &[Flag::new(
                "algorithm",
                Value::Words("NAME", &["sha256", "sha384", "sha512"]),
                "which one (sha256)",
            )],
            &SERVER,
        ],
    ),
    spec(
        "datakey",
        &[],
        "make a key of your own, sealed under a key of the server",
        "  quantonium datakey --key orders --plaintext-out data.key > data.key.sealed
  quantonium decrypt --key orders data.key.sealed

The sealed key goes to standard output. With --plaintext-out the key itself is written to a new
file for its owner only; without, it stays unknown until decrypt opens it.",
        &[
            &[
                KEY,
                VERSION,
                Flag::new("bits", Value::Words("N", &["128", "256", "512"]), "its size (256)"),
                Flag::new("plaintext-out", Value::Path("FILE"), "where the key itself goes, as bytes"),
            ],
            &BINDING,
            &SERVER,
        ],
    ),
    spec(
        "token",
        &[],
        "get a token for an API key",
        "  quantonium token --scope encrypt:orders-* --expires-in 15m --out token

Needs an API key. Commands take the token in its place.",
        &[
            &[
                Flag::repeated(
                    "scope",
                    Value::Text("SCOPE"),
                    "what it allows; else all that the API key does",
                ),
                Flag::new("expires-in", Value::Text("TIME"), "how long: 90s, 15m, 8h (15m)"),
            ],
            &OUTPUT,
            &SERVER,
        ],
    ),
    spec(
        "health",
        &[],
        "say how a server is",
        "  quantonium health --url https://keys.example.net

Needs no API key. Exit code 1: it is failing. For images and probes there is healthcheck, which
says nothing if all is well.",
        &[&SERVER],
    ),
    spec(
        "key list",
        &[],
        "list the keys",
        "  quantonium key list",
        &[&[Flag::new("deleted", Value::Switch, "the deleted ones instead")], &SERVER],
    ),
    spec(
        "key create",
        &["NAME"],
        "make a key",
        "  quantonium key create orders
  quantonium key create invoices --type hmac-sha256 --auto-rotate 90d",
        &[&OPTIONS, &POLICY, &SERVER],
    ),
    spec("key show", &["NAME"], "show a key and its versions", "  quantonium key show orders", &[&SERVER]),
    spec(
        "key rotate",
        &["NAME"],
        "make a new version, which encrypts and signs from then on",
        "  quantonium key rotate orders",
        &[&SERVER],
    ),
    spec(
        "key config",
        &["NAME"],
        "change what a key may do",
        "  quantonium key config orders --min-decryption-version 3
  quantonium key config orders --version-state 2=disabled",
        &[
            &POLICY,
            &[Flag::repeated("version-state", Value::Text("N=STATE"), "enabled, decrypt-only or disabled")],
            &SERVER,
        ],
    ),
    spec(
        "key destroy",
        &["NAME"],
        "destroy versions of a key for ever",
        "  quantonium key destroy orders --version 1

What they encrypted cannot be read again. The key must allow it: key config --deletion-allowed true.",
        &[&[Flag::repeated("version", Value::Text("N"), "which version")], &SERVER],
    ),
    spec(
        "key delete",
        &["NAME"],
        "delete a key; it can be brought back for a while",
        "  quantonium key delete orders",
        &[&SERVER],
    ),
    spec(
        "key undelete",
        &["NAME"],
        "bring a deleted key back",
        "  quantonium key undelete orders",
        &[&SERVER],
    ),
    spec(
        "key export",
        &["NAME"],
        "give out the material of a key that was made exportable",
        "  quantonium key export orders --out orders.json

The file holds secrets. quantonium local decrypts with it.",
        &[
            &[Flag::new("version", Value::Text("N"), "one version: a number or latest; else all")],
            &OUTPUT,
            &SERVER,
        ],
    ),
    spec(
        "key import",
        &["NAME", "FILE"],
        "take a key from outside, as a new key or as its next version",
        "  quantonium key import orders material.bin --type xchacha20-poly1305

FILE holds the bytes of the key: 32, or 16 to 512 of an HMAC key; - is standard input.",
        &[&OPTIONS, &POLICY, &SERVER],
    ),
    spec(
        "key backup",
        &["NAME"],
        "give out a whole key, sealed, to bring it back later",
        "  quantonium key backup orders --out orders.backup",
        &[
            &[Flag::new("plaintext", Value::Switch, "unsealed, if the key was made with --plaintext-backup")],
            &OUTPUT,
            &SERVER,
        ],
    ),
    spec(
        "key restore",
        &["FILE"],
        "bring a key back from a backup",
        "  quantonium key restore orders.backup",
        &[
            &[
                Flag::new("name", Value::Text("NAME"), "under this name; else that of the backup"),
                Flag::new("replace", Value::Switch, "take the place of the key of that name"),
            ],
            &SERVER,
        ],
    ),
    spec("whoami", &[], "say whom the server takes you for", "  quantonium whoami", &[&SERVER]),
    spec(
        "local encrypt",
        &["[FILE]"],
        "encrypt without a server, with an exported key",
        "  quantonium key export orders --out orders.json
  quantonium local encrypt --key-file orders.json --out backup.tar.enc backup.tar

What it makes decrypt opens, as local decrypt opens what encrypt made. Nothing tells the server: it
counts no use and writes no audit line.",
        &[&[KEY_FILE, FORM, VERSION], &BINDING, &OUTPUT],
    ),
    spec(
        "local decrypt",
        &["[FILE]"],
        "decrypt without a server, with an exported key",
        "  quantonium local decrypt --key-file orders.json --out backup.tar backup.tar.enc

The key is what `quantonium key export` gave out, or an unsealed backup. A sealed backup goes back
to its server: `quantonium key restore`.",
        &[&[KEY_FILE], &BINDING, &OUTPUT],
    ),
];
