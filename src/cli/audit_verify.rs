//! `quantonium audit verify`: whether the audit log holds what was written.
//!
//! Owns what is said about each stream. Invariants: what the store has noted is read before the files are, so that a server
//! which goes on meanwhile makes nothing look cut off; success is said of nothing that was not checked.

use std::io::ErrorKind;

use super::audit_arguments::Part;
use super::contents::Gathered;
use super::failure::Failure;
use crate::audit::chain::Root;
use crate::audit::verify::{Finding, Flaw, Verified, Verifier};
use crate::audit::{Checkpoint, Stream, StreamMark, Who, part};
use crate::config::Offline;
use crate::console;
use crate::exit::Exit;
use crate::limits::AUDIT_STORE_LOOKS_MAX_COUNT;
use crate::store::{Journal, MasterKey, StoreError, quoted};

/// What the store knows of audit streams.
#[derive(Default)]
struct Known {
    /// The present root first; none without the master key.
    roots: Vec<Root>,
    checkpoints: Vec<Checkpoint>,
}

impl Known {
    fn read(settings: &Offline) -> Result<Option<Self>, Failure> {
        let beside = || Some(settings.data_dir.join("master.key")).filter(|path| path.exists());
        let Some(file) = settings.master_key_file.clone().or_else(beside) else { return Ok(None) };
        let master = MasterKey::read_file(&file)?;
        let mut looks = 0;
        loop {
            let mut gathered = Gathered::default();
            let (report, sealer, root) =
                Journal::examine_in_use(&settings.data_dir, &master, &mut |record| gathered.take(record))?;
            looks += 1;
            let contents = gathered.read(&sealer);
            if let Some(damage) = report.damages.first() {
                // A server that compacts its journal just now empties the one that is being read.
                if looks < AUDIT_STORE_LOOKS_MAX_COUNT {
                    continue;
                }
                let path = settings.data_dir.join("journal");
                return Err(StoreError::Damaged { path, offset: damage.offset }.into());
            }
            let mut roots = vec![root.audit_root()?];
            roots.extend(contents.audit_roots.into_iter().rev());
            return Ok(Some(Self { roots, checkpoints: contents.checkpoints }));
        }
    }

    fn noted(&self, stream: Stream) -> Option<(StreamMark, bool)> {
        self.checkpoints.iter().find_map(|of| Some((*of.of(stream)?, of.ended)))
    }
}

/// What was found in all.
#[derive(Default)]
struct Found {
    changed: usize,
    missing: usize,
}

impl Found {
    fn take(&mut self, place: &str, finding: Finding) {
        match finding.flaw {
            Flaw::Cut { .. } | Flaw::Torn => {
                self.missing += 1;
                console::out(&format!("{place}: {}\n", finding.flaw));
            }
            flaw => {
                self.changed += 1;
                let seq = finding.seq.map(|seq| format!(", number {seq}")).unwrap_or_default();
                let Finding { line, offset, .. } = finding;
                console::out(&format!("{place}: line {line} at byte {offset}{seq}: {flaw}\n"));
            }
        }
    }
}

/// Verifies the streams of `parts`; with `all`, that none of what the store has noted is missing, too.
pub(super) fn verify(
    settings: &Offline,
    parts: impl Fn() -> Result<Vec<Part>, Failure>,
    all: bool,
    without_key: bool,
) -> Result<Exit, Failure> {
    let known = if without_key { None } else { Known::read(settings)? };
    let keyed = known.is_some();
    let known = known.unwrap_or_default();
    let parts = parts()?;
    let mut found = Found::default();
    for of in parts.chunk_by(|one, next| one.name.stream() == next.name.stream()) {
        verify_stream(of, &known, &mut found)?;
    }
    let noted = known.checkpoints.iter().flat_map(|of| of.streams.iter().map(move |mark| (of.start, mark)));
    for (start, mark) in noted.filter(|(_, mark)| all && mark.last.seq > mark.removed.seq) {
        let stream = Stream { start, who: mark.who };
        if parts.binary_search_by_key(&stream, |part| part.name.stream()).is_err() {
            found.missing += 1;
            console::out(&format!(
                "{stream}: no file of it is there, but it was written up to {}\n",
                mark.last.seq
            ));
        }
    }
    if !keyed {
        console::out(
            "no mac was checked, since the master key was not given: only numbers and order were looked at\n",
        );
    }
    Ok(match found {
        Found { changed: 1.., .. } => Exit::Damaged,
        Found { missing: 1.., .. } => Exit::Failure,
        _ if keyed || without_key => Exit::Success,
        _ => Exit::Failure,
    })
}

fn verify_stream(parts: &[Part], known: &Known, found: &mut Found) -> Result<(), Failure> {
    let Some(stream) = parts.first().map(|part| part.name.stream()) else { return Ok(()) };
    let noted = known.noted(stream);
    let mut verifier = Verifier::new(stream.to_string(), &known.roots, noted);
    let before = found.changed + found.missing;
    for of in parts {
        let shown = quoted(&of.path);
        let failed = |error: std::io::Error| match error.kind() {
            ErrorKind::InvalidData => Failure::damaged(format!("{shown} cannot be unpacked: {error}")),
            _ => Failure::io(format!("cannot read {shown}: {error}")),
        };
        let mut from = part::open(&of.path).map_err(failed)?;
        verifier.read(&mut from, &mut |finding| found.take(&shown, finding)).map_err(failed)?;
    }
    let gave_up = verifier.gave_up();
    let verified = verifier.finish(&mut |finding| found.take(&stream.to_string(), finding));
    // Behind the last checkpoint the keeper tells of that itself.
    let own = u64::from(stream.who == Who::Keeper);
    let ended = noted.is_some_and(|(mark, ended)| ended && verified.last <= mark.last.seq + own);
    let good = found.changed + found.missing == before;
    console::out(&format!("{stream}: {}\n", summary(&verified, good, gave_up, ended)));
    Ok(())
}

/// What is said of a stream at its end.
fn summary(verified: &Verified, good: bool, gave_up: bool, ended: bool) -> String {
    let Verified { lines, last, proved, torn_bytes } = *verified;
    if gave_up {
        return format!("given up: too much is wrong ({lines} lines were right)");
    }
    let mut said = if good {
        format!("ok, {lines} lines up to {last}")
    } else {
        format!("not as it was written; {lines} lines are right")
    };
    match proved {
        Some(_) if ended && good => said.push_str(", to its end"),
        Some(proved) if last > proved => {
            said.push_str(&format!("; whether any was cut off after {proved} cannot be proved"));
        }
        Some(_) => {}
        None => {
            said.push_str("; the store has noted nothing of it: whether any was cut off cannot be proved");
        }
    }
    if torn_bytes > 0 {
        said.push_str(&format!("; {torn_bytes} bytes of an unfinished line follow"));
    }
    said
}
