//! The help: what the program is, how to begin, every flag with its default.
//!
//! Owns no fact that stands elsewhere: settings come from their table, exit codes from `exit`. Invariant: no
//! line is wider than 100 characters.

use core::fmt::Write as _;

use crate::build_info::VERSION;
use crate::config::{Fallback, Group, Kind, MASTER_KEY_CREDENTIAL, SETTINGS, Setting, Unit};
use crate::exit::Exit;

const HEAD: &str = "\
Cryptography as a service: named keys that never leave the server, used over HTTP.

First run:
  quantonium serve --dev                 # prints the admin key and lines to try
  K=$(cat quantonium-dev/admin.key)
  curl -X POST localhost:8080/api/keys -H \"X-API-Key: $K\" -d '{\"name\":\"orders\"}'

Commands:
  quantonium serve [FLAG ...]            serve until SIGTERM; a second signal stops at once
  quantonium healthcheck [--url URL]     ask a server (default: the one configured here) how it is
  quantonium version                     show version, commit, target, features, CPU flavour
  quantonium help                        show this

Settings of serve. Each is a flag, an environment variable or a key in the TOML file, in this
order of strength; the default comes last. An empty variable counts as not set. Secrets are not
taken from the environment by value.
";

const FILES: &str = "
Files, below the data directory:
  admin.key      the admin API key, made at the first start; keep it secret
  audit/*.jsonl  what was done, by whom, one JSON line each
  lock           held while a server runs
";

/// Where the text of a setting begins.
const INDENT: &str = "      ";

/// The whole help, ending in a newline.
pub(super) fn text() -> String {
    let mut out = format!("quantonium {VERSION}\n{HEAD}");
    for group in Group::ALL {
        let _ = write!(out, "\n{}:\n", group.heading());
        for setting in SETTINGS.iter().filter(|setting| setting.group == group) {
            let _ = writeln!(out, "  {}{}", setting.flag(), placeholder(setting.kind));
            let _ = writeln!(out, "{INDENT}{}", setting.help);
            let _ = writeln!(out, "{INDENT}[{}; {}]", setting.variable(), default(setting));
        }
    }
    out.push_str("\nExit codes:\n");
    for (exit, meaning) in Exit::MEANINGS {
        let _ = writeln!(out, "  {:<3} {meaning}", exit.code());
    }
    out.push_str(FILES);
    out
}

const fn placeholder(kind: Kind) -> &'static str {
    match kind {
        Kind::Switch => "",
        Kind::Path => " PATH",
        Kind::Addresses => " ADDR:PORT",
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
        Fallback::Nothing => return "none".to_owned(),
        Fallback::Text(text) => return format!("default {text}"),
        Fallback::RequiredUnlessDev(text) => return format!("required; with --dev {text}"),
        Fallback::CredentialUnlessDev => {
            return format!("required, or systemd's credential {MASTER_KEY_CREDENTIAL}; with --dev made");
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

    #[test]
    fn every_setting_is_shown_with_flag_variable_and_text() {
        let text = text();
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
    fn every_exit_code_is_shown() {
        let text = text();
        for (exit, meaning) in Exit::MEANINGS {
            assert!(text.contains(&format!("  {:<3} {meaning}\n", exit.code())), "{exit:?}");
        }
    }

    #[test]
    fn no_line_is_wider_than_100_characters() {
        for line in text().lines() {
            assert!(line.chars().count() <= 100, "{line}");
        }
    }
}
