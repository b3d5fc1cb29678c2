//! `quantonium healthcheck`: one request, one verdict, for images that hold no other program.
//!
//! Owns the verdict. Invariants: one deadline bounds everything, name look-up included; only the head of the reply is
//! read; the verdict is healthy only for status 200; a refusal is one line.

use std::ffi::{OsStr, OsString};
use std::io;

use super::client::{self, Request, Target};
use super::secure::{Trust, Trusting, trust};
use crate::clock::Moment;
use crate::console;
use crate::exit::Exit;
use crate::limits::{HEALTHCHECK_MAX_MILLIS, HEALTHCHECK_REPLY_MAX_BYTES};

const PATH: &str = "/api/health";
const EXAMPLE: &str = "http://127.0.0.1:8080/api/health";

/// Asks the server at `url`, or at the first address that `environment` configures, and says what is wrong.
pub(super) fn run(
    url: Option<&OsStr>,
    trusting: &Trusting,
    environment: impl IntoIterator<Item = (OsString, OsString)>,
) -> Exit {
    let environment: Vec<_> = environment.into_iter().collect();
    let deadline = Moment::now().plus_millis(HEALTHCHECK_MAX_MILLIS);
    let target = match url {
        Some(url) => Target::from_url(url, EXAMPLE, PATH),
        None => client::configured(environment.iter().cloned(), PATH)
            .map_err(|reason| format!("{reason}; give --url")),
    };
    match target.and_then(|target| ask(&target, || trust(trusting, environment), deadline)) {
        Ok(()) => Exit::Success,
        Err(reason) => {
            console::err(&format!("quantonium: healthcheck: {reason}\n"));
            Exit::Failure
        }
    }
}

fn ask(
    target: &Target,
    trust: impl FnOnce() -> Result<Trust, String>,
    deadline: Moment,
) -> Result<(), String> {
    let failed = |error: io::Error| target.failed(&error, HEALTHCHECK_MAX_MILLIS);
    let asked = Request { method: "GET", accept: None, fields: "", body: None };
    let mut stream = client::connect(target, trust, deadline).map_err(failed)?;
    client::send(&mut stream, target, &asked, deadline).map_err(failed)?;
    let head = client::read_until(&mut stream, deadline, HEALTHCHECK_REPLY_MAX_BYTES, client::ends_head);
    match client::status(&head.map_err(failed)?) {
        Some(200) => Ok(()),
        Some(status) => Err(format!("{target} answered {status}")),
        None => Err(format!("{target} answered something that is not HTTP/1.1")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_that_has_passed_is_a_timeout() {
        let target = Target::from_url(OsStr::new("http://127.0.0.1:1/"), EXAMPLE, PATH).unwrap();
        let refusal = ask(&target, || Err(String::new()), Moment::default()).unwrap_err();
        assert!(refusal.contains("did not answer within"), "{refusal}");
    }
}
