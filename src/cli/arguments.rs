//! Arguments into a command.
//!
//! Owns the grammar: `quantonium COMMAND [FLAG ...]`, and `quantonium store COMMAND [FLAG ...]`; what follows
//! `quantonium apikey` is read beside what it does. Invariants: the
//! flags of `serve` are the rows of the table of settings and no others; the other commands take some of these rows
//! and flags of their own; every refusal names the argument and says what to run instead.

use core::fmt;
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use lexopt::{Arg, Parser};

use super::apikey::{self, ApiKeyCommand, Verb};
use super::audit_arguments::{self, AuditCommand};
use super::completions::Shell;
use super::help::{self, Topic};
use super::remote::{self, RemoteCommand};
use super::sandbox::{self, SandboxCommand};
use super::secure::Trusting;
use super::table::{self, Spec, Value};
use super::tls::{self, TlsCommand};
use crate::config::{Kind, Raw, by_name, nearest, shown};

/// What to do.
#[derive(Debug)]
pub(super) enum Command {
    /// Serve with these flags.
    Serve(Raw),
    /// Own the sockets and run servers with these flags.
    Supervise {
        /// The flags.
        raw: Raw,
        /// The same, as they were written.
        arguments: Vec<OsString>,
    },
    /// Make data directory, store and admin key.
    Init(Init),
    /// Work on the store of a stopped server.
    Store(StoreCommand),
    /// Make, look at and end API keys.
    ApiKey(ApiKeyCommand),
    /// Verify and read the audit log.
    Audit(AuditCommand),
    /// Make and look at certificates.
    Tls(TlsCommand),
    /// Show the filters, try the lock-down, print profiles.
    Sandbox(SandboxCommand),
    /// Ask a server how it is.
    HealthCheck {
        /// Where; by default as the configuration says.
        url: Option<OsString>,
        /// Whom to take for it.
        trusting: Trusting,
    },
    /// Ask a running server.
    Remote(RemoteCommand),
    /// Print completions.
    Completions(Shell),
    /// Print the manual page of a command, or of the program.
    Man(Option<&'static Spec>),
    /// Show what was built.
    Version,
    /// Show what it was made of.
    Crates,
    /// Show the help.
    Help(Topic),
}

/// What `quantonium init` is to do.
#[derive(Debug)]
pub(super) struct Init {
    /// Settings.
    pub(super) raw: Raw,
    /// Make the master key's file too.
    pub(super) generate_master_key: bool,
    /// Where the admin key goes; else to standard output.
    pub(super) admin_key_file: Option<PathBuf>,
}

/// What `quantonium store` is to do.
#[derive(Debug)]
pub(super) struct StoreCommand {
    /// Settings.
    pub(super) raw: Raw,
    /// What to do.
    pub(super) action: Action,
    /// Report in JSON.
    pub(super) json: bool,
    /// The master key that is to open the store from now on.
    pub(super) new_master_key_file: Option<PathBuf>,
    /// Where a new admin key goes; else to standard output.
    pub(super) admin_key_file: Option<PathBuf>,
    /// From where to where a store is copied.
    pub(super) ends: Option<(String, String)>,
}

/// The commands of `quantonium store`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// Check every byte.
    Verify,
    /// Show what is in it.
    Inspect,
    /// Rewrite it with what is alive in it.
    Compact,
    /// Put it under another master key.
    Rekey,
    /// Seal everything anew under a new root key.
    RotateRoot,
    /// Copy it to etcd, or from there.
    Copy,
}

impl Action {
    /// All of them, in the order of the help.
    pub(super) const ALL: [Self; 6] =
        [Self::Verify, Self::Inspect, Self::Compact, Self::Rekey, Self::RotateRoot, Self::Copy];

    /// The word on the command line.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Verify => "verify",
            Self::Inspect => "inspect",
            Self::Compact => "compact",
            Self::Rekey => "rekey",
            Self::RotateRoot => "rotate-root",
            Self::Copy => "copy",
        }
    }

    fn named(word: &OsStr) -> Option<Self> {
        Self::ALL.into_iter().find(|action| word == action.name())
    }
}

/// The flag that names who signs the server's certificate.
pub(super) const TLS_CA: &str = "tls-ca";
const INSECURE_TLS: &str = "insecure-tls";
const NEW_MASTER_KEY_FILE: &str = "new-master-key-file";
const GENERATE_MASTER_KEY: &str = "generate-master-key";
const ADMIN_KEY_FILE: &str = "admin-key-file";

