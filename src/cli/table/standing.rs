//! Commands that make and serve a store, and look after it.
//!
//! Owns their rows. Invariant: each flag that the help of a command names is in its row (a test holds both together).

use super::{Flag, Spec, Taken, Value};
use crate::config::Id;

const JSON: Flag = Flag::new("json", Value::Switch, "answer in JSON");
const OF_STORE: Taken = Taken::These(&[
    Id::ConfigFile,
    Id::DataDir,
    Id::MasterKeyFile,
    Id::MinStoreRevision,
    Id::AcceptStoreRollback,
]);
/// Those of a command that works on a store in etcd, too.
const OF_ANY_STORE: Taken = Taken::These(&[
    Id::ConfigFile,
    Id::DataDir,
    Id::MasterKeyFile,
    Id::Store,
    Id::StoreCa,
    Id::StoreCert,
    Id::StoreKey,
    Id::StoreUser,
    Id::StorePasswordFile,
    Id::MinStoreRevision,
]);
const OF_API_KEYS: Taken =
    Taken::These(&[Id::DataDir, Id::MasterKeyFile, Id::MinStoreRevision, Id::ConfigFile]);
const OF_AUDIT: Taken = Taken::These(&[Id::ConfigFile, Id::DataDir]);

/// Who is asked about API keys.
const ASKED: [Flag; 4] = [
    Flag::new(
        "server",
        Value::Text("URL"),
        "the running server; else where this configuration has it listen",
    ),
    Flag::new("api-key-file", Value::Path("FILE"), "the API key to ask with [QUANTONIUM_API_KEY_FILE]"),
    Flag::new("tls-ca", Value::Path("FILE"), "who signs its certificate; else the one configured here"),
    JSON,
];
const TERMS: [Flag; 7] = [
    Flag::new("name", Value::Text("NAME"), "what it is for"),
    Flag::new("description", Value::Text("TEXT"), "more about it"),
    Flag::repeated("scope", Value::Text("SCOPE"), "what it may do"),
    Flag::new("expires-in", Value::Text("TIME"), "30d, 12h, 15m, 900s or never"),
    Flag::new("rate", Value::Text("N[:BURST]"), "requests in a second, and at once"),
    Flag::repeated("network", Value::Text("CIDR"), "from where it may be used"),
    Flag::repeated("identity", Value::Text("IDENTITY"), "which peers need no secret"),
];
const OUT: Flag = Flag::new("out", Value::Path("FILE"), "write the secret there; the file must not exist");
const SEARCHED: [Flag; 9] = [
    Flag::new("principal", Value::Text("ID"), "lines of this API key"),
    Flag::new("key", Value::Text("NAME"), "lines about this key"),
    Flag::new("event", Value::Text("EVENT"), "lines of this event"),
    Flag::new("outcome", Value::Text("OUTCOME"), "success, failure or attempt"),
    Flag::new("code", Value::Text("CODE"), "lines with this reason"),
    Flag::new("request-id", Value::Text("ID"), "lines of this request"),
    Flag::new("since", Value::Text("TIME"), "not before: UTC, as 2026-11-22T17:05"),
    Flag::new("until", Value::Text("TIME"), "before"),
    JSON,
];
const CHECKED: [Flag; 2] = [
    Flag::new(
        "sandbox",
        Value::Words("MODE", &["auto", "strict", "container"]),
        "how much of it must be (auto)",
    ),
    Flag::repeated("sandbox-allow-missing", Value::Text("STEP"), "accept that this step is missing"),
];

const fn spec(
    words: &'static str,
    operands: &'static [&'static str],
    summary: &'static str,
    settings: Taken,
    flags: &'static [&'static [Flag]],
) -> Spec {
    Spec { words, operands, summary, text: "", settings, flags }
}

const NONE: Taken = Taken::These(&[]);

