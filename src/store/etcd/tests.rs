//! What a store in etcd promises, on an etcd in memory.
//!
//! Owns the cases. Invariant: each server has a handle of its own, and nothing is shared but what etcd keeps.

mod hostile;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use super::super::record::{AppendError, Condition, Head, Loaded, Origin, Record, Store as _, Witness};
use super::super::root::MasterKey;
use super::super::{Kind, Sealer, StoreError};
use super::shelf::{Fault, Shelf};
use super::*;
use crate::limits::STORE_ORIGINS_MAX_COUNT;

struct Server {
    etcd: Etcd,
    sealer: Sealer,
    /// What it has been told: the plaintexts by path.
    told: BTreeMap<Path, Vec<u8>>,
    at: u64,
    loaded: Loaded,
}

fn layout() -> Layout {
    Layout::new("q/test").unwrap()
}

fn place() -> PathBuf {
    PathBuf::from("etcd://test/q/test")
}

fn master() -> MasterKey {
    MasterKey::take(&mut [5; 32])
}

fn made() -> Shelf {
    let mut shelf = Shelf::default();
    let mut random = Generator::new(Kernel, Moment::now()).unwrap();
    assert!(!Etcd::exists(&mut shelf, &layout()).unwrap());
    Etcd::create(&mut shelf, &layout(), &place(), &master(), &mut random).unwrap();
    assert!(Etcd::exists(&mut shelf, &layout()).unwrap());
    shelf
}

fn try_open(shelf: Shelf, witness: Witness) -> Result<Server, StoreError> {
    try_open_by(Box::new(shelf), witness)
}

fn try_open_by(link: Box<dyn Link>, witness: Witness) -> Result<Server, StoreError> {
    let opened = Etcd::open(link, layout(), place(), &master(), witness)?;
    let sealer = opened.root.sealer(opened.ring).unwrap();
    let (etcd, told) = (opened.store, BTreeMap::new());
    let mut server = Server { etcd, sealer, told, at: 0, loaded: Loaded::default() };
    let mut records = Vec::new();
    server.loaded = server.etcd.load(&mut |record| {
        records.push(record);
        Ok(())
    })?;
    server.at = server.loaded.head.revision;
    server.take(records);
    Ok(server)
}

fn open(shelf: &Shelf) -> Server {
    try_open(shelf.another(), Witness::default()).unwrap()
}

impl Server {
    fn take(&mut self, records: Vec<Record>) {
        for record in records {
            if record.sealed.is_some() {
                self.told.insert(record.path, self.sealer.open(&record).unwrap().to_vec());
            } else {
                self.told.remove(&record.path);
            }
        }
    }

    fn record(&self, name: &str, text: Option<&str>, revision: u64) -> Record {
        let path = self.sealer.path(Kind::Key, name);
        let seal =
            |text: &str| self.sealer.seal(path, revision, &[7; 24], format!("K{text}").as_bytes()).unwrap();
        Record { path, revision, sealed: text.map(seal) }
    }

    fn put_all(&mut self, what: &[(&str, Option<&str>)], origins: &[Origin]) -> Result<Head, AppendError> {
        let records: Vec<Record> =
            what.iter().map(|(name, text)| self.record(name, *text, self.at + 1)).collect();
        let head = self.etcd.append(self.at, &records, origins)?;
        self.at = head.revision;
        self.take(records);
        Ok(head)
    }

    fn put(&mut self, name: &str, text: &str) -> Result<Head, AppendError> {
        let origin = [u8::try_from(self.at % 250).unwrap(); 16];
        self.put_all(&[(name, Some(text))], &[origin])
    }

    fn watch(&mut self) -> Result<Head, StoreError> {
        let mut records = Vec::new();
        let head = self.etcd.watch(self.at, &mut |record| {
            records.push(record);
            Ok(())
        })?;
        self.take(records);
        self.at = head.revision;
        Ok(head)
    }

    fn condition(&self) -> Condition {
        self.etcd.standing().condition
    }
}