/// What is wrong with the command line, ending in a newline.
#[derive(Debug)]
pub(super) enum UsageError {
    /// What to do was not said: the help on it is the answer.
    NoCommand(Topic),
    /// Something else; one line and a hint.
    Wrong(String),
}

impl fmt::Display for UsageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoCommand(topic) => f.write_str(&help::text(*topic)),
            Self::Wrong(reason) => {
                writeln!(f, "quantonium: {reason}\nRun `quantonium help` for commands and flags.")
            }
        }
    }
}

impl std::error::Error for UsageError {}

/// Reads the arguments, without the program's name.
///
/// # Errors
/// What is wrong with them.
pub(super) fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Command, UsageError> {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    if let Some((_, rest)) = arguments.split_first().filter(|(first, _)| *first == "supervise") {
        return supervise(rest);
    }
    if let Some((spec, count)) = table::find(&arguments) {
        return asking(spec, Parser::from_args(arguments.into_iter().skip(count)));
    }
    if let Some(group) = arguments.first().and_then(|word| table::group(word)) {
        return of_group(group, arguments.get(1));
    }
    let mut parser = Parser::from_args(arguments);
    match parser.next().map_err(wrong)? {
        None => Err(UsageError::NoCommand(Topic::Program)),
        Some(Arg::Long("help") | Arg::Short('h')) => alone(parser, Command::Help(Topic::Program)),
        Some(Arg::Long("version") | Arg::Short('V')) => alone(parser, Command::Version),
        Some(Arg::Value(word)) => match word.to_str() {
            Some("serve") => serve(parser),
            Some("init") => init(parser),
            Some("store") => store(parser),
            Some("apikey") => apikey::arguments::parse(parser),
            Some("audit") => audit_arguments::parse(parser),
            Some("tls") => tls::parse(parser),
            Some("sandbox") => sandbox::parse(parser),
            Some("healthcheck") => healthcheck(parser),
            Some("version") => version(parser),
            Some("completions") => completions(parser),
            Some("man") => man(parser),
            Some("help") => help(parser),
            _ => Err(unknown_command(&word)),
        },
        Some(flag) => Err(flag_before_command(&flag)),
    }
}

/// The first word of several commands, and not the second of any.
fn of_group(group: &'static str, word: Option<&OsString>) -> Result<Command, UsageError> {
    let names =
        || table::all().filter_map(|spec| spec.words.split_once(' ')).filter(|(first, _)| *first == group);
    let Some(word) = word else {
        let names: Vec<&str> = names().map(|(_, name)| name).collect();
        return Err(UsageError::Wrong(format!("{group} needs what to do: {}", names.join(", "))));
    };
    if word == "--help" || word == "-h" {
        return Ok(Command::Help(Topic::Group(group)));
    }
    let near = nearest(&word.to_string_lossy(), names().map(|(_, name)| name));
    let names: Vec<&str> = names().map(|(_, name)| name).collect();
    Err(UsageError::Wrong(match near {
        Some(name) => {
            format!("unknown command {group} {}; did you mean `quantonium {group} {name}`?", shown(word))
        }
        None => format!("unknown command {group} {}; there are {}", shown(word), names.join(", ")),
    }))
}

/// A command of the table that asks a server.
fn asking(spec: &'static Spec, parser: Parser) -> Result<Command, UsageError> {
    match flags_of(parser, spec.words)? {
        Some(flags) => remote::arguments::parse(spec, flags).map(Command::Remote),
        None => Ok(Command::Help(Topic::Of(spec))),
    }
}

/// A command without flags of its own. `version --help` is meant well.
pub(super) fn alone(mut parser: Parser, command: Command) -> Result<Command, UsageError> {
    let mut command = command;
    while let Some(argument) = parser.next().map_err(wrong)? {
        match argument {
            Arg::Long("help") | Arg::Short('h') => command = Command::Help(Topic::Program),
            Arg::Long(name) => return Err(unknown_flag(name, ["help"])),
            Arg::Short(letter) => return Err(unknown_letter(letter)),
            Arg::Value(word) => return Err(stray_word(&word)),
        }
    }
    Ok(command)
}