/// The rows.
pub(super) const COMMANDS: [Spec; 28] = [
    spec("serve", &[], "serve until SIGTERM", Taken::All, &[]),
    spec("supervise", &[], "own the sockets and run serve; SIGUSR2 starts a successor", Taken::All, &[]),
    spec(
        "init",
        &[],
        "make data directory, store, master key and admin key",
        Taken::These(&[
            Id::ConfigFile,
            Id::DataDir,
            Id::MasterKeyFile,
            Id::Store,
            Id::StoreCa,
            Id::StoreCert,
            Id::StoreKey,
            Id::StoreUser,
            Id::StorePasswordFile,
            Id::UserId,
            Id::GroupId,
            Id::MinStoreRevision,
            Id::AcceptStoreRollback,
        ]),
        &[&[
            Flag::new("generate-master-key", Value::Switch, "make the master key's file too"),
            Flag::new("admin-key-file", Value::Path("FILE"), "write the admin key there; it must not exist"),
        ]],
    ),
    spec(
        "store verify",
        &[],
        "check every byte and every key of a stopped server's store",
        OF_ANY_STORE,
        &[&[JSON]],
    ),
    spec("store inspect", &[], "show what a store is and what is in it", OF_ANY_STORE, &[&[JSON]]),
    spec("store compact", &[], "rewrite a store without what was superseded or removed", OF_STORE, &[]),
    spec(
        "store rekey",
        &[],
        "put a store under another master key",
        Taken::These(&[
            Id::ConfigFile,
            Id::DataDir,
            Id::MasterKeyFile,
            Id::Store,
            Id::StoreCa,
            Id::StoreCert,
            Id::StoreKey,
            Id::StoreUser,
            Id::StorePasswordFile,
            Id::MinStoreRevision,
            Id::AcceptStoreRollback,
        ]),
        &[&[Flag::new("new-master-key-file", Value::Path("FILE"), "the master key from now on")]],
    ),
    spec(
        "store rotate-root",
        &[],
        "seal a store anew; ends every API key",
        OF_STORE,
        &[&[Flag::new("admin-key-file", Value::Path("FILE"), "write the new admin key there")]],
    ),
    spec(
        "store copy",
        &[],
        "copy a store to etcd, or from there to a data directory",
        Taken::These(&[
            Id::ConfigFile,
            Id::UserId,
            Id::GroupId,
            Id::MasterKeyFile,
            Id::StoreCa,
            Id::StoreCert,
            Id::StoreKey,
            Id::StoreUser,
            Id::StorePasswordFile,
            Id::MinStoreRevision,
        ]),
        &[&[
            Flag::new(
                "from",
                Value::Text("PLACE"),
                "a data directory, or etcd://HOST:PORT[,HOST:PORT...]/PREFIX",
            ),
            Flag::new("to", Value::Text("PLACE"), "the other kind of place"),
        ]],
    ),
    spec("apikey create", &[], "make an API key", OF_API_KEYS, &[&TERMS, &[OUT], &ASKED]),
    spec("apikey list", &[], "show all API keys", OF_API_KEYS, &[&ASKED]),
    spec("apikey show", &["ID"], "show an API key", OF_API_KEYS, &[&ASKED]),
    spec(
        "apikey rotate",
        &["ID"],
        "give an API key another secret",
        OF_API_KEYS,
        &[&[Flag::new("overlap", Value::Text("TIME"), "how long both secrets work: 1h, 7d, 0"), OUT], &ASKED],
    ),
    spec("apikey revoke", &["ID"], "end an API key and its tokens", OF_API_KEYS, &[&ASKED]),
    spec("apikey configure", &["ID"], "change what an API key may do", OF_API_KEYS, &[&TERMS, &ASKED]),
    spec("apikey delete", &["ID"], "forget an API key that has ended", OF_API_KEYS, &[&ASKED]),
    spec(
        "audit verify",
        &["[FILE]..."],
        "find what was changed in the audit log",
        Taken::These(&[
            Id::ConfigFile,
            Id::DataDir,
            Id::MasterKeyFile,
            Id::Store,
            Id::StoreCa,
            Id::StoreCert,
            Id::StoreKey,
            Id::StoreUser,
            Id::StorePasswordFile,
        ]),
        &[&[Flag::new("without-key", Value::Switch, "check no macs, and say so")]],
    ),
    spec(
        "audit tail",
        &["[FILE]..."],
        "show the last lines of the audit log",
        OF_AUDIT,
        &[&[Flag::new("lines", Value::Text("N"), "how many (20)"), JSON]],
    ),
    spec("audit search", &["[FILE]..."], "show lines of the audit log", OF_AUDIT, &[&SEARCHED]),
    spec(
        "tls self-signed",
        &[],
        "make a certificate for development",
        NONE,
        &[&[
            Flag::new("out-dir", Value::Path("DIR"), "where cert.pem and key.pem are made"),
            Flag::repeated("name", Value::Text("NAME"), "a further host name or address"),
            Flag::new("days", Value::Text("N"), "how long it holds (90)"),
        ]],
    ),
    spec("tls show", &["CERTIFICATE", "[KEY]"], "say for whom and how long a certificate holds", NONE, &[]),
    spec(
        "sandbox show",
        &[],
        "list which system calls each thread may make, and why",
        NONE,
        &[&[
            Flag::new(
                "role",
                Value::Words("ROLE", &["worker", "keeper", "archivist", "main", "union"]),
                "of which thread",
            ),
            Flag::new(
                "format",
                Value::Words("FORMAT", &["text", "json", "markdown"]),
                "in which form (text)",
            ),
        ]],
    ),
    spec("sandbox check", &[], "say what a start here would reach", NONE, &[&CHECKED]),
    spec(
        "sandbox profile",
        &["PROGRAM"],
        "print a profile for docker, oci, apparmor, selinux, systemd, systemd-socket or kubernetes",
        NONE,
        &[],
    ),
    spec(
        "healthcheck",
        &[],
        "ask a server how it is; say nothing if it is well",
        NONE,
        &[&[
            Flag::new("url", Value::Text("URL"), "where; else as configured here"),
            Flag::new(
                "tls-ca",
                Value::Path("FILE"),
                "who signs its certificate; else the one configured here",
            ),
            Flag::new("insecure-tls", Value::Switch, "take anybody for it"),
        ]],
    ),
    spec(
        "version",
        &[],
        "show version, commit, target, features",
        NONE,
        &[&[Flag::new("crates", Value::Switch, "the crates in it instead")]],
    ),
    spec("completions", &["SHELL"], "print completions for bash, zsh or fish", NONE, &[]),
    spec("man", &["[COMMAND]..."], "print the manual page of the program, or of a command", NONE, &[]),
];
