//! The journal over real files: descriptors that fail, steps after which the process ends, names and room.

use std::fs;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

use rustix::fs::{FallocateFlags, MemfdFlags, Mode, OFlags, SealFlags};

use super::super::record::{Condition, Path};
use super::super::scratch::{Scratch, as_root};
use super::super::{Owner, Tail, TornTail};
use super::*;
use crate::limits::{
    FD_CONNECTION_FIRST_NUMBER, JOURNAL_COMPACTION_FLOOR_BYTES, JOURNAL_RESERVED_BYTES, JOURNAL_TAIL_BYTES,
    STORE_APPEND_MAX_BYTES, STORE_ORIGINS_MAX_COUNT, STORE_RECORD_MAX_BYTES,
};

fn master() -> MasterKey {
    MasterKey::take(&mut [1; 32])
}

fn data_dir(scratch: &Scratch) -> DataDir {
    loop {
        // A child that another test has just forked holds the lock until it executes its program.
        match DataDir::open(&scratch.path().join("q"), None) {
            Err(StoreError::InUse { .. }) => std::thread::yield_now(),
            opened => return opened.unwrap(),
        }
    }
}

fn created(scratch: &Scratch) -> DataDir {
    let data_dir = data_dir(scratch);
    Journal::create(&data_dir, &master(), &mut Generator::new(Kernel, Moment::now()).unwrap()).unwrap();
    data_dir
}

/// Opens and loads; the records in the order in which they were delivered.
fn opened(data_dir: &DataDir) -> (Journal, Loaded, Vec<Record>) {
    let mut journal = Journal::open(data_dir, &master(), Witness::default()).unwrap().journal;
    let mut records = Vec::new();
    let loaded = journal.load(&mut |record| {
        records.push(record);
        Ok(())
    });
    let loaded = loaded.unwrap();
    journal.compact_at_start(data_dir).unwrap();
    (journal, loaded, records)
}

fn record(path: u8, revision: u64) -> Record {
    Record { path: Path::new([path; 16]), revision, sealed: Some(vec![path; 300]) }
}

/// Appends one record.
fn append(journal: &mut Journal, path: u8) -> Result<Head, AppendError> {
    let at = journal.0.head().unwrap().revision;
    journal.append(at, &[record(path, at + 1)], &[[path; 16]])
}

fn path(data_dir: &DataDir, name: &str) -> PathBuf {
    data_dir.path().join(name)
}

/// A file that takes no byte more but can be cut.
fn full_file(content: &[u8]) -> OwnedFd {
    let file = rustix::fs::memfd_create("full", MemfdFlags::ALLOW_SEALING).unwrap();
    rustix::io::write(&file, content).unwrap();
    rustix::fs::fcntl_add_seals(&file, SealFlags::GROW).unwrap();
    rustix::fs::fcntl_setfl(&file, OFlags::APPEND).unwrap();
    file
}

fn open(path: &str, flags: OFlags) -> OwnedFd {
    rustix::fs::open(path, flags, Mode::empty()).unwrap()
}

#[test]
fn an_end_that_is_not_what_was_written_is_found_and_nothing_is_written_behind_it() {
    let scratch = Scratch::new();
    let data_dir = created(&scratch);
    let (mut journal, ..) = opened(&data_dir);
    assert!(matches!(journal.verify_tail(), Tail::Sound { .. }));
    for path in 1..=3 {
        append(&mut journal, path).unwrap();
    }
    let Tail::Sound { bytes } = journal.verify_tail() else { panic!("sound") };
    assert!(bytes >= 900, "{bytes}");
    let name = path(&data_dir, "journal");
    let sound = fs::read(&name).unwrap();
    let begin = sound.len() - usize::try_from(bytes).unwrap();
    drop(journal);
    let flipped = |at: usize| [&sound[..at], &[sound[at] ^ 1], &sound[at + 1..]].concat();
    let mut damages: Vec<(usize, Vec<u8>)> =
        [begin, begin + 200, sound.len() - 1].map(|at| (at, flipped(at))).into();
    damages.push((sound.len() - 1, sound[..sound.len() - 1].to_vec()));
    for (at, damaged) in damages {
        fs::write(&name, &sound).unwrap();
        let (mut journal, ..) = opened(&data_dir);
        fs::write(&name, &damaged).unwrap();
        let Tail::Damaged { offset } = journal.verify_tail() else { panic!("byte {at}") };
        assert!(offset <= at as u64 && offset >= begin as u64);
        assert_eq!(journal.standing().condition, Condition::Poisoned);
        assert_eq!(append(&mut journal, 4).unwrap_err(), AppendError::Refused);
        assert_eq!((journal.verify_tail(), fs::read(&name).unwrap()), (Tail::Damaged { offset }, damaged));
        assert_eq!(journal.take_found(), None, "whoever asked was told");
    }
}

