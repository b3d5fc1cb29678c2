//! A journal that is not as it was written: every byte and every length of one that a real server wrote.
//!
//! All of them are opened in this process, and a part of them by the binary itself, beside the audit log that the server
//! wrote: there, what would lose an acknowledged change is refused too.

#![expect(clippy::unwrap_used, reason = "a test fails by a panic, its functions too")]
#![expect(clippy::indexing_slicing, reason = "a length that is wrong fails the test")]

#[path = "support/server.rs"]
mod server;

use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use quantonium::limits::AUDIT_CHECKPOINT_SECONDS;
use quantonium::store::{DataDir, Head, Journal, MasterKey, Owner, Store as _, StoreError, Witness};
use server::client::Request;
use server::{Ended, Scratch, Server, binary, command};

/// Bytes of a frame around its payload, and where the length of that stands in it.
const AROUND_BYTES: usize = 73;
const LEN_AT: usize = 5;
/// Bytes before the first frame.
const HEADER_BYTES: usize = 148;

/// A data directory, and the journal as the server left it.
struct Store {
    scratch: Arc<Scratch>,
    journal: Vec<u8>,
    /// Where each frame begins, and where the last one ends.
    frames: Vec<usize>,
    /// How many frames at the front are the snapshot.
    snapshot: usize,
    head: Head,
    /// A process that is started here holds, for a moment, the lock of a directory that is open here.
    _alone: MutexGuard<'static, ()>,
}

/// One test at a time.
fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A store with a few changes on top of a snapshot with keys in it.
fn store() -> Option<Store> {
    let _alone = alone();
    binary()?;
    let scratch = loop {
        let scratch = Scratch::in_memory();
        change(&scratch, &["one", "two"])?;
        assert_eq!(command(&["store", "compact"], &scratch.data_dir())?.code, Some(0));
        let begun = Instant::now();
        change(&scratch, &["three", "four"])?;
        // A server that lives longer notes by itself how far its audit log has come, behind these changes.
        if begun.elapsed() < Duration::from_secs(AUDIT_CHECKPOINT_SECONDS) {
            break scratch;
        }
    };
    let journal = fs::read(scratch.data_dir().join("journal")).unwrap();
    let mut frames = vec![HEADER_BYTES];
    while let Some(&at) = frames.last().filter(|at| **at < journal.len()) {
        let len = journal[at + LEN_AT..].first_chunk().map(|len| u32::from_be_bytes(*len)).unwrap();
        frames.push(at + AROUND_BYTES + usize::try_from(len).unwrap());
    }
    assert_eq!(frames.last(), Some(&journal.len()));
    let snapshot = frames.iter().filter(|at| journal.get(**at + 4).is_some_and(|kind| *kind != b'C')).count();
    let mut made = Store { scratch, journal, frames, snapshot, head: Head::default(), _alone };
    made.head = made.open(Witness::default()).unwrap().0;
    assert!(made.snapshot >= 2 && made.frames.len() >= 5, "{:?}", made.frames);
    Some(made)
}

/// Has a server make these keys, and ends it so that the last of these changes is the last frame.
fn change(scratch: &Arc<Scratch>, names: &[&str]) -> Option<()> {
    let server = Server::start_in(scratch, &["--workers", "1"])?;
    for name in names {
        let made = server.ask(Request::post("/api/keys", format!("{{\"name\":\"{name}\"}}")));
        assert_eq!(made.status, 201, "{made:?}");
    }
    server.signal(Signal::SIGKILL);
    server.wait();
    Some(())
}

impl Store {
    fn path(&self) -> PathBuf {
        self.scratch.data_dir().join("journal")
    }

    /// Opens the journal as a server does: where it stands, and whether something was cut off.
    fn open(&self, witness: Witness) -> Result<(Head, bool), StoreError> {
        let owner = nix::unistd::geteuid().is_root().then_some(Owner { uid: 1001, gid: 1001 });
        let data_dir = DataDir::open(&self.scratch.data_dir(), owner)?;
        let master = MasterKey::read_file(&self.scratch.data_dir().join("master.key"))?;
        let mut journal = Journal::open(&data_dir, &master, witness)?.journal;
        let loaded = journal.load(&mut |_| Ok(()))?;
        Ok((loaded.head, loaded.torn.is_some()))
    }

