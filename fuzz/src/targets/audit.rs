//! Audit files: their verification, what a start reads in them, and the choice of lines.
//!
//! Owns the target of what somebody may have put in the place of an audit file.

use std::io::Cursor;

use quantonium::audit::chain::{Root, split};
use quantonium::audit::line::{self, Event, Outcome};
use quantonium::audit::verify::{Finding, Verified, Verifier};
use quantonium::audit::{Filter, Replay, StreamName, member};
use quantonium::clock::WallTime;
use quantonium::limits::{AUDIT_FLAWS_MAX_COUNT, AUDIT_LINE_MAX_BYTES};
use quantonium::secret::Secret;
use serde_json::Value;

use super::split_choice;

const STREAM: &str = "6b0320c6-32268f1d-w0";

/// An audit file of hostile bytes, or a right one of which something was changed.
pub(super) fn audit(data: &[u8]) {
    let (choice, bytes) = split_choice(data);
    match choice % 4 {
        0 => hostile(bytes, &[]),
        1 => hostile(bytes, &[root()]),
        2 => changed(bytes),
        _ => readers(bytes),
    }
}

fn root() -> Root {
    Root::new(Secret::take(&mut [1; 32]))
}

fn verify(parts: &[&[u8]], roots: &[Root]) -> (Vec<Finding>, Verified) {
    let mut verifier = Verifier::new(STREAM.to_owned(), roots, None);
    let mut found = Vec::new();
    for part in parts {
        verifier.read(&mut &part[..], &mut |finding| found.push(finding)).unwrap();
    }
    let verified = verifier.finish(&mut |finding| found.push(finding));
    (found, verified)
}

fn hostile(bytes: &[u8], roots: &[Root]) {
    let (found, verified) = verify(&[bytes], roots);
    assert!(found.len() <= AUDIT_FLAWS_MAX_COUNT + 1);
    let lines = bytes.split(|byte| *byte == b'\n').count() as u64;
    assert!(verified.lines <= lines && verified.torn_bytes <= bytes.len() as u64);
    for finding in &found {
        assert!(finding.line <= lines && finding.offset <= bytes.len() as u64, "{finding:?}");
        let at = usize::try_from(finding.offset).unwrap();
        assert!(at == 0 || bytes[at - 1] == b'\n', "a finding names the beginning of a line: {finding:?}");
    }
    if !roots.is_empty() {
        assert_eq!((verified.lines, verified.last), (0, 0), "nobody without the root makes a line");
    }
    // Where one part ends and the next begins changes nothing but places.
    if let Some(at) = bytes.iter().position(|byte| *byte == b'\n').filter(|at| at + 1 < bytes.len()) {
        let (first, second) = bytes.split_at(at + 1);
        let (split_found, split_verified) = verify(&[first, second], roots);
        assert_eq!(split_verified, verified);
        let flaws = |found: &[Finding]| found.iter().map(|finding| finding.flaw).collect::<Vec<_>>();
        assert_eq!(flaws(&split_found), flaws(&found));
    }
}

/// A stream of a few lines; the bytes say how many, and what is changed.
fn changed(plan: &[u8]) {
    let [count, kind, place_high, place_low, names @ ..] = plan else { return };
    let count = 1 + u64::from(count % 6);
    let names: String = names.iter().map(|byte| char::from(b'a' + byte % 26)).take(16).collect();
    let mut chain = root().chain(STREAM).unwrap();
    let lines: Vec<Vec<u8>> = (1..=count)
        .map(|seq| {
            let mut target = [0; AUDIT_LINE_MAX_BYTES];
            let at = WallTime::from_millis(1_790_000_000_000 + seq);
            let (outcome, name) = (Outcome::Success, names.as_str());
            let event = Event {
                at,
                name,
                outcome,
                code: None,
                count: Some(seq),
                own: None,
                store: None,
                request: None,
            };
            let len = line::write(&mut target, STREAM, seq, &event, &mut chain).unwrap();
            assert!(serde_json::from_slice::<Value>(&target[..len]).is_ok_and(|line| line["event"] == name));
            target[..len].to_vec()
        })
        .collect();
    let whole = lines.concat();
    let (found, verified) = verify(&[&whole], &[root()]);
    assert!(found.is_empty() && verified.lines == count && verified.last == count, "{found:?}");
    let place = usize::from(u16::from_be_bytes([*place_high, *place_low]));
    let at = place % whole.len();
    let number = place % lines.len();
    let mut other = lines.clone();
    let flawed = match kind % 5 {
        0 => {
            let mut bytes = whole.clone();
            bytes[at] ^= 1 + (kind >> 3) % 127;
            // The last line feed: the line is torn, as after a crash.
            let torn = at + 1 == whole.len();
            let (found, verified) = verify(&[&bytes], &[root()]);
            return assert!(!found.is_empty() || (torn && verified.torn_bytes > 0), "byte {at}");
        }
        1 => {
            other.remove(number);
            number + 1 < lines.len()
        }
        2 => {
            other.insert(number, lines[number].clone());
            true
        }
        3 => {
            other.swap(0, number);
            number > 0
        }
        _ => {
            let (found, verified) = verify(&[&whole[..at]], &[root()]);
            return assert!(found.is_empty() && verified.last < count, "a cut leaves what stands before it");
        }
    };
    let (found, _) = verify(&[&other.concat()], &[root()]);
    assert_eq!(!found.is_empty(), flawed, "{found:?}");
}

/// What a start reads, the members of lines, their choice, the names of files.
fn readers(bytes: &[u8]) {
    let mut replay = Replay::new();
    replay.read(&mut Cursor::new(bytes), u64::MAX).unwrap();
    let lines = bytes.split(|byte| *byte == b'\n').count();
    assert!(replay.impossible() <= lines as u64);
    assert!(replay.into_unfinished().len() <= lines);
    let mut filter = Filter::default();
    for line in bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        assert!(filter.passes(line) || filter != Filter::default());
        if let Some(event) = member::text(line, b",\"event\":\"") {
            assert!(!event.contains(&b'"'));
            if filter.want("event", event).is_some() {
                assert!(filter.passes(line) || event.ends_with(b"*"));
            }
            filter = Filter::default();
        }
        if let Some((covered, _, _)) = split(line) {
            assert!(line.starts_with(covered));
        }
    }
    let name = str::from_utf8(bytes).ok().and_then(|text| Some((text, StreamName::parse(text)?)));
    if let Some((text, name)) = name {
        assert_eq!(name.to_string(), text, "a name has one spelling");
    }
}