#[test]
fn an_end_that_cannot_be_read_or_is_given_up_is_neither_sound_nor_damaged() {
    let scratch = Scratch::new();
    let data_dir = created(&scratch);
    let (mut journal, ..) = opened(&data_dir);
    append(&mut journal, 1).unwrap();
    let name = path(&data_dir, "journal");
    let before = journal.0.disk.change_journal(open(name.to_str().unwrap(), OFlags::WRONLY | OFlags::APPEND));
    assert_eq!(journal.verify_tail(), Tail::Unread);
    assert_eq!(append(&mut journal, 2).unwrap_err(), AppendError::Failed, "nobody knows what stands there");
    assert_eq!(journal.standing().condition, Condition::Failing);
    journal.0.disk.change_journal(before);
    append(&mut journal, 2).unwrap();
    journal.leave();
    assert_eq!(journal.verify_tail(), Tail::GivenUp);
    assert!([Tail::Unread, Tail::GivenUp].iter().all(|tail| tail.finding().is_some()));
}

#[test]
fn what_others_wrote_behind_the_end_is_found_by_the_next_change_without_being_asked() {
    let scratch = Scratch::new();
    let data_dir = created(&scratch);
    let (mut journal, ..) = opened(&data_dir);
    let name = path(&data_dir, "journal");
    for (path, foreign) in [(1, vec![0]), (2, b"x".to_vec()), (3, vec![7; 100_000])] {
        let sound = fs::read(&name).unwrap();
        fs::write(&name, [&sound[..], &foreign].concat()).unwrap();
        append(&mut journal, path).unwrap();
        assert_eq!(fs::read(&name).unwrap()[..sound.len()], sound);
        assert_eq!(journal.take_found(), Some(Tail::Foreign { offset: sound.len() as u64 }));
        assert_eq!(journal.take_found(), None, "once");
        assert!(matches!(journal.verify_tail(), Tail::Sound { .. }));
    }
    append(&mut journal, 4).unwrap();
    assert_eq!(journal.take_found(), None);
    drop(journal);
    let (journal, ..) = opened(&data_dir);
    assert_eq!(journal.standing().live_records, 4);
}

#[test]
fn a_change_behind_what_another_server_wrote_is_not_taken_and_nothing_is_cut_off() {
    let scratch = Scratch::new();
    let data_dir = created(&scratch);
    let name = path(&data_dir, "journal");
    let (mut journal, ..) = opened(&data_dir);
    append(&mut journal, 1).unwrap();
    let ours = fs::read(&name).unwrap();
    append(&mut journal, 2).unwrap();
    let theirs = fs::read(&name).unwrap();
    drop(journal);
    for compacts in [false, true] {
        fs::write(&name, &ours).unwrap();
        let (mut journal, ..) = opened(&data_dir);
        fs::write(&name, &theirs).unwrap();
        if compacts {
            assert!(matches!(journal.0.compact(None), Err(MaintainError::Damaged { .. })));
        } else {
            assert_eq!(append(&mut journal, 2).unwrap_err(), AppendError::Refused);
        }
        assert_eq!(journal.take_found(), Some(Tail::Damaged { offset: ours.len() as u64 }));
        assert_eq!(journal.standing().condition, Condition::Poisoned);
        assert_eq!(fs::read(&name).unwrap(), theirs);
    }
}

#[test]
fn what_others_wrote_behind_the_end_is_cut_off_and_changes_go_on() {
    let scratch = Scratch::new();
    let data_dir = created(&scratch);
    let (mut journal, ..) = opened(&data_dir);
    append(&mut journal, 1).unwrap();
    let name = path(&data_dir, "journal");
    for (path, foreign) in [(2, vec![0]), (3, b"x".to_vec()), (4, vec![7; 100_000])] {
        let sound = fs::read(&name).unwrap();
        fs::write(&name, [&sound[..], &foreign].concat()).unwrap();
        assert_eq!(journal.verify_tail(), Tail::Foreign { offset: sound.len() as u64 });
        assert_eq!(fs::read(&name).unwrap(), sound);
        assert!(matches!(journal.verify_tail(), Tail::Sound { .. }));
        append(&mut journal, path).unwrap();
    }
    drop(journal);
    let (journal, ..) = opened(&data_dir);
    assert_eq!(journal.standing().live_records, 4);
}