    /// Opens `journal` in the place of the one that was written, without and with what the audit log knows.
    fn open_as(&self, journal: &[u8]) -> [Result<(Head, bool), StoreError>; 2] {
        [Witness::default(), Witness { head: Some(self.head), ..Witness::default() }].map(|witness| {
            fs::write(self.path(), journal).unwrap();
            let opened = self.open(witness);
            if opened.is_err() {
                let left = fs::read(self.path()).unwrap();
                assert!(left == journal, "what is refused is not touched");
            }
            opened
        })
    }

    /// Where the last frame begins.
    fn last(&self) -> usize {
        self.frames[self.frames.len() - 2]
    }

    /// The frame at this place in their order.
    fn frame(&self, at: usize) -> &[u8] {
        &self.journal[self.frames[at]..self.frames[at + 1]]
    }
}

/// Whether a start that is refused for this would say so, and where.
fn is_damage(error: &StoreError, journal: &Store, at: usize) -> bool {
    match error {
        StoreError::Damaged { offset, .. } | StoreError::DamagedEnd { offset, .. } => {
            let offset = usize::try_from(*offset).unwrap();
            journal.frames.contains(&offset) && offset <= at
        }
        StoreError::DamagedHeader { .. }
        | StoreError::NotAJournal { .. }
        | StoreError::UnknownFormat { .. }
        | StoreError::WrongMasterKey { .. } => at < HEADER_BYTES,
        _ => false,
    }
}

#[test]
fn every_flipped_byte_is_found() {
    let Some(store) = store() else { return };
    for at in 0..store.journal.len() {
        for flip in [0x01, 0x80, 0xff] {
            let mut journal = store.journal.clone();
            journal[at] ^= flip;
            let [alone, witnessed] = store.open_as(&journal);
            let refused = witnessed.expect_err("what was acknowledged is lost");
            assert!(is_damage(&refused, &store, at), "byte {at} ^ {flip:#x}: {refused}");
            match alone {
                Err(error) => assert!(is_damage(&error, &store, at), "byte {at} ^ {flip:#x}: {error}"),
                // Nobody knows that the last change was ever finished, so it was not.
                Ok((head, torn)) => {
                    assert!(at >= store.last() && torn, "byte {at} ^ {flip:#x} is not found");
                    assert!(head.revision < store.head.revision);
                }
            }
        }
    }
    println!("{} bytes, each flipped in three ways", store.journal.len());
}

#[test]
fn every_length_is_told_from_the_whole() {
    let Some(store) = store() else { return };
    for len in 0..store.journal.len() {
        let [_, witnessed] = store.open_as(&store.journal[..len]);
        fs::write(store.path(), &store.journal[..len]).unwrap();
        let alone = store.open(Witness::default());
        let whole = store.frames.iter().filter(|end| **end <= len).count();
        match witnessed.expect_err("what was acknowledged is lost") {
            StoreError::RolledBack { .. } => assert!(store.frames.contains(&len), "{len}"),
            other => assert!(is_damage(&other, &store, len), "length {len}: {other}"),
        }
        match alone {
            Err(error) => {
                assert!(whole <= store.snapshot && is_damage(&error, &store, len), "length {len}: {error}");
            }
            Ok((head, torn)) => {
                assert!(whole > store.snapshot, "length {len}: half a snapshot was taken for a whole one");
                assert_eq!(torn, !store.frames.contains(&len), "length {len}");
                let changes = u64::try_from(store.frames.len() - 1 - whole).unwrap();
                assert!(head.revision < store.head.revision, "length {len}: {changes} changes are missing");
                let left = fs::metadata(store.path()).unwrap().len();
                assert_eq!(left, store.frames[whole - 1] as u64, "the torn end is cut off");
            }
        }
    }
}

#[test]
fn frames_that_are_replayed_swapped_or_left_out_are_found() {
    let Some(store) = store() else { return };
    let count = store.frames.len() - 1;
    let all: Vec<&[u8]> = (0..count).map(|at| store.frame(at)).collect();
    let refused = |frames: &[&[u8]], about: &str| {
        let journal = [&store.journal[..HEADER_BYTES], &frames.concat()].concat();
        for opened in store.open_as(&journal) {
            let error = opened.expect_err(about);
            assert!(matches!(error, StoreError::Damaged { .. }), "{about}: {error}");
        }
    };
    for one in 0..count {
        for other in 0..=count {
            let mut again = all.clone();
            again.insert(other, all[one]);
            refused(&again, &format!("frame {one} again at {other}"));
        }
        for other in one + 1..count {
            let mut swapped = all.clone();
            swapped.swap(one, other);
            refused(&swapped, &format!("frames {one} and {other} swapped"));
        }
        if one + 1 < count {
            let mut without = all.clone();
            without.remove(one);
            refused(&without, &format!("without frame {one}"));
        }
    }
}

