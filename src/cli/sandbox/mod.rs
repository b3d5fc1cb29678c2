//! `quantonium sandbox`: the filters shown, this host tried, and the same rules for other programs that confine.
//!
//! Owns [`SandboxCommand`] and its grammar. Invariants: everything is made from the rules that are compiled in, so that it
//! works where there is nothing but the binary; the calling process is not changed: what has to be tried is tried by a
//! child (`probe`).

mod apparmor;
mod check;
mod oci;
mod orchestrator;
mod probe;
mod selinux;
mod show;
mod startup;
mod unit;

use std::ffi::OsStr;

use lexopt::{Arg, Parser};

use super::arguments::{Command, Flags, UsageError, alone, flags_of, unknown_letter, wrong};
use super::help::Topic;
use crate::config::{nearest, shown};
use crate::exit::Exit;
use crate::model::{Mode, Step};
use crate::sandbox::seccomp::Role;

/// What `quantonium sandbox` is to do.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum SandboxCommand {
    /// Show the filters.
    Show {
        /// Whose; all of them otherwise.
        scope: Scope,
        /// In which form.
        format: Format,
    },
    /// Say what a start here would reach.
    Check(Wanted),
    /// The same from inside: lock down for good, and tell.
    Probe(Wanted),
    /// Print the same rules for another program.
    Profile(Profile),
}

/// Which lock-down is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Wanted {
    mode: Mode,
    allow_missing: Vec<Step>,
}

/// Whose filters are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    /// Those of every role, and what they come to together.
    All,
    /// That of one role.
    Of(Role),
    /// The calls of all threads together.
    Union,
}

impl Scope {
    const NAMES: [&'static str; 5] = ["worker", "keeper", "archivist", "main", "union"];

    fn named(name: &str) -> Option<Self> {
        let role = Role::ALL.into_iter().find(|role| role.name() == name).map(Self::Of);
        role.or_else(|| (name == "union").then_some(Self::Union))
    }
}

/// How the filters are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    Text,
    Json,
    Markdown,
}

impl Format {
    const NAMES: [&'static str; 3] = ["text", "json", "markdown"];

    fn named(name: &str) -> Option<Self> {
        [Self::Text, Self::Json, Self::Markdown]
            .into_iter()
            .zip(Self::NAMES)
            .find_map(|(one, its)| (its == name).then_some(one))
    }
}

/// Another program that can confine the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Profile {
    Docker,
    Oci,
    AppArmor,
    SeLinux,
    Systemd,
    SystemdSocket,
    Kubernetes,
}

impl Profile {
    const ALL: [Self; 7] = [
        Self::Docker,
        Self::Oci,
        Self::AppArmor,
        Self::SeLinux,
        Self::Systemd,
        Self::SystemdSocket,
        Self::Kubernetes,
    ];

    const fn name(self) -> &'static str {
        match self {
            Self::Docker => "docker",
            Self::Oci => "oci",
            Self::AppArmor => "apparmor",
            Self::SeLinux => "selinux",
            Self::Systemd => "systemd",
            Self::SystemdSocket => "systemd-socket",
            Self::Kubernetes => "kubernetes",
        }
    }

    fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|profile| profile.name() == name)
    }

    fn text(self) -> String {
        match self {
            Self::Docker => oci::docker(),
            Self::Oci => oci::runtime(),
            Self::AppArmor => apparmor::profile(),
            Self::SeLinux => selinux::module(),
            Self::Systemd => unit::service(),
            Self::SystemdSocket => unit::socket(),
            Self::Kubernetes => orchestrator::manifest(),
        }
    }
}

const NAMES: [&str; 3] = ["show", "check", "profile"];
/// What `check` starts itself again with; not for people, and in no help.
const PROBE: &str = "probe";
const MODE: &str = "sandbox";
const ALLOW_MISSING: &str = "sandbox-allow-missing";