#[test]
fn what_one_server_writes_every_other_one_is_told_and_a_later_start_reads() {
    let shelf = made();
    let (mut one, mut two) = (open(&shelf), open(&shelf));
    let head = one.put_all(&[("a", Some("1")), ("b", Some("2"))], &[[1; 16], [2; 16]]).unwrap();
    assert_eq!(head.revision, 1);
    one.put_all(&[("a", None), ("c", Some("3"))], &[[3; 16]]).unwrap();
    assert_eq!(two.watch().unwrap().revision, 2);
    assert_eq!(two.told, one.told);
    assert_eq!(two.told.len(), 2);
    assert_eq!(one.watch().unwrap(), two.watch().unwrap());
    let late = open(&shelf);
    assert_eq!(late.told, one.told);
    assert_eq!(late.loaded.head, two.watch().unwrap());
    assert_eq!(late.loaded.recent, [[1; 16], [2; 16], [3; 16]]);
    assert_eq!(late.etcd.standing(), Standing { last_sync_micros: 0, ..two.etcd.standing() });
}

#[test]
fn of_two_servers_that_change_at_once_one_is_told_and_builds_on_the_other() {
    let shelf = made();
    let (mut one, mut two) = (open(&shelf), open(&shelf));
    one.put("a", "1").unwrap();
    assert!(matches!(two.put("b", "2"), Err(AppendError::Conflict { .. })));
    assert!(!two.told.contains_key(&two.sealer.path(Kind::Key, "b")));
    two.watch().unwrap();
    assert_eq!(two.put("b", "2").unwrap().revision, 2);
    one.watch().unwrap();
    assert_eq!(one.told, two.told);
    assert_eq!(one.told.len(), 2);
}

#[test]
fn a_transaction_whose_answer_was_lost_counts_once() {
    let shelf = made();
    let mut one = open(&shelf);
    shelf.inner().faults.push_back(Fault::Twice);
    let head = one.put("a", "1").unwrap();
    assert_eq!(head.revision, 1);
    assert_eq!(shelf.inner().revision, 2, "the making, and one change");
    assert_eq!(one.put("a", "2").unwrap().revision, 2);
    assert_eq!(open(&shelf).told, one.told);
}

#[test]
fn a_transaction_on_which_another_server_has_built_before_it_was_sent_again_counts_once() {
    let shelf = made();
    let handle = shelf.another();
    let between = Arc::clone(&handle.between);
    let mut one = try_open(handle, Witness::default()).unwrap();
    let two = Arc::new(Mutex::new(open(&shelf)));
    one.put("a", "1").unwrap();
    let other = Arc::clone(&two);
    *between.lock().unwrap() = Some(Box::new(move || {
        let mut other = other.lock().unwrap();
        other.watch().unwrap();
        other.put("b", "2").unwrap();
    }));
    shelf.inner().faults.push_back(Fault::Twice);
    assert_eq!(one.put("a", "3").unwrap().revision, 2, "it was applied, though something else stands there");
    assert_eq!(one.watch().unwrap().revision, 3);
    assert_eq!(one.told, two.lock().unwrap().told);
    one.put("c", "4").unwrap();
    // And where another one was first, it was not.
    let other = Arc::clone(&two);
    let before = shelf.another();
    *between.lock().unwrap() = Some(Box::new(move || {
        before.inner().faults.clear();
        let mut other = other.lock().unwrap();
        other.watch().unwrap();
        other.put("d", "5").unwrap();
    }));
    shelf.inner().faults.push_back(Fault::Missed);
    assert!(matches!(one.put("a", "6"), Err(AppendError::Conflict { .. })));
    one.watch().unwrap();
    assert_eq!(one.put("a", "6").unwrap().revision, 6);
    assert_eq!(open(&shelf).told, one.told);
}

#[test]
fn after_an_unknown_outcome_nothing_is_written_before_the_state_was_read_anew() {
    for (fault, kept) in [(Fault::Kept, true), (Fault::Lost, false)] {
        let shelf = made();
        let mut one = open(&shelf);
        one.put("a", "1").unwrap();
        shelf.inner().faults.push_back(fault);
        assert_eq!(one.put("b", "2"), Err(AppendError::Ambiguous), "{fault:?}");
        assert_eq!(one.condition(), Condition::Away);
        assert_eq!(one.put("c", "3"), Err(AppendError::Away));
        // What was published of it meanwhile may be something else.
        one.told.insert(one.sealer.path(Kind::Key, "b"), b"in doubt".to_vec());
        let head = one.watch().unwrap();
        assert_eq!(
            (head.revision, one.condition()),
            (if kept { 2 } else { 1 }, Condition::Good),
            "{fault:?}"
        );
        assert_eq!(one.told, open(&shelf).told, "what was in doubt is told");
        assert_eq!(one.told.len(), if kept { 2 } else { 1 });
        one.put("c", "3").unwrap();
        assert_eq!(open(&shelf).told, one.told);
    }
}

