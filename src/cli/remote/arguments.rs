//! What follows a command that asks a server: into a task.
//!
//! Owns [`RemoteCommand`] and [`Task`]. Invariants: numbers, times and words are understood before anything is opened or asked; no
//! secret is taken from the command line.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use super::json::Members;
use crate::cli::apikey::arguments::seconds;
use crate::cli::arguments::{Flags, UsageError};
use crate::cli::table::{Spec, Value};
use crate::config::{nearest, shown};

/// What a command is to ask, of whom, and what becomes of the answer.
#[derive(Debug)]
pub(in crate::cli) struct RemoteCommand {
    /// The command's words.
    pub(super) words: &'static str,
    pub(super) reach: Reach,
    pub(super) task: Task,
    /// The answer in JSON.
    pub(super) json: bool,
    /// Where the result goes; else to standard output.
    pub(super) out: Option<PathBuf>,
    /// Whether what is there may be replaced.
    pub(super) force: bool,
}

/// How a server is reached, and as whom; what is not named the environment says.
#[derive(Debug)]
pub(super) struct Reach {
    pub(super) url: Option<OsString>,
    pub(super) api_key_file: Option<PathBuf>,
    pub(super) ca_cert: Option<PathBuf>,
    pub(super) client_cert: Option<PathBuf>,
    pub(super) client_key: Option<PathBuf>,
}

/// What is to be done.
#[derive(Debug)]
pub(super) enum Task {
    Encrypt(Use, Form, Input),
    Decrypt(Use, Input),
    Rewrap(Use, Input),
    Sign(Use, Input),
    Verify(Use, Given, Input),
    Random(u64, Form),
    Hash(String, Input),
    DataKey(Use, Option<String>, Option<PathBuf>),
    /// Without a server.
    Local {
        key_file: PathBuf,
        usage: Use,
        /// In which form it is sealed; none: it is opened.
        form: Option<Form>,
        input: Input,
    },
    Health,
    List {
        deleted: bool,
    },
    Import {
        path: String,
        file: Input,
    },
    Restore {
        name: Option<String>,
        replace: bool,
        file: Input,
    },
    /// One request whose body is known.
    Ask {
        method: &'static str,
        path: String,
        body: Option<String>,
        show: Show,
    },
}

/// The file that is read; none: standard input.
pub(super) type Input = Option<PathBuf>;

/// What of an answer is shown to people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Show {
    /// A line for each member.
    Members,
    /// The text of one member.
    Member(&'static str),
    /// All of it, as it is.
    Whole,
}

/// The form of what is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cli) enum Form {
    Auto,
    Text,
    Binary,
    Stream,
    Hex,
    Base64,
    Raw,
}

/// A key and how it is used.
#[derive(Debug)]
pub(super) struct Use {
    pub(super) key: String,
    pub(super) version: Option<String>,
    pub(super) associated_data: Option<Given>,
    pub(super) context: Option<Given>,
}

/// Bytes from the command line, or from a file.
#[derive(Debug)]
pub(in crate::cli) enum Given {
    Text(OsString),
    File(PathBuf),
}

/// Reads what was given to `spec`.
///
/// # Errors
/// What is wrong with it.
pub(in crate::cli) fn parse(spec: &'static Spec, mut flags: Flags) -> Result<RemoteCommand, UsageError> {
    words_are_known(spec, &flags)?;
    let reach = Reach {
        url: flags.take("url"),
        api_key_file: flags.take_path("api-key-file")?,
        ca_cert: flags.take_path("ca-cert")?,
        client_cert: flags.take_path("client-cert")?,
        client_key: flags.take_path("client-key")?,
    };
    let (json, out, force) =
        (flags.take("json").is_some(), flags.take_path("out")?, flags.take("force").is_some());
    if force && out.is_none() {
        return Err(UsageError::Wrong("--force goes with --out FILE".to_owned()));
    }
    let task = match spec.words.strip_prefix("key ") {
        Some(verb) => key_task(spec, verb, &mut flags)?,
        None => task(spec, &mut flags)?,
    };
    Ok(RemoteCommand { words: spec.words, reach, task, json, out, force })
}

