//! `quantonium audit`: its arguments, and which files they mean.
//!
//! Owns [`AuditCommand`]. Invariants: no file is changed and none is locked, so that a server may run meanwhile; a file counts
//! by its name, since that says which stream it is a part of.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};

use lexopt::{Arg, Parser};

use super::arguments::{Command, UsageError, alone, flags_of, unknown_letter, wrong};
use super::failure::Failure;
use super::help::Topic;
use super::{audit_read, audit_verify, offline};
use crate::audit::StreamName;
use crate::config::{self, Offline, Raw, nearest, shown};
use crate::exit::Exit;
use crate::limits::AUDIT_TAIL_DEFAULT_LINES_COUNT;
use crate::store::quoted;

/// What `quantonium audit` is to do.
#[derive(Debug)]
pub(super) struct AuditCommand {
    /// Settings.
    raw: Raw,
    action: Action,
    /// The files; all of the data directory if there are none.
    files: Vec<PathBuf>,
}

/// The commands of `quantonium audit`.
#[derive(Debug)]
enum Action {
    Verify { without_key: bool },
    Tail { lines: usize, json: bool },
    Search { wanted: audit_read::Wanted, json: bool },
}

const NAMES: [&str; 3] = ["verify", "tail", "search"];

/// Reads what stands behind `audit`.
pub(super) fn parse(mut parser: Parser) -> Result<Command, UsageError> {
    let name = match parser.next().map_err(wrong)? {
        None => return Err(UsageError::NoCommand(Topic::Audit)),
        Some(Arg::Long("help") | Arg::Short('h')) => return alone(parser, Command::Help(Topic::Audit)),
        Some(Arg::Value(word)) => word,
        Some(Arg::Long(name)) => {
            let flag = shown(OsStr::new(name));
            return Err(UsageError::Wrong(format!(
                "--{flag} stands before what to do; did you mean `quantonium audit verify --{flag}`?"
            )));
        }
        Some(Arg::Short(letter)) => return Err(unknown_letter(letter)),
    };
    let command = match name.to_str() {
        Some("verify") => "audit verify",
        Some("tail") => "audit tail",
        Some("search") => "audit search",
        _ => return Err(unknown(&name)),
    };
    let Some(mut flags) = flags_of(parser, command)? else {
        return Ok(Command::Help(Topic::Audit));
    };
    let json = flags.take("json").is_some();
    let action = match command {
        "audit verify" => Action::Verify { without_key: flags.take("without-key").is_some() },
        "audit tail" => Action::Tail { lines: lines(flags.take("lines"))?, json },
        _ => Action::Search { wanted: audit_read::Wanted::new(|name| flags.take(name)), json },
    };
    let files = flags.words.drain(..).map(PathBuf::from).collect();
    Ok(Command::Audit(AuditCommand { raw: flags.raw, action, files }))
}

/// Does what `command` says.
pub(super) fn run(
    command: AuditCommand,
    environment: impl IntoIterator<Item = (OsString, OsString)>,
) -> Exit {
    let AuditCommand { raw, action, files } = command;
    let name = match &action {
        Action::Verify { .. } => "audit verify",
        Action::Tail { .. } => "audit tail",
        Action::Search { .. } => "audit search",
    };
    let done = config::load_offline(raw, environment).map_err(Failure::from).and_then(|settings| {
        offline::prepare()?;
        let parts = || Part::all(&settings, &files);
        match &action {
            Action::Verify { without_key } => {
                audit_verify::verify(&settings, parts, files.is_empty(), *without_key)
            }
            Action::Tail { lines, json } => audit_read::tail(&parts()?, *lines, *json),
            Action::Search { wanted, json } => audit_read::search(&parts()?, wanted, *json),
        }
    });
    done.unwrap_or_else(|failure| failure.tell(name))
}

/// A file, and which part of which stream it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) name: StreamName,
    pub(super) path: PathBuf,
}

impl Part {
    /// The files that are meant, in the order of their streams and parts.
    fn all(settings: &Offline, files: &[PathBuf]) -> Result<Vec<Self>, Failure> {
        let mut parts =
            if files.is_empty() { Self::in_directory(&settings.data_dir.join("audit"))? } else { Vec::new() };
        for path in files {
            let name = Self::name_of(path).ok_or_else(|| {
                Failure::config(format!(
                    "{} has not the name of an audit file, which says which stream it is a part of",
                    quoted(path)
                ))
            })?;
            parts.push(Self { name, path: path.clone() });
        }
        // A part that is being compressed is there in both forms: the plain one is whole.
        parts.sort_by_key(|part| (part.name, part.path.as_os_str().len()));
        parts.dedup_by_key(|part| part.name);
        Ok(parts)
    }

    fn in_directory(directory: &Path) -> Result<Vec<Self>, Failure> {
        let failed =
            |error: std::io::Error| Failure::io(format!("cannot read {}: {error}", quoted(directory)));
        let mut parts = Vec::new();
        for entry in fs::read_dir(directory).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            parts.extend(Self::name_of(&path).map(|name| Self { name, path }));
        }
        Ok(parts)
    }

    fn name_of(path: &Path) -> Option<StreamName> {
        StreamName::parse_file(&path.file_name()?.to_string_lossy()).map(|(name, _)| name)
    }
}

fn lines(given: Option<OsString>) -> Result<usize, UsageError> {
    let Some(text) = given else { return Ok(AUDIT_TAIL_DEFAULT_LINES_COUNT) };
    let number = text.to_str().and_then(|text| text.parse().ok());
    number.ok_or_else(|| UsageError::Wrong(format!("--lines: {} is no number", shown(&text))))
}

fn unknown(word: &OsStr) -> UsageError {
    UsageError::Wrong(match nearest(&word.to_string_lossy(), NAMES) {
        Some(name) => {
            format!("unknown audit command {}; did you mean `quantonium audit {name}`?", shown(word))
        }
        None => format!("unknown audit command {}; there are {}", shown(word), NAMES.join(", ")),
    })
}