#[test]
fn foreign_bytes_that_cannot_be_cut_off_end_the_changes() {
    let scratch = Scratch::new();
    let data_dir = created(&scratch);
    let (mut journal, ..) = opened(&data_dir);
    append(&mut journal, 1).unwrap();
    let name = path(&data_dir, "journal");
    let before = journal.0.disk.change_journal(open(name.to_str().unwrap(), OFlags::RDONLY));
    rustix::io::write(&before, b"x").unwrap();
    assert!(matches!(journal.verify_tail(), Tail::Damaged { .. }));
    assert_eq!(append(&mut journal, 2).unwrap_err(), AppendError::Refused);
}

#[test]
fn what_another_server_with_the_same_keys_wrote_behind_the_end_is_not_cut_off() {
    let scratch = Scratch::new();
    let data_dir = created(&scratch);
    let name = path(&data_dir, "journal");
    let (mut journal, ..) = opened(&data_dir);
    append(&mut journal, 1).unwrap();
    let ours = fs::read(&name).unwrap();
    append(&mut journal, 2).unwrap();
    let theirs = fs::read(&name).unwrap();
    drop(journal);
    fs::write(&name, &ours).unwrap();
    let (mut journal, ..) = opened(&data_dir);
    fs::write(&name, &theirs).unwrap();
    assert_eq!(journal.verify_tail(), Tail::Damaged { offset: ours.len() as u64 });
    assert_eq!(fs::read(&name).unwrap(), theirs);
}

#[test]
fn the_end_that_is_looked_at_is_bounded_also_after_a_compaction() {
    let scratch = Scratch::new();
    let data_dir = created(&scratch);
    let (mut journal, ..) = opened(&data_dir);
    let most = 2 * JOURNAL_TAIL_BYTES + 1_000;
    for round in 0..1_000u32 {
        append(&mut journal, u8::try_from(round % 7).unwrap()).unwrap();
        let Tail::Sound { bytes } = journal.verify_tail() else { panic!("round {round}") };
        assert!(bytes <= most, "{bytes}");
    }
    let end = journal.standing().bytes;
    assert!(end > 3 * JOURNAL_TAIL_BYTES, "{end}");
    let Tail::Sound { bytes } = journal.verify_tail() else { panic!("sound") };
    assert!(bytes >= JOURNAL_TAIL_BYTES, "{bytes}");
    journal.0.compact(None).unwrap();
    append(&mut journal, 1).unwrap();
    let Tail::Sound { bytes } = journal.verify_tail() else { panic!("sound") };
    assert!((300..1_000).contains(&bytes), "{bytes}");
}

#[test]
fn a_write_that_fails_leaves_nothing_and_the_next_one_is_taken() {
    let scratch = Scratch::new();
    let data_dir = created(&scratch);
    let (mut journal, ..) = opened(&data_dir);
    append(&mut journal, 1).unwrap();
    let content = fs::read(path(&data_dir, "journal")).unwrap();
    let real = journal.0.disk.change_journal(full_file(&content));
    for reserves in [true, false] {
        journal.0.set_reserves(reserves);
        assert_eq!(append(&mut journal, 2), Err(AppendError::Failed));
        assert_eq!(journal.standing().condition, Condition::Failing);
        assert_eq!(journal.0.disk.size().unwrap(), content.len() as u64);
    }
    journal.0.disk.change_journal(real);
    append(&mut journal, 3).unwrap();
    assert_eq!(journal.standing().condition, Condition::Good);
    drop(journal);
    let (_, loaded, records) = opened(&data_dir);
    assert_eq!((loaded.head.revision, loaded.torn), (2, None));
    assert_eq!(records, [record(1, 1), record(3, 2)]);
}

#[test]
fn a_write_that_cannot_be_taken_back_ends_all_changes() {
    let scratch = Scratch::new();
    let data_dir = created(&scratch);
    let (mut journal, ..) = opened(&data_dir);
    let head = append(&mut journal, 1).unwrap();
    // Nothing stands behind its end, and it takes neither bytes nor a cut.
    let real = journal.0.disk.change_journal(open("/dev/null", OFlags::RDONLY));
    journal.0.set_reserves(false);
    assert_eq!(append(&mut journal, 2), Err(AppendError::Ambiguous));
    journal.0.disk.change_journal(real);
    assert_eq!(append(&mut journal, 2), Err(AppendError::Refused));
    assert_eq!(journal.standing().condition, Condition::Poisoned);
    assert_eq!(journal.maintain(), Ok(None));
    assert!(matches!(journal.load(&mut |_| Ok(())), Err(StoreError::NotAppended(_))));
    drop(journal);
    assert_eq!(opened(&data_dir).1.head, head);
}

