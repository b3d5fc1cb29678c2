//! A server that is asked: where it is, who asks, and what its refusals mean.
//!
//! Owns [`Session`]. Invariants: the credential comes from a file or one variable and goes into one field of a request alone; every
//! refusal is one line with the server's own words and an exit code; where it is not known whether a change was made, that is said.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, ErrorKind, Read as _};
use std::path::PathBuf;

use serde::Deserialize;
use zeroize::Zeroizing;

use super::arguments::Reach;
use crate::auth::api_key;
use crate::cli::apikey::told;
use crate::cli::client::transfer::{Broken, Source, Transfer};
use crate::cli::client::{self, Reply, Request, Target};
use crate::cli::failure::Failure;
use crate::cli::secure::{Connection, Trusting, trust};
use crate::clock::Moment;
use crate::config;
use crate::console;
use crate::exit::Exit;
use crate::limits::{CLIENT_REQUEST_MAX_MILLIS, CREDENTIAL_FILE_MAX_BYTES};
use crate::store::quoted;

const EXAMPLE: &str = "http://127.0.0.1:8080";
const URL: &str = "QUANTONIUM_URL";
const API_KEY: &str = "QUANTONIUM_API_KEY";
const CA_CERT: &str = "QUANTONIUM_CA_CERT";
const CLIENT_CERT: &str = "QUANTONIUM_CLIENT_CERT";
const CLIENT_KEY: &str = "QUANTONIUM_CLIENT_KEY";

/// One body that is sent, and the form of what is to come.
#[derive(Clone, Copy, Default)]
pub(super) struct Sent<'a> {
    /// Its type; none for a request without a body.
    pub(super) content_type: Option<&'static str>,
    pub(super) accept: Option<&'static str>,
    pub(super) body: Option<&'a [u8]>,
}

/// A server, and who asks it.
pub(super) struct Session {
    target: Target,
    /// What stands in front of the paths of the API.
    base: String,
    /// The field with the credential; empty without one.
    field: Zeroizing<String>,
    trusting: Trusting,
    environment: Vec<(OsString, OsString)>,
    has_warned: bool,
}

impl Session {
    /// The server that the flags or `environment` name.
    pub(super) fn find(reach: Reach, environment: Vec<(OsString, OsString)>) -> Result<Self, Failure> {
        let variable = |name: &str| {
            let found = environment.iter().find(|(variable, value)| variable == name && !value.is_empty());
            found.map(|(_, value)| value.clone())
        };
        let by_value = variable(API_KEY).map(OsString::into_encoded_bytes).map(Zeroizing::new);
        let path = |flag: Option<PathBuf>, name: &str| flag.or_else(|| variable(name).map(PathBuf::from));
        let own = match (path(reach.client_cert, CLIENT_CERT), path(reach.client_key, CLIENT_KEY)) {
            (Some(chain), Some(key)) => Some((chain, key)),
            (None, None) => None,
            _ => return Err(Failure::config("--client-cert and --client-key go together: give both")),
        };
        let trusting = Trusting { authorities: path(reach.ca_cert, CA_CERT), own, anybody: false };
        let url = reach.url.or_else(|| variable(URL));
        // What is left configures servers; there a secret by value would be refused.
        let environment: Vec<_> = environment.into_iter().filter(|(name, _)| name != API_KEY).collect();
        let target = match url {
            Some(url) => Target::from_url(&url, EXAMPLE, "/"),
            None => client::configured(environment.iter().cloned(), "/")
                .map_err(|reason| format!("{reason}; give --url URL or set {URL}")),
        };
        let target = target.map_err(Failure::config)?;
        if target.path.contains('?') {
            return Err(Failure::config(format!("{target}: leave the query out")));
        }
        let named = config::api_key_file(environment.iter().cloned())?;
        let field = match (reach.api_key_file, by_value, named) {
            (Some(path), _, _) | (None, None, Some(path)) => from_file(&path)?,
            (None, Some(text), _) => credential(&text, API_KEY)?,
            (None, None, None) => Zeroizing::default(),
        };
        let base = target.path.trim_end_matches('/').to_owned();
        Ok(Self { target, base, field, trusting, environment, has_warned: false })
    }

