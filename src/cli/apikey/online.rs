//! API keys of a running server: each task is one request, a list one for each page.
//!
//! Owns the requests and what is said of refusals. Invariants: the API key is read from a file and goes into one field of
//! the request alone; a reply that is no reply of this API is refused; where it is not known whether a change was made,
//! that is said.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::arguments::{Bound, Task, Wanted};
use super::view;
use crate::auth::api_key;
use crate::cli::client::{self, Reply, Request, Target};
use crate::cli::failure::Failure;
use crate::cli::secure::{Trusting, trust};
use crate::clock::Moment;
use crate::config;
use crate::console;
use crate::limits::{CLIENT_PAGE_MAX_COUNT, CLIENT_REQUEST_MAX_MILLIS, CREDENTIAL_FILE_MAX_BYTES};
use crate::model::{Grants, Identity};
use crate::network::Network;
use crate::store::quoted;

const EXAMPLE: &str = "http://127.0.0.1:8080";
const KEYS: &str = "/api/auth/keys";

/// A server, and the API key to ask it with.
pub(super) struct Server {
    target: Target,
    /// What stands in front of the paths of the API.
    base: String,
    /// The field with the API key.
    field: Zeroizing<String>,
    trusting: Trusting,
    environment: Vec<(OsString, OsString)>,
}

/// A body in JSON.
pub(super) type Body = Zeroizing<Vec<u8>>;

impl Server {
    /// The server at `url`, or at the first address that `environment` configures, asked with the key in `api_key_file`,
    /// or in the one that `environment` names.
    pub(super) fn find(
        url: Option<&OsStr>,
        api_key_file: Option<PathBuf>,
        trusting: Trusting,
        environment: &[(OsString, OsString)],
    ) -> Result<Self, Failure> {
        let variables = || environment.iter().cloned();
        let named = config::api_key_file(variables())?;
        let target = match url {
            Some(url) => Target::from_url(url, EXAMPLE, "/").map_err(|reason| format!("--server {reason}")),
            None => client::configured(variables(), "/").map_err(|reason| format!("{reason}; give --server")),
        };
        let target = target.map_err(Failure::config)?;
        if target.path.contains('?') {
            return Err(Failure::config(format!("--server {target}: leave the query out")));
        }
        let path = api_key_file.or(named).ok_or_else(|| {
            Failure::config(
                "no API key to ask with: give --api-key-file FILE or set QUANTONIUM_API_KEY_FILE; for the store of a \
                 stopped server give --data-dir DIR",
            )
        })?;
        let field = credential(&path)?;
        let base = target.path.trim_end_matches('/').to_owned();
        Ok(Self { base, target, field, trusting, environment: environment.to_vec() })
    }

    /// Carries out `task`; of a list each page is a body.
    pub(super) fn carry_out(&mut self, task: &Task) -> Result<Vec<Body>, Failure> {
        let of = |id: &crate::model::ApiKeyId, end: &str| format!("{KEYS}/{id}{end}");
        let one = match task {
            Task::List => return self.list(),
            Task::Create(wanted) => self.ask("POST", KEYS, Some(&json(&Form::creation(wanted)))),
            Task::Show(id) => self.ask("GET", &of(id, ""), None),
            Task::Rotate(id, None) => self.ask("POST", &of(id, "/rotate"), Some(b"")),
            Task::Rotate(id, Some(seconds)) => {
                let form = RotateForm { overlap_seconds: *seconds };
                self.ask("POST", &of(id, "/rotate"), Some(&json(&form)))
            }
            Task::Revoke(id) => self.ask("POST", &of(id, "/revoke"), Some(b"")),
            Task::Configure(id, wanted) => self.ask("PATCH", &of(id, ""), Some(&json(&Form::patch(wanted)))),
            Task::Delete(id) => self.ask("DELETE", &of(id, ""), None),
        };
        Ok(vec![one?])
    }