/// Reads what stands behind `sandbox`.
pub(super) fn parse(mut parser: Parser) -> Result<Command, UsageError> {
    let word = match parser.next().map_err(wrong)? {
        None => return Err(UsageError::NoCommand(Topic::Sandbox)),
        Some(Arg::Long("help") | Arg::Short('h')) => return alone(parser, Command::Help(Topic::Sandbox)),
        Some(Arg::Value(word)) => word,
        Some(Arg::Long(name)) => {
            let flag = shown(OsStr::new(name));
            return Err(UsageError::Wrong(format!(
                "--{flag} stands before what to do; did you mean `quantonium sandbox show --{flag}`?"
            )));
        }
        Some(Arg::Short(letter)) => return Err(unknown_letter(letter)),
    };
    let command = match word.to_str() {
        Some("show") => show_of(parser)?,
        Some("check") => wanted(parser)?.map(SandboxCommand::Check),
        Some(PROBE) => wanted(parser)?.map(SandboxCommand::Probe),
        Some("profile") => profile_of(parser)?,
        _ => return Err(unknown("sandbox command", "sandbox ", &word, &NAMES)),
    };
    Ok(command.map_or(Command::Help(Topic::Sandbox), Command::Sandbox))
}

fn show_of(parser: Parser) -> Result<Option<SandboxCommand>, UsageError> {
    let Some(mut flags) = flags_of(parser, "sandbox show")? else { return Ok(None) };
    let scope = one_of(&mut flags, "role", Scope::named, &Scope::NAMES)?.unwrap_or(Scope::All);
    let format = one_of(&mut flags, "format", Format::named, &Format::NAMES)?.unwrap_or(Format::Text);
    Ok(Some(SandboxCommand::Show { scope, format }))
}

fn wanted(parser: Parser) -> Result<Option<Wanted>, UsageError> {
    let Some(mut flags) = flags_of(parser, "sandbox check")? else { return Ok(None) };
    let mode =
        |name: &str| [Mode::Auto, Mode::Strict, Mode::Container].into_iter().find(|mode| mode.name() == name);
    let mode = one_of(&mut flags, MODE, mode, &Mode::NAMES)?.unwrap_or_default();
    let steps = Step::ALL.map(Step::name);
    let mut allow_missing = Vec::new();
    while let Some(step) = one_of(&mut flags, ALLOW_MISSING, Step::from_name, &steps)? {
        allow_missing.push(step);
    }
    Ok(Some(Wanted { mode, allow_missing }))
}

fn profile_of(parser: Parser) -> Result<Option<SandboxCommand>, UsageError> {
    let Some(flags) = flags_of(parser, "sandbox profile")? else { return Ok(None) };
    let names = Profile::ALL.map(Profile::name);
    let word = flags
        .words
        .first()
        .ok_or_else(|| UsageError::Wrong(format!("sandbox profile needs one of {}", names.join(", "))))?;
    let profile = word.to_str().and_then(Profile::named);
    let profile = profile.ok_or_else(|| unknown("profile", "sandbox profile ", word, &names))?;
    Ok(Some(SandboxCommand::Profile(profile)))
}

/// The value of a flag that has one of these `names`.
fn one_of<T>(
    flags: &mut Flags,
    flag: &str,
    named: impl FnOnce(&str) -> Option<T>,
    names: &[&str],
) -> Result<Option<T>, UsageError> {
    let Some(word) = flags.take(flag) else { return Ok(None) };
    let wrong = || UsageError::Wrong(format!("--{flag}: {} is none of {}", shown(&word), names.join(", ")));
    word.to_str().and_then(named).ok_or_else(wrong).map(Some)
}

fn unknown(what: &str, before: &str, word: &OsStr, names: &[&'static str]) -> UsageError {
    UsageError::Wrong(match nearest(&word.to_string_lossy(), names.iter().copied()) {
        Some(name) => format!("unknown {what} {}; did you mean `quantonium {before}{name}`?", shown(word)),
        None => format!("unknown {what} {}; there are {}", shown(word), names.join(", ")),
    })
}

/// Does what `command` says.
pub(super) fn run(command: SandboxCommand) -> Exit {
    match command {
        SandboxCommand::Show { scope, format } => super::show(&show::text(scope, format)),
        SandboxCommand::Profile(profile) => super::show(&profile.text()),
        SandboxCommand::Check(wanted) => check::run(&wanted),
        SandboxCommand::Probe(wanted) => probe::run(wanted),
    }
}
