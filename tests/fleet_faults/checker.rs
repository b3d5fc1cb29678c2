//! Judges a history by its lines alone.
//!
//! Owns the rules. Invariants: it knows nothing of how the lines came about; of a change that was acknowledged it is certain that it was made once, of one that was
//! refused that it was never made, of any other one neither; what was certainly over before something began was before it, and nothing else is known of order.
//!
//! Time counts in one rule alone, since it is what is promised there: a server knows what was acknowledged elsewhere `bound` ago, or refuses. The
//! acknowledgement counts from when its reply was read, and a use from before it was sent, or from when the server went on that stood still then. Both are later and earlier than
//! what happened in the server, so that a slow machine can make the rule miss something and never fail anybody. [`SLACK`] is for clocks that are read
//! in different steps.

use std::collections::{BTreeMap, BTreeSet};

use crate::history::{Line, What};

/// Nanoseconds.
const SLACK: u64 = 100_000_000;
/// How many seals a server sets aside at once.
const BLOCK: u64 = quantonium::limits::SEALS_BLOCK_COUNT;
const SERVERS: usize = 3;
/// Codes of refusals that leave open whether the change was made.
const OPEN: [&str; 2] = ["store_ambiguous", "commit_pending"];

/// What became of a change.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Made,
    Refused,
    Unknown,
}

fn fate(line: &Line) -> Fate {
    match line.status {
        Some(200..=299) => Fate::Made,
        Some(400..=599) if !OPEN.contains(&line.code.as_str()) && line.status != Some(500) => Fate::Refused,
        _ => Fate::Unknown,
    }
}

fn made(line: &Line) -> bool {
    fate(line) == Fate::Made
}

/// Whether it may have been done.
fn maybe(line: &Line) -> bool {
    fate(line) != Fate::Refused
}

/// What is wrong with a history of this text, in which servers may go on for `staleness` nanoseconds without news.
pub(crate) fn judge(text: &str, staleness: u64) -> Vec<String> {
    let mut lines = Vec::new();
    for (number, line) in text.lines().enumerate() {
        match serde_json::from_str::<Line>(line) {
            Ok(line) => lines.push(line),
            Err(error) => return vec![format!("line {}: {error}", number + 1)],
        }
    }
    move_behind_stops(&mut lines);
    let mut judge = Judge { lines: &lines, bound: staleness + SLACK, found: Vec::new() };
    judge.ends();
    judge.replies();
    judge.keys();
    judge.callers();
    judge.rings();
    judge.found
}

/// What was asked of a server that stood still it took up when it went on.
fn move_behind_stops(lines: &mut [Line]) {
    let marks: Vec<(usize, bool, u64)> = lines
        .iter()
        .filter(|line| matches!(line.what, What::Stopped | What::Continued))
        .map(|line| (line.server, line.what == What::Stopped, line.begun))
        .collect();
    for (at, (server, stopped, from)) in marks.iter().enumerate() {
        let next = marks.iter().skip(at + 1).find(|(other, stopped, _)| other == server && !stopped);
        let Some((_, _, until)) = next.filter(|_| *stopped) else { continue };
        let meanwhile = |line: &&mut Line| {
            line.server == *server && line.begun >= *from && line.begun < *until && line.ended >= *until
        };
        lines.iter_mut().filter(meanwhile).for_each(|line| line.begun = *until);
    }
}

struct Judge<'a> {
    lines: &'a [Line],
    bound: u64,
    found: Vec<String>,
}

/// What a server shows of a key.
type Shown<'a> = (u64, bool, &'a [(u64, String, u64)]);

/// All lines about one key.
#[derive(Default)]
struct OfKey<'a> {
    creates: Vec<&'a Line>,
    rotates: Vec<(&'a Line, u64)>,
    deletes: Vec<&'a Line>,
    /// With version, ciphertext, and whether its seals are counted.
    seals: Vec<(&'a Line, u64, &'a str, bool)>,
    /// With the ciphertext, and whether what came out is what went in.
    opens: Vec<(&'a Line, &'a str, bool)>,
    shown: BTreeMap<usize, Shown<'a>>,
}