    fn list(&mut self) -> Result<Vec<Body>, Failure> {
        let (mut bodies, mut after) = (Vec::new(), String::new());
        loop {
            let behind = if after.is_empty() { String::new() } else { format!("&after={after}") };
            let body = self.ask("GET", &format!("{KEYS}?limit={CLIENT_PAGE_MAX_COUNT}{behind}"), None)?;
            let next = view::page(&body)?.next;
            bodies.push(body);
            // Without end only if the server goes in a circle.
            match next {
                Some(next) if next > after && next.bytes().all(|byte| byte.is_ascii_alphanumeric()) => {
                    after = next;
                }
                Some(_) => return Err(view::not_ours()),
                None => return Ok(bodies),
            }
        }
    }

    fn ask(&mut self, method: &str, path: &str, body: Option<&[u8]>) -> Result<Body, Failure> {
        self.target.path = format!("{}{path}", self.base);
        let deadline = Moment::now().plus_millis(CLIENT_REQUEST_MAX_MILLIS);
        let failed = |error: &io::Error| Failure::io(self.target.failed(error, CLIENT_REQUEST_MAX_MILLIS));
        let trust = || trust(&self.trusting, self.environment.iter().cloned());
        let mut stream = client::connect(&self.target, trust, deadline).map_err(|error| failed(&error))?;
        if stream.is_in_the_clear() {
            console::err(&format!(
                "quantonium: warning: {} is another machine, and the API key goes there in the clear\n",
                self.target
            ));
        }
        let asked = Request { method, accept: None, fields: &self.field, body };
        let reply = client::exchange(&mut stream, &self.target, &asked, deadline).map_err(|error| {
            let failure = failed(&error);
            match method {
                "GET" => failure,
                _ => failure.and("; whether it was done is not known: `quantonium apikey list` shows it"),
            }
        })?;
        if matches!(reply.status, 200 | 201) { Ok(reply.body) } else { Err(self.refused(&reply)) }
    }

    /// What is said of a refusal: the server's own words.
    fn refused(&self, reply: &Reply) -> Failure {
        let Ok(problem) = serde_json::from_slice::<Problem>(&reply.body) else {
            return Failure::refused(format!(
                "{} answered {} without saying why: is it quantonium?",
                self.target, reply.status
            ));
        };
        let detail = view::told(&problem.detail);
        let advice = match problem.code.as_str() {
            "credential_invalid" | "credential_missing" => {
                "; give the file of a valid key with --api-key-file. If the last admin key is lost, stop the server and \
                 make another one: quantonium apikey create --data-dir DIR --name admin --scope admin"
            }
            "last_admin_key" => {
                "; make another one first: quantonium apikey create --name admin --scope admin"
            }
            "unknown_api_key" => " `quantonium apikey list` shows those that there are.",
            "api_key_active" => " Run `quantonium apikey revoke` first.",
            _ => "",
        };
        let detail = if advice.starts_with(';') { detail.trim_end_matches('.') } else { &detail };
        let code = view::told(&problem.code);
        Failure::refused(format!("refused ({} {code}): {detail}{advice}", reply.status))
    }
}

/// The field that carries the API key in the file `path`, which may also be a pipe.
fn credential(path: &Path) -> Result<Zeroizing<String>, Failure> {
    let failed = |error: io::Error| {
        Failure::config(format!("cannot read the API key in {}: {error}", client::credential_file(path)))
    };
    let file = File::open(path).map_err(failed)?;
    let found = file.metadata().map_err(failed)?;
    if found.is_file() && found.permissions().mode() & 0o004 != 0 {
        let shown = quoted(path);
        console::err(&format!(
            "quantonium: warning: every user can read the API key in {shown}: chmod 600 {shown}\n"
        ));
    }
    let mut text =
        Zeroizing::new(Vec::with_capacity(usize::try_from(CREDENTIAL_FILE_MAX_BYTES).unwrap_or(0)));
    file.take(CREDENTIAL_FILE_MAX_BYTES).read_to_end(&mut text).map_err(failed)?;
    let line = text.strip_suffix(b"\n").unwrap_or(&text);
    let key = line.strip_suffix(b"\r").unwrap_or(line);
    match str::from_utf8(key) {
        Ok(key) if api_key::parse(key.as_bytes()).is_some() => {
            Ok(Zeroizing::new(format!("X-API-Key: {key}\r\n")))
        }
        _ => Err(Failure::config(format!(
            "{} does not hold an API key, one line like qk_1a2b3c4d.<43 characters>",
            quoted(path)
        ))),
    }
}