fn task(spec: &Spec, flags: &mut Flags) -> Result<Task, UsageError> {
    Ok(match spec.words {
        "encrypt" => Task::Encrypt(usage(spec, flags)?, form(flags, Form::Auto), input(flags)),
        "decrypt" => Task::Decrypt(usage(spec, flags)?, input(flags)),
        "rewrap" => Task::Rewrap(usage(spec, flags)?, input(flags)),
        "sign" => Task::Sign(usage(spec, flags)?, input(flags)),
        "verify" => {
            let signature = given(flags, "signature", "signature-file")?;
            let missing =
                "verify needs --signature-file FILE, as `quantonium sign` writes it, or --signature TEXT";
            let signature = signature.ok_or_else(|| UsageError::Wrong(missing.to_owned()))?;
            Task::Verify(usage(spec, flags)?, signature, input(flags))
        }
        "random" => {
            let word = flags.words.pop().unwrap_or_default();
            let bytes = number(&word).filter(|bytes| *bytes > 0).ok_or_else(|| {
                UsageError::Wrong(format!("random needs how many bytes, like 32, not {:?}", shown(&word)))
            })?;
            Task::Random(bytes, form(flags, Form::Hex))
        }
        "hash" => {
            Task::Hash(flags.take_text("algorithm")?.unwrap_or_else(|| "sha256".to_owned()), input(flags))
        }
        "datakey" => {
            Task::DataKey(usage(spec, flags)?, flags.take_text("bits")?, flags.take_path("plaintext-out")?)
        }
        "token" => {
            let mut body = Members::default();
            let mut scopes = Vec::new();
            while let Some(scope) = flags.take_text("scope")? {
                scopes.extend(scope.split(',').map(|scope| scope.trim().to_owned()));
            }
            if !scopes.is_empty() {
                body.texts("scopes", &scopes);
            }
            if let Some(text) = flags.take_text("expires-in")? {
                body.literal("expires_in", seconds("expires-in", &text)?);
            }
            post("/api/auth/token", body, Show::Member("access_token"))
        }
        "local encrypt" | "local decrypt" => {
            let key_file = flags.take_path("key-file")?;
            Task::Local {
                key_file: key_file
                    .ok_or_else(|| needs(spec, "--key-file FILE, as `quantonium key export` writes it"))?,
                usage: usage(spec, flags)?,
                form: (spec.words == "local encrypt").then(|| form(flags, Form::Auto)),
                input: input(flags),
            }
        }
        "whoami" => get("/api/auth/profile".to_owned(), Show::Members),
        _ => Task::Health,
    })
}

