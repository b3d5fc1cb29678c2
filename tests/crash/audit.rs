//! The audit log of a data directory, read as a whole: every change that was begun has one end.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use quantonium::limits::AUDIT_PREALLOCATED_BYTES;
use serde_json::Value;

/// Every line of every stream that is whole; what a crash left of a line at the end of a file is none.
pub(crate) fn lines(data_dir: &Path) -> Vec<Value> {
    let mut lines = Vec::new();
    for entry in fs::read_dir(data_dir.join("audit")).unwrap() {
        let path = entry.unwrap().path();
        let text = fs::read_to_string(&path).unwrap();
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        for line in whole.lines() {
            let line = serde_json::from_str(line);
            lines.push(line.unwrap_or_else(|error| panic!("{}: {error}", path.display())));
        }
    }
    lines
}

/// Asserts that the files take no more room than their lines, and what the last start reserved for `streams` of them.
pub(crate) fn assert_room_given_back(data_dir: &Path, streams: u64) {
    let (mut used, mut taken) = (0, 0);
    for entry in fs::read_dir(data_dir.join("audit")).unwrap() {
        let found = entry.unwrap().metadata().unwrap();
        used += found.len().next_multiple_of(found.blksize());
        taken += found.blocks() * 512;
    }
    // Each has a successor.
    let reserved = 2 * streams * (AUDIT_PREALLOCATED_BYTES + 4_096);
    assert!(taken <= used + reserved, "{taken} bytes of the disk for {used}");
}

/// Asserts that each attempt of a change has one outcome, and each outcome of a change one attempt.
pub(crate) fn assert_paired(data_dir: &Path) {
    let mut balance: BTreeMap<(String, String), i64> = BTreeMap::new();
    let mut attempts = 0;
    let text =
        |line: &Value, member: &str| line.get(member).and_then(Value::as_str).unwrap_or_default().to_owned();
    for line in lines(data_dir) {
        let event = text(&line, "event");
        if !event.starts_with("key.") || ["key.read", "key.list"].contains(&event.as_str()) {
            continue;
        }
        let attempt = text(&line, "outcome") == "attempt";
        attempts += usize::from(attempt);
        *balance.entry((text(&line, "request_id"), event)).or_default() += if attempt { 1 } else { -1 };
    }
    balance.retain(|_, balance| *balance != 0);
    assert!(attempts > 0, "no change was told of");
    assert!(balance.is_empty(), "begun and ended do not match: {balance:?}");
}
