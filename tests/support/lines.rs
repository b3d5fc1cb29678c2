//! Audit lines as a test reads them: by stream, and with what gap records take back.
//!
//! Owns nothing. Invariant: a line that is torn, out of order or missing without a gap record fails the test.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking, and says where")]
#![allow(dead_code, reason = "included by several test files, none of which uses all of it")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use serde_json::Value;

use super::server::client::Reply;

/// The lines of each stream. Fails on one that is torn, out of order, or missing without a gap record.
pub(crate) fn streams(text: &str) -> BTreeMap<String, Vec<Value>> {
    assert!(text.is_empty() || text.ends_with('\n'), "it ends inside a line");
    let mut streams: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for line in text.lines() {
        let line: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line:?}"));
        let stream = line.get("stream").and_then(Value::as_str).unwrap().to_owned();
        streams.entry(stream).or_default().push(line);
    }
    for (stream, lines) in &streams {
        let mut next = 1;
        let named = named(lines);
        for line in lines {
            let seq = number(line, "seq");
            let missing = (next..seq).find(|number| !named.contains(number));
            assert!(seq >= next && missing.is_none(), "{stream}: {line} after {}", next - 1);
            next = seq + 1;
        }
    }
    streams
}

fn number(line: &Value, name: &str) -> u64 {
    line.get(name).and_then(Value::as_u64).unwrap_or_else(|| panic!("no {name}: {line}"))
}

/// The numbers that gap records take back.
pub(crate) fn named(lines: &[Value]) -> BTreeSet<u64> {
    let gaps = lines.iter().filter(|line| line.get("event").is_some_and(|event| event == "audit.gap"));
    gaps.flat_map(|gap| number(gap, "first")..=number(gap, "last")).collect()
}

/// Fails unless each of these replies has its line, which stands.
pub(crate) fn assert_told(text: &str, replies: &[Reply]) {
    let mut told = BTreeSet::new();
    for lines in streams(text).values() {
        let named = named(lines);
        for line in lines.iter().filter(|line| !named.contains(&number(line, "seq"))) {
            if line.get("outcome").is_some_and(|outcome| outcome == "success")
                && let Some(id) = line.get("request_id").and_then(Value::as_str)
            {
                told.insert((id.to_owned(), number(line, "status")));
            }
        }
    }
    for reply in replies {
        let id = reply.field("X-Request-Id").unwrap().to_owned();
        assert!(told.contains(&(id, u64::from(reply.status))), "no line for {reply:?}");
    }
}

/// What the audit files hold.
pub(crate) fn files(data_dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(data_dir.join("audit")).unwrap();
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    // Parts in their order.
    paths.sort();
    paths.into_iter().map(|path| fs::read_to_string(path).unwrap()).collect()
}