fn key_task(spec: &Spec, verb: &str, flags: &mut Flags) -> Result<Task, UsageError> {
    if verb == "list" {
        return Ok(Task::List { deleted: flags.take("deleted").is_some() });
    }
    if verb == "restore" {
        let (name, replace) = (flags.take_text("name")?, flags.take("replace").is_some());
        let Some(file) = input(flags) else { return Err(needs(spec, "FILE, a backup; - is standard input")) };
        return Ok(Task::Restore { name, replace, file: Some(file) });
    }
    let mut words = core::mem::take(&mut flags.words).into_iter();
    let name = words.next().and_then(|word| word.into_string().ok()).filter(|name| !name.is_empty());
    let name = name.ok_or_else(|| needs(spec, "NAME, as `quantonium key list` shows it"))?;
    let path = format!("/api/keys/{}", percent_encoded(&name));
    let of = |end: &str| format!("{path}/{end}");
    Ok(match verb {
        "create" | "config" | "destroy" => changed(spec, &name, path, flags)?,
        "import" => {
            let mut query = String::from("?");
            settings(flags, true, |member, text, _| {
                query.push_str(&format!("{member}={}&", percent_encoded(text)));
            })?;
            if !query.contains("?type=") {
                query.push_str("type=xchacha20-poly1305&");
            }
            let file = words.next().map(PathBuf::from).ok_or_else(|| needs(spec, "FILE with the key"))?;
            let path = format!("{}{}", of("import"), query.trim_end_matches('&'));
            Task::Import { path, file: Some(file) }
        }
        "export" => {
            let mut body = Members::default();
            match flags.take_text("version")? {
                Some(text) if number(OsStr::new(&text)).is_some() => body.literal("version", text),
                Some(text) => body.text("version", &text),
                None => {}
            }
            post(&of("export"), body, Show::Whole)
        }
        "backup" => {
            let mut body = Members::default();
            if flags.take("plaintext").is_some() {
                body.literal("plaintext", true);
            }
            post(&of("backup"), body, Show::Member("backup"))
        }
        "show" => get(path, Show::Members),
        "delete" => Task::Ask { method: "DELETE", path, body: None, show: Show::Members },
        _ => post(&of(verb), Members::default(), Show::Members),
    })
}

/// A key that is made, or is to be another.
fn changed(spec: &Spec, name: &str, path: String, flags: &mut Flags) -> Result<Task, UsageError> {
    let mut body = Members::default();
    if spec.words == "key create" {
        body.text("name", name);
        settings(flags, true, |member, text, is_literal| match is_literal {
            true => body.literal(member, text),
            false => body.text(member, text),
        })?;
        return Ok(post("/api/keys", body, Show::Members));
    }
    settings(flags, false, |member, text, _| body.literal(member, text))?;
    let mut versions = states(flags)?;
    while let Some(version) = flags.take_text("version")? {
        versions.push(state("version", &version, "destroyed")?);
    }
    if !versions.is_empty() {
        body.literal("versions", format_args!("[{}]", versions.join(",")));
    }
    if body.is_empty() {
        return Err(needs(
            spec,
            if spec.words == "key destroy" {
                "--version N, which version is to be destroyed"
            } else {
                "what is to be another, as --keep-versions 3"
            },
        ));
    }
    Ok(Task::Ask { method: "PATCH", path, body: Some(body.finish()), show: Show::Members })
}

fn get(path: String, show: Show) -> Task {
    Task::Ask { method: "GET", path, body: None, show }
}

fn post(path: &str, body: Members, show: Show) -> Task {
    Task::Ask { method: "POST", path: path.to_owned(), body: Some(body.finish()), show }
}

fn needs(spec: &Spec, what: &str) -> UsageError {
    UsageError::Wrong(format!("{} needs {what}", spec.words))
}

/// Words that stand behind a flag must be among those that it takes.
fn words_are_known(spec: &Spec, flags: &Flags) -> Result<(), UsageError> {
    for flag in spec.own() {
        let Value::Words(_, words) = flag.value else { continue };
        let mut given = flags.given(flag.name);
        let Some(given) = given.find(|given| !words.iter().any(|word| *given == word)) else { continue };
        let hint = match nearest(&given.to_string_lossy(), words.iter().copied()) {
            Some(near) => format!("did you mean {near}?"),
            None => format!("there are {}", words.join(", ")),
        };
        return Err(UsageError::Wrong(format!("--{}: {} is not known; {hint}", flag.name, shown(given))));
    }
    Ok(())
}