/// `version`, `version --crates`.
fn version(mut parser: Parser) -> Result<Command, UsageError> {
    let mut command = Command::Version;
    while let Some(argument) = parser.next().map_err(wrong)? {
        match argument {
            Arg::Long("help") | Arg::Short('h') => return Ok(Command::Help(Topic::Program)),
            Arg::Long("crates") => command = Command::Crates,
            Arg::Long(name) => return Err(unknown_flag(name, ["crates", "help"])),
            Arg::Short(letter) => return Err(unknown_letter(letter)),
            Arg::Value(word) => return Err(stray_word(&word)),
        }
    }
    Ok(command)
}

/// `completions bash`.
fn completions(parser: Parser) -> Result<Command, UsageError> {
    let Some(flags) = flags_of(parser, "completions")? else { return Ok(Command::Help(Topic::Program)) };
    let word = flags.words.first().cloned().unwrap_or_default();
    Shell::named(&word).map(Command::Completions).ok_or_else(|| {
        UsageError::Wrong(format!("completions needs the name of a shell: {}", Shell::NAMES.join(", ")))
    })
}

/// `man`, `man encrypt`, `man key rotate`.
fn man(parser: Parser) -> Result<Command, UsageError> {
    let Some(flags) = flags_of(parser, "man")? else { return Ok(Command::Help(Topic::Program)) };
    if flags.words.is_empty() {
        return Ok(Command::Man(None));
    }
    let words: Vec<_> = flags.words.iter().map(|word| word.to_string_lossy()).collect();
    let spec = table::row(&words.join(" "));
    let near = || nearest(&words.join(" "), table::all().map(|spec| spec.words));
    spec.map(|spec| Command::Man(Some(spec))).ok_or_else(|| {
        let asked = shown(OsStr::new(&words.join(" ")));
        UsageError::Wrong(match near() {
            Some(name) => format!("no manual page on {asked}; did you mean `quantonium man {name}`?"),
            None => format!("no manual page on {asked}; `quantonium man` names the commands"),
        })
    })
}

/// `help`, `help init`, `help store rekey`.
fn help(mut parser: Parser) -> Result<Command, UsageError> {
    let words: Vec<OsString> = parser.raw_args().map_err(wrong)?.collect();
    if let Some((spec, count)) = table::find(&words) {
        return alone(Parser::from_args(words.into_iter().skip(count)), Command::Help(Topic::Of(spec)));
    }
    if let Some(group) = words.first().and_then(|word| table::group(word)) {
        let rest = words.get(1);
        return if rest.is_none() { Ok(Command::Help(Topic::Group(group))) } else { of_group(group, rest) };
    }
    let mut parser = Parser::from_args(words);
    let mut topic = Topic::Program;
    let mut words = 0;
    while let Some(argument) = parser.next().map_err(wrong)? {
        topic = match argument {
            Arg::Long("help") | Arg::Short('h') => topic,
            Arg::Long(name) => return Err(unknown_flag(name, ["help"])),
            Arg::Short(letter) => return Err(unknown_letter(letter)),
            Arg::Value(word) => {
                words += 1;
                match (words, topic, word.to_str()) {
                    (1, _, Some("init")) => Topic::Init,
                    (1, _, Some("store")) => Topic::Store,
                    (1, _, Some("apikey")) => Topic::ApiKey,
                    (1, _, Some("audit")) => Topic::Audit,
                    (1, _, Some("tls")) => Topic::Tls,
                    (1, _, Some("sandbox")) => Topic::Sandbox,
                    (1, _, Some(name)) if commands().any(|command| command == name) => Topic::Program,
                    (2, Topic::Store, _) => {
                        Topic::OfStore(Action::named(&word).ok_or_else(|| unknown_action(&word))?)
                    }
                    (2, Topic::ApiKey, _) => Topic::OfApiKey(Verb::named(&word)?),
                    _ => return Err(stray_word(&word)),
                }
            }
        };
    }
    Ok(Command::Help(topic))
}

fn serve(parser: Parser) -> Result<Command, UsageError> {
    let flags = flags_of(parser, "serve")?;
    Ok(flags.map_or(Command::Help(Topic::Program), |flags| Command::Serve(flags.raw)))
}

/// The flags of `serve`, perhaps behind `--`.
fn supervise(rest: &[OsString]) -> Result<Command, UsageError> {
    let rest = rest.strip_prefix(&[OsString::from("--")]).unwrap_or(rest);
    let flags = flags_of(Parser::from_args(rest), "supervise")?;
    Ok(flags.map_or(Command::Help(Topic::Program), |flags| Command::Supervise {
        raw: flags.raw,
        arguments: rest.to_vec(),
    }))
}