#[test]
fn a_sync_that_fails_is_not_tried_again() {
    let scratch = Scratch::new();
    let data_dir = created(&scratch);
    let (mut journal, ..) = opened(&data_dir);
    // It takes bytes and cannot be synced.
    let real = journal.0.disk.change_journal(open("/dev/null", OFlags::RDWR | OFlags::APPEND));
    journal.0.set_reserves(false);
    assert_eq!(append(&mut journal, 1), Err(AppendError::Ambiguous));
    journal.0.disk.change_journal(real);
    assert_eq!(append(&mut journal, 1), Err(AppendError::Refused));
    assert_eq!(journal.standing().condition, Condition::Poisoned);
}

#[test]
fn a_full_disk_is_told_from_a_broken_one() {
    let scratch = Scratch::new();
    let data_dir = created(&scratch);
    let (mut journal, ..) = opened(&data_dir);
    let head = journal.0.disk.size().unwrap();
    journal.0.set_end(crate::limits::JOURNAL_MAX_BYTES);
    assert_eq!(append(&mut journal, 1), Err(AppendError::Full));
    assert_eq!(journal.standing().condition, Condition::Full);
    assert_eq!(journal.0.disk.size().unwrap(), head);
}

#[test]
fn what_the_store_does_not_take_is_refused_before_it_is_written() {
    let scratch = Scratch::new();
    let data_dir = created(&scratch);
    let (mut journal, ..) = opened(&data_dir);
    append(&mut journal, 1).unwrap();
    let size = journal.0.disk.size().unwrap();
    let of = |len| Record { path: Path::new([9; 16]), revision: 2, sealed: Some(vec![0; len]) };
    assert_eq!(journal.append(0, &[record(1, 1)], &[]), Err(AppendError::Conflict { at: 1 }));
    assert_eq!(journal.append(2, &[record(1, 3)], &[]), Err(AppendError::Conflict { at: 1 }));
    for revision in [0, 1, 3, u64::MAX] {
        assert_eq!(journal.append(1, &[record(1, revision)], &[]), Err(AppendError::Malformed));
    }
    assert_eq!(journal.append(1, &[of(STORE_RECORD_MAX_BYTES + 1)], &[]), Err(AppendError::TooLarge));
    let many = vec![of(STORE_RECORD_MAX_BYTES); STORE_APPEND_MAX_BYTES.div_ceil(STORE_RECORD_MAX_BYTES)];
    assert_eq!(journal.append(1, &many, &[]), Err(AppendError::TooLarge));
    let origins = vec![[0; 16]; STORE_ORIGINS_MAX_COUNT + 1];
    assert_eq!(journal.append(1, &[record(1, 2)], &origins), Err(AppendError::TooLarge));
    assert_eq!(journal.0.disk.size().unwrap(), size);
    assert_eq!(journal.standing().condition, Condition::Good);
    // The largest that is taken comes back, over compactions too.
    let most = many.split_last().unwrap().1;
    let mut most: Vec<Record> = most.to_vec();
    for (at, record) in most.iter_mut().enumerate() {
        record.path = Path::new([u8::try_from(at + 1).unwrap(); 16]);
    }
    journal.append(1, &most, &origins[1..]).unwrap();
    journal.0.compact(None).unwrap();
    append(&mut journal, 200).unwrap();
    drop(journal);
    let (_, loaded, records) = opened(&data_dir);
    assert_eq!(loaded.recent.len(), STORE_ORIGINS_MAX_COUNT);
    assert_eq!(loaded.recent.last(), Some(&[200; 16]));
    assert!(most.iter().all(|record| records.contains(record)) && records.len() == most.len() + 1);
}

#[test]
fn of_several_records_of_one_path_the_last_counts() {
    let scratch = Scratch::new();
    let data_dir = created(&scratch);
    let (mut journal, ..) = opened(&data_dir);
    let other = Record { sealed: Some(vec![7; 10]), ..record(1, 1) };
    let removed = Record { sealed: None, ..record(2, 1) };
    journal.append(0, &[record(1, 1), record(2, 1), other.clone(), removed.clone()], &[]).unwrap();
    assert_eq!(journal.standing().live_records, 1);
    drop(journal);
    assert_eq!(opened(&data_dir).2, [other, removed]);
}

