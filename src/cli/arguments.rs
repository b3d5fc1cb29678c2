//! Arguments into a command.
//!
//! Owns the grammar: `quantonium COMMAND [FLAG ...]`. Invariants: the flags of `serve` are the rows of the
//! table of settings and no others; every refusal names the argument and says what to run instead.

use core::fmt;
use std::ffi::{OsStr, OsString};

use lexopt::{Arg, Parser};

use super::help;
use crate::config::{Kind, Raw, SETTINGS, by_name, nearest, shown};

const COMMANDS: [&str; 4] = ["serve", "healthcheck", "version", "help"];

/// What to do.
#[derive(Debug)]
pub(super) enum Command {
    /// Serve with these flags.
    Serve(Raw),
    /// Ask a server how it is.
    HealthCheck {
        /// Where; by default as the configuration says.
        url: Option<OsString>,
    },
    /// Show what was built.
    Version,
    /// Show the help.
    Help,
}

/// What is wrong with the command line, ending in a newline.
#[derive(Debug)]
pub(super) enum UsageError {
    /// Nothing was given: the whole help is the answer.
    NoCommand,
    /// Something else; one line and a hint.
    Wrong(String),
}

impl fmt::Display for UsageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoCommand => f.write_str(&help::text()),
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
    let mut parser = Parser::from_args(arguments);
    match parser.next().map_err(wrong)? {
        None => Err(UsageError::NoCommand),
        Some(Arg::Long("help") | Arg::Short('h')) => alone(parser, Command::Help),
        Some(Arg::Long("version") | Arg::Short('V')) => alone(parser, Command::Version),
        Some(Arg::Value(word)) => match word.to_str() {
            Some("serve") => serve(parser),
            Some("healthcheck") => healthcheck(parser),
            Some("version") => alone(parser, Command::Version),
            Some("help") => alone(parser, Command::Help),
            _ => Err(unknown_command(&word)),
        },
        Some(flag) => Err(flag_before_command(&flag)),
    }
}

/// A command without flags of its own. `help serve` and `version --help` are meant well.
fn alone(mut parser: Parser, command: Command) -> Result<Command, UsageError> {
    let mut command = command;
    while let Some(argument) = parser.next().map_err(wrong)? {
        match argument {
            Arg::Long("help") | Arg::Short('h') => command = Command::Help,
            Arg::Long(name) => return Err(unknown_flag(name, ["help"])),
            Arg::Short(letter) => return Err(unknown_letter(letter)),
            Arg::Value(word) => {
                let known = word.to_str().is_some_and(|word| COMMANDS.contains(&word));
                if !(known && matches!(command, Command::Help)) {
                    return Err(stray_word(&word));
                }
            }
        }
    }
    Ok(command)
}

fn serve(mut parser: Parser) -> Result<Command, UsageError> {
    let mut raw = Raw::default();
    while let Some(argument) = parser.next().map_err(wrong)? {
        let id = match argument {
            Arg::Long("help") | Arg::Short('h') => return Ok(Command::Help),
            Arg::Long(name) => match by_name(name) {
                Some(id) => id,
                None => return Err(unknown_flag(name, SETTINGS.iter().map(|setting| setting.name))),
            },
            Arg::Short(letter) => return Err(unknown_letter(letter)),
            Arg::Value(word) => return Err(stray_word(&word)),
        };
        let text = match id.setting().kind {
            // `--dev=false` turns off what the environment or the file turned on.
            Kind::Switch => parser.optional_value().unwrap_or_else(|| OsString::from("true")),
            Kind::Path | Kind::Addresses | Kind::Number(_) => parser.value().map_err(wrong)?,
        };
        raw.add_flag(id, text)
            .map_err(|setting| UsageError::Wrong(format!("{} is given twice", setting.flag())))?;
    }
    Ok(Command::Serve(raw))
}

fn healthcheck(mut parser: Parser) -> Result<Command, UsageError> {
    let mut url = None;
    while let Some(argument) = parser.next().map_err(wrong)? {
        match argument {
            Arg::Long("help") | Arg::Short('h') => return Ok(Command::Help),
            Arg::Long("url") => {
                if url.replace(parser.value().map_err(wrong)?).is_some() {
                    return Err(UsageError::Wrong("--url is given twice".to_owned()));
                }
            }
            Arg::Long(name) => return Err(unknown_flag(name, ["url"])),
            Arg::Short(letter) => return Err(unknown_letter(letter)),
            Arg::Value(word) => return Err(stray_word(&word)),
        }
    }
    Ok(Command::HealthCheck { url })
}

fn wrong(error: lexopt::Error) -> UsageError {
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

fn unknown_command(word: &OsStr) -> UsageError {
    let text = word.to_string_lossy();
    UsageError::Wrong(match nearest(&text, COMMANDS) {
        Some(command) => {
            format!("unknown command {}; did you mean `quantonium {command}`?", shown(word))
        }
        None => format!("unknown command {}; the commands are {}", shown(word), COMMANDS.join(", ")),
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

fn unknown_letter(letter: char) -> UsageError {
    UsageError::Wrong(format!("unknown flag -{}", shown(OsStr::new(letter.encode_utf8(&mut [0; 4])))))
}

fn stray_word(word: &OsStr) -> UsageError {
    UsageError::Wrong(format!("unexpected argument {}; flags begin with --", shown(word)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Id, Source};

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
            "version --help",
        ] {
            assert!(matches!(parsed(line), Ok(Command::Help)), "{line}");
        }
        for line in ["version", "--version", "-V"] {
            assert!(matches!(parsed(line), Ok(Command::Version)), "{line}");
        }
        assert!(matches!(parsed("healthcheck"), Ok(Command::HealthCheck { url: None })));
        let Ok(Command::HealthCheck { url: Some(url) }) = parsed("healthcheck --url=http://[::1]:1/x") else {
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
    fn mistakes_are_answered_with_what_to_run() {
        for (line, answer) in [
            ("sevre", "unknown command sevre; did you mean `quantonium serve`?"),
            ("encrypt", "unknown command encrypt; the commands are serve, healthcheck, version, help"),
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
            ("help me", "unexpected argument me; flags begin with --"),
        ] {
            let said = parsed(line).map(|command| format!("{command:?}")).unwrap_err();
            let expected = format!("quantonium: {answer}\nRun `quantonium help` for commands and flags.\n");
            assert_eq!(said, expected, "{line}");
        }
    }

    #[test]
    fn nothing_at_all_is_answered_with_the_help() {
        assert_eq!(parsed("").unwrap_err(), help::text());
    }
}
