//! Commands that ask a running server: `quantonium encrypt`, `decrypt`, `key` and so on.
//!
//! - `arguments`: what is to be asked.
//! - `session`: the server, who asks, what refusals mean.
//! - `payload`: what goes through a key of the server, of any size.
//! - `input`, `output`: files and pipes.
//! - `progress`: how far it is, for a terminal.
//! - `json`: what is sent, and what is told.
//!
//! Owns what becomes of answers. Invariants: nothing but the result goes to standard output; a file is whole or not there; no
//! secret is read before core files and debuggers are forbidden.

pub(super) mod arguments;
pub(super) mod input;
mod json;
pub(super) mod output;
mod payload;
pub(super) mod progress;
mod session;

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use serde_json::Value;
use zeroize::Zeroizing;

use super::failure::Failure;
use super::offline;
use crate::exit::Exit;
use crate::limits::{CLIENT_FILE_MAX_BYTES, CLIENT_PAGE_MAX_COUNT, MAC_KEY_MAX_BYTES};
use crate::log::is_steering;
use arguments::{Show, Task, percent_encoded};
use input::Reading;
use json::Members;
use output::Sink;
use session::{Sent, Session};

pub(super) use arguments::RemoteCommand;

const JSON: &str = "application/json";
const OCTETS: &str = "application/octet-stream";
const TEXT: &str = "text/plain";

/// Does what `command` says.
pub(super) fn run(
    command: RemoteCommand,
    environment: impl IntoIterator<Item = (OsString, OsString)>,
) -> Exit {
    let words = command.words;
    match carry_out(command, environment.into_iter().collect()) {
        Ok(exit) => exit,
        Err(failure) => failure.tell(words),
    }
}

fn carry_out(command: RemoteCommand, environment: Vec<(OsString, OsString)>) -> Result<Exit, Failure> {
    offline::prepare()?;
    // What is started with rights that its caller lacks is nothing that this needs.
    let _ = rustix::thread::set_no_new_privs(true);
    let RemoteCommand { reach, task, json, out, force, .. } = command;
    let task = match task {
        Task::Local { key_file, usage, form, input } => {
            let sink = Sink::open(out.as_deref(), force)?;
            payload::local(&key_file, &usage, form, input.as_deref(), sink)?;
            return Ok(Exit::Success);
        }
        task => task,
    };
    let mut asking = Asking { session: Session::find(reach, environment)?, json, out, force };
    match task {
        Task::Encrypt(usage, form, input) => asking.encrypt(&usage, form, input.as_deref())?,
        Task::Decrypt(usage, input) => asking.decrypt(&usage, input.as_deref())?,
        Task::Rewrap(usage, input) => asking.rewrap(&usage, input.as_deref())?,
        Task::Sign(usage, input) => asking.sign(&usage, input.as_deref())?,
        Task::Verify(usage, signature, input) => return asking.verify(&usage, &signature, input.as_deref()),
        Task::Random(bytes, form) => asking.random(bytes, form)?,
        Task::Hash(algorithm, input) => asking.hash(&algorithm, input.as_deref())?,
        Task::DataKey(usage, bits, plaintext_out) => {
            asking.data_key(&usage, bits.as_deref(), plaintext_out.as_deref())?;
        }
        Task::Health | Task::Local { .. } => return asking.health(),
        Task::List { deleted } => asking.list(deleted)?,
        Task::Import { path, file } => asking.import(&path, file.as_deref())?,
        Task::Restore { name, replace, file } => asking.restore(name.as_deref(), replace, file.as_deref())?,
        Task::Ask { method, path, body, show } => {
            let sink = asking.sink()?;
            let body = asking.json_of(method, &path, body.as_deref().map(str::as_bytes))?;
            asking.show(sink, &body, show)?;
        }
    }
    Ok(Exit::Success)
}

/// A server, and what becomes of its answers.
struct Asking {
    session: Session,
    json: bool,
    out: Option<PathBuf>,
    force: bool,
}

impl Asking {
    /// Where the result goes; asked for before the server is, so that nothing is done in vain.
    fn sink(&self) -> Result<Sink, Failure> {
        Sink::open(self.out.as_deref(), self.force)
    }

    /// The same of a command whose exit code says it all.
    fn verdict_sink(&self) -> Result<Sink, Failure> {
        if self.out.is_some() { self.sink() } else { Sink::anywhere() }
    }

    /// One request with a body in JSON, and the body of its answer.
    fn json_of(
        &mut self,
        method: &str,
        path: &str,
        body: Option<&[u8]>,
    ) -> Result<Zeroizing<Vec<u8>>, Failure> {
        let content_type = body.map(|_| JSON);
        let sent = Sent { content_type, accept: Some(JSON), body };
        Ok(self.session.get(method, path, sent)?.body)
    }

    /// An answer in the form that was asked for.
    fn show(&self, sink: Sink, body: &[u8], show: Show) -> Result<(), Failure> {
        if self.json || show == Show::Whole {
            return sink.fill(&json_line(body)?);
        }
        let value: Value = serde_json::from_slice(body).map_err(|_| not_ours())?;
        match show {
            Show::Member(name) => {
                let text = value.get(name).and_then(Value::as_str).ok_or_else(not_ours)?;
                // What steers a terminal is in none of these.
                if text.chars().any(is_steering) {
                    return Err(not_ours());
                }
                sink.fill(&line(text.as_bytes()))
            }
            _ => sink.fill(json::lines(&value).as_bytes()),
        }
    }