/// A journal with history, so that there is something to leave out.
fn with_history(scratch: &Scratch) -> (DataDir, Head) {
    let data_dir = created(scratch);
    let (mut journal, ..) = opened(&data_dir);
    for path in [1, 2, 1, 3, 1] {
        append(&mut journal, path).unwrap();
    }
    let gone = Record { sealed: None, ..record(2, 6) };
    let head = journal.append(5, &[gone], &[[6; 16]]).unwrap();
    (data_dir, head)
}

fn check_history(data_dir: &DataDir, head: Head) -> u64 {
    let (mut journal, loaded, _) = opened(data_dir);
    assert_eq!((loaded.head, loaded.torn), (head, None));
    assert_eq!(loaded.recent, [1, 2, 1, 3, 1, 6].map(|origin| [origin; 16]));
    let mut state = std::collections::BTreeMap::new();
    journal
        .load(&mut |record| {
            state.insert(record.path, record);
            Ok(())
        })
        .unwrap();
    state.retain(|_, record| record.sealed.is_some());
    assert_eq!(state.into_values().collect::<Vec<_>>(), [record(1, 5), record(3, 4)]);
    journal.standing().bytes
}

#[test]
fn a_process_that_ends_between_any_two_steps_of_a_compaction_loses_nothing() {
    for steps in 0..=3 {
        let scratch = Scratch::new();
        let (data_dir, head) = with_history(&scratch);
        let long = check_history(&data_dir, head);
        let (mut journal, ..) = opened(&data_dir);
        if steps >= 1 {
            let successor = journal.0.fill_next(None).unwrap();
            assert!(fs::metadata(path(&data_dir, "journal.next")).unwrap().len() > 0);
            if steps >= 2 {
                journal.0.replace(&successor).unwrap();
            }
            if steps >= 3 {
                journal.0.empty_next();
                assert_eq!(fs::metadata(path(&data_dir, "journal.next")).unwrap().len(), 0);
            }
        }
        drop(journal);
        let now = check_history(&data_dir, head);
        assert_eq!(now < long, steps >= 2, "{steps}: {now} of {long}");
        // And it goes on from there.
        let (mut journal, ..) = opened(&data_dir);
        let head = append(&mut journal, 9).unwrap();
        assert_eq!(head.revision, 7);
        drop(journal);
        assert_eq!(opened(&data_dir).1.head, head);
    }
}

#[test]
fn a_rekey_that_ends_between_any_two_steps_leaves_the_old_key_or_the_new_one() {
    let new = MasterKey::take(&mut [2; 32]);
    for steps in 0..=2 {
        let scratch = Scratch::new();
        let (data_dir, head) = with_history(&scratch);
        let Opened { mut journal, root, ring } =
            Journal::open(&data_dir, &master(), Witness::default()).unwrap();
        journal.load(&mut |_| Ok(())).unwrap();
        journal.0.disk.prepare_next(&data_dir, false).unwrap();
        let header = Header::wrap(&new, &root, ring, [0; 16], [7; 24]).unwrap();
        if steps >= 1 {
            let successor = journal.0.fill_next(Some(header)).unwrap();
            if steps >= 2 {
                journal.0.replace(&successor).unwrap();
                assert!(!path(&data_dir, "journal.next").exists());
            }
        }
        drop(journal);
        let by_new = Journal::open(&data_dir, &new, Witness::default());
        if steps < 2 {
            assert!(matches!(by_new, Err(StoreError::WrongMasterKey { .. })), "{steps}");
            check_history(&data_dir, head);
        } else {
            let refused = Journal::open(&data_dir, &master(), Witness::default());
            assert!(matches!(refused, Err(StoreError::WrongMasterKey { .. })));
            let mut opened = by_new.unwrap();
            assert_eq!(opened.journal.load(&mut |_| Ok(())).unwrap().head, head);
            assert_eq!(opened.journal.standing().live_records, 2);
        }
    }
}

#[test]
fn compaction_keeps_the_head_and_changes_go_on_across_many_of_them() {
    let scratch = Scratch::new();
    let (data_dir, head) = with_history(&scratch);
    let (mut journal, ..) = opened(&data_dir);
    let inode = || fs::metadata(path(&data_dir, "journal")).unwrap().ino();
    let first = inode();
    let done = journal.0.compact(None).unwrap();
    assert_eq!(done.records, 2);
    assert!(done.after_bytes < done.before_bytes);
    assert_ne!(inode(), first);
    assert_eq!(journal.0.head(), Some(head));
    drop(journal);
    check_history(&data_dir, head);
    let (mut journal, ..) = opened(&data_dir);
    let first = inode();
    for round in 0..5 {
        append(&mut journal, 100 + round).unwrap();
        journal.0.compact(None).unwrap();
        assert_eq!(inode() == first, round % 2 == 1, "the two files take turns");
    }
    let head = journal.0.head().unwrap();
    drop(journal);
    let (_, loaded, records) = opened(&data_dir);
    assert_eq!((loaded.head, records.len()), (head, 7));
}