/// Options and policy, as members with their texts; `true` says of a text that it is no string in JSON.
fn settings(
    flags: &mut Flags,
    options: bool,
    mut member: impl FnMut(&str, &str, bool),
) -> Result<(), UsageError> {
    if options {
        if let Some(kind) = flags.take_text("type")? {
            member("type", &kind, false);
        }
        for name in ["derived", "exportable", "plaintext-backup"] {
            if flags.take(name).is_some() {
                member(&name.replace('-', "_"), "true", true);
            }
        }
    }
    for name in ["min-decryption-version", "min-encryption-version", "keep-versions"] {
        if let Some(text) = count(flags, name)? {
            member(&name.replace('-', "_"), &text, true);
        }
    }
    if let Some(text) = flags.take_text("auto-rotate")? {
        member("auto_rotate_seconds", &seconds("auto-rotate", &text)?.to_string(), true);
    }
    if let Some(text) = flags.take_text("deletion-allowed")? {
        member("deletion_allowed", &text, true);
    }
    Ok(())
}

/// `--version-state 2=disabled`.
fn states(flags: &mut Flags) -> Result<Vec<String>, UsageError> {
    const STATES: [&str; 3] = ["enabled", "decrypt-only", "disabled"];
    let mut versions = Vec::new();
    while let Some(text) = flags.take_text("version-state")? {
        let known = text.split_once('=').filter(|(_, state)| STATES.contains(state));
        let (version, word) = known.ok_or_else(|| {
            let text = shown(OsStr::new(&text));
            UsageError::Wrong(format!(
                "--version-state: {text} is not like 2=disabled; states: {}",
                STATES.join(", ")
            ))
        })?;
        versions.push(state("version-state", version, word)?);
    }
    Ok(versions)
}

fn state(flag: &str, version: &str, word: &str) -> Result<String, UsageError> {
    let number = number(OsStr::new(version)).ok_or_else(|| not_a_number(flag, version))?;
    Ok(format!("{{\"version\":{number},\"state\":\"{word}\"}}"))
}

fn usage(spec: &Spec, flags: &mut Flags) -> Result<Use, UsageError> {
    let takes_key = spec.own().any(|flag| flag.name == "key");
    let key = flags.take_text("key")?.filter(|key| !key.is_empty());
    Ok(Use {
        key: key
            .or_else(|| (!takes_key).then(String::new))
            .ok_or_else(|| needs(spec, "--key NAME, as `quantonium key list` shows it"))?,
        version: count(flags, "key-version")?,
        associated_data: given(flags, "associated-data", "associated-data-file")?,
        context: given(flags, "context", "context-file")?,
    })
}

fn given(flags: &mut Flags, text: &str, file: &str) -> Result<Option<Given>, UsageError> {
    match (flags.take(text), flags.take_path(file)?) {
        (Some(_), Some(_)) => Err(UsageError::Wrong(format!("--{text} or --{file}, not both"))),
        (Some(text), None) => Ok(Some(Given::Text(text))),
        (None, file) => Ok(file.map(Given::File)),
    }
}

fn form(flags: &mut Flags, usual: Form) -> Form {
    match flags.take("form").as_deref().and_then(OsStr::to_str) {
        Some("text") => Form::Text,
        Some("binary") => Form::Binary,
        Some("stream") => Form::Stream,
        Some("hex") => Form::Hex,
        Some("base64") => Form::Base64,
        Some("raw") => Form::Raw,
        _ => usual,
    }
}

fn input(flags: &mut Flags) -> Input {
    flags.words.pop().map(PathBuf::from)
}

/// A whole number, as it was written.
fn count(flags: &mut Flags, name: &str) -> Result<Option<String>, UsageError> {
    let Some(text) = flags.take_text(name)? else { return Ok(None) };
    match number(OsStr::new(&text)) {
        Some(number) => Ok(Some(number.to_string())),
        None => Err(not_a_number(name, &text)),
    }
}

fn not_a_number(flag: &str, text: &str) -> UsageError {
    UsageError::Wrong(format!("--{flag}: {} is not a number", shown(OsStr::new(text))))
}

fn number(text: &OsStr) -> Option<u64> {
    let text = text.to_str().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))?;
    text.parse().ok()
}

/// `text` as it may stand in a path or a query (RFC 3986, section 2.1).
pub(super) fn percent_encoded(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(char::from(byte)),
            byte => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}