/// A problem (RFC 9457) as far as it is told.
#[derive(Deserialize)]
struct Problem {
    code: String,
    detail: String,
}

/// What `POST` and `PATCH` take. A member that is not there stays as it is.
#[derive(Serialize)]
struct Form<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    scopes: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_in: Option<Member<u64>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rate_limit: Option<Member<RateForm>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    allowed_networks: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    identities: Option<Vec<&'a str>>,
}

/// A value, or `null`, which takes away what is there (RFC 7396).
#[derive(Serialize)]
#[serde(untagged)]
enum Member<T> {
    Null(()),
    Value(T),
}

impl<T> From<Bound<T>> for Member<T> {
    fn from(bound: Bound<T>) -> Self {
        match bound {
            Bound::Off => Self::Null(()),
            Bound::At(value) => Self::Value(value),
        }
    }
}

#[derive(Serialize)]
struct RateForm {
    per_second: u32,
    burst: u32,
}

#[derive(Serialize)]
struct RotateForm {
    overlap_seconds: u64,
}

impl<'a> Form<'a> {
    fn patch(wanted: &'a Wanted) -> Self {
        let scopes = |grants: &Grants| grants.iter().map(ToString::to_string).collect();
        let networks = |networks: &Vec<Network>| networks.iter().map(ToString::to_string).collect();
        let identities = |identities: &'a Vec<Identity>| identities.iter().map(Identity::as_str).collect();
        Self {
            name: wanted.name.as_deref(),
            description: wanted.description.as_deref(),
            scopes: wanted.grants.as_ref().map(scopes),
            expires_in: wanted.expires_in.map(Member::from),
            rate_limit: wanted.rate.map(|rate| match rate {
                Bound::Off => Member::Null(()),
                Bound::At(rate) => {
                    Member::Value(RateForm { per_second: rate.per_second(), burst: rate.burst() })
                }
            }),
            allowed_networks: wanted.networks.as_ref().map(networks),
            identities: wanted.identities.as_ref().map(identities),
        }
    }

    /// As [`Self::patch`]; of a new key there is nothing that could be taken away.
    fn creation(wanted: &'a Wanted) -> Self {
        let form = Self::patch(wanted);
        Self {
            expires_in: form.expires_in.filter(|member| matches!(member, Member::Value(_))),
            rate_limit: form.rate_limit.filter(|member| matches!(member, Member::Value(_))),
            ..form
        }
    }
}

fn json(form: &impl Serialize) -> Vec<u8> {
    // Texts, numbers and lists of them: nothing that JSON cannot say.
    serde_json::to_vec(form).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_wanted_is_not_sent_and_nothing_takes_away() {
        let wanted = Wanted {
            name: Some("n".to_owned()),
            expires_in: Some(Bound::Off),
            rate: Some(Bound::Off),
            networks: Some(Vec::new()),
            identities: Some(Vec::new()),
            ..Wanted::default()
        };
        let text = |form: &Form<'_>| String::from_utf8(json(form)).unwrap();
        let patch =
            r#"{"name":"n","expires_in":null,"rate_limit":null,"allowed_networks":[],"identities":[]}"#;
        assert_eq!(text(&Form::patch(&wanted)), patch);
        assert_eq!(text(&Form::creation(&wanted)), r#"{"name":"n","allowed_networks":[],"identities":[]}"#);
        let wanted = Wanted {
            grants: Grants::parse(["encrypt:a*", "hash"]).ok(),
            expires_in: Some(Bound::At(60)),
            networks: Some(vec![Network::parse("10.0.0.0/8").unwrap()]),
            identities: Some(vec![Identity::parse("unix-user:7").unwrap()]),
            ..Wanted::default()
        };
        let form = r#"{"scopes":["encrypt:a*","hash"],"expires_in":60,"allowed_networks":["10.0.0.0/8"],"identities":["unix-user:7"]}"#;
        assert_eq!(text(&Form::creation(&wanted)), form);
    }
}