#[test]
fn without_etcd_nothing_is_written_and_nothing_is_fresh_until_it_is_back() {
    let shelf = made();
    let (mut one, mut two) = (open(&shelf), open(&shelf));
    one.put("a", "1").unwrap();
    two.watch().unwrap();
    let fresh = two.etcd.fresh_nanos().unwrap();
    assert!(fresh > 0);
    shelf.inner().away = true;
    two.watch().unwrap();
    assert_eq!((two.etcd.fresh_nanos(), two.condition()), (Some(fresh), Condition::Away));
    assert_eq!(two.put("b", "2"), Err(AppendError::Away));
    shelf.inner().away = false;
    shelf.inner().faults.push_back(Fault::Away);
    assert_eq!(two.put("b", "2"), Err(AppendError::Away));
    two.watch().unwrap();
    assert!(two.etcd.fresh_nanos().unwrap() > fresh && two.condition() == Condition::Good);
    two.put("b", "2").unwrap();
}

#[test]
fn a_compacted_watch_is_made_good_by_reading_everything_and_removals_are_told_too() {
    let shelf = made();
    let (mut one, mut two) = (open(&shelf), open(&shelf));
    one.put_all(&[("a", Some("1")), ("b", Some("2"))], &[[1; 16]]).unwrap();
    two.watch().unwrap();
    one.put_all(&[("a", None)], &[[2; 16]]).unwrap();
    one.put("c", "3").unwrap();
    let revision = shelf.inner().revision;
    shelf.inner().compacted = revision;
    assert_eq!(two.watch().unwrap().revision, 3);
    assert_eq!(two.told, one.told);
    two.put("d", "4").unwrap();
}

#[test]
fn a_state_that_is_compacted_while_it_is_read_is_read_again() {
    let shelf = made();
    let mut one = open(&shelf);
    for number in 0..8 {
        one.put(&format!("k{number}"), "1").unwrap();
    }
    let reader = shelf.another();
    let (writer, one) = (shelf.another(), Arc::new(Mutex::new(one)));
    let of = Arc::clone(&one);
    *reader.before_page.lock().unwrap() = Some(Box::new(move || {
        of.lock().unwrap().put("late", "2").unwrap();
        let revision = writer.inner().revision;
        writer.inner().compacted = revision;
    }));
    let late = try_open(reader, Witness::default()).unwrap();
    assert_eq!(late.told, one.lock().unwrap().told);
    assert_eq!(late.told.len(), 9);
}

#[test]
fn a_change_between_two_pages_is_no_part_of_what_is_read() {
    let shelf = made();
    let mut one = open(&shelf);
    for number in 0..8 {
        one.put(&format!("k{number}"), "1").unwrap();
    }
    let (reader, one) = (shelf.another(), Arc::new(Mutex::new(one)));
    let of = Arc::clone(&one);
    *reader.before_page.lock().unwrap() = Some(Box::new(move || {
        let mut one = of.lock().unwrap();
        one.put_all(&[("k0", None), ("k7", Some("2")), ("new", Some("3"))], &[[9; 16]]).unwrap();
    }));
    let mut late = try_open(reader, Witness::default()).unwrap();
    assert_eq!(late.told.len(), 8);
    late.watch().unwrap();
    assert_eq!(late.told, one.lock().unwrap().told);
}

#[test]
fn a_restored_backup_is_never_taken_for_the_newest_state() {
    let shelf = made();
    let (mut one, mut two) = (open(&shelf), open(&shelf));
    one.put("a", "1").unwrap();
    two.watch().unwrap();
    let backup = shelf.inner().clone();
    one.put("a", "2").unwrap();
    two.watch().unwrap();
    let (fresh, reached) = (two.etcd.fresh_nanos(), two.loaded.head);
    shelf.inner().restore(&backup);
    assert!(matches!(two.watch(), Err(StoreError::RolledBack { found: 1, expected: 2 })), "{reached:?}");
    assert_eq!(two.condition(), Condition::SetBack);
    assert_eq!(two.put("b", "2"), Err(AppendError::Refused));
    assert_eq!((two.watch().unwrap().revision, two.etcd.fresh_nanos()), (2, fresh));
    // Who writes first finds out as well, even if the history has grown again to the same length.
    let mut other = open(&shelf);
    other.put("a", "another").unwrap();
    assert!(matches!(one.put("b", "2"), Err(AppendError::Conflict { .. })));
    assert!(matches!(one.watch(), Err(StoreError::RolledBack { found: 2, expected: 2 })));
}