#[test]
fn maintenance_waits_until_half_of_a_long_journal_is_dead() {
    let scratch = Scratch::new();
    let data_dir = created(&scratch);
    let (mut journal, ..) = opened(&data_dir);
    let mut compacted = Vec::new();
    let big =
        |revision, path| Record { path: Path::new([path; 16]), revision, sealed: Some(vec![path; 100_000]) };
    for revision in 1..=40 {
        let path = if revision <= 6 { revision } else { 1 };
        journal.append(revision - 1, &[big(revision, u8::try_from(path).unwrap())], &[]).unwrap();
        let before = journal.standing();
        if let Some(done) = journal.maintain().unwrap() {
            assert!(before.bytes > JOURNAL_COMPACTION_FLOOR_BYTES && before.bytes >= 2 * before.live_bytes);
            assert_eq!((done.records, done.before_bytes), (6, before.bytes));
            assert_eq!(done.after_bytes, journal.standing().bytes);
            compacted.push(revision);
        } else {
            assert!(before.bytes <= JOURNAL_COMPACTION_FLOOR_BYTES || before.bytes < 2 * before.live_bytes);
        }
    }
    assert!(compacted.len() >= 4, "{compacted:?}");
    drop(journal);
    let (journal, loaded, _) = opened(&data_dir);
    assert_eq!((loaded.head.revision, journal.standing().live_records), (40, 6));
}

#[test]
fn a_compaction_that_fails_changes_nothing_and_is_not_tried_at_once() {
    let scratch = Scratch::new();
    let data_dir = created(&scratch);
    let (mut journal, ..) = opened(&data_dir);
    for revision in 1..=15 {
        let sealed = Some(vec![0; 100_000]);
        let record = Record { path: Path::new([0; 16]), revision, sealed };
        journal.append(revision - 1, &[record], &[]).unwrap();
    }
    let real = journal.0.disk.change_next(Some(full_file(b"")));
    let before = journal.standing();
    assert!(matches!(journal.maintain(), Err(MaintainError::Failed { .. })));
    assert_eq!(journal.maintain(), Ok(None), "not at once");
    assert_eq!(journal.standing(), before);
    journal.0.disk.change_next(real);
    append(&mut journal, 1).unwrap();
    // After some growth it is tried again.
    let mut done = None;
    for _ in 0..20 {
        let at = journal.0.head().unwrap().revision;
        let record = Record { path: Path::new([0; 16]), revision: at + 1, sealed: Some(vec![0; 100_000]) };
        journal.append(at, &[record], &[]).unwrap();
        done = done.or(journal.maintain().unwrap());
    }
    assert!(done.is_some());
}

#[test]
fn a_full_disk_is_reason_enough_to_compact_and_so_is_a_start() {
    let scratch = Scratch::new();
    let data_dir = created(&scratch);
    let grow = |journal: &mut Journal| {
        for _ in 0..8 {
            let revision = journal.0.head().unwrap().revision + 1;
            let record = Record { sealed: Some(vec![0; 20_000]), ..record(1, revision) };
            journal.append(revision - 1, &[record], &[]).unwrap();
        }
    };
    let (mut journal, ..) = opened(&data_dir);
    grow(&mut journal);
    assert_eq!(journal.maintain(), Ok(None));
    let end = journal.standing().bytes;
    journal.0.set_end(crate::limits::JOURNAL_MAX_BYTES);
    assert_eq!(append(&mut journal, 1), Err(AppendError::Full));
    journal.0.set_end(end);
    let done = journal.maintain().unwrap().unwrap();
    assert!(done.after_bytes < 30_000 && done.before_bytes == end, "{done:?}");
    assert_eq!(journal.standing().condition, Condition::Good);
    append(&mut journal, 1).unwrap();
    grow(&mut journal);
    drop(journal);
    let mut journal = Journal::open(&data_dir, &master(), Witness::default()).unwrap().journal;
    journal.load(&mut |_| Ok(())).unwrap();
    assert!(journal.compact_at_start(&data_dir).unwrap().is_some());
    assert_eq!(journal.compact_at_start(&data_dir).unwrap(), None);
}

