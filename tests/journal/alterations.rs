//! Bytes that are altered, cut off, moved, doubled or taken from another journal.

use std::fs;

use quantonium::store::journal::format::HEADER_BYTES;
use quantonium::store::{Journal, MasterKey, StoreError, Witness};

use crate::scene::{Scene, Small, frames, master, other_master};

fn witness(small: &Small) -> Witness {
    Witness { head: Some(small.after.1), ..Witness::default() }
}

#[test]
fn every_byte_that_is_altered_is_found_and_only_the_last_change_can_be_taken_for_torn() {
    let small = Small::new();
    let frames = frames(&small.bytes);
    let last = frames[frames.len() - 2];
    for at in 0..small.bytes.len() {
        for flip in [0x01, 0x80] {
            let mut altered = small.bytes.clone();
            altered[at] ^= flip;
            let opened = small.opened_as(&altered, Witness::default());
            if at < last {
                let refusal = opened.err().unwrap_or_else(|| panic!("byte {at} was not found"));
                let begin = frames.iter().copied().rfind(|begin| *begin <= at);
                match refusal {
                    StoreError::Damaged { offset, .. } => {
                        assert_eq!(usize::try_from(offset).ok(), begin, "byte {at}");
                    }
                    StoreError::NotAJournal { .. } => assert!(at < 8, "byte {at}"),
                    StoreError::UnknownFormat { .. } => assert!((8..12).contains(&at), "byte {at}"),
                    StoreError::DamagedHeader { .. } => {
                        assert!((12..HEADER_BYTES).contains(&at), "byte {at}");
                    }
                    other => panic!("byte {at}: {other}"),
                }
                assert_eq!(small.scene.bytes(), altered, "a refused journal is left as it is");
            } else {
                let (state, loaded) = opened.unwrap();
                assert_eq!((state, loaded.head), small.before, "byte {at}");
                let torn = loaded.torn.unwrap();
                assert_eq!((torn.offset, torn.bytes), (last as u64, (altered.len() - last) as u64));
                assert_eq!(small.scene.bytes(), small.bytes[..last]);
                // Whoever saw the change acknowledged does not take its loss for an accident.
                let refusal = small.opened_as(&altered, witness(&small)).unwrap_err();
                assert!(matches!(refusal, StoreError::DamagedEnd { offset, .. } if offset == last as u64));
                assert_eq!(small.scene.bytes(), altered);
            }
        }
    }
    assert_eq!(small.opened_as(&small.bytes, witness(&small)).unwrap().0, small.after.0);
}

#[test]
fn the_look_at_a_journal_finds_what_an_opening_finds_and_changes_nothing() {
    let small = Small::new();
    let frames = frames(&small.bytes);
    let last = frames[frames.len() - 2];
    let sound = small.scene.verify().unwrap();
    assert_eq!((sound.frames, sound.live_records, sound.head), (5, 2, small.after.1));
    assert!(sound.torn.is_none() && sound.damages.is_empty());
    for at in (HEADER_BYTES..small.bytes.len()).step_by(3) {
        let mut altered = small.bytes.clone();
        altered[at] ^= 0x10;
        small.scene.put(&altered);
        let report = small.scene.verify().unwrap();
        let frame = frames.iter().rposition(|begin| *begin <= at).unwrap();
        if at < last {
            assert_eq!(report.damages_count, 1, "byte {at}");
            assert_eq!(report.damages[0].offset, frames[frame] as u64, "byte {at}");
            // A frame whose tag is altered takes the one behind it along, which is tied to that tag.
            let next = usize::from(at >= frames[frame + 1] - 16) + frame + 1;
            assert_eq!(report.damages[0].bytes, (frames[next] - frames[frame]) as u64, "byte {at}");
            assert_eq!(report.frames, (frames.len() - 1 - (next - frame)) as u64, "byte {at}");
        } else {
            assert_eq!(report.torn.map(|torn| torn.offset), Some(last as u64), "byte {at}");
            assert_eq!((report.damages_count, report.frames), (0, 4));
        }
        assert_eq!(small.scene.bytes(), altered);
    }
    // Two damaged places are both told.
    let mut altered = small.bytes.clone();
    altered[frames[0] + 60] ^= 1;
    altered[frames[2] + 60] ^= 1;
    small.scene.put(&altered);
    let report = small.scene.verify().unwrap();
    let offsets: Vec<u64> = report.damages.iter().map(|damage| damage.offset).collect();
    assert_eq!(offsets, [frames[0] as u64, frames[2] as u64]);
    assert_eq!((report.damages_count, report.frames), (2, 3));
}

