//! `quantonium tls`: a certificate for development, and what certificates say of themselves.
//!
//! Owns [`TlsCommand`] and its grammar. Invariants: nothing that exists is overwritten; a key is for its owner only from the
//! moment its file is there, and never shown; everything that is said goes to standard error, or is the answer.

use std::ffi::OsStr;
use std::path::PathBuf;

use lexopt::{Arg, Parser};

use super::arguments::{Command, UsageError, alone, flags_of, unknown_letter, wrong};
use super::failure::Failure;
use super::help::Topic;
use crate::config::{nearest, shown};
use crate::exit::Exit;
use crate::limits::{DEVELOPMENT_CERTIFICATE_DEFAULT_DAYS, TLS_CERTIFICATE_NAMES_MAX_COUNT};

/// What `quantonium tls` is to do.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum TlsCommand {
    /// Make a certificate for development.
    SelfSigned {
        /// Where its files go.
        out_dir: PathBuf,
        /// Its names, beside those of this machine.
        names: Vec<String>,
        /// How long it holds.
        days: u32,
    },
    /// Show a certificate.
    Show {
        /// The file of its chain.
        chain: PathBuf,
        /// The file of its key, if that is to be held against it.
        key: Option<PathBuf>,
    },
}

const NAMES: [&str; 2] = ["self-signed", "show"];
const OUT_DIR: &str = "out-dir";

/// Reads what stands behind `tls`.
pub(super) fn parse(mut parser: Parser) -> Result<Command, UsageError> {
    let word = match parser.next().map_err(wrong)? {
        None => return Err(UsageError::NoCommand(Topic::Tls)),
        Some(Arg::Long("help") | Arg::Short('h')) => return alone(parser, Command::Help(Topic::Tls)),
        Some(Arg::Value(word)) => word,
        Some(Arg::Long(name)) => {
            let flag = shown(OsStr::new(name));
            return Err(UsageError::Wrong(format!(
                "--{flag} stands before what to do; did you mean `quantonium tls self-signed --{flag}`?"
            )));
        }
        Some(Arg::Short(letter)) => return Err(unknown_letter(letter)),
    };
    let command = match word.to_str() {
        Some("self-signed") => self_signed(parser)?,
        Some("show") => show(parser)?,
        _ => return Err(unknown(&word)),
    };
    Ok(command.map_or(Command::Help(Topic::Tls), Command::Tls))
}

fn self_signed(parser: Parser) -> Result<Option<TlsCommand>, UsageError> {
    let Some(mut flags) = flags_of(parser, "tls self-signed")? else { return Ok(None) };
    let missing = || {
        UsageError::Wrong(format!(
            "tls self-signed needs --{OUT_DIR} DIR, where cert.pem and key.pem are made"
        ))
    };
    let out_dir = flags.take_path(OUT_DIR)?.ok_or_else(missing)?;
    let days = flags.take("days").map(|text| {
        let number = text.to_str().and_then(|text| text.parse().ok());
        number.ok_or_else(|| UsageError::Wrong(format!("--days: {} is not a number of days", shown(&text))))
    });
    let mut names = Vec::new();
    while let Some(name) = flags.take("name") {
        let text = name.to_str().filter(|_| names.len() < TLS_CERTIFICATE_NAMES_MAX_COUNT);
        let refused = || UsageError::Wrong(format!("--name: {} is not a name", shown(&name)));
        names.push(text.ok_or_else(refused)?.to_owned());
    }
    let days = days.transpose()?.unwrap_or(DEVELOPMENT_CERTIFICATE_DEFAULT_DAYS);
    Ok(Some(TlsCommand::SelfSigned { out_dir, names, days }))
}

fn show(parser: Parser) -> Result<Option<TlsCommand>, UsageError> {
    let Some(flags) = flags_of(parser, "tls show")? else { return Ok(None) };
    let mut words = flags.words.into_iter().map(PathBuf::from);
    let chain = words.next().ok_or_else(|| {
        UsageError::Wrong("tls show needs the file of a certificate, and perhaps that of its key".to_owned())
    })?;
    Ok(Some(TlsCommand::Show { chain, key: words.next() }))
}

fn unknown(word: &OsStr) -> UsageError {
    let near = nearest(&word.to_string_lossy(), NAMES);
    UsageError::Wrong(format!(
        "unknown command tls {}; did you mean `quantonium tls {}`?",
        shown(word),
        near.unwrap_or("self-signed")
    ))
}