#[derive(Default)]
struct OfCaller<'a> {
    admitted: Option<&'a Line>,
    revokes: Vec<&'a Line>,
    knocks: Vec<&'a Line>,
    /// Of each server: whether it shows it as revoked.
    shown: BTreeMap<usize, bool>,
}

impl Judge<'_> {
    fn find(&mut self, what: String) {
        self.found.push(what);
    }

    /// Whether who carried out `later` had to know of `earlier`, which was acknowledged.
    fn knew(&self, later: &Line, earlier: &Line) -> bool {
        let lapse = if later.server == earlier.server { 0 } else { self.bound };
        earlier.ended + lapse <= later.begun
    }

    /// Nobody ends who was not told to, and all were asked at the end.
    fn ends(&mut self) {
        for line in self.lines {
            if let What::Gone { exit, meant: false } = line.what {
                self.find(format!("server {} ended by itself with {exit:?} at {}", line.server, line.begun));
            }
        }
        let shown: BTreeSet<usize> =
            self.lines.iter().filter(|line| line.what == What::Shown).map(|line| line.server).collect();
        if shown.len() != SERVERS {
            self.find(format!("what they hold at the end was told by {shown:?} alone"));
        }
    }

    /// No reply says that something is wrong within the server.
    fn replies(&mut self) {
        for line in self.lines {
            if line.status == Some(500) {
                self.find(format!("500: {line:?}"));
            }
        }
    }

    fn keys(&mut self) {
        let mut keys: BTreeMap<&str, OfKey<'_>> = BTreeMap::new();
        for line in self.lines {
            let of = match &line.what {
                What::Create { key }
                | What::Rotate { key, .. }
                | What::Delete { key }
                | What::Seal { key, .. }
                | What::Open { key, .. }
                | What::Key { key, .. } => keys.entry(key).or_default(),
                _ => continue,
            };
            match &line.what {
                What::Create { .. } => of.creates.push(line),
                What::Rotate { version, .. } => of.rotates.push((line, *version)),
                What::Delete { .. } => of.deletes.push(line),
                What::Seal { version, ciphertext, counted, .. } => {
                    of.seals.push((line, *version, ciphertext, *counted));
                }
                What::Open { ciphertext, same, .. } => of.opens.push((line, ciphertext, *same)),
                What::Key { latest, deleted, versions, .. } => {
                    of.shown.insert(line.server, (*latest, *deleted, versions));
                }
                _ => {}
            }
        }
        for (name, key) in &keys {
            self.life(name, key);
            self.rotations(name, key);
            self.sight(name, key);
            self.blocks(name, key);
            self.ciphertexts(name, key);
        }
    }

    /// What was made is there, and was made once; what was refused is not.
    fn life(&mut self, name: &str, key: &OfKey<'_>) {
        if key.creates.iter().filter(|line| line.status == Some(201)).count() > 1 {
            self.find(format!("{name} was made twice"));
        }
        if key.deletes.iter().filter(|line| made(line)).count() > 1 {
            self.find(format!("{name} was deleted twice"));
        }
        let (is_made, is_deleted) =
            (key.creates.iter().any(|l| made(l)), key.deletes.iter().any(|l| made(l)));
        for server in 0..SERVERS {
            match key.shown.get(&server) {
                None if is_made => self.find(format!("server {server} lost {name}")),
                Some(_) if !key.creates.iter().any(|line| maybe(line)) => {
                    self.find(format!("server {server} has {name}, whose making was refused"));
                }
                Some((_, false, _)) if is_deleted => {
                    self.find(format!("server {server} lost that {name} was deleted"));
                }
                Some((_, true, _)) if !key.deletes.iter().any(|line| maybe(line)) => {
                    self.find(format!("server {server} has {name} as deleted, which nobody did"));
                }
                _ => {}
            }
        }
    }

    /// Each rotation that was acknowledged is one version, later ones have later versions, and there are no others.
    fn rotations(&mut self, name: &str, key: &OfKey<'_>) {
        let done: Vec<(&Line, u64)> = key.rotates.iter().filter(|(line, _)| made(line)).copied().collect();
        let unknown = key.rotates.iter().filter(|(line, _)| fate(line) == Fate::Unknown).count() as u64;
        let count = done.len() as u64;
        if done.iter().map(|(_, version)| version).collect::<BTreeSet<_>>().len() != done.len() {
            self.find(format!("two rotations of {name} have one version"));
        }
        for (later, version) in &done {
            let before =
                done.iter().filter(|(line, _)| line.ended < later.begun).map(|(_, version)| *version);
            if before.max().is_some_and(|newest| newest >= *version) {
                self.find(format!("a rotation of {name} made version {version} after a later one was there"));
            }
        }
        for (server, (latest, ..)) in &key.shown {
            let newest = done.iter().map(|(_, version)| *version).max().unwrap_or(1);
            if *latest < 1 + count || *latest < newest {
                self.find(format!("server {server} lost a rotation of {name}: {latest}, {count} were made"));
            }
            if *latest > 1 + count + unknown {
                self.find(format!(
                    "{name} was rotated more often than asked for, on server {server}: {latest}, {count} and {unknown}"
                ));
            }
        }
    }

    /// A server that had to know of a key or of its end knows it.
    fn sight(&mut self, name: &str, key: &OfKey<'_>) {
        let uses = key.seals.iter().map(|(line, ..)| *line).chain(key.opens.iter().map(|(line, ..)| *line));
        let uses = uses.chain(key.rotates.iter().map(|(line, _)| *line));
        for line in uses {
            let known = key.creates.iter().any(|create| made(create) && self.knew(line, create));
            let maybe_deleted = key.deletes.iter().any(|delete| maybe(delete) && delete.begun < line.ended);
            if known && !maybe_deleted && matches!(line.status, Some(404 | 409)) {
                self.find(format!("{name} was not known where it had to be: {line:?}"));
            }
            if made(line) && key.deletes.iter().any(|delete| made(delete) && self.knew(line, delete)) {
                self.find(format!("{name} was used after it was deleted: {line:?}"));
            }
        }
        for (line, version, ..) in key.seals.iter().filter(|(line, ..)| made(line)) {
            let known = key.rotates.iter().filter(|(rotate, _)| made(rotate) && self.knew(line, rotate));
            if known.map(|(_, version)| *version).max().is_some_and(|newest| newest > *version) {
                self.find(format!("an old version of {name} sealed: {line:?}"));
            }
        }
    }

    /// Who seals under counted nonces has a block of seals of its own, in each of its lives.
    fn blocks(&mut self, name: &str, key: &OfKey<'_>) {
        let mut holders: BTreeMap<u64, BTreeSet<(usize, u64)>> = BTreeMap::new();
        for (line, version, _, counted) in &key.seals {
            if *counted && made(line) {
                holders.entry(*version).or_default().insert((line.server, line.life));
            }
        }
        for (server, (_, _, versions)) in &key.shown {
            for (version, holders) in &holders {
                let reserved =
                    versions.iter().find(|(number, ..)| number == version).map_or(0, |found| found.2);
                if reserved < holders.len() as u64 * BLOCK || reserved % BLOCK != 0 {
                    self.find(format!(
                        "{name}, version {version}: {reserved} seals were set aside for {holders:?}, says server {server}"
                    ));
                }
            }
        }
    }

    /// What was sealed anywhere is opened everywhere.
    fn ciphertexts(&mut self, name: &str, key: &OfKey<'_>) {
        for (line, ciphertext, same) in &key.opens {
            if made(line) && !same {
                self.find(format!("another plaintext came out of {ciphertext}, of {name}"));
            }
        }
        if key.deletes.iter().any(|line| maybe(line)) {
            return;
        }
        let mut opened: BTreeMap<&str, BTreeSet<usize>> = BTreeMap::new();
        for (line, ciphertext, same) in &key.opens {
            if made(line) && *same {
                opened.entry(*ciphertext).or_default().insert(line.server);
            }
        }
        for (_, _, ciphertext, _) in key.seals.iter().filter(|(line, ..)| made(line)) {
            let by = opened.get(ciphertext).map_or(0, BTreeSet::len);
            if by != SERVERS {
                self.find(format!("{by} servers have opened {ciphertext}, of {name}"));
            }
        }
    }

    fn callers(&mut self) {
        let mut callers: BTreeMap<&str, OfCaller<'_>> = BTreeMap::new();
        let mut names: BTreeMap<&str, (Fate, BTreeMap<usize, u64>)> = BTreeMap::new();
        for line in self.lines {
            match &line.what {
                What::Admit { name, id } => {
                    names.entry(name).or_insert((fate(line), BTreeMap::new()));
                    if made(line) {
                        callers.entry(id).or_default().admitted = Some(line);
                    }
                }
                What::Revoke { id } => callers.entry(id).or_default().revokes.push(line),
                What::Knock { id } => callers.entry(id).or_default().knocks.push(line),
                What::Caller { id, name, revoked } => {
                    callers.entry(id).or_default().shown.insert(line.server, *revoked);
                    if let Some((_, seen)) = names.get_mut(name.as_str()) {
                        *seen.entry(line.server).or_default() += 1;
                    }
                }
                _ => {}
            }
        }
        for (name, (fate, seen)) in names {
            for server in 0..SERVERS {
                let seen = seen.get(&server).copied().unwrap_or_default();
                let right = match fate {
                    Fate::Made => seen == 1,
                    Fate::Refused => seen == 0,
                    Fate::Unknown => seen <= 1,
                };
                if !right {
                    self.find(format!("server {server} has {seen} API keys named {name}"));
                }
            }
        }
        for (id, caller) in &callers {
            self.revocations(id, caller);
        }
    }

    /// Who was revoked is refused, and nobody else.
    fn revocations(&mut self, id: &str, caller: &OfCaller<'_>) {
        for (server, revoked) in &caller.shown {
            if !revoked && caller.revokes.iter().any(|line| made(line)) {
                self.find(format!("server {server} lost the revocation of {id}"));
            }
            if *revoked && !caller.revokes.iter().any(|line| maybe(line)) {
                self.find(format!("server {server} has {id} as revoked, which nobody did"));
            }
        }
        for knock in &caller.knocks {
            let revoked = caller.revokes.iter().find(|revoke| made(revoke) && self.knew(knock, revoke));
            if let Some(revoke) = revoked.filter(|_| made(knock)) {
                let after = (knock.begun - revoke.ended) / 1_000_000;
                self.find(format!("{id} was accepted {after} ms after its revocation: {knock:?}"));
            }
            let known = caller.admitted.is_some_and(|admitted| self.knew(knock, admitted));
            let maybe_revoked = caller.revokes.iter().any(|line| maybe(line) && line.begun < knock.ended);
            if known && !maybe_revoked && knock.status == Some(401) {
                self.find(format!("{id} was not known where it had to be: {knock:?}"));
            }
        }
    }

    /// At the end all hold the same.
    fn rings(&mut self) {
        let mut rings = [const { BTreeSet::new() }; SERVERS];
        for line in self.lines {
            if matches!(line.what, What::Key { .. } | What::Caller { .. }) {
                let text = serde_json::to_string(&line.what).unwrap_or_default();
                rings[line.server % SERVERS].insert(text);
            }
        }
        for (server, ring) in rings.iter().enumerate().skip(1) {
            for text in ring.symmetric_difference(&rings[0]) {
                self.find(format!("server {server} and server 0 differ: {text}"));
            }
        }
    }
}
