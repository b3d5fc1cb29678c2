//! A journal in use: made, opened, rolled back, compacted, put under another master key.

use std::fs;

use quantonium::limits::{STORE_REVISION_BELIEVED_MAX_NUMBER, STORE_REVISION_CEILING_NUMBER};
use quantonium::store::{AppendError, Head, Journal, Loaded, Store, StoreError, Witness};

use crate::scene::{Ring, Scene, Small, files, frames, master, origin, other_master};

#[test]
fn an_empty_journal_stands_at_the_beginning_and_is_made_once() {
    let scene = Scene::new();
    assert!(!Journal::exists(scene.data_dir()).unwrap());
    scene.create(&master()).unwrap();
    assert!(Journal::exists(scene.data_dir()).unwrap());
    let bytes = scene.bytes();
    assert!(matches!(scene.create(&master()), Err(StoreError::StoreExists { .. })));
    assert_eq!(scene.bytes(), bytes);
    let ring = scene.open(Witness::default()).unwrap();
    assert_eq!(ring.loaded, Loaded::default());
    let other = Scene::created();
    let other_ring = Journal::inspect(other.data_dir()).unwrap();
    let own = Journal::inspect(scene.data_dir()).unwrap();
    assert_eq!((own.format, own.bytes), (1, bytes.len() as u64));
    assert_eq!(own.master_key, other_ring.master_key);
    assert!(own.ring != other_ring.ring && own.file != other_ring.file);
}

#[test]
fn changes_come_back_with_their_origins_and_the_head() {
    let scene = Scene::created();
    let mut ring = scene.open(Witness::default()).unwrap();
    let mut heads = vec![Head::default()];
    for value in 0..20u8 {
        let name = format!("key-{}", value % 7);
        heads.push(ring.commit(&[(&name, Some(&[value; 50])), ("all", Some(&[value]))]));
    }
    assert!(
        heads.windows(2).all(|pair| pair[0].revision + 1 == pair[1].revision && pair[0].tag != pair[1].tag)
    );
    let conflict = ring.journal.append(19, &[], &[]);
    assert_eq!(conflict, Err(AppendError::Conflict { at: 20 }));
    let (state, head) = (ring.state.clone(), ring.head);
    let mut watched = 0;
    let seen = ring.journal.watch(0, &mut |_| {
        watched += 1;
        Ok(())
    });
    assert_eq!((seen.unwrap(), watched), (head, 0), "a single writer has nothing to tell");
    drop(ring);
    for witness in heads.iter().map(|head| Witness { head: Some(*head), ..Witness::default() }) {
        let ring = scene.open(witness).unwrap();
        assert_eq!((&ring.state, ring.head), (&state, head));
        assert_eq!(ring.loaded.recent, (1..=20).map(origin).collect::<Vec<_>>());
        assert!(!ring.loaded.rolled_back);
    }
}

#[test]
fn nothing_is_taken_before_the_journal_was_loaded() {
    let scene = Scene::created();
    let mut journal = Journal::open(scene.data_dir(), &master(), Witness::default()).unwrap().journal;
    assert_eq!(journal.append(0, &[], &[]), Err(AppendError::Refused));
    assert_eq!(journal.maintain(), Ok(None));
    journal.load(&mut |_| Ok(())).unwrap();
    assert_eq!(journal.append(0, &[], &[]).map(|head| head.revision), Ok(1));
}

#[test]
fn a_record_that_is_refused_stops_the_opening() {
    let small = Small::new();
    let mut opened = Journal::open(small.scene.data_dir(), &master(), Witness::default()).unwrap();
    let mut seen = 0;
    let refused = opened.journal.load(&mut |record| {
        seen += 1;
        let why = "a newer kind";
        Err(quantonium::store::Unreadable { path: record.path, revision: record.revision, why })
    });
    assert!(matches!(refused, Err(StoreError::Unreadable(record)) if record.why == "a newer kind"));
    assert_eq!(seen, 1);
    assert_eq!(opened.journal.append(5, &[], &[]), Err(AppendError::Refused));
}

