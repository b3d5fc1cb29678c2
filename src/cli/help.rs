//! The help: what the program is, how to begin, every flag with its default; more on `init` and `store`.
//!
//! Owns no fact that stands elsewhere: settings come from their table, exit codes from `exit`. Invariants: no
//! line is wider than 100 characters; each command is shown with a line that can be run.

use core::fmt::Write as _;

use super::apikey::{self, Verb};
use super::arguments::Action;
use super::table::{self, Spec};
use crate::build_info::VERSION;
use crate::config::{Fallback, Group, Kind, MASTER_KEY_CREDENTIAL, SETTINGS, Setting, Unit};
use crate::exit::Exit;
use crate::model::Step;

const HEAD: &str = "\
Cryptography as a service: named keys that never leave the server, used over HTTP.

First run:
  quantonium serve --dev                 # prints the admin key and lines to try
  K=$(cat quantonium-dev/admin.key)
  curl -X POST localhost:8080/api/keys -H \"X-API-Key: $K\" -d '{\"name\":\"orders\"}'

Commands:
  quantonium init [FLAG ...]             make data directory, store, master key and admin key
  quantonium serve [FLAG ...]            serve until SIGTERM; a second signal stops at once
  quantonium supervise [FLAG ...]        own the sockets and run serve; SIGUSR2 starts a successor
  quantonium store COMMAND [FLAG ...]    verify, inspect, rekey ... a stopped server's store
  quantonium apikey COMMAND [FLAG ...]   create, list, rotate, revoke ... API keys
  quantonium audit COMMAND [FLAG ...]    verify, tail, search the audit log
  quantonium tls COMMAND [FLAG ...]      make a certificate for development; show one
  quantonium sandbox COMMAND [FLAG ...]  show the filters, check this host, print profiles
";

/// What follows the commands of the table that ask a server.
const HEAD_END: &str =
    "  quantonium key COMMAND [FLAG ...]      create, list, rotate, back up ... keys of a running server
  quantonium local COMMAND [FLAG ...]    encrypt and decrypt without a server, with an exported key
  quantonium healthcheck [--url URL]     ask a server (default: the one configured here) how it is
  quantonium version [--crates]          show version, commit, target, features; the crates in it
  quantonium completions SHELL           print completions for bash, zsh or fish
  quantonium man [COMMAND]               print a manual page
  quantonium help [COMMAND]              show this; more on init, encrypt, store rekey ...

Settings of serve. Each is a flag, an environment variable or a key in the TOML file, in this
order of strength; the default comes last. An empty variable counts as not set. Secrets are not
taken from the environment by value.
";

const SANDBOX: &str = "
The lock-down, before the first byte of a client is read. --sandbox says how much of it must be:
  auto       every step that the kernel and the rights of the start allow; the others are told
             in the log, in the audit log and at /api/integrity
  strict     every step: what is missing stops the start, with exit code 78 and the step's name
  container  the namespaces and the root are those of the container runtime; otherwise as strict,
             but the runtime may have taken steps itself where the kernel confirms what they reach,
             and the part suffices that the kernel has of landlock and key-memory
In strict and container --sandbox-allow-missing STEP does without a step. Steps:
";