/// Does it.
pub(super) fn run(command: TlsCommand) -> Exit {
    match carry_out(command) {
        Ok(()) => Exit::Success,
        Err(failure) => failure.tell("tls"),
    }
}

#[cfg(not(feature = "tls"))]
fn carry_out(_command: TlsCommand) -> Result<(), Failure> {
    Err(Failure::config("this build has no TLS: build it with the feature `tls`"))
}

#[cfg(feature = "tls")]
fn carry_out(command: TlsCommand) -> Result<(), Failure> {
    use core::fmt::Write as _;
    use std::path::Path;

    use zeroize::Zeroizing;

    use super::new_file::NewFile;
    use crate::clock::WallTime;
    use crate::console;
    use crate::store::quoted;
    use crate::tls::certificate::Name;
    use crate::tls::{Material, TlsError, material, self_signed};

    let refused = |error: TlsError| Failure::config(error.to_string());
    let read = |path: &Path| {
        let read = std::fs::read(path).map(Zeroizing::new);
        read.map_err(|error| Failure::config(format!("{}: {error}", quoted(path))))
    };
    match command {
        TlsCommand::SelfSigned { out_dir, names, days } => {
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            let pair = self_signed::make(&names, days, WallTime::now()).map_err(refused)?;
            let (certificate, key) = (out_dir.join("cert.pem"), out_dir.join("key.pem"));
            // Both or none: what was made is removed again unless it was filled.
            let certificate_file = NewFile::create_shown(&certificate, "certificate")?;
            let key_file = NewFile::create(&key, "private key")?;
            key_file.fill(pair.key.as_pem().as_bytes())?;
            certificate_file.fill(pair.certificate.as_bytes())?;
            console::err(&format!(
                "quantonium: made {0} and {1}, for {days} days, for development\ntry:\n  quantonium serve --dev --listen 127.0.0.1:8443 \
                 --tls-cert {0} --tls-key {1}\n  curl --cacert {0} https://localhost:8443/api/health\n",
                quoted(&certificate),
                quoted(&key)
            ));
        }
        TlsCommand::Show { chain, key } => {
            let text = read(&chain)?;
            let key = key.as_deref().map(read).transpose()?;
            let facts = match &key {
                Some(key) => Material::read(&text, key, None).map_err(refused)?.facts().clone(),
                None => material::read_facts(&text).map_err(refused)?,
            };
            let mut out = String::new();
            for name in &facts.names {
                let _ = match name {
                    Name::Dns(text) => writeln!(out, "name: {text}"),
                    Name::Address(address) => writeln!(out, "address: {address}"),
                    Name::Uri(text) => writeln!(out, "uri: {text}"),
                    Name::Email(text) => writeln!(out, "email: {text}"),
                };
            }
            let holds = if facts.holds_at(WallTime::now()) { "yes" } else { "no" };
            let (from, to) = (facts.not_before.civil(), facts.not_after.civil());
            let _ = writeln!(out, "from: {from}\nto: {to}\nholds now: {holds}");
            if key.is_some() {
                out.push_str("key: fits\n");
            }
            console::out(&out);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(words: &[&str]) -> Result<TlsCommand, String> {
        match parse(Parser::from_args(words)) {
            Ok(Command::Tls(command)) => Ok(command),
            other => Err(format!("{other:?}")),
        }
    }

    #[test]
    fn a_certificate_is_asked_for_with_names_and_days() {
        let wanted = |names: &[&str], days| {
            let names = names.iter().map(|name| (*name).to_owned()).collect();
            TlsCommand::SelfSigned { out_dir: "d".into(), names, days }
        };
        assert_eq!(
            parsed(&["self-signed", "--out-dir", "d"]),
            Ok(wanted(&[], DEVELOPMENT_CERTIFICATE_DEFAULT_DAYS))
        );
        let words = ["self-signed", "--out-dir", "d", "--name", "a", "--days", "40", "--name=b"];
        assert_eq!(parsed(&words), Ok(wanted(&["a", "b"], 40)));
        for words in [
            &["self-signed"][..],
            &["self-signed", "--out-dir", "d", "--days", "x"],
            &["self-signed", "d"],
            &["show"],
            &["show", "a", "b", "c"],
            &["sign"],
            &["--name", "a"],
            &[],
        ] {
            assert!(parsed(words).unwrap_err().starts_with("Err("), "{words:?}");
        }
    }
}
