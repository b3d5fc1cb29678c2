//! What follows `quantonium apikey`: into a task, and the way on which it is carried out.
//!
//! Owns the grammar of the command and of its values. Invariants: `--data-dir` alone decides that the store of a stopped
//! server is meant; scopes, networks, rates and times are understood before anything is asked or opened; a secret on the
//! command line is refused and not repeated.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use lexopt::{Arg, Parser};

use crate::auth::api_key;
use crate::cli::arguments::{Command, Flags, TLS_CA, UsageError, alone, flags_of, unknown_letter, wrong};
use crate::cli::help::Topic;
use crate::cli::secure::Trusting;
use crate::config::{Id, Raw, nearest, shown};
use crate::model::{ApiKeyId, Grants, IDENTITY_FORMS, Identity};
use crate::network::Network;
use crate::quota::Rate;

/// What `quantonium apikey` is to do.
#[derive(Debug)]
pub(in crate::cli) struct ApiKeyCommand {
    /// What.
    pub(super) task: Task,
    /// How.
    pub(super) way: Way,
    /// Report in JSON.
    pub(super) json: bool,
    /// Where a new secret goes; else to standard output.
    pub(super) out: Option<PathBuf>,
}

/// Who carries it out.
#[derive(Debug)]
pub(super) enum Way {
    /// This process, on the store of a stopped server.
    Offline(Raw),
    /// A running server.
    Server {
        /// Where; by default as the configuration says.
        url: Option<OsString>,
        /// Whom to take for it.
        trusting: Trusting,
        /// The file with the API key to ask with; by default as the environment says.
        api_key_file: Option<PathBuf>,
    },
}

/// What is to be done.
#[derive(Debug)]
pub(super) enum Task {
    Create(Wanted),
    List,
    Show(ApiKeyId),
    Rotate(ApiKeyId, Option<u64>),
    Revoke(ApiKeyId),
    Configure(ApiKeyId, Wanted),
    Delete(ApiKeyId),
}

/// What is wanted of an API key; what is not named stays as it is.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) name: Option<String>,
    pub(super) description: Option<String>,
    pub(super) grants: Option<Grants>,
    /// Seconds until it expires.
    pub(super) expires_in: Option<Bound<u64>>,
    pub(super) rate: Option<Bound<Rate>>,
    /// None in the list: from anywhere.
    pub(super) networks: Option<Vec<Network>>,
    /// None in the list: by its secret alone.
    pub(super) identities: Option<Vec<Identity>>,
}

/// A bound, or that there is to be none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bound<T> {
    Off,
    At(T),
}

impl<T> Bound<T> {
    /// The bound, if there is one.
    pub(super) fn at(self) -> Option<T> {
        match self {
            Self::Off => None,
            Self::At(bound) => Some(bound),
        }
    }
}

/// The commands of `quantonium apikey`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cli) enum Verb {
    /// Make an API key.
    Create,
    /// Show all of them.
    List,
    /// Show one.
    Show,
    /// Give one another secret.
    Rotate,
    /// End one.
    Revoke,
    /// Change what one may do.
    Configure,
    /// Forget one that has ended.
    Delete,
}

impl Verb {
    /// All of them, in the order of the help.
    pub(in crate::cli) const ALL: [Self; 7] =
        [Self::Create, Self::List, Self::Show, Self::Rotate, Self::Revoke, Self::Configure, Self::Delete];

    /// The word on the command line.
    pub(in crate::cli) const fn name(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::List => "list",
            Self::Show => "show",
            Self::Rotate => "rotate",
            Self::Revoke => "revoke",
            Self::Configure => "configure",
            Self::Delete => "delete",
        }
    }

    /// The command of this word.
    pub(in crate::cli) fn named(word: &OsStr) -> Result<Self, UsageError> {
        let found = Self::ALL.into_iter().find(|verb| word == verb.name());
        found.ok_or_else(|| {
            let names = Self::ALL.map(Self::name);
            UsageError::Wrong(match nearest(&word.to_string_lossy(), names) {
                Some(name) => {
                    format!(
                        "unknown apikey command {}; did you mean `quantonium apikey {name}`?",
                        shown(word)
                    )
                }
                None => format!("unknown apikey command {}; there are {}", shown(word), names.join(", ")),
            })
        })
    }
}