fn init(parser: Parser) -> Result<Command, UsageError> {
    let Some(mut flags) = flags_of(parser, "init")? else {
        return Ok(Command::Help(Topic::Init));
    };
    Ok(Command::Init(Init {
        generate_master_key: flags.take(GENERATE_MASTER_KEY).is_some(),
        admin_key_file: flags.take_path(ADMIN_KEY_FILE)?,
        raw: flags.raw,
    }))
}

fn store(mut parser: Parser) -> Result<Command, UsageError> {
    let action = match parser.next().map_err(wrong)? {
        None => return Err(UsageError::NoCommand(Topic::Store)),
        Some(Arg::Long("help") | Arg::Short('h')) => {
            return alone(parser, Command::Help(Topic::Store));
        }
        Some(Arg::Value(word)) => Action::named(&word).ok_or_else(|| unknown_action(&word))?,
        Some(Arg::Long(name)) => {
            let flag = shown(OsStr::new(name));
            return Err(UsageError::Wrong(format!(
                "--{flag} stands before what to do; did you mean `quantonium store verify --{flag}`?"
            )));
        }
        Some(Arg::Short(letter)) => return Err(unknown_letter(letter)),
    };
    let command = format!("store {}", action.name());
    let Some(mut flags) = flags_of(parser, &command)? else {
        return Ok(Command::Help(Topic::OfStore(action)));
    };
    let new_master_key_file = flags.take_path(NEW_MASTER_KEY_FILE)?;
    if action == Action::Rekey && new_master_key_file.is_none() {
        return Err(UsageError::Wrong(format!(
            "{command} needs --{NEW_MASTER_KEY_FILE} FILE, the master key from now on; make one: (umask 077; head \
             -c 32 /dev/urandom > FILE)"
        )));
    }
    let json = flags.take("json").is_some();
    let admin_key_file = flags.take_path(ADMIN_KEY_FILE)?;
    let ends = (flags.take("from"), flags.take("to"));
    let text = |end: OsString| end.into_string().ok();
    let ends = match ends {
        (Some(from), Some(to)) => text(from).zip(text(to)),
        _ => None,
    };
    if action == Action::Copy && ends.is_none() {
        return Err(UsageError::Wrong(format!(
            "{command} needs --from and --to: one of them etcd://HOST:PORT/PREFIX, the other one a data directory"
        )));
    }
    Ok(Command::Store(StoreCommand {
        raw: flags.raw,
        action,
        json,
        new_master_key_file,
        admin_key_file,
        ends,
    }))
}

fn healthcheck(parser: Parser) -> Result<Command, UsageError> {
    let Some(mut flags) = flags_of(parser, "healthcheck")? else {
        return Ok(Command::Help(Topic::Program));
    };
    let anybody = flags.take(INSECURE_TLS).is_some();
    let trusting = Trusting { authorities: flags.take_path(TLS_CA)?, own: None, anybody };
    Ok(Command::HealthCheck { url: flags.take("url"), trusting })
}

/// The flags of a command.
#[derive(Debug, Default)]
pub(super) struct Flags {
    pub(super) raw: Raw,
    own: Vec<(&'static str, OsString)>,
    /// What is no flag.
    pub(super) words: Vec<OsString>,
}

impl Flags {
    /// The value of a flag of the command's own, if it was given; one after the other if it repeats.
    pub(super) fn take(&mut self, name: &str) -> Option<OsString> {
        let index = self.own.iter().position(|(own, _)| *own == name)?;
        Some(self.own.remove(index).1)
    }

    /// The same of a value that has to be text.
    pub(super) fn take_text(&mut self, name: &str) -> Result<Option<String>, UsageError> {
        let text = self.take(name).map(OsString::into_string).transpose();
        text.map_err(|text| UsageError::Wrong(format!("--{name}: {} is not UTF-8", shown(&text))))
    }

    /// Every value that a flag of the command's own was given.
    pub(super) fn given(&self, name: &str) -> impl Iterator<Item = &OsString> {
        self.own.iter().filter(move |(own, _)| *own == name).map(|(_, value)| value)
    }

