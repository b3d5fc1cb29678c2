//! `quantonium audit verify`: whether the audit log holds what was written.
//!
//! Owns what is said about each stream. Invariants: what the store has noted is read before the files are, so that a server
//! which goes on meanwhile makes nothing look cut off; what it removed or compressed meanwhile is not missed, since nothing is said
//! to be wrong before it was wrong while no file came or went; success is said of nothing that was not checked.

use core::fmt::{self, Write as _};
use std::io::ErrorKind;

use super::audit_arguments::Part;
use super::contents::Gathered;
use super::copy;
use super::failure::Failure;
use crate::audit::chain::Root;
use crate::audit::verify::{Finding, Flaw, Verified, Verifier};
use crate::audit::{Checkpoint, Stream, StreamMark, Who, part};
use crate::config::{Offline, Remote};
use crate::console;
use crate::exit::Exit;
use crate::limits::{AUDIT_STORE_LOOKS_MAX_COUNT, AUDIT_VERIFY_LOOKS_MAX_COUNT};
use crate::store::{Etcd, Journal, MasterKey, Store as _, StoreError, Witness, quoted};

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
        if let Some(remote) = &settings.store {
            return Self::read_shared(remote, &master).map(Some);
        }
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

    /// The same of a store that etcd keeps: it knows of the streams of all servers that share it.
    fn read_shared(remote: &Remote, master: &MasterKey) -> Result<Self, Failure> {
        let (link, layout) = (Box::new(copy::connect(remote)?), remote.place.layout.clone());
        let place = std::path::PathBuf::from(remote.place.text());
        let mut opened = Etcd::open(link, layout, place, master, Witness::default())?;
        let sealer = opened.root.sealer(opened.ring)?;
        let mut gathered = Gathered::default();
        opened.store.load(&mut |record| {
            gathered.take(record);
            Ok(())
        })?;
        let contents = gathered.read(&sealer);
        let mut roots = vec![opened.root.audit_root()?];
        roots.extend(contents.audit_roots.into_iter().rev());
        Ok(Self { roots, checkpoints: contents.checkpoints })
    }

    /// The streams of which the store knows, and what was removed of each. Of those of which nothing is left it knows no more.
    fn removed(&self) -> impl Iterator<Item = (Stream, u64)> {
        self.checkpoints.iter().flat_map(|of| {
            let start = of.start;
            of.streams.iter().map(move |mark| (Stream { start, who: mark.who }, mark.removed.seq))
        })
    }

    fn noted(&self, stream: Stream) -> Option<(StreamMark, bool)> {
        self.checkpoints.iter().find_map(|of| Some((*of.of(stream)?, of.ended)))
    }
}

/// What is looked at.
struct Site {
    keyed: bool,
    known: Known,
    parts: Vec<Part>,
}

impl Site {
    /// Whether no file came or went, and none was noted as removed.
    fn is_as(&self, other: &Self) -> bool {
        self.parts == other.parts && self.known.removed().eq(other.known.removed())
    }
}

/// What was found in all, and what there is to say of it.
#[derive(Default)]
struct Found {
    changed: usize,
    missing: usize,
    told: String,
}

impl Found {
    fn tell(&mut self, text: fmt::Arguments<'_>) {
        // A string takes whatever is written to it.
        let _ = self.told.write_fmt(text);
    }

    fn take(&mut self, place: &str, finding: Finding) {
        match finding.flaw {
            Flaw::Cut { .. } | Flaw::Torn => {
                self.missing += 1;
                self.tell(format_args!("{place}: {}\n", finding.flaw));
            }
            flaw => {
                self.changed += 1;
                let seq = finding.seq.map(|seq| format!(", number {seq}")).unwrap_or_default();
                let Finding { line, offset, .. } = finding;
                self.tell(format_args!("{place}: line {line} at byte {offset}{seq}: {flaw}\n"));
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
    let read = || {
        let known = if without_key { None } else { Known::read(settings)? };
        let keyed = known.is_some();
        Ok(Site { keyed, known: known.unwrap_or_default(), parts: parts()? })
    };
    let is_right = |looked: &Result<(Found, bool), Failure>| {
        looked.as_ref().is_ok_and(|(found, _)| found.changed + found.missing == 0)
    };
    let look = |site: &Site| look_at(site, all).map(|found| (found, site.keyed));
    let (found, keyed) = until_still(read, look, is_right, Site::is_as)??;
    console::out(&found.told);
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

/// Looks at what was read; again, as long as it is not right and what is read afterwards is not the same.
fn until_still<S, L>(
    read: impl Fn() -> Result<S, Failure>,
    look: impl Fn(&S) -> L,
    is_right: impl Fn(&L) -> bool,
    is_same: impl Fn(&S, &S) -> bool,
) -> Result<L, Failure> {
    let mut site = read()?;
    for _ in 1..AUDIT_VERIFY_LOOKS_MAX_COUNT {
        let looked = look(&site);
        if is_right(&looked) {
            return Ok(looked);
        }
        let later = read()?;
        if is_same(&site, &later) {
            return Ok(looked);
        }
        site = later;
    }
    Ok(look(&site))
}

fn look_at(site: &Site, all: bool) -> Result<Found, Failure> {
    let Site { known, parts, .. } = site;
    let mut found = Found::default();
    for of in parts.chunk_by(|one, next| one.name.stream() == next.name.stream()) {
        verify_stream(of, known, &mut found)?;
    }
    let noted = known.checkpoints.iter().flat_map(|of| of.streams.iter().map(move |mark| (of.start, mark)));
    for (start, mark) in noted.filter(|(_, mark)| all && mark.last.seq > mark.removed.seq) {
        let stream = Stream { start, who: mark.who };
        if parts.binary_search_by_key(&stream, |part| part.name.stream()).is_err() {
            found.missing += 1;
            found.tell(format_args!(
                "{stream}: no file of it is there, but it was written up to {}\n",
                mark.last.seq
            ));
        }
    }
    Ok(found)
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
    found.tell(format_args!("{stream}: {}\n", summary(&verified, good, gave_up, ended)));
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

#[cfg(test)]
mod tests {
    use core::cell::Cell;

    use super::*;

    /// What is found of sites that move on `moves` times, and after how many looks; the last one is right if `ends_right`.
    fn looked(moves: usize, ends_right: bool) -> (usize, usize) {
        let (reads, looks) = (Cell::new(0), Cell::new(0));
        let read = || {
            reads.set(reads.get() + 1);
            Ok((reads.get() - 1).min(moves))
        };
        let look = |site: &usize| {
            looks.set(looks.get() + 1);
            *site
        };
        let found = until_still(read, look, |site| ends_right && *site == moves, |one, other| one == other);
        (found.unwrap(), looks.get())
    }

    #[test]
    fn what_is_wrong_counts_when_nothing_has_moved_meanwhile() {
        assert_eq!(looked(0, true), (0, 1));
        assert_eq!(looked(0, false), (0, 1), "it is wrong and stands still");
        assert_eq!(looked(2, true), (2, 3), "what was removed meanwhile is not missed");
        assert_eq!(looked(2, false), (2, 3));
        let last = AUDIT_VERIFY_LOOKS_MAX_COUNT - 1;
        assert_eq!(looked(usize::MAX, false), (last, AUDIT_VERIFY_LOOKS_MAX_COUNT), "for ever");
    }
}