impl Task {
    /// Which command it is.
    pub(super) const fn verb(&self) -> Verb {
        match self {
            Self::Create(_) => Verb::Create,
            Self::List => Verb::List,
            Self::Show(_) => Verb::Show,
            Self::Rotate(..) => Verb::Rotate,
            Self::Revoke(_) => Verb::Revoke,
            Self::Configure(..) => Verb::Configure,
            Self::Delete(_) => Verb::Delete,
        }
    }
}

const SERVER: &str = "server";
const API_KEY_FILE: &str = "api-key-file";
const NAME: &str = "name";
const DESCRIPTION: &str = "description";
const SCOPE: &str = "scope";
const EXPIRES_IN: &str = "expires-in";
const RATE: &str = "rate";
const NETWORK: &str = "network";
const IDENTITY: &str = "identity";
const OVERLAP: &str = "overlap";
const OUT: &str = "out";
const JSON: &str = "json";

/// The settings that go with a data directory.
const OFFLINE: [Id; 4] = [Id::DataDir, Id::MasterKeyFile, Id::MinStoreRevision, Id::ConfigFile];

/// Reads what follows `apikey`.
///
/// # Errors
/// What is wrong with it.
pub(in crate::cli) fn parse(mut parser: Parser) -> Result<Command, UsageError> {
    let verb = match parser.next().map_err(wrong)? {
        None => return Err(UsageError::NoCommand(Topic::ApiKey)),
        Some(Arg::Long("help") | Arg::Short('h')) => return alone(parser, Command::Help(Topic::ApiKey)),
        Some(Arg::Value(word)) => Verb::named(&word)?,
        Some(Arg::Long(name)) => {
            let flag = shown(OsStr::new(name));
            return Err(UsageError::Wrong(format!(
                "--{flag} stands before what to do; did you mean `quantonium apikey list --{flag}`?"
            )));
        }
        Some(Arg::Short(letter)) => return Err(unknown_letter(letter)),
    };
    let Some(mut flags) = flags_of(parser, &format!("apikey {}", verb.name()))? else {
        return Ok(Command::Help(Topic::OfApiKey(verb)));
    };
    let (out, json) = (flags.take_path(OUT)?, flags.take(JSON).is_some());
    let task = task(verb, &mut flags)?;
    Ok(Command::ApiKey(ApiKeyCommand { task, way: way(flags)?, json, out }))
}

fn task(verb: Verb, flags: &mut Flags) -> Result<Task, UsageError> {
    let word = flags.words.pop();
    let identifier = || identifier(verb, word.as_deref());
    Ok(match verb {
        Verb::Create => {
            let wanted = wanted(flags)?;
            if wanted.name.is_none() || wanted.grants.is_none() {
                return Err(UsageError::Wrong(
                    "apikey create needs --name NAME and at least one --scope SCOPE, like encrypt:orders-* or admin"
                        .to_owned(),
                ));
            }
            Task::Create(wanted)
        }
        Verb::List => Task::List,
        Verb::Show => Task::Show(identifier()?),
        Verb::Rotate => {
            let overlap = text(flags, OVERLAP)?.map(|text| seconds(OVERLAP, &text)).transpose()?;
            Task::Rotate(identifier()?, overlap)
        }
        Verb::Revoke => Task::Revoke(identifier()?),
        Verb::Configure => {
            let (id, wanted) = (identifier()?, wanted(flags)?);
            if wanted == Wanted::default() {
                return Err(UsageError::Wrong(
                    "apikey configure needs what is to be another: --name, --description, --scope, --expires-in, \
                     --rate, --network or --identity"
                        .to_owned(),
                ));
            }
            Task::Configure(id, wanted)
        }
        Verb::Delete => Task::Delete(identifier()?),
    })
}