    pub(super) fn take_path(&mut self, name: &str) -> Result<Option<PathBuf>, UsageError> {
        match self.take(name) {
            Some(path) if path.is_empty() => Err(UsageError::Wrong(format!("--{name}: an empty path"))),
            path => Ok(path.map(PathBuf::from)),
        }
    }
}

/// Reads what follows `command`, as its row in the table says. Nothing: help is asked for.
pub(super) fn flags_of(mut parser: Parser, command: &str) -> Result<Option<Flags>, UsageError> {
    let Some(spec) = table::row(command) else {
        return Err(UsageError::Wrong(format!("`quantonium {command}` is in no table")));
    };
    let mut flags = Flags::default();
    while let Some(argument) = parser.next().map_err(wrong)? {
        let name = match argument {
            Arg::Long("help") | Arg::Short('h') => return Ok(None),
            Arg::Long(name) => name,
            Arg::Short(letter) => return Err(unknown_letter(letter)),
            Arg::Value(word) if flags.words.len() < spec.operands_count() => {
                flags.words.push(word);
                continue;
            }
            Arg::Value(word) => return Err(stray_word(&word)),
        };
        let twice = |name: &str| UsageError::Wrong(format!("--{name} is given twice"));
        if let Some(own) = spec.own().find(|own| own.name == name) {
            // A switch of its own cannot have been turned on elsewhere, so it takes no value that turns it off.
            let value =
                if own.value == Value::Switch { OsString::new() } else { parser.value().map_err(wrong)? };
            if !own.repeats && flags.own.iter().any(|(name, _)| *name == own.name) {
                return Err(twice(own.name));
            }
            flags.own.push((own.name, value));
        } else if let Some(id) = by_name(name).filter(|id| spec.settings().any(|setting| setting.id == *id)) {
            let text = match id.setting().kind {
                // `--dev=false` turns off what the environment or the file turned on.
                Kind::Switch => parser.optional_value().unwrap_or_else(|| OsString::from("true")),
                _ => parser.value().map_err(wrong)?,
            };
            flags.raw.add_flag(id, text).map_err(|setting| twice(setting.name))?;
        } else if by_name(name).is_some() {
            return Err(UsageError::Wrong(format!(
                "--{name} is a flag of `quantonium serve`, not of `quantonium {command}`"
            )));
        } else {
            let known = spec.settings().map(|setting| setting.name).chain(spec.own().map(|own| own.name));
            return Err(unknown_flag(name, known));
        }
    }
    Ok(Some(flags))
}

pub(super) fn wrong(error: lexopt::Error) -> UsageError {
    UsageError::Wrong(match error {
        lexopt::Error::MissingValue { option: Some(option) } => {
            format!("{} needs a value", shown(OsStr::new(&option)))
        }
        lexopt::Error::UnexpectedValue { option, value } => {
            format!("{} takes no value, not {}", shown(OsStr::new(&option)), shown(&value))
        }
        other => shown(OsStr::new(&other.to_string())),
    })
}

/// What can stand first.
fn commands() -> impl Iterator<Item = &'static str> {
    table::first_words().chain(["help"])
}

fn unknown_command(word: &OsStr) -> UsageError {
    let text = word.to_string_lossy();
    UsageError::Wrong(match nearest(&text, commands()) {
        Some(command) => {
            format!("unknown command {}; did you mean `quantonium {command}`?", shown(word))
        }
        None => {
            let all: Vec<&str> = commands().collect();
            format!("unknown command {}; the commands are {}", shown(word), all.join(", "))
        }
    })
}

fn unknown_action(word: &OsStr) -> UsageError {
    let names = Action::ALL.map(Action::name);
    UsageError::Wrong(match nearest(&word.to_string_lossy(), names) {
        Some(name) => {
            format!("unknown store command {}; did you mean `quantonium store {name}`?", shown(word))
        }
        None => format!("unknown store command {}; there are {}", shown(word), names.join(", ")),
    })
}

fn flag_before_command(flag: &Arg<'_>) -> UsageError {
    match flag {
        Arg::Long(name) if by_name(name).is_some() => UsageError::Wrong(format!(
            "--{name} stands before any command; did you mean `quantonium serve --{name}`?"
        )),
        Arg::Long(name) => unknown_flag(name, ["help", "version"]),
        Arg::Short(letter) => unknown_letter(*letter),
        Arg::Value(word) => unknown_command(word),
    }
}