#[test]
fn every_length_to_which_a_journal_is_cut_is_found_or_leaves_whole_changes() {
    let small = Small::new();
    let frames = frames(&small.bytes);
    for len in 0..small.bytes.len() {
        let cut = &small.bytes[..len];
        let opened = small.opened_as(cut, Witness::default());
        if len < frames[2] {
            // Within the header or the snapshot, whose end is missing then.
            let refusal = opened.err().unwrap_or_else(|| panic!("length {len} was not found"));
            let known = match refusal {
                StoreError::DamagedHeader { .. } => len < HEADER_BYTES,
                StoreError::Damaged { .. } => len >= HEADER_BYTES,
                _ => false,
            };
            assert!(known, "length {len}: {refusal}");
            assert_eq!(small.scene.bytes(), cut);
        } else {
            let (_, loaded) = opened.unwrap();
            let whole = *frames.iter().rfind(|begin| **begin <= len).unwrap();
            assert_eq!(loaded.torn.is_some(), whole != len, "length {len}");
            assert_eq!(small.scene.bytes().len(), whole);
            // Even a cut between two changes, which nothing in the file can show, is refused by a witness.
            let refusal = small.opened_as(cut, witness(&small)).unwrap_err();
            match refusal {
                StoreError::RolledBack { expected, .. } => {
                    assert!(whole == len && expected == small.after.1.revision, "length {len}");
                }
                StoreError::DamagedEnd { offset, .. } => {
                    assert!(whole != len && offset == whole as u64, "length {len}");
                }
                other => panic!("length {len}: {other}"),
            }
            assert_eq!(small.scene.bytes(), cut);
        }
    }
}

fn damaged(small: &Small, what: &str, bytes: &[&[u8]]) {
    match small.opened_as(&bytes.concat(), Witness::default()) {
        Err(StoreError::Damaged { .. }) => {}
        Err(other) => panic!("{what}: {other}"),
        Ok((_, loaded)) => panic!("{what}: opened at {:?}", loaded.head),
    }
}

#[test]
fn frames_that_are_doubled_swapped_replayed_or_left_out_are_found() {
    let small = Small::new();
    let frames = frames(&small.bytes);
    let frame = |at: usize| &small.bytes[frames[at]..frames[at + 1]];
    let header = &small.bytes[..HEADER_BYTES];
    for at in 0..5 {
        let (before, rest) = (&small.bytes[..frames[at + 1]], &small.bytes[frames[at + 1]..]);
        damaged(&small, "doubled", &[before, frame(at), rest]);
        damaged(&small, "replayed at the end", &[&small.bytes, frame(at)]);
        if at < 4 {
            let (before, rest) = (&small.bytes[..frames[at]], &small.bytes[frames[at + 2]..]);
            damaged(&small, "swapped", &[before, frame(at + 1), frame(at), rest]);
            damaged(&small, "left out", &[before, &small.bytes[frames[at + 1]..]]);
        }
    }
    damaged(&small, "without its snapshot", &[header, &small.bytes[frames[2]..]]);
    damaged(&small, "without the end of its snapshot", &[header, frame(0), &small.bytes[frames[2]..]]);
    damaged(&small, "a header alone", &[header]);
}

#[test]
fn frames_of_another_journal_and_of_an_earlier_file_do_not_fit_in() {
    let small = Small::new();
    let frames_own = frames(&small.bytes);
    let other = Small::new();
    let frames_other = frames(&other.bytes);
    let mixed = |own: usize, foreign: usize| {
        [&small.bytes[..frames_own[own]], &other.bytes[frames_other[foreign]..]].concat()
    };
    // Another ring under the same master key: the same numbers, and nothing fits.
    for at in 0..5 {
        match small.opened_as(&mixed(at, at), Witness::default()) {
            Err(StoreError::Damaged { .. }) => assert!(at < 2, "{at}"),
            // Not recognised at all, so it looks like what an unfinished append leaves: cut, never taken.
            Ok((_, loaded)) => assert!(at >= 2 && loaded.torn.is_some(), "{at}"),
            Err(other) => panic!("{at}: {other}"),
        }
        let refusal = small.opened_as(&mixed(at, at), witness(&small)).unwrap_err();
        let found = match refusal {
            StoreError::Damaged { .. } => at < 2,
            StoreError::DamagedEnd { .. } => at >= 2,
            _ => false,
        };
        assert!(found, "{at}: {refusal}");
    }
    let foreign_header = [&other.bytes[..HEADER_BYTES], &small.bytes[HEADER_BYTES..]].concat();
    damaged(&small, "another header", &[&foreign_header]);
    // The same ring before a compaction: the same keys, and another file.
    small.scene.put(&small.bytes);
    Journal::compact_offline(small.scene.data_dir(), &master(), witness(&small)).unwrap();
    let compacted = small.scene.bytes();
    let old_change = &small.bytes[frames_own[4]..];
    let (state, loaded) = small.opened_as(&[&compacted, old_change].concat(), witness(&small)).unwrap();
    assert!(loaded.torn.is_some() && state == small.after.0);
    damaged(&small, "an old snapshot", &[&compacted[..HEADER_BYTES], &small.bytes[HEADER_BYTES..]]);
}