#[test]
fn frames_of_another_journal_are_found() {
    let Some((other, last)) = store().map(|store| (store.journal.clone(), store.last())) else { return };
    let Some(store) = store() else { return };
    let foreign = &other[last..];
    for journal in [
        [&store.journal[..], foreign].concat(),
        [&store.journal[..store.last()], foreign].concat(),
        [&store.journal[..HEADER_BYTES], &other[HEADER_BYTES..]].concat(),
        [&other[..HEADER_BYTES], &store.journal[HEADER_BYTES..]].concat(),
    ] {
        let [_, witnessed] = store.open_as(&journal);
        // Without its tag a foreign frame is no more than what a crash may leave behind the last change.
        match witnessed {
            Ok((head, torn)) => assert!(head == store.head && torn && journal.len() > store.journal.len()),
            Err(error) => assert!(
                matches!(
                    error,
                    StoreError::Damaged { .. }
                        | StoreError::DamagedEnd { .. }
                        | StoreError::WrongMasterKey { .. }
                ),
                "{error}"
            ),
        }
    }
}

fn assert_refused(ended: &Ended, code: i32, offset: usize, about: &str) {
    assert_eq!(ended.code, Some(code), "{about}: {ended:?}");
    let told = format!("{}{}", ended.stdout, ended.stderr);
    assert!(told.contains("journal"), "{about}: {ended:?}");
    if offset >= HEADER_BYTES {
        assert!(told.contains("offset"), "{about}: {ended:?}");
    }
}

#[test]
fn the_server_and_verify_name_file_and_place_of_the_damage_and_touch_nothing() {
    let Some(store) = store() else { return };
    for at in (0..store.journal.len()).step_by(41) {
        let mut journal = store.journal.clone();
        journal[at] ^= 0x20;
        fs::write(store.path(), &journal).unwrap();
        let about = format!("byte {at}");
        let verified = command(&["store", "verify"], &store.scratch.data_dir()).unwrap();
        // An unfinished end is no damage as long as nothing says that it was finished.
        if at < store.last() {
            let code = verified.code.unwrap();
            assert!([65, 78].contains(&code), "{about}: {verified:?}");
            assert_refused(&verified, code, at, &about);
        }
        let started = Server::try_start_in(&store.scratch, &["--workers", "1"]).unwrap();
        let started = started.expect_err("a damaged journal is served");
        let code = started.code.unwrap();
        assert!([65, 78].contains(&code), "{about}: {started:?}");
        assert_refused(&started, code, at, &about);
        assert!(fs::read(store.path()).unwrap() == journal, "{about}: what is refused is not touched");
    }
    fs::write(store.path(), &store.journal).unwrap();
    let server = Server::start_in(&store.scratch, &["--workers", "1"]).unwrap();
    assert_eq!(server.ask(Request::get("/api/keys/four")).status, 200);
}

#[test]
fn a_cut_that_loses_an_acknowledged_change_is_refused_unless_that_is_accepted() {
    let Some(store) = store() else { return };
    for len in [store.last(), store.last() + 1, store.journal.len() - 1] {
        fs::write(store.path(), &store.journal[..len]).unwrap();
        let started = Server::try_start_in(&store.scratch, &["--workers", "1"]).unwrap();
        let ended = started.expect_err("an acknowledged change is lost");
        assert!([65, 78].contains(&ended.code.unwrap()), "{len}: {ended:?}");
        assert_eq!(fs::metadata(store.path()).unwrap().len(), len as u64, "what is refused is not touched");
    }
    let server = Server::start_in(&store.scratch, &["--workers", "1", "--accept-store-rollback"]).unwrap();
    assert_eq!(server.ask(Request::get("/api/keys/four")).status, 404);
    assert_eq!(server.ask(Request::get("/api/keys/three")).status, 200);
    assert_eq!(server.ask(Request::post("/api/keys", "{\"name\":\"five\"}")).status, 201);
    let scratch = Arc::clone(server.scratch());
    assert_eq!(server.stop().code, Some(0));
    // What was accepted once need not be accepted again.
    let server = Server::start_in(&scratch, &["--workers", "1"]).unwrap();
    assert_eq!(server.ask(Request::get("/api/keys/five")).status, 200);
    assert_eq!(server.stop().code, Some(0));
    server::assert_sound(&scratch.data_dir());
}