#[test]
fn what_was_superseded_leaves_a_short_journal_too_after_a_while() {
    let scratch = Scratch::new();
    let data_dir = created(&scratch);
    let (mut journal, ..) = opened(&data_dir);
    let hour = crate::limits::JOURNAL_SUPERSEDED_MAX_SECONDS * 1_000;
    append(&mut journal, 1).unwrap();
    assert_eq!(journal.0.maintain(Moment::now().plus_millis(2 * hour)), Ok(None), "nothing is dead");
    let before = Moment::now();
    append(&mut journal, 1).unwrap();
    assert_eq!(journal.0.maintain(before.plus_millis(hour - 1)), Ok(None));
    drop(journal);
    // Over a restart too.
    let (mut journal, ..) = opened(&data_dir);
    let later = Moment::now().plus_millis(hour);
    assert_eq!(journal.0.maintain(later).unwrap().map(|done| done.records), Some(1));
    assert_eq!(journal.0.maintain(later.plus_millis(hour)), Ok(None));
    let at = journal.0.head().unwrap().revision;
    journal.append(at, &[Record { sealed: None, ..record(1, at + 1) }], &[]).unwrap();
    let later = Moment::now().plus_millis(hour);
    assert_eq!(journal.0.maintain(later).unwrap().map(|done| done.records), Some(0));
}

#[test]
fn a_journal_that_cannot_be_read_back_takes_no_change_any_more() {
    let scratch = Scratch::new();
    let (data_dir, _) = with_history(&scratch);
    let (mut journal, ..) = opened(&data_dir);
    let file = path(&data_dir, "journal");
    let mut bytes = fs::read(&file).unwrap();
    bytes[400] ^= 1;
    fs::write(&file, &bytes).unwrap();
    assert!(matches!(journal.0.compact(None), Err(MaintainError::Damaged { .. })));
    assert_eq!(journal.standing().condition, Condition::Poisoned);
    assert_eq!(append(&mut journal, 1), Err(AppendError::Refused));
    assert_eq!(fs::read(&file).unwrap(), bytes);
}

#[test]
fn a_journal_that_is_refused_keeps_what_lies_beside_it() {
    let scratch = Scratch::new();
    let (data_dir, _) = with_history(&scratch);
    let (file, next) = (path(&data_dir, "journal"), path(&data_dir, "journal.next"));
    fs::copy(&file, &next).unwrap();
    let mut bytes = fs::read(&file).unwrap();
    bytes[400] ^= 1;
    fs::write(&file, &bytes).unwrap();
    let mut journal = Journal::open(&data_dir, &master(), Witness::default()).unwrap().journal;
    assert!(matches!(journal.load(&mut |_| Ok(())), Err(StoreError::Damaged { .. })));
    assert!(fs::read(&next).unwrap().len() > 400, "it may be the only copy that is whole");
}

#[test]
fn without_an_exchange_of_names_a_journal_is_compacted_at_the_start_only() {
    let scratch = Scratch::new();
    let data_dir = created(&scratch);
    let (mut journal, ..) = opened(&data_dir);
    for revision in 1..=15 {
        let sealed = Some(vec![0; 100_000]);
        let record = Record { path: Path::new([0; 16]), revision, sealed };
        journal.append(revision - 1, &[record], &[]).unwrap();
    }
    journal.0.disk.forget_next();
    assert!(!journal.standing().compacts_in_use);
    assert_eq!(journal.maintain(), Ok(None));
    let done = journal.compact_before_use(&data_dir, false).unwrap().unwrap();
    assert!(done.after_bytes < 200_000, "{done:?}");
    assert!(!journal.standing().compacts_in_use && !path(&data_dir, "journal.next").exists());
    assert_eq!(journal.compact_before_use(&data_dir, false).unwrap(), None);
    assert!(!journal.standing().compacts_in_use);
    append(&mut journal, 7).unwrap();
    drop(journal);
    assert_eq!(opened(&data_dir).1.head.revision, 16);
}

#[test]
fn a_torn_end_is_cut_off_and_told() {
    let scratch = Scratch::new();
    let (data_dir, head) = with_history(&scratch);
    let file = path(&data_dir, "journal");
    let whole = fs::read(&file).unwrap();
    fs::write(&file, [whole.as_slice(), b"QNF\x01 and a little more"].concat()).unwrap();
    let (_, loaded, _) = opened(&data_dir);
    assert_eq!(loaded.head, head);
    assert_eq!(loaded.torn, Some(TornTail { offset: whole.len() as u64, bytes: 22 }));
    assert_eq!(fs::read(&file).unwrap(), whole);
    assert_eq!(opened(&data_dir).1.torn, None);
}