#[test]
fn a_start_asks_the_witness_and_an_accepted_loss_is_asked_for_once() {
    let shelf = made();
    let mut one = open(&shelf);
    one.put("a", "1").unwrap();
    let backup = shelf.inner().clone();
    let head = one.put("a", "2").unwrap();
    shelf.inner().restore(&backup);
    let seen = Witness { head: Some(head), ..Witness::default() };
    let refused = try_open(shelf.another(), seen).map(drop);
    assert!(matches!(refused, Err(StoreError::RolledBack { found: 1, expected: 2 })), "{refused:?}");
    let accepted = Witness { accept_rollback: true, ..seen };
    let server = try_open(shelf.another(), accepted).unwrap();
    assert!(server.loaded.rolled_back);
    assert_eq!(server.loaded.head.revision, 3);
    assert!(try_open(shelf.another(), seen).is_ok(), "it stands beyond what was seen");
}

#[test]
fn what_etcd_holds_is_refused_if_anything_of_it_is_missing_old_or_altered() {
    let shelf = made();
    let mut one = open(&shelf);
    one.put_all(&[("a", Some("1")), ("b", Some("1"))], &[[1; 16]]).unwrap();
    let older = shelf.inner().clone();
    one.put_all(&[("a", Some("2"))], &[[2; 16]]).unwrap();
    let sound = shelf.inner().clone();
    let (a, b) =
        (layout().record(one.sealer.path(Kind::Key, "a")), layout().record(one.sealer.path(Kind::Key, "b")));
    let refused = |what: &str, tamper: &dyn Fn(&mut shelf::Inner)| {
        *shelf.inner() = sound.clone();
        tamper(&mut shelf.inner());
        let opened = try_open(shelf.another(), Witness::default()).map(drop);
        assert!(matches!(opened, Err(StoreError::FleetDamaged { .. })), "{what}: {opened:?}");
    };
    let put = |inner: &mut shelf::Inner, key: &Vec<u8>, value: Vec<u8>| {
        inner.write(&[], &[(key.clone(), value)]);
    };
    let old = older.values[&a].0.clone();
    refused("an old record", &|inner| put(inner, &a, old.clone()));
    refused("a removed record", &|inner| {
        inner.write(core::slice::from_ref(&b), &[]);
    });
    let other = sound.values[&b].0.clone();
    refused("a record of another place", &|inner| put(inner, &a, other.clone()));
    let extra = layout().record(Path::new([1; 16]));
    refused("a record more", &|inner| put(inner, &extra, other.clone()));
    let head = older.values[&layout().head()].0.clone();
    refused("an old head", &|inner| put(inner, &layout().head(), head.clone()));
    refused("no origins", &|inner| {
        inner.write(&[layout().origins(2)], &[]);
    });
    let origins = sound.values[&layout().origins(1)].0.clone();
    refused("other origins", &|inner| put(inner, &layout().origins(2), origins.clone()));
    *shelf.inner() = sound.clone();
    put(&mut shelf.inner(), &layout().member([1; 4]), vec![1; 60]);
    put(&mut shelf.inner(), &b"q/test/foreign".to_vec(), vec![1; 60]);
    assert_eq!(open(&shelf).told, one.told, "what is nobody's does no harm");
}

#[test]
fn a_foreign_write_is_not_applied_by_a_server_that_watches() {
    let shelf = made();
    let (mut one, mut two) = (open(&shelf), open(&shelf));
    one.put("a", "1").unwrap();
    let old = shelf.inner().values[&layout().record(one.sealer.path(Kind::Key, "a"))].0.clone();
    one.put("a", "2").unwrap();
    two.watch().unwrap();
    let told = two.told.clone();
    let key = layout().record(one.sealer.path(Kind::Key, "a"));
    shelf.inner().write(&[], &[(key, old)]);
    two.watch().unwrap();
    one.put("b", "3").unwrap();
    let read = two.watch();
    assert!(matches!(read, Err(StoreError::FleetDamaged { .. })), "{read:?}");
    assert_eq!(two.told, told);
    assert_eq!(two.put("c", "4"), Err(AppendError::Away));
}