#[test]
fn an_older_journal_is_refused_until_the_operator_accepts_the_loss() {
    let small = Small::new();
    let old = &small.bytes[..frames(&small.bytes)[3]];
    let seen = Witness { head: Some(small.after.1), ..Witness::default() };
    for witness in [seen, Witness { min_revision: 5, ..Witness::default() }] {
        match small.opened_as(old, witness) {
            Err(StoreError::RolledBack { found: 3, expected: 5 }) => {}
            other => panic!("{:?}", other.map(|(_, loaded)| loaded)),
        }
        assert_eq!(small.scene.bytes(), old);
    }
    let (_, loaded) = small.opened_as(old, Witness { accept_rollback: true, ..seen }).unwrap();
    assert!(loaded.rolled_back && loaded.head.revision == 6, "{loaded:?}");
    // No revision is given out twice, and the next start asks for nothing.
    let mut ring = small.scene.open(seen).unwrap();
    assert!(!ring.loaded.rolled_back);
    assert_eq!(ring.state.len(), 2);
    assert_eq!(ring.commit(&[("e", Some(b"e"))]).revision, 7);
}

#[test]
fn another_history_at_the_same_revision_is_refused() {
    let small = Small::new();
    let old = &small.bytes[..frames(&small.bytes)[4]];
    small.scene.put(old);
    let mut ring = small.scene.open(Witness::default()).unwrap();
    let other = ring.commit(&[("elsewhere", Some(b"x"))]);
    drop(ring);
    assert!(other.revision == small.after.1.revision && other.tag != small.after.1.tag);
    let seen = Witness { head: Some(small.after.1), ..Witness::default() };
    assert!(matches!(small.scene.open(seen), Err(StoreError::RolledBack { found: 5, expected: 5 })));
    let ring = small.scene.open(Witness { accept_rollback: true, ..seen }).unwrap();
    assert!(ring.loaded.rolled_back && ring.head.revision == 6);
}

#[test]
fn a_witness_of_what_no_store_reaches_changes_nothing_and_the_greatest_that_is_believed_goes_on() {
    let small = Small::new();
    let named = |revision| Witness { min_revision: revision, accept_rollback: true, ..Witness::default() };
    for revision in [STORE_REVISION_BELIEVED_MAX_NUMBER + 1, STORE_REVISION_CEILING_NUMBER, u64::MAX] {
        let refused = small.opened_as(&small.bytes, named(revision));
        assert!(matches!(refused, Err(StoreError::RevisionTooHigh { .. })), "{revision}");
        let seen = Head { revision, tag: [9; 16] };
        let seen = Witness { head: Some(seen), accept_rollback: true, ..Witness::default() };
        let data_dir = small.scene.data_dir();
        let refused = Journal::compact_offline(data_dir, &master(), seen);
        assert!(matches!(refused, Err(StoreError::RevisionTooHigh { .. })), "{revision}");
        assert_eq!(small.scene.bytes(), small.bytes);
    }
    let mut ring = small.scene.open(named(STORE_REVISION_BELIEVED_MAX_NUMBER)).unwrap();
    assert_eq!(ring.head.revision, STORE_REVISION_BELIEVED_MAX_NUMBER + 1);
    assert_eq!(ring.commit(&[("e", Some(b"e"))]).revision, STORE_REVISION_BELIEVED_MAX_NUMBER + 2);
}

#[test]
fn a_torn_end_that_the_witness_saw_is_cut_only_if_the_loss_is_accepted() {
    let small = Small::new();
    let torn = &small.bytes[..small.bytes.len() - 1];
    let seen = Witness { head: Some(small.after.1), ..Witness::default() };
    let refusal = small.opened_as(torn, seen).unwrap_err();
    assert!(matches!(refusal, StoreError::DamagedEnd { found: 4, expected: 5, .. }), "{refusal}");
    assert!(refusal.to_string().contains("--accept-store-rollback"), "{refusal}");
    let (state, loaded) = small.opened_as(torn, Witness { accept_rollback: true, ..seen }).unwrap();
    assert_eq!(state, small.before.0);
    assert!(loaded.torn.is_some() && loaded.rolled_back && loaded.head.revision == 6);
}

#[test]
fn offline_compaction_keeps_the_state_and_drops_the_past() {
    let small = Small::new();
    let seen = Witness { head: Some(small.after.1), ..Witness::default() };
    let done = Journal::compact_offline(small.scene.data_dir(), &master(), seen).unwrap();
    assert_eq!((done.records, done.before_bytes), (2, small.bytes.len() as u64));
    assert!(done.after_bytes < done.before_bytes && done.after_bytes == small.scene.bytes().len() as u64);
    let ring = small.scene.open(seen).unwrap();
    assert_eq!((&ring.state, ring.head), (&small.after.0, small.after.1));
    assert_eq!(ring.loaded.recent, (1..=5).map(origin).collect::<Vec<_>>());
    let report = small.scene.verify().unwrap();
    assert_eq!((report.frames, report.live_records, report.head), (2, 2, small.after.1));
}