    fn health(&mut self) -> Result<Exit, Failure> {
        let sink = self.verdict_sink()?;
        let sent = Sent { accept: Some(JSON), ..Sent::default() };
        let reply = self.session.ask("GET", "/api/health", sent)?;
        let value = serde_json::from_slice::<Value>(&reply.body).ok();
        if !matches!(reply.status, 200 | 503)
            || value.as_ref().is_none_or(|value| value.get("components").is_none())
        {
            return Err(self.session.refused(&reply));
        }
        self.show(sink, &reply.body, Show::Members)?;
        Ok(if reply.status == 200 { Exit::Success } else { Exit::Failure })
    }

    /// All keys, a page at a time.
    fn list(&mut self, deleted: bool) -> Result<(), Failure> {
        let mut sink = self.sink()?;
        let deleted = if deleted { "&deleted=true" } else { "" };
        let (mut after, mut all) = (String::new(), Vec::new());
        loop {
            let behind =
                if after.is_empty() { String::new() } else { format!("&after={}", percent_encoded(&after)) };
            let path = format!("/api/keys?limit={CLIENT_PAGE_MAX_COUNT}{deleted}{behind}");
            let body = self.json_of("GET", &path, None)?;
            let Ok(Value::Object(mut page)) = serde_json::from_slice(&body) else { return Err(not_ours()) };
            let Some(Value::Array(keys)) = page.remove("keys") else { return Err(not_ours()) };
            if self.json {
                all.extend(keys);
            } else {
                let texts = keys.iter().map(|key| {
                    let of = |name: &str| key.get(name).map(json::one_line).unwrap_or_default();
                    let purged = key.get("purge_at").map(|at| format!(" until {}", json::one_line(at)));
                    format!(
                        "{} {} v{}{}\n",
                        of("name"),
                        of("type"),
                        of("latest_version"),
                        purged.unwrap_or_default()
                    )
                });
                sink.write(texts.collect::<String>().as_bytes())?;
            }
            match page.get("next").and_then(Value::as_str) {
                // Without end only if the server goes in a circle.
                Some(next) if next > after.as_str() => next.clone_into(&mut after),
                Some(_) => return Err(not_ours()),
                None => break,
            }
        }
        if self.json {
            let keys = Value::Object([("keys".to_owned(), Value::Array(all))].into_iter().collect());
            sink.write(&json_line(keys.to_string().as_bytes())?)?;
        }
        sink.finish()
    }

    fn import(&mut self, path: &str, file: Option<&Path>) -> Result<(), Failure> {
        let advice = "that is no key; give its bytes, not a text of them";
        let material = Reading::open(file)?.read_whole(MAC_KEY_MAX_BYTES, advice)?;
        let sent = Sent { content_type: Some(OCTETS), accept: Some(JSON), body: Some(&material) };
        let body = self.session.get("POST", path, sent)?.body;
        self.show(self.sink()?, &body, Show::Members)
    }

    fn restore(&mut self, name: Option<&str>, replace: bool, file: Option<&Path>) -> Result<(), Failure> {
        let most = usize::try_from(CLIENT_FILE_MAX_BYTES).unwrap_or(usize::MAX);
        let text = Reading::open(file)?.read_whole(most, "that is no backup of a key")?;
        let text = str::from_utf8(text.trim_ascii_end()).map_err(|_| {
            Failure::damaged("that is no backup of a key, which begins with quantonium-backup:")
        })?;
        let mut body = Members::default();
        body.text("backup", text);
        if let Some(name) = name {
            body.text("name", name);
        }
        if replace {
            body.literal("replace", true);
        }
        let body = Zeroizing::new(body.finish());
        let body = self.json_of("POST", "/api/keys/restore", Some(body.as_bytes()))?;
        self.show(self.sink()?, &body, Show::Members)
    }
}

/// The same with a line end behind it.
fn line(text: &[u8]) -> Zeroizing<Vec<u8>> {
    let mut line = Zeroizing::new(Vec::with_capacity(text.len() + 1));
    line.extend_from_slice(text);
    if !text.ends_with(b"\n") {
        line.push(b'\n');
    }
    line
}

/// An answer in JSON as a line.
fn json_line(body: &[u8]) -> Result<Zeroizing<Vec<u8>>, Failure> {
    Ok(line(json::shown(body).ok_or_else(not_ours)?.as_bytes()))
}

fn not_ours() -> Failure {
    Failure::protocol("the answer is not of this API: is it quantonium?")
}

/// Whether `path` is where a new secret may go; it is made at once, and removed if it is not filled.
fn secret_file<'a>(
    path: Option<&'a Path>,
    what: &str,
) -> Result<Option<super::new_file::NewFile<'a>>, Failure> {
    path.map(|path| super::new_file::NewFile::create(path, what)).transpose()
}