fn way(mut flags: Flags) -> Result<Way, UsageError> {
    let (url, api_key_file) = (flags.take(SERVER), flags.take_path(API_KEY_FILE)?);
    let trusting = Trusting { authorities: flags.take_path(TLS_CA)?, own: None, anybody: false };
    if flags.raw.get(Id::DataDir).is_some() {
        if url.is_some() || api_key_file.is_some() || trusting != Trusting::default() {
            return Err(UsageError::Wrong(
                "--data-dir works on the store of a stopped server, --server and --api-key-file ask a running one: \
                 give the one or the other"
                    .to_owned(),
            ));
        }
        return Ok(Way::Offline(flags.raw));
    }
    match OFFLINE.into_iter().find(|id| flags.raw.get(*id).is_some()) {
        Some(id) => Err(UsageError::Wrong(format!(
            "{} goes with --data-dir DIR, for the store of a stopped server; a running one is asked with \
             --api-key-file FILE",
            id.setting().flag()
        ))),
        None => Ok(Way::Server { url, api_key_file, trusting }),
    }
}

fn wanted(flags: &mut Flags) -> Result<Wanted, UsageError> {
    let scopes = list(flags, SCOPE)?;
    let networks = list(flags, NETWORK)?;
    let grants = scopes.map(|scopes| {
        Grants::parse(scopes.iter().map(String::as_str))
            .map_err(|error| UsageError::Wrong(format!("--{SCOPE} {}: {error}", shown_list(&scopes))))
    });
    let networks = networks.map(|networks| match networks.as_slice() {
        [any] if any == "any" => Ok(Vec::new()),
        networks => networks.iter().map(|text| network(text)).collect(),
    });
    let expires_in = text(flags, EXPIRES_IN)?.map(|text| match text.as_str() {
        "never" => Ok(Bound::Off),
        text => seconds(EXPIRES_IN, text).and_then(|seconds| match seconds {
            0 => Err(UsageError::Wrong(format!("--{EXPIRES_IN}: it would have expired before it is made"))),
            seconds => Ok(Bound::At(seconds)),
        }),
    });
    Ok(Wanted {
        name: text(flags, NAME)?,
        description: text(flags, DESCRIPTION)?,
        grants: grants.transpose()?,
        expires_in: expires_in.transpose()?,
        rate: text(flags, RATE)?.map(|text| rate(&text)).transpose()?,
        networks: networks.transpose()?,
        identities: identities(flags)?,
    })
}

/// The value of a flag, which has to be text.
fn text(flags: &mut Flags, name: &str) -> Result<Option<String>, UsageError> {
    flags.take_text(name)
}

/// The values of a flag that repeats, each of which may hold several.
fn list(flags: &mut Flags, name: &str) -> Result<Option<Vec<String>>, UsageError> {
    let mut all: Option<Vec<String>> = None;
    while let Some(texts) = text(flags, name)? {
        all.get_or_insert_default().extend(texts.split(',').map(|text| text.trim().to_owned()));
    }
    Ok(all)
}

/// Identities, one in each flag: a URI may have commas.
fn identities(flags: &mut Flags) -> Result<Option<Vec<Identity>>, UsageError> {
    let mut texts: Option<Vec<String>> = None;
    while let Some(text) = text(flags, IDENTITY)? {
        texts.get_or_insert_default().push(text);
    }
    let identity = |text: &String| {
        Identity::parse(text).ok_or_else(|| {
            UsageError::Wrong(format!("--{IDENTITY} {}: {IDENTITY_FORMS}", shown(OsStr::new(text))))
        })
    };
    texts
        .map(|texts| match texts.as_slice() {
            [none] if none == "none" => Ok(Vec::new()),
            texts => texts.iter().map(identity).collect(),
        })
        .transpose()
}

fn shown_list(texts: &[String]) -> String {
    shown(OsStr::new(&texts.join(",")))
}

fn network(text: &str) -> Result<Network, UsageError> {
    let shown = shown(OsStr::new(text));
    Network::parse(text).map_err(|error| UsageError::Wrong(format!("--{NETWORK}: {shown} {error}")))
}