#[test]
fn only_the_last_origins_are_kept_and_all_of_them_are_proved() {
    let shelf = made();
    let mut one = open(&shelf);
    let origin = |number: u32| {
        let mut origin = [0; 16];
        origin[..4].copy_from_slice(&number.to_be_bytes());
        origin
    };
    let most = u32::try_from(STORE_ORIGINS_MAX_COUNT).unwrap();
    for number in 0..most + 3 {
        one.put_all(&[("a", Some("1"))], &[origin(number)]).unwrap();
        if number % 5 == 0 {
            one.put_all(&[("b", Some("1"))], &[]).unwrap();
        }
    }
    shelf.inner().page = 1_000;
    let late = open(&shelf);
    let expected: Vec<Origin> = (3..most + 3).map(origin).collect();
    assert!(late.loaded.recent == expected, "{} of {}", late.loaded.recent.len(), expected.len());
}

#[test]
fn servers_that_live_are_counted() {
    let shelf = made();
    let (mut one, mut two) = (open(&shelf), open(&shelf));
    assert_eq!(one.etcd.members(), 1);
    one.etcd.join([1; 4], b"words").unwrap();
    two.etcd.join([2; 4], b"words").unwrap();
    one.watch().unwrap();
    assert_eq!(one.etcd.members(), 2);
    assert_eq!(open(&shelf).etcd.members(), 2);
    shelf.inner().write(&[], &[(layout().member([3; 4]), vec![1; 60])]);
    shelf.inner().write(&[layout().member([2; 4])], &[]);
    one.watch().unwrap();
    assert_eq!(one.etcd.members(), 1);
}

#[test]
fn another_master_key_opens_it_after_a_rekey_and_no_other() {
    let mut shelf = made();
    let mut one = open(&shelf);
    one.put("a", "1").unwrap();
    let new = || MasterKey::take(&mut [6; 32]);
    Etcd::rekey(&mut shelf, &layout(), &place(), &master(), &new()).unwrap();
    let refused = try_open(shelf.another(), Witness::default()).map(drop);
    assert!(matches!(refused, Err(StoreError::WrongMasterKey { .. })), "{refused:?}");
    let opened =
        Etcd::open(Box::new(shelf.another()), layout(), place(), &new(), Witness::default()).unwrap();
    let mut store = opened.store;
    assert_eq!(store.load(&mut |_| Ok(())).unwrap().head.revision, 1);
    one.put("b", "2").unwrap();
}

#[test]
fn what_does_not_fit_a_transaction_is_refused_before_it_is_sent() {
    let shelf = made();
    let mut one = open(&shelf);
    let revision = shelf.inner().revision;
    let record =
        |bytes: usize| Record { path: Path::new([1; 16]), revision: 1, sealed: Some(vec![0; bytes]) };
    let bounds = one.etcd.bounds();
    assert_eq!(one.etcd.append(0, &[record(bounds.record_bytes + 1)], &[]), Err(AppendError::TooLarge));
    let many = vec![record(1); bounds.records_count + 1];
    assert_eq!(one.etcd.append(0, &many, &[]), Err(AppendError::TooLarge));
    let wrong = Record { revision: 2, ..record(1) };
    assert_eq!(one.etcd.append(0, &[wrong], &[]), Err(AppendError::Malformed));
    assert_eq!(shelf.inner().revision, revision);
    assert!(one.etcd.append(0, &[record(bounds.record_bytes)], &[]).is_ok());
}

#[test]
fn a_store_is_made_once() {
    let mut shelf = made();
    let mut random = Generator::new(Kernel, Moment::now()).unwrap();
    let again = Etcd::create(&mut shelf, &layout(), &place(), &master(), &mut random);
    assert!(matches!(again, Err(StoreError::FleetExists { .. })), "{again:?}");
    let elsewhere = Layout::new("q/other").unwrap();
    let missing = Etcd::open(Box::new(shelf), elsewhere, place(), &master(), Witness::default()).map(drop);
    assert!(matches!(missing, Err(StoreError::NoFleet { .. })), "{missing:?}");
}
