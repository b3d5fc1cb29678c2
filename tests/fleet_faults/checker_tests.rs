//! The checker shown what is right and what is wrong: one that finds nothing proves nothing.
//!
//! Owns a history that is right, and changes of it, each of which makes it wrong in one way.

use crate::checker::judge;
use crate::history::{Line, What};

const SECOND: u64 = 1_000_000_000;
const STALENESS: u64 = 10 * SECOND;
const BLOCK: u64 = 1 << 20;

fn line(begun: u64, server: usize, what: What, status: u16) -> Line {
    let ended = begun + SECOND / 100;
    Line { begun, ended, server, life: 1, what, status: Some(status), code: String::new() }
}

fn text(word: &str) -> String {
    word.to_owned()
}

fn create(key: &str) -> What {
    What::Create { key: text(key) }
}

fn rotate(version: u64) -> What {
    What::Rotate { key: text("k"), version }
}

fn seal(key: &str, version: u64, ciphertext: &str) -> What {
    What::Seal { key: text(key), version, ciphertext: text(ciphertext), counted: key == "c" }
}

fn open(key: &str, ciphertext: &str) -> What {
    What::Open { key: text(key), ciphertext: text(ciphertext), same: true }
}

fn knock() -> What {
    What::Knock { id: text("id") }
}

/// Three keys, one of them deleted; a rotation of which nobody knows; an API key that is revoked.
fn right() -> Vec<Line> {
    let mut lines = vec![
        line(SECOND, 0, create("k"), 201),
        line(SECOND, 1, create("c"), 201),
        line(SECOND, 2, create("gone"), 201),
        line(2 * SECOND, 0, rotate(2), 200),
        line(3 * SECOND, 0, seal("k", 2, "one"), 200),
        line(3 * SECOND, 1, seal("c", 1, "two"), 200),
        line(4 * SECOND, 2, seal("c", 1, "three"), 200),
        line(4 * SECOND, 2, What::Delete { key: text("gone") }, 200),
        line(5 * SECOND, 1, rotate(3), 200),
        line(6 * SECOND, 1, rotate(0), 503),
        line(6 * SECOND, 0, What::Admit { name: text("app"), id: text("id") }, 201),
        line(7 * SECOND, 1, knock(), 200),
        line(8 * SECOND, 0, What::Revoke { id: text("id") }, 200),
        // What another server does not know yet it may still take.
        line(9 * SECOND, 1, knock(), 200),
        line(10 * SECOND, 0, knock(), 401),
        line(30 * SECOND, 1, knock(), 401),
        line(31 * SECOND, 2, create("refused"), 503),
    ];
    lines[9].code = text("store_ambiguous");
    lines[16].code = text("store_unavailable");
    for server in 0..3 {
        let at = 40 * SECOND;
        let versions = |count: u64, reserved| (1..=count).map(|v| (v, text("enabled"), reserved)).collect();
        for (key, latest, deleted, reserved) in
            [("k", 3, false, 0), ("c", 1, false, 2 * BLOCK), ("gone", 1, true, 0)]
        {
            let versions = versions(latest, reserved);
            lines.push(line(at, server, What::Key { key: text(key), latest, deleted, versions }, 200));
        }
        lines.push(line(at, server, What::Caller { id: text("id"), name: text("app"), revoked: true }, 200));
        lines.push(line(at, server, What::Shown, 200));
        for (key, ciphertext) in [("k", "one"), ("c", "two"), ("c", "three")] {
            lines.push(line(at, server, open(key, ciphertext), 200));
        }
    }
    lines
}

fn judged(lines: &[Line]) -> Vec<String> {
    let lines: Vec<String> = lines.iter().map(|line| serde_json::to_string(line).expect("a line")).collect();
    judge(&lines.join("\n"), STALENESS)
}

#[test]
fn a_history_that_is_right_is_found_so() {
    assert_eq!(judged(&right()), Vec::<String>::new());
}

#[test]
fn a_line_that_is_cut_off_is_found() {
    assert_eq!(judge("{\"begun\":1", STALENESS).len(), 1);
}

/// Where the server shows a key at the end.
fn shown<'a>(
    lines: &'a mut [Line],
    of: usize,
    name: &str,
) -> (&'a mut u64, &'a mut bool, &'a mut Vec<(u64, String, u64)>) {
    let found = lines.iter_mut().filter(|line| line.server == of).find_map(|line| match &mut line.what {
        What::Key { key, latest, deleted, versions } if key == name => Some((latest, deleted, versions)),
        _ => None,
    });
    found.expect("it is shown")
}