    /// One request, and the body of its reply.
    pub(super) fn ask(&mut self, method: &str, path: &str, sent: Sent<'_>) -> Result<Reply, Failure> {
        let deadline = Moment::now().plus_millis(CLIENT_REQUEST_MAX_MILLIS);
        let mut stream = self.connect(path, deadline)?;
        let fields = self.fields(sent.content_type);
        let asked = Request { method, accept: sent.accept, fields: &fields, body: sent.body };
        client::exchange(&mut stream, &self.target, &asked, deadline).map_err(|error| {
            let failure = self.failed(&error);
            match method {
                "PATCH" | "DELETE" => {
                    failure.and("; whether it was done is not known: `quantonium key show` tells")
                }
                _ => failure,
            }
        })
    }

    /// The same of a request that has to succeed.
    pub(super) fn get(&mut self, method: &str, path: &str, sent: Sent<'_>) -> Result<Reply, Failure> {
        let reply = self.ask(method, path, sent)?;
        if !matches!(reply.status, 200 | 201) {
            return Err(self.refused(&reply));
        }
        // A page of somebody in between is no answer.
        let is_asked_for = sent.accept.is_none_or(|accept| accept == reply.content_type);
        if is_asked_for { Ok(reply) } else { Err(super::not_ours()) }
    }

    /// A request whose body and reply are of any size.
    pub(super) fn transfer(&mut self, path: &str, source: Source) -> Result<Transfer, Failure> {
        let deadline = Moment::now().plus_millis(CLIENT_REQUEST_MAX_MILLIS);
        let stream = self.connect(path, deadline)?;
        let fields = self.fields(Some("application/octet-stream"));
        let asked = Request { method: "POST", accept: None, fields: &fields, body: None };
        match Transfer::begin(stream, &self.target, &asked, source) {
            Ok(Ok(transfer)) => Ok(transfer),
            Ok(Err(reply)) => Err(self.refused(&reply)),
            Err(broken) => Err(self.broken(&broken)),
        }
    }

    /// What is said of a transfer that failed on its way.
    pub(super) fn broken(&self, broken: &Broken) -> Failure {
        match broken {
            Broken::Input(error) => Failure::io(format!("the input cannot be read: {error}")),
            Broken::Connection(error) => self.failed(error).and(
                "; what came is not all. If the server is well, a piece of the input does not open: it was changed or cut off",
            ),
        }
    }

    fn connect(&mut self, path: &str, deadline: Moment) -> Result<Connection, Failure> {
        self.target.path = format!("{}{path}", self.base);
        let trust = if self.target.is_secure() {
            Some(trust(&self.trusting, self.environment.iter().cloned()).map_err(Failure::config)?)
        } else {
            None
        };
        let trust = || trust.ok_or_else(String::new);
        let stream =
            client::connect(&self.target, trust, deadline).map_err(|error| self.unreached(&error))?;
        if stream.is_in_the_clear() && !self.field.is_empty() && !self.has_warned {
            self.has_warned = true;
            console::err(&format!(
                "quantonium: warning: {} is another machine, and the API key goes there in the clear\n",
                self.target
            ));
        }
        Ok(stream)
    }

    fn fields(&self, content_type: Option<&'static str>) -> Zeroizing<String> {
        let content_type = content_type.map(|kind| format!("Content-Type: {kind}\r\n")).unwrap_or_default();
        Zeroizing::new(format!("{}{content_type}", *self.field))
    }

    fn unreached(&self, error: &io::Error) -> Failure {
        Failure::unavailable(self.target.failed(error, CLIENT_REQUEST_MAX_MILLIS))
    }

    fn failed(&self, error: &io::Error) -> Failure {
        match error.kind() {
            ErrorKind::InvalidData => Failure::protocol(format!(
                "{}: the answer is cut off, or not of this API: is it quantonium?",
                self.target
            )),
            ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => {
                Failure::unavailable(format!("{} cut the answer off", self.target))
            }
            _ => self.unreached(error),
        }
    }