#[test]
fn a_long_stretch_of_nonsense_is_damage_and_not_a_torn_end() {
    let small = Small::new();
    for byte in [0, 0xFF] {
        let (state, loaded) =
            small.opened_as(&[&small.bytes[..], &[byte; 100_000]].concat(), Witness::default()).unwrap();
        assert_eq!((state, loaded.head), small.after);
        damaged(&small, "too long", &[&small.bytes, &vec![byte; 5_000_000]]);
    }
    // Behind a piece of the search, and across the border of two.
    for gap in [65_536 - 30, 65_536 * 2 - 56, 1_048_576 + 5] {
        let last = &small.bytes[frames(&small.bytes)[4]..];
        damaged(&small, "a frame behind a gap", &[&small.bytes, &vec![0; gap], last]);
    }
}

#[test]
fn each_thing_that_can_be_wrong_is_told_with_what_to_do() {
    let small = Small::new();
    let data_dir = small.scene.data_dir();
    let refusal = |master: &MasterKey, bytes: &[u8]| {
        small.scene.put(bytes);
        let refused = Journal::open(data_dir, master, Witness::default()).unwrap_err();
        let looked = Journal::verify(data_dir, master).unwrap_err();
        assert_eq!(refused.to_string(), looked.to_string());
        refused.to_string()
    };
    let file = small.scene.file().display().to_string();
    let said = refusal(&other_master(), &small.bytes);
    assert!(said.contains("another master key") && said.contains("--master-key-file"), "{said}");
    let said = refusal(&master(), b"PK\x03\x04 something else");
    assert!(said.contains("not a journal") && said.contains(&format!("mv {file} {file}.old")), "{said}");
    let mut newer = small.bytes.clone();
    newer[11] = 2;
    let said = refusal(&master(), &newer);
    assert!(said.contains("format 2") && said.contains("newer"), "{said}");
    let said = refusal(&master(), &small.bytes[..100]);
    assert!(said.contains("header") && said.contains("backup"), "{said}");

    let mut damaged = small.bytes.clone();
    damaged[HEADER_BYTES + 1] ^= 1;
    small.scene.put(&damaged);
    let said = small.scene.open(Witness::default()).err().unwrap().to_string();
    assert!(said.contains(&format!("{file} is damaged at offset {HEADER_BYTES}")), "{said}");
    assert!(said.contains("quantonium store verify") && said.contains("backup"), "{said}");

    fs::remove_file(small.scene.file()).unwrap();
    let said = small.scene.open(Witness::default()).err().unwrap().to_string();
    assert!(said.contains("quantonium init --data-dir"), "{said}");
    let said = Journal::inspect(data_dir).unwrap_err().to_string();
    assert!(said.contains("quantonium init --data-dir"), "{said}");
}

#[test]
fn journals_that_others_may_read_and_links_are_refused() {
    use std::os::unix::fs::{PermissionsExt as _, symlink};
    let scene = Scene::created();
    fs::set_permissions(scene.file(), fs::Permissions::from_mode(0o640)).unwrap();
    let said = scene.open(Witness::default()).err().unwrap().to_string();
    assert!(said.ends_with(&format!("chmod 600 {}", scene.file().display())), "{said}");
    fs::set_permissions(scene.file(), fs::Permissions::from_mode(0o600)).unwrap();
    let elsewhere = scene.data_dir().path().join("elsewhere");
    fs::rename(scene.file(), &elsewhere).unwrap();
    symlink("elsewhere", scene.file()).unwrap();
    assert!(matches!(scene.open(Witness::default()), Err(StoreError::SymbolicLink { .. })));
}