const FILES: &str = "
Files, below the data directory:
  journal        the store: every key, sealed under the master key
  journal.next   its successor, while it is compacted
  audit/*.jsonl  what was done, by whom, one JSON line each
  lock           held while a server or a command uses the directory
  master.key, admin.key   with --dev only: keys that a production start gets from you
";

const INIT: &str = "\
quantonium init: make the data directory, the store in it and the first admin API key.

  quantonium init --data-dir /var/lib/quantonium \\
      --master-key-file /etc/quantonium/master.key --generate-master-key > admin.key

The admin API key goes to standard output, once; nothing keeps it. Everything else that init says
goes to standard error. Keep a copy of the master key away from this machine, and away from the
backups of the data directory: without it nobody opens the store, with both anybody does.

Flags:
  --data-dir PATH          directory to make; there must be no store in it yet
  --master-key-file PATH   file with 32 bytes, raw, as 64 hexadecimal digits or in base64
  --generate-master-key    make that file too (mode 0600); it must not exist
  --admin-key-file PATH    write the admin key there (mode 0600) instead; it must not exist
  --user-id ID, --group-id ID   as root: who serves, and gets the data directory (1001)
  --store URL              make the store in etcd instead, for several servers; the data directory
                           is that of the first one, for its audit log
  --store-ca PATH, --store-cert PATH, --store-key PATH, --store-user NAME,
  --store-password-file PATH   how etcd is reached, as for serve
  --min-store-revision N   the revision that a store here had reached: there must be none, then
  --accept-store-rollback  make a new store though the audit files know of one that is gone
  --config PATH            take these settings from a TOML file

Then serve it:
  quantonium serve --data-dir /var/lib/quantonium --master-key-file /etc/quantonium/master.key
";

const STORE: &str = "\
quantonium store: work on the store of a server that does not run.

  quantonium store verify    read and check every byte and every key; change nothing
  quantonium store inspect   show what the store is and, with the master key, the keys in it
  quantonium store compact   rewrite it without what was superseded or removed
  quantonium store rekey     put it under another master key
  quantonium store rotate-root   seal everything anew; ends every API key
  quantonium store copy      copy it to etcd, or from etcd to a data directory

Each takes --data-dir PATH and --master-key-file PATH, or their variables, as `quantonium serve`
does; `quantonium help store verify` and so on show an example. Stop the server first: while it
runs the directory is in use, and the command says so. It also works on a copy of the directory,
whoever owns that: what it writes belongs to the owner of the directory.
";

const AUDIT: &str = "\
quantonium audit: verify and read the audit log, while the server runs or not.

  quantonium audit verify --data-dir /var/lib/quantonium \\
      --master-key-file /etc/quantonium/master.key
  quantonium audit tail --data-dir /var/lib/quantonium --lines 20
  quantonium audit search --data-dir /var/lib/quantonium --key orders --outcome failure

Each takes files, in any order, as well; without any, all of the data directory's are read. A part
of a stream can be verified with the parts before it alone.

verify finds every line that was changed, taken out, put in or moved, and files that were cut off
before what the store has noted, which it does every 10 seconds and at a stop in order. What was
written since cannot be proved, and it says so. Exit code 1: something is cut off or missing.
Exit code 65: something was changed. Without the master key only numbers and order are checked,
which anybody can make right; the exit code is 1 then, unless --without-key is given.

Flags:
  --data-dir PATH          the data directory, or a copy of one
  --master-key-file PATH   verify: the master key of the store
  --without-key            verify: check no macs, and say so
  --store URL, --store-ca PATH, --store-cert PATH, --store-key PATH, --store-user NAME,
  --store-password-file PATH   verify: the store is in etcd; wants the files of all servers
  --lines N                tail: how many lines (20)
  --principal, --key, --event, --outcome, --code, --request-id TEXT   search: lines with this
  --since TIME, --until TIME   search: UTC, as 2026-11-22 or 2026-11-22T17:05
  --json                   tail, search: the lines as they are
  --config PATH            take the settings from a TOML file
";

const TLS: &str = "\
quantonium tls: make a certificate for development; show one.

  quantonium tls self-signed --out-dir . --name db.example.net
  quantonium tls show cert.pem key.pem

self-signed makes cert.pem (mode 0644) and key.pem (mode 0600), which must not exist, for localhost,
127.0.0.1, ::1 and the names that are given. Clients trust it if they are told to:
curl --cacert cert.pem. It is not for production: nobody can revoke it.

show says for which names and how long a certificate holds, and whether the key fits, if its file
is given too. Nothing of a key is ever shown.

Flags of self-signed:
  --out-dir DIR   where the files are made; the directory must exist
  --name NAME     a further host name or address; may be given more than once
  --days N        how long it holds: 30 to 825 (90)
";

const SANDBOX_COMMANDS: &str = "\
quantonium sandbox: show the filters, check this host, print the same rules for other programs.

  quantonium sandbox show --role worker
  quantonium sandbox check --sandbox strict
  quantonium sandbox profile docker > seccomp.json

show lists which system calls each kind of thread may make, with which arguments, and why.

check says what this host offers and, for each step of the lock-down, what a start here would reach:
a child takes the steps; nothing outside of it changes. Exit code 0: a start in this mode would
serve. 1: it would not; the report says why.

profile prints docker (a seccomp profile), oci (a part of config.json), apparmor, selinux (CIL),
systemd, systemd-socket or kubernetes. Each says how to use it.

Flags:
  --role ROLE       show: worker, keeper, archivist, main, or union for the calls of all of them
  --format FORMAT   show: text, json or markdown (text)
  --sandbox MODE    check: auto, strict or container (auto)
  --sandbox-allow-missing STEP   check: accept that this step is missing; repeatable
";

const VERIFY: &str = "\
quantonium store verify: read and check every byte of the store, every record and every key.

  quantonium store verify --data-dir /var/lib/quantonium \\
      --master-key-file /etc/quantonium/master.key

It changes nothing. Exit code 0: all is as it was written, apart from an unfinished change at the
very end, which the next start cuts off. Exit code 65: damaged; the report says at which offsets.
Exit code 78: sound, but older than the audit files or --min-store-revision say.
Without the master key nothing can be checked but the form of the header: see `store inspect`.

A store in etcd (--store etcd://HOST:PORT/PREFIX, and no data directory) is read as a server reads
it at its start, while servers run or not.

Flags:
  --data-dir PATH          the data directory, or a copy of one
  --master-key-file PATH   the master key that it was made with
  --json                   report in JSON
  --min-store-revision N   the revision that it must have reached
  --store URL, --store-ca PATH, --store-cert PATH, --store-key PATH, --store-user NAME,
  --store-password-file PATH   the store is in etcd
  --config PATH            take these settings from a TOML file
";

const INSPECT: &str = "\
quantonium store inspect: show what the store is and, with the master key, what is in it.

  quantonium store inspect --data-dir /var/lib/quantonium

Without a master key: format, size, identifiers, and which master key is needed (its id, which
gives nothing of it away). With --master-key-file also the names, types, versions and states of
the keys, and never their material.

Flags:
  --data-dir PATH          the data directory, or a copy of one
  --master-key-file PATH   the master key that it was made with
  --json                   report in JSON
  --min-store-revision N   as for verify
  --store URL, --store-ca PATH, --store-cert PATH, --store-key PATH, --store-user NAME,
  --store-password-file PATH   the store is in etcd
  --config PATH            take these settings from a TOML file
";

const COMPACT: &str = "\
quantonium store compact: rewrite the store without what was superseded or removed.

  quantonium store compact --data-dir /var/lib/quantonium \\
      --master-key-file /etc/quantonium/master.key

A running server does the same by itself when it is worth it. The new journal takes the old one's
place in one step: whenever the power fails, one of the two is there.

Flags:
  --data-dir PATH          the data directory
  --master-key-file PATH   the master key that it was made with
  --min-store-revision N, --accept-store-rollback, --config PATH   as for serve
";

const REKEY: &str = "\
quantonium store rekey: put the store under another master key.

  (umask 077; head -c 32 /dev/urandom > /etc/quantonium/new-master.key)
  quantonium store rekey --data-dir /var/lib/quantonium \\
      --master-key-file /etc/quantonium/master.key \\
      --new-master-key-file /etc/quantonium/new-master.key

It changes all at once: until it is done only the old key opens the store, then only the new one.
No key, API key or ciphertext changes. Older copies of the journal still open with the old master
key: whoever has both reads the keys, so destroy those copies, or keep the old key secret.

Of a store in etcd (--store etcd://HOST:PORT/PREFIX, and no data directory) it is one transaction,
and its servers may run: give each of them the new key before its next start.

Flags:
  --data-dir PATH              the data directory
  --master-key-file PATH       the master key until now
  --new-master-key-file PATH   the master key from now on
  --min-store-revision N, --accept-store-rollback, --config PATH   as for serve
  --store URL, --store-ca PATH, --store-cert PATH, --store-key PATH, --store-user NAME,
  --store-password-file PATH   the store is in etcd
";

const ROTATE_ROOT: &str = "\
quantonium store rotate-root: seal everything anew under a new root key.

  quantonium store rotate-root --data-dir /var/lib/quantonium \\
      --master-key-file /etc/quantonium/master.key > admin.key

For when somebody may have had both a journal and its master key: rekey alone leaves the root key
as it is. Rotate the keys in it too, for such a one has them. The keys and what they sealed stay
as they are. What ends: every API key, the admin key too (they are listed, and a new admin key is
made), and backups of keys that were not sealed under --backup-key-file.

Flags:
  --data-dir PATH          the data directory
  --master-key-file PATH   the master key; it stays
  --admin-key-file PATH    write the new admin key there (mode 0600) instead; it must not exist
  --min-store-revision N, --accept-store-rollback, --config PATH   as for serve
";

const COPY: &str = "\
quantonium store copy: copy the store of a stopped server to etcd, or from etcd to a data directory.

  quantonium store copy --from /var/lib/quantonium --to etcd://10.0.0.1:2379/quantonium \\
      --master-key-file /etc/quantonium/master.key

Records are copied as they are sealed, under the same root key and master key, and compared one by
one with what was written; keys, API keys and what was sealed with them stay as they are. Nothing
that exists is overwritten, and the old store stays as it is: start no server on it any more, or
two stores will go their own ways. Stop every server first.

Flags:
  --from PLACE             a data directory, or etcd://HOST:PORT[,HOST:PORT...]/PREFIX
  --to PLACE               the other kind of place
  --master-key-file PATH   the master key; it stays
  --store-ca, --store-cert, --store-key, --store-user, --store-password-file, --user-id,
  --group-id, --min-store-revision, --config   as for serve
";

/// What is asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Topic {
    /// The whole program.
    Program,
    /// `quantonium init`.
    Init,
    /// `quantonium store`.
    Store,
    /// `quantonium audit`.
    Audit,
    /// `quantonium tls`.
    Tls,
    /// `quantonium sandbox`.
    Sandbox,
    /// One of its commands.
    OfStore(Action),
    /// `quantonium apikey`.
    ApiKey,
    /// One of its commands.
    OfApiKey(Verb),
    /// A command of the table.
    Of(&'static Spec),
    /// The commands of the table that begin with this word.
    Group(&'static str),
}

/// Where the text of a setting begins.
const INDENT: &str = "      ";
/// How wide commands are in the list of all.
const USAGE_WIDTH_CHARS: usize = 38;
/// How wide the names of flags are.
const FLAG_WIDTH_CHARS: usize = 24;
/// Where a list of words goes on in the next line.
const LINE_MAX_CHARS: usize = 96;

/// The help on `topic`, ending in a newline.
pub(super) fn text(topic: Topic) -> String {
    let text = match topic {
        Topic::Program => return program(),
        Topic::Of(spec) => return of(spec),
        Topic::Group(group) => return of_group(group),
        Topic::Init => INIT,
        Topic::Store => STORE,
        Topic::Audit => AUDIT,
        Topic::Tls => TLS,
        Topic::Sandbox => SANDBOX_COMMANDS,
        Topic::OfStore(Action::Verify) => VERIFY,
        Topic::OfStore(Action::Inspect) => INSPECT,
        Topic::OfStore(Action::Compact) => COMPACT,
        Topic::OfStore(Action::Rekey) => REKEY,
        Topic::OfStore(Action::RotateRoot) => ROTATE_ROOT,
        Topic::OfStore(Action::Copy) => COPY,
        Topic::ApiKey => apikey::help::APIKEY,
        Topic::OfApiKey(verb) => apikey::help::of(verb),
    };
    let mut out = text.to_owned();
    exit_codes(&mut out);
    out
}

/// The help on a command of the table.
fn of(spec: &Spec) -> String {
    let mut out = format!("quantonium {}: {}.\n\n{}\n\nFlags:\n", spec.words, spec.summary, spec.text);
    for flag in spec.own() {
        described(&mut out, &format!("--{} {}", flag.name, flag.placeholder()), flag.help);
    }
    exit_codes(&mut out);
    out
}

/// A flag and what it does, which goes on in further lines where it is long.
fn described(out: &mut String, name: &str, text: &str) {
    let _ = write!(out, "  {name:<FLAG_WIDTH_CHARS$}");
    let mut width = 2 + name.len().max(FLAG_WIDTH_CHARS);
    for word in text.split(' ') {
        if width + 1 + word.len() > LINE_MAX_CHARS {
            let _ = write!(out, "\n{:1$}", "", FLAG_WIDTH_CHARS + 2);
            width = FLAG_WIDTH_CHARS + 2;
        }
        out.push(' ');
        out.push_str(word);
        width += 1 + word.len();
    }
    out.push('\n');
}

/// The commands that begin with one word.
fn of_group(group: &str) -> String {
    let mut out = format!("quantonium {group}:\n\n");
    for spec in
        table::all().filter(|spec| spec.words.split_once(' ').is_some_and(|(first, _)| first == group))
    {
        let _ = writeln!(out, "  quantonium {:<FLAG_WIDTH_CHARS$} {}", spec.words, spec.summary);
    }
    let _ = writeln!(out, "\n`quantonium help {group} ...` tells more of each.");
    exit_codes(&mut out);
    out
}

fn program() -> String {
    let mut out = format!("quantonium {VERSION}\n{HEAD}");
    for spec in table::asking().filter(|spec| !spec.words.contains(' ')) {
        let usage = format!("quantonium {} [FLAG ...]", spec.words);
        let _ = writeln!(out, "  {usage:<USAGE_WIDTH_CHARS$} {}", spec.summary);
    }
    out.push_str(HEAD_END);
    for group in Group::ALL {
        let _ = write!(out, "\n{}:\n", group.heading());
        for setting in SETTINGS.iter().filter(|setting| setting.group == group) {
            let _ = writeln!(out, "  {}{}", setting.flag(), placeholder(setting.kind));
            let _ = writeln!(out, "{INDENT}{}", setting.help);
            let _ = writeln!(out, "{INDENT}[{}; {}]", setting.variable(), default(setting));
        }
    }
    sandbox(&mut out);
    exit_codes(&mut out);
    out.push_str(FILES);
    out
}

/// A setting with what stands behind it, and what it does, where else it is set, and what it is otherwise.
pub(super) fn setting(setting: &Setting) -> (String, String) {
    (
        format!("{}{}", setting.flag(), placeholder(setting.kind)),
        format!("{} [{}; {}]", setting.help, setting.variable(), default(setting)),
    )
}

fn sandbox(out: &mut String) {
    out.push_str(SANDBOX);
    let names = |mandatory: bool| Step::ALL.into_iter().filter(move |step| step.is_mandatory() == mandatory);
    list(out, names(false).map(Step::name));
    out.push_str("Without these nothing is ever served:\n");
    list(out, names(true).map(Step::name));
}

/// Appends words, separated by commas, in lines of a bounded width.
fn list(out: &mut String, words: impl Iterator<Item = &'static str>) {
    let mut width = 0;
    for word in words {
        if width == 0 || width + 2 + word.len() > LINE_MAX_CHARS {
            out.push_str(if width == 0 { "  " } else { ",\n  " });
            width = 2;
        } else {
            out.push_str(", ");
            width += 2;
        }
        out.push_str(word);
        width += word.len();
    }
    out.push('\n');
}

fn exit_codes(out: &mut String) {
    out.push_str("\nExit codes:\n");
    for (exit, meaning) in Exit::MEANINGS {
        let _ = writeln!(out, "  {:<3} {meaning}", exit.code());
    }
}

const fn placeholder(kind: Kind) -> &'static str {
    match kind {
        Kind::Switch => "",
        Kind::Path | Kind::Paths => " PATH",
        Kind::Hosts => " HOST",
        Kind::Origins => " ORIGIN",
        Kind::Steps => " STEP",
        Kind::Mode => " MODE",
        Kind::Addresses => " ADDR:PORT",
        Kind::Networks => " CIDR",
        Kind::Rate => " PER_SECOND[:BURST]",
        Kind::Choice(_) => " NAME",
        Kind::Text => " TEXT",
        Kind::Number(Unit::Count) => " N",
        Kind::Number(Unit::Bytes) => " BYTES",
        Kind::Number(Unit::Millis) => " MS",
        Kind::Number(Unit::Seconds) => " SECONDS",
        Kind::Number(Unit::Identity) => " ID",
    }
}

fn default(setting: &Setting) -> String {
    let value = match setting.fallback {
        Fallback::Off => return "off".to_owned(),
        Fallback::On => return "on".to_owned(),
        Fallback::Nothing => return "none".to_owned(),
        Fallback::Text(text) => return format!("default {text}"),
        Fallback::RequiredUnlessDev(text) => return format!("required; with --dev {text}"),
        Fallback::CredentialUnlessDev => {
            return format!("required, or systemd's {MASTER_KEY_CREDENTIAL}; with --dev made");
        }
        Fallback::Number(number) => amount(setting.kind, number),
        Fallback::Processors => "the number of processors".to_owned(),
    };
    let (floor, ceiling) = (amount(setting.kind, setting.floor), amount(setting.kind, setting.ceiling));
    format!("default {value}, {floor} to {ceiling}")
}

fn amount(kind: Kind, number: u64) -> String {
    match kind {
        Kind::Number(Unit::Bytes) if number.is_multiple_of(1 << 30) => format!("{}GiB", number >> 30),
        Kind::Number(Unit::Bytes) if number.is_multiple_of(1 << 20) => format!("{}MiB", number >> 20),
        _ => number.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Mode;

    #[test]
    fn every_setting_is_shown_with_flag_variable_and_text() {
        let text = text(Topic::Program);
        for setting in &SETTINGS {
            assert!(text.contains(&format!("\n  {}", setting.flag())), "{}", setting.name);
            assert!(text.contains(&format!("[{};", setting.variable())), "{}", setting.name);
            assert!(text.contains(setting.help), "{}", setting.name);
        }
        assert!(text.contains("--max-memory BYTES"));
        assert!(text.contains("default 64MiB, 8MiB to 16GiB]"));
        assert!(text.contains("QUANTONIUM_DATA_DIR; required; with --dev ./quantonium-dev]"));
    }

    #[test]
    fn every_mode_and_every_step_of_the_lock_down_is_shown() {
        let text = text(Topic::Program);
        for mode in Mode::NAMES {
            assert!(text.contains(&format!("\n  {mode:<9}  ")), "{mode}");
        }
        let (free, firm) = text.split_once("\nWithout these nothing is ever served:\n").unwrap();
        let named = |part: &str, step: Step| part.split([' ', ',', '\n']).any(|word| word == step.name());
        let free = free.rsplit_once("Steps:\n").unwrap().1;
        let firm = firm.split_once("\n\n").unwrap().0;
        for step in Step::ALL {
            assert_eq!((named(free, step), named(firm, step)), (!step.is_mandatory(), step.is_mandatory()));
        }
    }

    #[test]
    fn every_exit_code_is_shown() {
        let text = text(Topic::Program);
        for (exit, meaning) in Exit::MEANINGS {
            assert!(text.contains(&format!("  {:<3} {meaning}\n", exit.code())), "{exit:?}");
        }
    }

    fn topics() -> impl Iterator<Item = Topic> {
        let of_store = Action::ALL.map(Topic::OfStore).into_iter();
        let all = [
            Topic::Program,
            Topic::Init,
            Topic::Store,
            Topic::ApiKey,
            Topic::Audit,
            Topic::Tls,
            Topic::Sandbox,
        ];
        let of_table = table::asking().map(Topic::Of).chain([Topic::Group("key")]);
        all.into_iter().chain(of_store).chain(Verb::ALL.map(Topic::OfApiKey)).chain(of_table)
    }

    #[test]
    fn no_line_is_wider_than_100_characters() {
        for line in topics().flat_map(|topic| text(topic).lines().map(str::to_owned).collect::<Vec<_>>()) {
            assert!(line.chars().count() <= 100, "{line}");
        }
    }

    /// What a text says of flags: every word that begins with two hyphens.
    fn named_flags(text: &str) -> std::collections::BTreeSet<&str> {
        let is_part = |char: char| char.is_ascii_lowercase() || char.is_ascii_digit() || char == '-';
        let words =
            text.split("--").skip(1).map(|rest| rest.split(|char| !is_part(char)).next().unwrap_or_default());
        words.filter(|word| !word.is_empty()).collect()
    }

    #[test]
    fn helps_and_table_name_the_same_flags() {
        // Where several commands share one help, it names the flags of all of them.
        for (topic, commands) in [
            (Topic::Init, &["init"][..]),
            (Topic::OfStore(Action::Verify), &["store verify"]),
            (Topic::OfStore(Action::Inspect), &["store inspect"]),
            (Topic::OfStore(Action::Compact), &["store compact"]),
            (Topic::OfStore(Action::Rekey), &["store rekey"]),
            (Topic::OfStore(Action::RotateRoot), &["store rotate-root"]),
            (Topic::Audit, &["audit verify", "audit tail", "audit search"]),
            (Topic::Tls, &["tls self-signed", "tls show"]),
            (Topic::Sandbox, &["sandbox show", "sandbox check", "sandbox profile"]),
        ] {
            let text = text(topic);
            let (_, flags) = text.split_once("\nFlags").unwrap();
            let in_help = named_flags(flags.split("\nExit codes:").next().unwrap());
            let rows: Vec<_> = commands.iter().map(|words| table::row(words).unwrap()).collect();
            let in_table = rows.iter().flat_map(|spec| {
                spec.own().map(|flag| flag.name).chain(spec.settings().map(|setting| setting.name))
            });
            assert_eq!(in_help, in_table.collect(), "{commands:?}");
        }
        let of_api_keys =
            format!("{}{}", text(Topic::ApiKey), Verb::ALL.map(|verb| text(Topic::OfApiKey(verb))).concat());
        for verb in Verb::ALL {
            let spec = table::row(&format!("apikey {}", verb.name())).unwrap();
            for flag in spec.own() {
                assert!(named_flags(&of_api_keys).contains(flag.name), "{} --{}", spec.words, flag.name);
            }
        }
    }

    #[test]
    fn every_command_is_shown_with_an_example_and_the_exit_codes() {
        for topic in topics() {
            let text = text(topic);
            let example = match topic {
                Topic::Program => "\n  quantonium serve --dev".to_owned(),
                Topic::Init => "\n  quantonium init --data-dir ".to_owned(),
                Topic::Store => "\n  quantonium store verify ".to_owned(),
                Topic::Audit => "\n  quantonium audit verify ".to_owned(),
                Topic::Tls => "\n  quantonium tls self-signed ".to_owned(),
                Topic::Sandbox => "\n  quantonium sandbox check ".to_owned(),
                Topic::OfStore(Action::Copy) => "\n  quantonium store copy --from ".to_owned(),
                Topic::OfStore(action) => format!("\n  quantonium store {} --data-dir ", action.name()),
                Topic::ApiKey => "\n  quantonium apikey create --name ".to_owned(),
                Topic::OfApiKey(verb) => format!("\n  quantonium apikey {} ", verb.name()),
                Topic::Of(spec) => format!("  quantonium {}", spec.words),
                Topic::Group(group) => format!("\n  quantonium {group} "),
            };
            assert!(text.contains(&example), "{text}");
            assert!(text.contains("\n  65  "), "{text}");
        }
        for action in Action::ALL {
            assert!(STORE.contains(&format!("quantonium store {} ", action.name())));
        }
    }
}