fn unknown_flag(name: &str, known: impl IntoIterator<Item = &'static str>) -> UsageError {
    let flag = shown(OsStr::new(name));
    UsageError::Wrong(match nearest(name, known) {
        Some(nearest) => format!("unknown flag --{flag}; did you mean --{nearest}?"),
        None => format!("unknown flag --{flag}"),
    })
}

pub(super) fn unknown_letter(letter: char) -> UsageError {
    UsageError::Wrong(format!("unknown flag -{}", shown(OsStr::new(letter.encode_utf8(&mut [0; 4])))))
}

fn stray_word(word: &OsStr) -> UsageError {
    UsageError::Wrong(format!("unexpected argument {}; flags begin with --", shown(word)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Id, SETTINGS, Source};

    fn parsed(line: &str) -> Result<Command, String> {
        parse(line.split_whitespace().map(OsString::from)).map_err(|error| error.to_string())
    }

    fn served(line: &str) -> Raw {
        match parsed(line).unwrap() {
            Command::Serve(raw) => raw,
            other => panic!("not serve: {other:?}"),
        }
    }

    #[test]
    fn commands_have_their_spellings() {
        for line in [
            "help",
            "--help",
            "-h",
            "serve --help",
            "serve --dev -h",
            "healthcheck -h",
            "help serve",
            "help help",
            "version --help",
        ] {
            assert!(matches!(parsed(line), Ok(Command::Help(Topic::Program))), "{line}");
        }
        for line in ["version", "--version", "-V"] {
            assert!(matches!(parsed(line), Ok(Command::Version)), "{line}");
        }
        assert!(matches!(parsed("version --crates"), Ok(Command::Crates)));
        assert!(matches!(parsed("healthcheck"), Ok(Command::HealthCheck { url: None, .. })));
        let Ok(Command::HealthCheck { url: Some(url), .. }) = parsed("healthcheck --url=http://[::1]:1/x")
        else {
            panic!("a URL");
        };
        assert_eq!(url, "http://[::1]:1/x");
    }

    #[test]
    fn every_setting_is_a_flag_of_serve() {
        for setting in &SETTINGS {
            let switch = setting.kind == Kind::Switch;
            let line = if switch {
                format!("serve --{}", setting.name)
            } else {
                format!("serve --{} 7", setting.name)
            };
            let raw = served(&line);
            let given = raw.get(setting.id).unwrap();
            assert_eq!(given.source, Source::Flag);
            assert_eq!(given.texts, [if switch { "true" } else { "7" }]);
        }
        let raw = served("serve --listen a --dev=false --listen=b --workers=2");
        assert_eq!(raw.get(Id::Listen).unwrap().texts, ["a", "b"]);
        assert_eq!(raw.get(Id::Dev).unwrap().texts, ["false"]);
    }

    #[test]
    fn init_and_store_take_settings_and_flags_of_their_own() {
        let Ok(Command::Init(init)) = parsed("init --data-dir d --generate-master-key --admin-key-file a")
        else {
            panic!("init");
        };
        assert!(init.generate_master_key);
        assert_eq!(init.admin_key_file, Some(PathBuf::from("a")));
        assert_eq!(init.raw.get(Id::DataDir).unwrap().texts, ["d"]);
        let Ok(Command::Init(init)) = parsed("init") else { panic!("init") };
        assert!(!init.generate_master_key && init.admin_key_file.is_none());
        for action in Action::ALL {
            let needed = match action {
                Action::Rekey => " --data-dir d --new-master-key-file n",
                Action::Copy => " --from d --to etcd://a/q",
                _ => " --data-dir d",
            };
            let line = format!("store {} --master-key-file m{needed}", action.name());
            let Ok(Command::Store(command)) = parsed(&line) else { panic!("{line}") };
            assert_eq!((command.action, command.json), (action, false));
            assert_eq!(command.raw.get(Id::MasterKeyFile).unwrap().texts, ["m"]);
            assert_eq!(command.new_master_key_file.is_some(), action == Action::Rekey);
        }
        let Ok(Command::Store(command)) = parsed("store verify --json") else { panic!("store") };
        assert!(command.json);
        assert!(parsed("store rekey").unwrap_err().contains("needs --new-master-key-file FILE"));
    }

    #[test]
    fn each_has_its_help() {
        for (line, topic) in [
            ("init --help", Topic::Init),
            ("help init", Topic::Init),
            ("store --help", Topic::Store),
            ("store -h", Topic::Store),
            ("help store", Topic::Store),
            ("store rekey --help", Topic::OfStore(Action::Rekey)),
            ("help store rekey", Topic::OfStore(Action::Rekey)),
            ("store verify --data-dir x -h", Topic::OfStore(Action::Verify)),
        ] {
            assert!(matches!(parsed(line), Ok(Command::Help(found)) if found == topic), "{line}");
        }
    }

    #[test]
    fn mistakes_are_answered_with_what_to_run() {
        for (line, answer) in [
            ("sevre", "unknown command sevre; did you mean `quantonium serve`?"),
            (
                "mumble",
                "unknown command mumble; the commands are serve, supervise, init, store, apikey, audit, tls, sandbox, healthcheck, version, \
                 completions, man, encrypt, decrypt, rewrap, sign, verify, random, hash, datakey, token, health, key, whoami, local, help",
            ),
            ("encrpyt", "unknown command encrpyt; did you mean `quantonium encrypt`?"),
            (
                "key",
                "key needs what to do: list, create, show, rotate, config, destroy, delete, undelete, export, import, backup, restore",
            ),
            ("help key shwo", "unknown command key shwo; did you mean `quantonium key show`?"),
            ("--dev", "--dev stands before any command; did you mean `quantonium serve --dev`?"),
            ("--versoin", "unknown flag --versoin; did you mean --version?"),
            ("-x", "unknown flag -x"),
            ("serve --data_dir x", "unknown flag --data_dir; did you mean --data-dir?"),
            ("serve --wrokers 1", "unknown flag --wrokers; did you mean --workers?"),
            ("serve --zzz", "unknown flag --zzz"),
            ("serve -p 80", "unknown flag -p"),
            ("serve extra", "unexpected argument extra; flags begin with --"),
            ("serve --workers", "--workers needs a value"),
            ("serve --workers 1 --workers 2", "--workers is given twice"),
            ("serve --dev --dev", "--dev is given twice"),
            ("healthcheck --ulr x", "unknown flag --ulr; did you mean --url?"),
            ("healthcheck --url a --url b", "--url is given twice"),
            ("healthcheck http://x", "unexpected argument http://x; flags begin with --"),
            ("--help=x", "--help takes no value, not x"),
            ("version --json", "unknown flag --json"),
            ("version serve", "unexpected argument serve; flags begin with --"),
            ("stroe", "unknown command stroe; did you mean `quantonium store`?"),
            ("store verfiy", "unknown store command verfiy; did you mean `quantonium store verify`?"),
            (
                "store scrub",
                "unknown store command scrub; there are verify, inspect, compact, rekey, rotate-root, copy",
            ),
            (
                "help store scrub",
                "unknown store command scrub; there are verify, inspect, compact, rekey, rotate-root, copy",
            ),
            ("help init verify", "unexpected argument verify; flags begin with --"),
            (
                "store --data-dir x",
                "--data-dir stands before what to do; did you mean `quantonium store verify --data-dir`?",
            ),
            ("store verify --jsno", "unknown flag --jsno; did you mean --json?"),
            ("store verify --json=1", "--json takes no value, not 1"),
            (
                "store verify --listen x",
                "--listen is a flag of `quantonium serve`, not of `quantonium store verify`",
            ),
            ("store compact --json", "unknown flag --json"),
            ("store rekey --new-master-key-file=", "--new-master-key-file: an empty path"),
            ("init --workers 1", "--workers is a flag of `quantonium serve`, not of `quantonium init`"),
            ("init --admin-key-flie x", "unknown flag --admin-key-flie; did you mean --admin-key-file?"),
            ("init --generate-master-key --generate-master-key", "--generate-master-key is given twice"),
            ("help me", "unexpected argument me; flags begin with --"),
        ] {
            let said = parsed(line).map(|command| format!("{command:?}")).unwrap_err();
            let expected = format!("quantonium: {answer}\nRun `quantonium help` for commands and flags.\n");
            assert_eq!(said, expected, "{line}");
        }
    }

    #[test]
    fn nothing_at_all_is_answered_with_the_help() {
        assert_eq!(parsed("").unwrap_err(), help::text(Topic::Program));
        assert_eq!(parsed("store").unwrap_err(), help::text(Topic::Store));
    }
}
