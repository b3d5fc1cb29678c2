//! `quantonium audit tail` and `search`: the audit log for people.
//!
//! Owns what of a line is shown, and what can be asked for. Invariants: a line that is not of the form that the server
//! writes is not shown, since `audit verify` is there to judge it; memory does not grow with what is read.

use std::ffi::OsString;
use std::io::BufRead as _;

use super::audit_arguments::Part;
use super::failure::Failure;
use crate::audit::{member, part};
use crate::console::{self, Output};
use crate::exit::Exit;
use crate::limits::AUDIT_LINE_MAX_BYTES;
use crate::store::quoted;

/// The flags of `search`: members of lines, and the two ends of time.
pub(super) const FLAGS: [&str; 8] =
    ["principal", "key", "event", "outcome", "code", "request-id", "since", "until"];

/// What lines are asked for.
#[derive(Debug)]
pub(super) struct Wanted {
    /// What a line has to have, as it stands in it.
    members: Vec<String>,
    since: Option<String>,
    until: Option<String>,
}

impl Wanted {
    /// What the flags say, each of which `take` gives.
    pub(super) fn new(mut take: impl FnMut(&str) -> Option<OsString>) -> Self {
        let mut text = |name: &str| take(name).map(|text| text.to_string_lossy().into_owned());
        let (since, until) = (text("since"), text("until"));
        let named = FLAGS.iter().filter(|name| !matches!(**name, "since" | "until"));
        let members = named.filter_map(|name| Some((name, text(name)?)));
        let members = members.map(|(name, text)| format!(",\"{}\":\"{text}\"", name.replace('-', "_")));
        Self { members: members.collect(), since, until }
    }

    fn has(&self, line: &[u8]) -> bool {
        let time = member::text(line, TIME).unwrap_or_default();
        let after = self.since.as_ref().is_none_or(|since| time >= since.as_bytes());
        // A day or a minute is meant with all that is in it.
        let until = |until: &String| time < until.as_bytes() || time.starts_with(until.as_bytes());
        after
            && self.until.as_ref().is_none_or(until)
            && self.members.iter().all(|member| memchr::memmem::find(line, member.as_bytes()).is_some())
    }
}

const TIME: &[u8] = b",\"ts\":\"";

/// Shows the last lines of all parts together, by their time.
pub(super) fn tail(parts: &[Part], lines: usize, json: bool) -> Result<Exit, Failure> {
    let mut last: Vec<Vec<u8>> = Vec::new();
    let time = |line: &Vec<u8>| member::text(line, TIME).unwrap_or_default().to_vec();
    for part in parts {
        each_line(part, |line| {
            last.push(line.to_vec());
            if last.len() >= lines.saturating_mul(2).max(1 << 10) {
                last.sort_by_cached_key(time);
                last.drain(..last.len().saturating_sub(lines));
            }
            Ok(())
        })?;
    }
    last.sort_by_cached_key(time);
    last.drain(..last.len().saturating_sub(lines));
    last.iter().try_for_each(|line| show(line, json))?;
    Ok(Exit::Success)
}

/// Shows the lines that are `wanted`, stream by stream. Nothing found is no failure.
pub(super) fn search(parts: &[Part], wanted: &Wanted, json: bool) -> Result<Exit, Failure> {
    for part in parts {
        each_line(part, |line| if wanted.has(line) { show(line, json) } else { Ok(()) })?;
    }
    Ok(Exit::Success)
}

/// Lends each line of `part` that is one.
fn each_line(part: &Part, mut take: impl FnMut(&[u8]) -> Result<(), Failure>) -> Result<(), Failure> {
    let failed = |error: std::io::Error| Failure::io(format!("cannot read {}: {error}", quoted(&part.path)));
    let mut from = part::open(&part.path).map_err(failed)?;
    let mut line = Vec::new();
    loop {
        line.clear();
        // What is longer than a line is taken in pieces, none of which is one.
        let most = u64::try_from(AUDIT_LINE_MAX_BYTES).unwrap_or(u64::MAX);
        if std::io::Read::take(&mut from, most).read_until(b'\n', &mut line).map_err(failed)? == 0 {
            return Ok(());
        }
        if let Some(line) = line.strip_suffix(b"\n").filter(|line| is_shown(line)) {
            take(line)?;
        }
    }
}

fn is_shown(line: &[u8]) -> bool {
    let plain = line.iter().all(|byte| (b' '..=b'~').contains(byte));
    plain && line.starts_with(b"{\"seq\":") && line.ends_with(b"\"}")
}

fn show(line: &[u8], json: bool) -> Result<(), Failure> {
    let text = if json { String::from_utf8_lossy(line).into_owned() } else { for_people(line) };
    console::deliver(Output::Out, &format!("{text}\n"))
        .map_err(|error| Failure::io(format!("cannot write to standard output: {error}")))
}

/// When, what came of it, what, who, with which key; then what is special.
fn for_people(line: &[u8]) -> String {
    let text = |name: &str| {
        let found = member::text(line, format!(",\"{name}\":\"").as_bytes());
        String::from_utf8_lossy(found.unwrap_or(b"-")).into_owned()
    };
    let mut shown = format!(
        "{} {:<8} {:<18} {:<8} {:<20}",
        text("ts"),
        text("outcome"),
        text("event"),
        text("principal"),
        text("key")
    );
    for name in ["status", "count", "first", "last"] {
        if let Some(number) = member::number(line, format!(",\"{name}\":").as_bytes()) {
            shown.push_str(&format!(" {name}={number}"));
        }
    }
    for name in ["code", "detail", "api_key", "token", "remote", "request_id"] {
        let found = text(name);
        if found != "-" {
            shown.push_str(&format!(" {name}={found}"));
        }
    }
    shown
}