#[test]
fn what_a_crash_left_beside_the_journal_is_cleared_away() {
    let scratch = Scratch::new();
    let (data_dir, head) = with_history(&scratch);
    for name in ["journal.next", "journal.probe"] {
        fs::write(path(&data_dir, name), "left behind").unwrap();
    }
    fs::create_dir(path(&data_dir, "root.next")).unwrap();
    fs::write(path(&data_dir, "root.next/journal"), "under a new root key").unwrap();
    check_history(&data_dir, head);
    assert!(!path(&data_dir, "root.next").exists());
    assert_eq!(fs::metadata(path(&data_dir, "journal.next")).unwrap().len(), 0);
    assert!(!path(&data_dir, "journal.probe").exists());
    // A crash of the very first start leaves no journal, and the next one makes it.
    fs::rename(path(&data_dir, "journal"), path(&data_dir, "journal.next")).unwrap();
    assert!(!Journal::exists(&data_dir).unwrap());
    Journal::create(&data_dir, &master(), &mut Generator::new(Kernel, Moment::now()).unwrap()).unwrap();
    assert_eq!(opened(&data_dir).1, Loaded::default());
}

#[test]
fn room_is_reserved_ahead_and_not_seen() {
    let scratch = Scratch::new();
    let data_dir = created(&scratch);
    let (mut journal, ..) = opened(&data_dir);
    append(&mut journal, 1).unwrap();
    let found = fs::metadata(path(&data_dir, "journal")).unwrap();
    assert_eq!(found.len(), journal.standing().bytes);
    assert_eq!(found.mode() & 0o7777, 0o600);
    let probe = fs::File::create(scratch.path().join("probe")).unwrap();
    match rustix::fs::fallocate(&probe, FallocateFlags::KEEP_SIZE, 0, 1) {
        Ok(()) => assert!(found.blocks() * 512 >= JOURNAL_RESERVED_BYTES, "{} blocks", found.blocks()),
        Err(errno) => println!("skipped: this file system reserves no room ({errno})"),
    }
}

#[test]
fn descriptors_are_moved_and_the_journal_goes_on() {
    let scratch = Scratch::new();
    let (data_dir, _) = with_history(&scratch);
    let (journal, ..) = opened(&data_dir);
    let mut slots = Vec::new();
    let placed = journal.into_placed(|fd, slot| {
        slots.push(slot);
        let moved = rustix::io::fcntl_dupfd_cloexec(&fd, FD_CONNECTION_FIRST_NUMBER)?;
        assert!(moved.as_raw_fd() >= FD_CONNECTION_FIRST_NUMBER);
        Ok(moved)
    });
    let mut journal = placed.unwrap();
    assert_eq!(slots, [Slot::Journal, Slot::Next, Slot::Directory]);
    append(&mut journal, 1).unwrap();
    journal.0.compact(None).unwrap();
    let head = append(&mut journal, 2).unwrap();
    drop(journal);
    assert_eq!(opened(&data_dir).1.head, head);
    let (journal, ..) = opened(&data_dir);
    assert!(journal.into_placed(|_, _| Err(io::Error::other("no number left"))).is_err());
}

#[test]
fn a_start_as_root_gives_every_file_away() {
    as_root(|| {
        let scratch = Scratch::new();
        let owner = Owner { uid: 1001, gid: 1001 };
        let data_dir = DataDir::open(&scratch.path().join("q"), Some(owner)).unwrap();
        let mut random = Generator::new(Kernel, Moment::now()).unwrap();
        Journal::create(&data_dir, &master(), &mut random).unwrap();
        opened(&data_dir);
        Journal::compact_offline(&data_dir, &master(), Witness::default()).unwrap();
        opened(&data_dir);
        for name in ["journal", "journal.next"] {
            let found = fs::metadata(path(&data_dir, name)).unwrap();
            assert_eq!((found.uid(), found.gid(), found.mode() & 0o7777), (1001, 1001, 0o600), "{name}");
        }
        std::os::unix::fs::chown(path(&data_dir, "journal"), Some(0), None).unwrap();
        let refusal = Journal::open(&data_dir, &master(), Witness::default()).unwrap_err().to_string();
        assert!(refusal.contains("chown -R 1001:1001"), "{refusal}");
    });
}