    /// What is said of a refusal: the server's own words (RFC 9457).
    pub(super) fn refused(&self, reply: &Reply) -> Failure {
        let exit = match reply.status {
            401 | 403 => Exit::Denied,
            429 | 502..=504 => Exit::TryLater,
            _ => Exit::Failure,
        };
        let Ok(problem) = serde_json::from_slice::<Problem>(&reply.body) else {
            let text =
                format!("{} answered {} without saying why: is it quantonium?", self.target, reply.status);
            return Failure::protocol(text);
        };
        let (title, code) = (told(&problem.title), told(&problem.code));
        let detail = told(&problem.detail);
        let (exit, advice) = match code.as_str() {
            "credential_missing" => (
                exit,
                " Give the file of an API key with --api-key-file, or set QUANTONIUM_API_KEY_FILE or QUANTONIUM_API_KEY.",
            ),
            "credential_invalid" => (exit, " Give the file of a valid API key or token with --api-key-file."),
            "unknown_key" => (exit, " `quantonium key list` shows those that there are."),
            "decryption_failed" => (Exit::Damaged, ""),
            // Done, or perhaps done: not to be repeated unseen.
            "commit_pending" | "store_ambiguous" => {
                (Exit::Failure, " `quantonium key show` tells what is so.")
            }
            _ => (exit, ""),
        };
        Failure::refused(format!("{} {title}: {detail} ({code}){advice}", reply.status)).with_exit(exit)
    }
}

/// The field that carries the credential in the file `path`, which may also be a pipe.
fn from_file(path: &std::path::Path) -> Result<Zeroizing<String>, Failure> {
    let failed = |error: io::Error| {
        Failure::config(format!("cannot read the API key in {}: {error}", client::credential_file(path)))
    };
    let file = File::open(path).map_err(failed)?;
    let mut text =
        Zeroizing::new(Vec::with_capacity(usize::try_from(CREDENTIAL_FILE_MAX_BYTES).unwrap_or(0)));
    file.take(CREDENTIAL_FILE_MAX_BYTES).read_to_end(&mut text).map_err(failed)?;
    credential(&text, &quoted(path))
}

/// The field for a credential: an API key, or a token.
fn credential(text: &[u8], place: &str) -> Result<Zeroizing<String>, Failure> {
    let line = text.trim_ascii_end();
    let is_key = api_key::parse(line).is_some();
    let dots = line.iter().filter(|byte| **byte == b'.').count();
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    match str::from_utf8(line) {
        Ok(key) if is_key => Ok(Zeroizing::new(format!("X-API-Key: {key}\r\n"))),
        Ok(token) if dots == 2 && line.iter().all(plain) => {
            Ok(Zeroizing::new(format!("Authorization: Bearer {token}\r\n")))
        }
        _ => Err(Failure::config(format!(
            "{place} does not hold an API key, one line like qk_1a2b3c4d.<43 characters>, nor a token"
        ))),
    }
}

/// A problem (RFC 9457) as far as it is told.
#[derive(Deserialize)]
struct Problem {
    title: String,
    detail: String,
    code: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_credential_is_an_api_key_or_a_token_and_nothing_that_ends_a_field() {
        let key = format!("qk_1a2b3c4d.{}", "A".repeat(43));
        assert_eq!(
            *credential(format!("{key}\r\n").as_bytes(), "x").unwrap(),
            format!("X-API-Key: {key}\r\n")
        );
        assert_eq!(*credential(b"a.b-.c_\n", "x").unwrap(), "Authorization: Bearer a.b-.c_\r\n");
        for text in ["", "a.b", "a.b.c.d", "a.b.c\r\nX: y", "a.b.c d", "qk_1a2b3c4d.short"] {
            let refusal = credential(text.as_bytes(), "x").unwrap_err().to_string();
            assert!(refusal.starts_with("x does not hold an API key"), "{refusal}");
        }
    }
}