#[test]
fn a_new_master_key_replaces_the_old_one_and_nothing_else() {
    let small = Small::new();
    let data_dir = small.scene.data_dir();
    let before = Journal::inspect(data_dir).unwrap();
    let wrong = Journal::rekey(data_dir, &other_master(), &master(), Witness::default());
    assert!(matches!(wrong, Err(StoreError::WrongMasterKey { .. })));
    assert_eq!(small.scene.bytes(), small.bytes);
    Journal::rekey(data_dir, &master(), &other_master(), Witness::default()).unwrap();
    assert!(matches!(small.scene.open(Witness::default()), Err(StoreError::WrongMasterKey { .. })));
    let after = Journal::inspect(data_dir).unwrap();
    assert_eq!((after.ring, after.master_key), (before.ring, other_master().id().unwrap()));
    assert_ne!(after.file, before.file);
    let mut ring = Ring::open(data_dir, &other_master(), Witness::default()).unwrap();
    assert_eq!((&ring.state, ring.head), (&small.after.0, small.after.1));
    ring.commit(&[("f", Some(b"f"))]);
    drop(ring);
    // The old key in an old header opens nothing of the new file.
    let mixed = [&small.bytes[..148], &small.scene.bytes()[148..]].concat();
    small.scene.put(&mixed);
    assert!(matches!(small.scene.open(Witness::default()), Err(StoreError::Damaged { .. })));
}

#[test]
fn what_cannot_be_opened_is_neither_compacted_nor_put_under_another_key() {
    let small = Small::new();
    let mut damaged = small.bytes.clone();
    damaged[200] ^= 1;
    small.scene.put(&damaged);
    let data_dir = small.scene.data_dir();
    let compacted = Journal::compact_offline(data_dir, &master(), Witness::default());
    assert!(matches!(compacted, Err(StoreError::Damaged { .. })));
    let rekeyed = Journal::rekey(data_dir, &master(), &other_master(), Witness::default());
    assert!(matches!(rekeyed, Err(StoreError::Damaged { .. })));
    assert_eq!(small.scene.bytes(), damaged);
    small.scene.put(&small.bytes);
    let ahead = Witness { min_revision: 6, ..Witness::default() };
    let compacted = Journal::compact_offline(data_dir, &master(), ahead);
    assert!(matches!(compacted, Err(StoreError::RolledBack { .. })));
    assert_eq!(small.scene.bytes(), small.bytes);
}

#[test]
fn neither_names_nor_values_nor_keys_stand_in_the_files() {
    let scene = Scene::created();
    let mut ring = scene.open(Witness::default()).unwrap();
    ring.commit(&[("a-name-to-find", Some(b"a-value-to-find"))]);
    ring.commit(&[("another-name", Some(b"another-value"))]);
    drop(ring);
    Journal::compact_offline(scene.data_dir(), &master(), Witness::default()).unwrap();
    drop(scene.open(Witness::default()).unwrap());
    let found = files(scene.data_dir().path());
    assert!(found.len() >= 3, "{found:?}");
    for file in found {
        let bytes = fs::read(&file).unwrap();
        for secret in [&b"name"[..], b"value", &[0x11; 16], b"11111111111111111111111111111111"] {
            let there = bytes.windows(secret.len()).any(|window| window == secret);
            assert!(!there, "{}", file.display());
        }
    }
}

#[test]
fn a_journal_longer_than_any_piece_comes_back_whole() {
    let scene = Scene::created();
    let mut ring = scene.open(Witness::default()).unwrap();
    // Lengths on both sides of a snapshot frame and of what is read at a time.
    let lengths = [65_000, 70_000, 1_000_000, 300, 524_288, 1_048_000, 1, 200_000, 900_000];
    for (at, len) in lengths.into_iter().cycle().take(27).enumerate() {
        let name = format!("key-{}", at % 13);
        ring.commit(&[(&name, Some(&vec![u8::try_from(at).unwrap(); len]))]);
    }
    let (state, head) = (ring.state.clone(), ring.head);
    drop(ring);
    for round in 0..2 {
        let ring = scene.open(Witness { head: Some(head), ..Witness::default() }).unwrap();
        assert!(ring.state == state && ring.head == head, "round {round}");
        drop(ring);
        let done = Journal::compact_offline(scene.data_dir(), &master(), Witness::default()).unwrap();
        assert_eq!(done.records, 13);
    }
}