/// The identifier of an API key, with or without what its text begins with.
fn identifier(verb: Verb, word: Option<&OsStr>) -> Result<ApiKeyId, UsageError> {
    let Some(word) = word else {
        return Err(UsageError::Wrong(format!(
            "apikey {} needs the identifier of an API key, as `quantonium apikey list` shows them",
            verb.name()
        )));
    };
    let text = word.as_encoded_bytes();
    if api_key::parse(text).is_some() {
        return Err(UsageError::Wrong(
            "that is a whole API key, which does not belong on a command line: give the 8 digits behind qk_, and \
             rotate it if others can see this one"
                .to_owned(),
        ));
    }
    let id = ApiKeyId::parse(text.strip_prefix(b"qk_").unwrap_or(text));
    id.ok_or_else(|| {
        UsageError::Wrong(format!(
            "{} is not the identifier of an API key, which is 8 hexadecimal digits like 1a2b3c4d",
            shown(word)
        ))
    })
}

/// A time: seconds, or a number with `s`, `m`, `h` or `d` behind it.
pub(in crate::cli) fn seconds(flag: &str, text: &str) -> Result<u64, UsageError> {
    const UNITS: [(char, u64); 4] = [('s', 1), ('m', 60), ('h', 3_600), ('d', 86_400)];
    let unit =
        UNITS.iter().find_map(|(unit, factor)| text.strip_suffix(*unit).map(|digits| (digits, *factor)));
    let (digits, factor) = unit.unwrap_or((text, 1));
    number(digits).and_then(|number| number.checked_mul(factor)).ok_or_else(|| {
        UsageError::Wrong(format!(
            "--{flag}: {} is not a time like 30d, 12h, 15m, 900s or 900",
            shown(OsStr::new(text))
        ))
    })
}

/// `100` or `100:500`: in a second, and at once.
fn rate(text: &str) -> Result<Bound<Rate>, UsageError> {
    if text == "default" {
        return Ok(Bound::Off);
    }
    let count = |text: &str| number(text).and_then(|number| u32::try_from(number).ok());
    let rate = match text.split_once(':') {
        Some((per_second, burst)) => {
            count(per_second).zip(count(burst)).and_then(|(per_second, burst)| Rate::new(per_second, burst))
        }
        // As the API has it: what passes in a second may pass at once.
        None => count(text).and_then(|count| Rate::new(count, count)),
    };
    rate.map(Bound::At).ok_or_else(|| {
        UsageError::Wrong(format!(
            "--{RATE}: {} is not a rate like 100, or 100:500 for 100 in a second and 500 at once",
            shown(OsStr::new(text))
        ))
    })
}