/// What is done to the history, and the words in which that is found.
type Wrong = (&'static str, fn(&mut Vec<Line>));

const WRONG: &[Wrong] = &[
    ("server 1 lost k", |lines| {
        lines.retain(|line| !(line.server == 1 && matches!(&line.what, What::Key { key, .. } if key == "k")));
    }),
    ("k was made twice", |lines| lines.push(line(12 * SECOND, 2, create("k"), 201))),
    ("gone was deleted twice", |lines| {
        lines.push(line(12 * SECOND, 1, What::Delete { key: text("gone") }, 200));
    }),
    ("has refused, whose making was refused", |lines| {
        for server in 0..3 {
            let what = What::Key { key: text("refused"), latest: 1, deleted: false, versions: Vec::new() };
            lines.push(line(40 * SECOND, server, what, 200));
        }
    }),
    ("lost that gone was deleted", |lines| (0..3).for_each(|server| *shown(lines, server, "gone").1 = false)),
    ("has k as deleted, which nobody did", |lines| {
        (0..3).for_each(|server| *shown(lines, server, "k").1 = true);
    }),
    ("two rotations of k have one version", |lines| lines.push(line(12 * SECOND, 0, rotate(3), 200))),
    ("made version 2 after a later one", |lines| {
        lines.push(line(12 * SECOND, 1, rotate(4), 200));
        lines.push(line(13 * SECOND, 1, rotate(2), 200));
    }),
    ("lost a rotation of k", |lines| (0..3).for_each(|server| *shown(lines, server, "k").0 = 2)),
    ("rotated more often than asked for", |lines| {
        (0..3).for_each(|server| *shown(lines, server, "k").0 = 5);
    }),
    ("k was not known where it had to be", |lines| {
        lines.push(line(2 * SECOND, 0, seal("k", 0, ""), 404));
    }),
    ("k was not known where it had to be", |lines| {
        lines.push(line(12 * SECOND, 2, open("k", "one"), 404));
    }),
    ("gone was used after it was deleted", |lines| {
        lines.push(line(5 * SECOND, 2, seal("gone", 1, "four"), 200));
    }),
    ("gone was used after it was deleted", |lines| {
        lines.push(line(15 * SECOND, 0, seal("gone", 1, "four"), 200));
    }),
    ("an old version of k sealed", |lines| {
        lines.push(line(16 * SECOND, 2, seal("k", 2, "one"), 200));
    }),
    ("seals were set aside for", |lines| {
        (0..3).for_each(|server| shown(lines, server, "c").2[0].2 = BLOCK);
    }),
    // A server that was started again must not go on with its block.
    ("seals were set aside for", |lines| {
        let mut again = line(12 * SECOND, 1, seal("c", 1, "two"), 200);
        again.life = 2;
        lines.push(again);
    }),
    ("2 servers have opened two", |lines| {
        lines.retain(|line| !(line.server == 2 && line.what == open("c", "two")));
    }),
    ("another plaintext came out of one", |lines| {
        let what = What::Open { key: text("k"), ciphertext: text("one"), same: false };
        lines.push(line(12 * SECOND, 2, what, 200));
    }),
    ("has 2 API keys named app", |lines| {
        for server in 0..3 {
            let what = What::Caller { id: text("other"), name: text("app"), revoked: false };
            lines.push(line(40 * SECOND, server, what, 200));
        }
    }),
    ("has 0 API keys named app", |lines| {
        lines.retain(|line| !matches!(line.what, What::Caller { .. }));
    }),
    ("lost the revocation of id", |lines| {
        for line in lines {
            if let What::Caller { revoked, .. } = &mut line.what {
                *revoked = false;
            }
        }
    }),
    ("has id as revoked, which nobody did", |lines| {
        lines.retain(|line| !matches!(line.what, What::Revoke { .. }));
    }),
    // At once where it was revoked, and everywhere when the bound has passed.
    ("was accepted 990 ms after its revocation", |lines| lines.push(line(9 * SECOND, 0, knock(), 200))),
    ("was accepted 10990 ms after its revocation", |lines| lines.push(line(19 * SECOND, 1, knock(), 200))),
    ("was accepted 11990 ms after its revocation", |lines| {
        lines.push(line(8 * SECOND + SECOND / 2, 2, What::Stopped, 200));
        lines.push(line(20 * SECOND, 2, What::Continued, 200));
        let mut waited = line(9 * SECOND, 2, knock(), 200);
        waited.ended = 21 * SECOND;
        lines.push(waited);
    }),
    ("id was not known where it had to be", |lines| {
        lines.push(line(6 * SECOND + SECOND / 2, 0, knock(), 401));
    }),
    ("server 2 and server 0 differ", |lines| shown(lines, 2, "k").2[0].1 = text("disabled")),
    ("server 1 ended by itself", |lines| {
        lines.push(line(12 * SECOND, 1, What::Gone { exit: Some(74), meant: false }, 200));
    }),
    ("was told by {0, 1} alone", |lines| {
        lines.retain(|line| !(line.server == 2 && line.what == What::Shown));
    }),
    ("500: ", |lines| lines.push(line(12 * SECOND, 1, open("k", "one"), 500))),
];

#[test]
fn each_history_that_is_wrong_is_found_so() {
    for (words, spoil) in WRONG {
        let mut lines = right();
        spoil(&mut lines);
        let found = judged(&lines);
        assert!(found.iter().any(|found| found.contains(words)), "{words:?} is missing: {found:?}");
    }
}

#[test]
fn what_may_have_been_done_is_right_either_way() {
    let unknown = |what: What| Line { status: None, ..line(12 * SECOND, 1, what, 0) };
    // Three rotations at most, of which one is known and two are not.
    let mut lines = right();
    lines.push(unknown(rotate(0)));
    assert_eq!(judged(&lines), Vec::<String>::new());
    for server in 0..3 {
        let (latest, _, versions) = shown(&mut lines, server, "k");
        *latest = 5;
        versions.push((4, text("enabled"), 0));
    }
    assert_eq!(judged(&lines), Vec::<String>::new());
    // A key that may have been deleted need not be known.
    lines.push(unknown(What::Delete { key: text("k") }));
    lines.push(line(13 * SECOND, 1, seal("k", 0, ""), 404));
    assert_eq!(judged(&lines), Vec::<String>::new());
    lines.push(unknown(create("maybe")));
    assert_eq!(judged(&lines), Vec::<String>::new());
}