fn number(digits: &str) -> Option<u64> {
    let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    plain.then(|| digits.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<ApiKeyCommand, String> {
        let parser = Parser::from_args(line.split_whitespace().map(OsString::from));
        match parse(parser) {
            Ok(Command::ApiKey(command)) => Ok(command),
            Ok(other) => Err(format!("{other:?}")),
            Err(error) => Err(error.to_string()),
        }
    }

    fn wanted(line: &str) -> Wanted {
        match parsed(line).unwrap().task {
            Task::Create(wanted) | Task::Configure(_, wanted) => wanted,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_is_wanted_is_understood() {
        let all = wanted(
            "create --name n --scope encrypt:a-*,hash --scope sign --expires-in 30d --rate 100:500 --network 192.0.2.0/24 \
             --network ::1,10.0.0.1 --description d --identity dns:A.example --identity uri:a:b,c",
        );
        let identities: Vec<String> = all.identities.unwrap().iter().map(ToString::to_string).collect();
        assert_eq!(identities, ["dns:a.example", "uri:a:b,c"]);
        assert_eq!(all.grants.unwrap().to_string(), "encrypt:a-* hash sign");
        assert_eq!(
            (all.expires_in, all.rate),
            (Some(Bound::At(2_592_000)), Rate::new(100, 500).map(Bound::At))
        );
        let networks: Vec<String> = all.networks.unwrap().iter().map(ToString::to_string).collect();
        assert_eq!(networks, ["192.0.2.0/24", "::1/128", "10.0.0.1/32"]);
        assert_eq!((all.name.as_deref(), all.description.as_deref()), (Some("n"), Some("d")));
        let back =
            wanted("configure 1a2b3c4d --expires-in never --rate default --network any --identity none");
        assert_eq!(
            (back.expires_in, back.rate, back.networks),
            (Some(Bound::Off), Some(Bound::Off), Some(Vec::new()))
        );
        assert_eq!(back.identities, Some(Vec::new()));
        assert_eq!((back.name, back.grants), (None, None));
        for (text, is) in [("7", 7), ("900s", 900), ("15m", 900), ("12h", 43_200), ("1d", 86_400)] {
            assert_eq!(
                wanted(&format!("configure 1a2b3c4d --expires-in {text}")).expires_in,
                Some(Bound::At(is))
            );
        }
        assert_eq!(wanted("configure qk_1a2b3c4d --rate 7").rate, Rate::new(7, 7).map(Bound::At));
    }

    #[test]
    fn the_data_directory_decides_the_way() {
        for (line, offline) in [
            ("list", false),
            ("list --server http://h --api-key-file f", false),
            ("list --data-dir d", true),
            ("revoke 1a2b3c4d --data-dir d --master-key-file m", true),
        ] {
            let way = parsed(line).unwrap().way;
            assert_eq!(matches!(way, Way::Offline(_)), offline, "{line}: {way:?}");
        }
    }

    #[test]
    fn every_verb_is_parsed_to_its_task() {
        for verb in Verb::ALL {
            let word = if matches!(verb, Verb::Create | Verb::List) { "" } else { " 1a2b3c4d" };
            let terms = match verb {
                Verb::Create => " --name n --scope admin",
                Verb::Configure => " --name n",
                _ => "",
            };
            let command = parsed(&format!("{}{word}{terms} --json", verb.name())).unwrap();
            assert_eq!((command.task.verb(), command.json), (verb, true));
        }
        let Task::Rotate(id, overlap) = parsed("rotate 1a2b3c4d --overlap 1h --out f").unwrap().task else {
            panic!("rotate");
        };
        assert_eq!((id.as_str(), overlap), ("1a2b3c4d", Some(3_600)));
    }

    #[test]
    fn mistakes_are_answered_with_what_to_give() {
        let whole = format!("show qk_1a2b3c4d.{}", "A".repeat(43));
        for (line, answer) in [
            ("crate", "did you mean `quantonium apikey create`?"),
            ("frobnicate", "there are create, list, show, rotate, revoke, configure, delete"),
            ("--json list", "did you mean `quantonium apikey list --json`?"),
            ("create --name n", "needs --name NAME and at least one --scope SCOPE"),
            ("create --scope admin", "needs --name NAME"),
            ("create --name n --scope encrpyt", "--scope encrpyt: a scope is `admin`, or"),
            ("create --name n --scope hash:a", "names no keys"),
            ("create --name n --name m --scope admin", "--name is given twice"),
            ("create --name n --scope admin --expires-in 0", "would have expired"),
            ("create --name n --scope admin --expires-in 3w", "3w is not a time like 30d"),
            ("create --name n --scope admin --expires-in 99999999999999999999d", "is not a time"),
            ("create --name n --scope admin --rate 0", "0 is not a rate like 100"),
            ("create --name n --scope admin --rate 1:2:3", "is not a rate"),
            ("create --name n --scope admin --network 10.0.0.1/8", "10.0.0.1/8 has bits set"),
            (
                "create --name n --scope admin --identity ip:10.0.0.1",
                "--identity ip:10.0.0.1: an identity is dns:HOST",
            ),
            ("configure 1a2b3c4d --identity none --identity unix-user:7", "--identity none: an identity is"),
            ("create 1a2b3c4d --name n --scope admin", "unexpected argument 1a2b3c4d"),
            ("show", "apikey show needs the identifier"),
            ("show 1A2B3C4D", "1A2B3C4D is not the identifier"),
            ("show 1a2b3c4d 1a2b3c4d", "unexpected argument"),
            ("configure 1a2b3c4d", "needs what is to be another"),
            ("configure 1a2b3c4d --out f", "unknown flag --out"),
            ("list --master-key-file m", "--master-key-file goes with --data-dir DIR"),
            ("list --data-dir d --server http://h", "give the one or the other"),
            ("list --listen x", "--listen is a flag of `quantonium serve`, not of `quantonium apikey list`"),
            (&whole, "that is a whole API key"),
        ] {
            let said = parsed(line).map(|command| format!("{command:?}")).unwrap_err();
            assert!(said.contains(answer), "{line}: {said}");
            assert!(!said.contains("AAAA"), "{said}");
        }
    }
}
