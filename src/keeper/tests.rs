//! The keeper over a store in memory: groups, failures, others who write, ticks.

pub(super) mod callers;
mod findings;
mod standing;

use core::pin::pin;
use core::task::{Context, Poll, Waker};
use std::fs::{self, File};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use super::group::Asked;
use super::queue::Last;
use super::shelf::{Fault, Shelf};
use super::*;
use crate::api::change::{Change, ChangeError, Outcome};
use crate::audit::chain::{Mark, Root};
use crate::audit::line::STORE_HEAD;
use crate::audit::{Chain, Checkpoint, Outlets, Sink, Start, Stream, StreamMark, Syncing, Who};
use crate::clock::{Moment, WallTime};
use crate::crypto::random::{Generator, Kernel};
use crate::keyring::change::apply;
use crate::keyring::{self, Circumstances, Effect, Key, Ring, encode_key};
use crate::limits::{
    AUDIT_CHECKPOINT_SECONDS, FIGURES_PER_APPEND_MAX_COUNT, KEEPER_RETRY_MILLIS, SEALS_BLOCK_COUNT,
    STORE_APPEND_MAX_BYTES, USES_PERSIST_SECONDS,
};
use crate::model::{KeyName, KeyOptions, KeyType, PolicyChange, RequestId, StoreHealth, VersionState};
use crate::publication::Publication;
use crate::secret::{Secret, SecretBytes};
use crate::store::{AppendError, RootKey, Sealer, Store as _};

const START: Start = Start { seconds: 1, random: 2 };
const WINDOW_SECONDS: u64 = 100;
const EXISTS: ChangeError = ChangeError::Key(keyring::ChangeError::Exists);
const UNKNOWN: ChangeError = ChangeError::Key(keyring::ChangeError::Unknown);

fn diary_in(file: File) -> Diary {
    Diary::new(Outlets::new(Some(Sink::new(file, "s-k", chain())), None, Syncing::Written), 5)
}

fn sealer() -> Sealer {
    RootKey::take(&mut [7; 32]).sealer([1; 16]).unwrap()
}

fn chain() -> Chain {
    Root::new(Secret::take(&mut [7; 32])).chain("s-k").unwrap()
}

/// A keeper with its thread's state in hand, and a clock that stands.
struct Desk {
    keeper: Arc<Keeper>,
    ledger: Ledger,
    publication: Arc<Publication<State>>,
    now: Now,
    diary: PathBuf,
}

impl Desk {
    fn on(mut shelf: Shelf) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("quantonium-diary-{}-{number}.jsonl", std::process::id());
        let path = std::env::temp_dir().join(name);
        let file = File::options().create(true).append(true).open(&path).unwrap();
        let opening = load(&mut shelf, &sealer()).unwrap();
        let publication = Publication::new(opening.state);
        let parts = Parts {
            store: Box::new(shelf),
            sealer: sealer(),
            head: opening.loaded.head,
            publication: Arc::clone(&publication),
            diary: diary_in(file),
            checkpoints: Checkpoints::new(START, Vec::new(), opening.checkpoints),
            fleet: crate::fleet::Fleet::alone(),
            restore_window_seconds: WINDOW_SECONDS,
            counts_set_back: false,
        };
        let moment = Moment::from_nanos(1_000_000_000);
        let random = Generator::new(Kernel, Moment::now()).unwrap();
        Self {
            keeper: Keeper::new(Arc::clone(&publication)),
            ledger: Ledger::new(parts, random),
            publication,
            now: Now { moment, wall: WallTime::from_millis(1_000_000) },
            diary: path,
        }
    }

    /// All of `changes` as one group, as far as they fit; their request identifiers count from 0.
    fn commit(&mut self, changes: Vec<Change>) -> Vec<Committed> {
        let numbered = changes.into_iter().zip(0..);
        let mut pending: Vec<_> = numbered
            .map(|(change, number)| self.keeper.submit(change, &RequestId::new(1, number)).unwrap())
            .collect();
        let work = self.keeper.next();
        self.keeper.carry_out(work, &mut self.ledger, self.now);
        let mut context = Context::from_waker(Waker::noop());
        let answered = pending.iter_mut().map(|pending| match pin!(pending).poll(&mut context) {
            Poll::Ready(committed) => committed,
            Poll::Pending => panic!("every change is answered"),
        });
        answered.collect()
    }

    fn errors(&mut self, changes: Vec<Change>) -> Vec<Option<ChangeError>> {
        self.commit(changes).into_iter().map(|committed| committed.outcome.err()).collect()
    }

    fn tick_after(&mut self, millis: u64) {
        self.now.moment = self.now.moment.plus_millis(millis);
        self.now.wall = WallTime::from_millis(self.now.wall.as_millis() + millis);
        self.keeper.tick();
        let work = self.keeper.next();
        self.keeper.carry_out(work, &mut self.ledger, self.now);
    }

    fn ring(&self) -> Ring {
        self.publication.current().ring.clone()
    }

    fn latest(&self, name: &str) -> u32 {
        self.ring().get(name).unwrap().latest_number()
    }

    /// What the keeper told, apart from where the store stands.
    fn told(&self) -> Vec<String> {
        self.lines().into_iter().filter(|line| !line.contains(STORE_HEAD)).collect()
    }

    /// Where it told that the store stands.
    fn heads(&self) -> Vec<u64> {
        let heads = self.lines().into_iter().filter(|line| line.contains(STORE_HEAD));
        let revision = |line: &str| {
            let rest = line.split("\"store_revision\":").nth(1).unwrap();
            rest.split(',').next().unwrap().parse().unwrap()
        };
        heads.map(|line| revision(&line)).collect()
    }

    fn lines(&self) -> Vec<String> {
        fs::read_to_string(&self.diary).unwrap().lines().map(str::to_owned).collect()
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.diary);
    }
}

fn name(name: &str) -> KeyName {
    KeyName::new(name).unwrap()
}

fn create_of(key: &str, kind: KeyType, policy: PolicyChange) -> Change {
    keyring::Change::Create { name: name(key), options: KeyOptions::of(kind), policy }.into()
}

fn create(key: &str) -> Change {
    let policy = PolicyChange { deletion_allowed: Some(true), ..PolicyChange::default() };
    create_of(key, KeyType::XChaCha20Poly1305, policy)
}

fn rotate(key: &str) -> Change {
    keyring::Change::Rotate { name: name(key), only_if_latest: None }.into()
}

fn disable(key: &str, version: u32) -> Change {
    let versions = vec![(version, VersionState::Disabled)];
    keyring::Change::Configure { name: name(key), policy: PolicyChange::default(), versions }.into()
}

fn delete(key: &str) -> Change {
    keyring::Change::Delete { name: name(key) }.into()
}

fn effect(outcome: &Outcome) -> Effect {
    match outcome {
        Outcome::Key(outcome) => outcome.effect,
        Outcome::Caller(_) => panic!("a key was changed"),
    }
}

/// Everything that a keeper says of its keys and API keys, apart from figures.
fn all(desk: &Desk) -> Vec<Vec<u8>> {
    let state = desk.publication.current();
    let mut keys: Vec<_> = state.ring.keys().map(|key| encode_key(key).to_vec()).collect();
    keys.extend(state.callers.keys().map(|key| crate::auth::encode_key(key).to_vec()));
    keys.sort();
    keys
}

#[test]
fn a_group_is_one_append_and_each_change_sees_those_before_it() {
    let shelf = Shelf::default();
    let mut desk = Desk::on(shelf.another());
    let other = create_of("a", KeyType::HmacSha256, PolicyChange::default());
    let committed = desk.commit(vec![create("a"), other, rotate("a"), create("b"), create("b"), rotate("c")]);
    let effects: Vec<_> =
        committed.iter().map(|of| of.outcome.as_ref().map(effect).map_err(|e| *e)).collect();
    let (put, none) = (Ok(Effect::Put), Ok(Effect::None));
    assert_eq!(effects, [put, Err(EXISTS), put, put, none, Err(UNKNOWN)]);
    assert_eq!(shelf.revision(), 1);
    let heads: Vec<_> = committed.iter().map(|of| of.head.map(|head| head.revision)).collect();
    assert_eq!(heads, [Some(1), None, Some(1), Some(1), None, None]);
    {
        let inner = shelf.inner();
        let (records, origins) = &inner.appends[0];
        assert_eq!(records.len(), 2, "two changes of one key make one record");
        assert_eq!(*origins, [0, 2, 3].map(|number| RequestId::new(1, number).to_bytes()));
    }
    assert_eq!((desk.latest("a"), desk.latest("b"), desk.ring().len()), (2, 1, 2));
    assert_eq!(all(&Desk::on(shelf.another())), all(&desk), "what was read back is the same");
}

#[test]
fn a_change_is_answered_when_it_is_durable_and_published() {
    let shelf = Shelf::default();
    let mut desk = Desk::on(shelf.another());
    let mut pending = pin!(desk.keeper.submit(create("a"), &RequestId::new(1, 1)).unwrap());
    let mut context = Context::from_waker(Waker::noop());
    assert!(pending.as_mut().poll(&mut context).is_pending());
    let work = desk.keeper.next();
    assert!(desk.ring().is_empty() && shelf.revision() == 0);
    desk.keeper.carry_out(work, &mut desk.ledger, desk.now);
    assert!(desk.ring().get("a").is_some() && shelf.revision() == 1);
    assert!(matches!(pending.poll(&mut context), Poll::Ready(Committed { outcome: Ok(_), .. })));
}

#[test]
fn where_the_store_stands_is_told_before_the_answer_and_only_of_what_is_durable() {
    let shelf = Shelf::default();
    let mut desk = Desk::on(shelf.another());
    desk.commit(vec![create("a"), create("b")]);
    desk.commit(vec![create("a")]);
    assert_eq!(desk.heads(), [1], "one line for each append");
    shelf.inner().faults.push_back(Fault::Fails(AppendError::Full));
    desk.commit(vec![rotate("a")]);
    assert_eq!(desk.heads(), [1]);
    desk.ring().get("a").unwrap().version(1).unwrap().uses().note(desk.now.wall, 3);
    desk.ledger.flush(desk.now);
    assert_eq!(desk.heads(), [1, 2], "figures move it, too");
    shelf.inner().faults.push_back(Fault::Kept);
    desk.commit(vec![rotate("a")]);
    assert_eq!(
        (desk.heads(), shelf.revision()),
        (vec![1, 2], 3),
        "of that nobody knows whether it is durable"
    );
}

#[test]
fn where_the_store_stands_is_told_later_if_it_cannot_be_told_at_once() {
    let shelf = Shelf::default();
    let mut desk = Desk::on(shelf.another());
    desk.ledger.diary = diary_in(File::open("/dev/full").unwrap());
    desk.commit(vec![create("a")]);
    desk.commit(vec![create("b")]);
    desk.tick_after(1_000);
    assert_eq!(desk.heads(), Vec::<u64>::new());
    let untold = diary_in(File::options().append(true).open(&desk.diary).unwrap());
    desk.ledger.diary = desk.ledger.diary.continued_by(untold);
    desk.tick_after(1_000);
    desk.tick_after(1_000);
    assert_eq!(desk.heads(), [2], "the latest, once");
}

#[test]
fn the_last_revision_is_refused_and_not_passed() {
    let shelf = Shelf::default();
    let mut desk = Desk::on(shelf.another());
    desk.commit(vec![create("a")]);
    desk.ledger.head.revision = u64::MAX;
    assert_eq!(desk.errors(vec![rotate("a")]), [Some(ChangeError::StoreRefuses)]);
    desk.ring().get("a").unwrap().version(1).unwrap().uses().note(desk.now.wall, 3);
    desk.ledger.flush(desk.now);
    assert_eq!(shelf.revision(), 1);
}

#[test]
fn after_an_accepted_rollback_nothing_seals_whose_counts_may_have_been_set_back() {
    let shelf = Shelf::default();
    let mut desk = Desk::on(shelf.another());
    let counted = create_of("c", KeyType::ChaCha20Poly1305, PolicyChange::default());
    desk.commit(vec![
        counted,
        create("x"),
        create_of("d", KeyType::ChaCha20Poly1305, PolicyChange::default()),
    ]);
    desk.commit(vec![rotate("c")]);
    let before = shelf.revision();
    desk.ledger.begin(desk.now).unwrap();
    assert_eq!(shelf.revision(), before, "not at every start");
    desk.ledger.counts_set_back = true;
    shelf.inner().faults.push_back(Fault::Fails(AppendError::Full));
    assert_eq!(desk.ledger.begin(desk.now), Err(NotBegun));
    desk.ledger.counts_set_back = true;
    desk.ledger.begin(desk.now).unwrap();
    assert_eq!(shelf.revision(), before + 1, "one append");
    for ring in [desk.ring(), Desk::on(shelf.another()).ring()] {
        let seals =
            |key: &Key| key.versions().map(|of| key.sealing_version(Some(of.number())).is_ok()).collect();
        let of = |name: &str| -> Vec<bool> { seals(ring.get(name).unwrap()) };
        assert_eq!([of("c"), of("d"), of("x")], [vec![false, false, true], vec![false, true], vec![true]]);
        assert_eq!(ring.get("c").unwrap().version(3).unwrap().uses().reserved(), SEALS_BLOCK_COUNT);
    }
    let told = desk.told();
    let count =
        |what: &str| told.iter().filter(|line| line.contains("key.distrust") && line.contains(what)).count();
    assert_eq!((count("attempt"), count("\"failure\""), count("\"success\"")), (4, 2, 2), "{told:?}");
}

#[test]
fn a_full_queue_refuses_at_once() {
    let keeper = Keeper::new(Publication::new(State::default()));
    let id = RequestId::new(1, 1);
    for _ in 0..crate::limits::CHANGES_WAITING_MAX_COUNT {
        keeper.submit(create("a"), &id).unwrap();
    }
    assert_eq!(keeper.submit(create("a"), &id).err(), Some(ChangeError::Unavailable));
}

#[test]
fn of_a_failed_append_nothing_is_published_and_nobody_is_told_that_it_was() {
    let shelf = Shelf::default();
    let mut desk = Desk::on(shelf.another());
    desk.commit(vec![create("a")]);
    let before = all(&desk);
    for (fault, error) in [
        (AppendError::Full, ChangeError::StoreFull),
        (AppendError::Failed, ChangeError::StoreFailed),
        (AppendError::Refused, ChangeError::StoreRefuses),
        (AppendError::TooLarge, ChangeError::StoreFailed),
    ] {
        shelf.inner().faults.push_back(Fault::Fails(fault));
        // The second "b" was judged against the first one, which is not there.
        let other = create_of("b", KeyType::HmacSha256, PolicyChange::default());
        let errors = desk.errors(vec![
            create("b"),
            create("b"),
            other,
            create("a"),
            rotate("a"),
            rotate("x"),
            delete("a"),
        ]);
        let failed = Some(error);
        let unknown = Some(UNKNOWN);
        assert_eq!(errors, [failed, failed, failed, None, failed, unknown, failed], "{fault:?}");
        assert_eq!(all(&desk), before);
    }
    assert_eq!(desk.errors(vec![rotate("a")]), [None], "the next change tries again");
    assert_eq!((shelf.revision(), desk.latest("a")), (2, 2));
}

#[test]
fn after_an_unconfirmed_sync_restrictions_hold_and_new_secrets_are_not_used() {
    for fault in [Fault::Kept, Fault::Lost] {
        let shelf = Shelf::default();
        let mut desk = Desk::on(shelf.another());
        desk.commit(vec![create("a"), create("b"), rotate("b")]);
        shelf.inner().faults.push_back(fault);
        let epoch = desk.publication.epoch();
        let committed = desk.commit(vec![create("c"), disable("a", 1), rotate("a"), delete("b")]);
        let ambiguous = committed.iter().all(|of| of.outcome.as_ref().err() == Some(&ChangeError::Ambiguous));
        assert!(ambiguous && committed.iter().all(|of| of.head.is_none()));
        assert!(
            committed.iter().all(|of| of.settle > Some(epoch)),
            "the restrictions settle before the answer"
        );
        let ring = desk.ring();
        assert!(ring.get("c").is_none() && ring.get("b").is_none());
        let key = ring.get("a").unwrap();
        assert_eq!((key.latest_number(), key.version(1).unwrap().state()), (1, VersionState::Disabled));
        // What looks as if it were done already may be gone after a restart.
        assert_eq!(desk.errors(vec![disable("a", 1)]), [Some(ChangeError::Ambiguous)]);
        assert_eq!(desk.errors(vec![create("d")]), [Some(ChangeError::StoreRefuses)]);
        assert_eq!(desk.keeper.store(), StoreHealth::Poisoned);
        let kept = matches!(fault, Fault::Kept);
        assert_eq!(Desk::on(shelf.another()).ring().get("c").is_some(), kept);
    }
}

#[test]
fn what_takes_a_right_away_or_is_said_to_be_so_already_has_to_settle() {
    let mut desk = Desk::on(Shelf::default());
    let committed = desk.commit(vec![create("a"), rotate("a")]);
    assert!(committed.iter().all(|of| of.settle.is_none()));
    for _ in 0..2 {
        let committed = desk.commit(vec![disable("a", 1)]);
        assert_eq!(committed[0].settle, Some(desk.publication.epoch()));
    }
}

#[test]
fn a_keeper_that_comes_second_judges_anew() {
    let shelf = Shelf::default();
    let mut first = Desk::on(shelf.same());
    first.commit(vec![create("a")]);
    let second = Arc::new(Mutex::new(Desk::on(shelf.another())));
    let other = Arc::clone(&second);
    shelf.interrupt(move || {
        let hmac = create_of("b", KeyType::HmacSha256, PolicyChange::default());
        let errors = other.lock().unwrap().errors(vec![hmac, rotate("a"), create("c"), delete("c")]);
        assert_eq!(errors, [None; 4]);
    });
    let errors = first.errors(vec![create("b"), rotate("a"), create("d")]);
    assert_eq!(errors, [Some(EXISTS), None, None], "the other one made b first");
    assert_eq!(first.latest("a"), 3, "no rotation is lost");
    assert!(first.ring().get_any("c").unwrap().deletion().is_some());
    let mut second = second.lock().unwrap();
    second.tick_after(1);
    assert_eq!(all(&second), all(&first));
    // A key that another one destroyed goes here, too.
    first.tick_after(1_000 * WINDOW_SECONDS + 1);
    assert!(first.ring().get_any("c").is_none());
    second.tick_after(1);
    assert!(second.ring().get_any("c").is_none());
}

#[test]
fn two_keepers_at_once_lose_nothing() {
    const CHANGES: u32 = 150;
    let shelf = Shelf::default();
    let work = |own: char| {
        let shelf = shelf.another();
        std::thread::spawn(move || {
            let mut desk = Desk::on(shelf);
            let mut rotations = 0;
            for number in 0..CHANGES {
                let caller = callers::make(number + 1_000 * u32::from(own), &["hash"]);
                let changes =
                    vec![create(&format!("{own}{number}")), create("shared"), caller, rotate("shared")];
                // Whoever is always second is told so, and has changed nothing.
                match desk.errors(changes)[..] {
                    [None, None, None, None] => rotations += 1,
                    [Some(ChangeError::Unavailable), ..] => {}
                    ref errors => panic!("{errors:?}"),
                }
            }
            (desk, rotations)
        })
    };
    let (one, other) = (work('a'), work('b'));
    let ((mut one, rotated), (mut other, rotated_there)) = (one.join().unwrap(), other.join().unwrap());
    one.tick_after(1);
    other.tick_after(1);
    assert_eq!(all(&one), all(&other));
    assert_eq!(one.latest("shared"), 1 + rotated + rotated_there);
    assert_eq!(one.ring().len(), 1 + usize::try_from(rotated + rotated_there).unwrap());
    let callers = one.publication.current().callers.len();
    assert_eq!(callers, usize::try_from(rotated + rotated_there).unwrap());
    assert!(rotated > 0 && rotated_there > 0);
    assert_eq!(all(&Desk::on(shelf.another())), all(&one));
}

#[test]
fn seals_with_96_bit_nonces_are_set_aside_before_they_are_granted() {
    let shelf = Shelf::default();
    let mut desk = Desk::on(shelf.another());
    let counted = || create_of("n", KeyType::ChaCha20Poly1305, PolicyChange::default());
    desk.commit(vec![counted(), rotate("n")]);
    assert_eq!(shelf.revision(), 1);
    let uses = |desk: &Desk, version| {
        let ring = desk.ring();
        let key = Arc::clone(ring.get("n").unwrap());
        move |work: &dyn Fn(&keyring::Uses) -> u64| work(key.version(version).unwrap().uses())
    };
    assert_eq!(uses(&desk, 2)(&|uses| uses.reserved()), SEALS_BLOCK_COUNT, "with the rotation itself");
    uses(&desk, 2)(&|uses| {
        uses.count_seals(SEALS_BLOCK_COUNT).unwrap();
        0
    });
    let reserve = || keyring::Change::ReserveSeals { name: name("n"), version: 2 }.into();
    shelf.inner().faults.push_back(Fault::Fails(AppendError::Full));
    assert_eq!(desk.errors(vec![reserve()]), [Some(ChangeError::StoreFull)]);
    assert_eq!(uses(&desk, 2)(&|uses| uses.reserved()), SEALS_BLOCK_COUNT, "not durable, not granted");
    let committed = desk.commit(vec![reserve(), reserve(), reserve()]);
    assert!(committed.iter().all(|of| of.outcome.is_ok()));
    assert_eq!(shelf.inner().appends[1].0.len(), 1);
    assert_eq!(uses(&desk, 2)(&|uses| uses.reserved()), 2 * SEALS_BLOCK_COUNT, "many who ask get one block");
    let again = Desk::on(shelf.another());
    uses(&again, 2)(&|uses| {
        assert_eq!(uses.reserved(), 2 * SEALS_BLOCK_COUNT);
        assert!(uses.count_seals(1).is_err(), "after a restart all of it counts as used");
        0
    });
}

/// A key with this many versions of imported material.
fn large(versions: usize, bytes: usize) -> Box<Key> {
    let mut ring = Ring::default();
    let mut draw = |target: &mut [u8]| {
        target.fill(3);
        Ok(())
    };
    let mut at = Circumstances { now: WallTime::default(), restore_window_seconds: 0, draw: &mut draw };
    for _ in 0..versions {
        let material = SecretBytes::take(&mut vec![9; bytes]);
        let options = KeyOptions::of(KeyType::HmacSha256);
        let change =
            keyring::Change::Import { name: name("l"), options, policy: PolicyChange::default(), material };
        apply(&mut ring, &change, &mut at).unwrap();
    }
    Box::new((**ring.get("l").unwrap()).clone())
}

#[test]
fn what_does_not_fit_one_append_goes_into_the_next() {
    let shelf = Shelf::default();
    let mut desk = Desk::on(shelf.another());
    let restore = |number: usize, key: &Key| {
        keyring::Change::Restore {
            name: name(&format!("k{number}")),
            key: Box::new(key.clone()),
            replace: false,
        }
        .into()
    };
    let fits = large(1_900, 512);
    let weight = encode_key(&fits).len();
    let count = STORE_APPEND_MAX_BYTES / weight + 1;
    let errors = desk.errors((0..count).map(|number| restore(number, &fits)).collect());
    assert!(errors.iter().all(Option::is_none), "{errors:?}");
    assert_eq!((shelf.revision(), desk.ring().len()), (2, count));
    assert_eq!(all(&Desk::on(shelf.another())), all(&desk));
}

#[test]
fn the_largest_key_that_there_may_be_fits_a_record() {
    let shelf = Shelf::default();
    let mut desk = Desk::on(shelf.another());
    let key = large(usize::try_from(crate::limits::KEY_VERSIONS_MAX_COUNT).unwrap(), 512);
    assert_eq!(
        desk.errors(vec![keyring::Change::Restore { name: name("l"), key, replace: false }.into()]),
        [None]
    );
    assert_eq!(all(&Desk::on(shelf.another())), all(&desk));
}

#[test]
fn what_is_due_is_made_at_a_tick_and_told_before_and_after() {
    let shelf = Shelf::default();
    let mut desk = Desk::on(shelf.another());
    let policy = PolicyChange { auto_rotate_seconds: Some(10), ..PolicyChange::default() };
    desk.commit(vec![create_of("r", KeyType::XChaCha20Poly1305, policy), create("d"), delete("d")]);
    desk.tick_after(9_999);
    assert_eq!((desk.latest("r"), shelf.revision(), desk.told().len()), (1, 1, 0));
    desk.tick_after(1);
    assert_eq!((desk.latest("r"), shelf.revision()), (2, 2));
    let told = desk.told();
    assert_eq!(told.len(), 2, "{told:?}");
    let id = RequestId::new(5, 1);
    let about = format!(
        "\"event\":\"key.rotate\",\"outcome\":\"attempt\",\"request_id\":\"{id}\",\"key\":\"r\",\"prev\""
    );
    assert!(told[0].contains(&about), "{}", told[0]);
    let about = format!(
        "\"outcome\":\"success\",\"request_id\":\"{id}\",\"key\":\"r\",\"key_version\":2,\"store_revision\":2,"
    );
    assert!(told[1].contains(&about), "{}", told[1]);
    assert_eq!(shelf.inner().appends[1].1, [id.to_bytes()]);
    desk.tick_after(1_000 * WINDOW_SECONDS - 10_000);
    assert!(desk.ring().get_any("d").is_none());
    assert_eq!(desk.latest("r"), 3);
    assert_eq!(desk.told().len(), 6);
    assert_eq!(all(&Desk::on(shelf.another())), all(&desk));
}

#[test]
fn nothing_due_and_nothing_used_means_nothing_written() {
    let shelf = Shelf::default();
    let mut desk = Desk::on(shelf.another());
    desk.commit(vec![create("a"), delete("a"), create("b")]);
    for _ in 0..WINDOW_SECONDS - 1 {
        desk.tick_after(1_000);
    }
    assert_eq!((shelf.revision(), desk.told().len()), (1, 0));
}

#[test]
fn what_is_due_waits_while_it_cannot_be_told_or_written() {
    let shelf = Shelf::default();
    let mut desk = Desk::on(shelf.another());
    let policy = PolicyChange { auto_rotate_seconds: Some(10), ..PolicyChange::default() };
    desk.commit(vec![create_of("r", KeyType::XChaCha20Poly1305, policy)]);
    shelf.inner().faults.push_back(Fault::Fails(AppendError::Full));
    desk.tick_after(10_000);
    assert_eq!((desk.latest("r"), desk.told().len()), (1, 2));
    assert!(desk.told()[1].contains("\"outcome\":\"failure\",\"code\":\"store_full\""), "{:?}", desk.told());
    desk.tick_after(KEEPER_RETRY_MILLIS - 1);
    assert_eq!(desk.told().len(), 2, "not again at once");
    desk.ledger.diary = diary_in(File::open("/dev/full").unwrap());
    desk.tick_after(1);
    assert_eq!((desk.latest("r"), shelf.revision()), (1, 1), "an attempt that cannot be told is not made");
    let file = File::options().append(true).open(&desk.diary).unwrap();
    desk.ledger.diary = diary_in(file);
    desk.tick_after(KEEPER_RETRY_MILLIS);
    assert_eq!((desk.latest("r"), shelf.revision()), (2, 2));
}

#[test]
fn figures_are_written_once_in_a_while_and_at_the_end() {
    let shelf = Shelf::default();
    let mut desk = Desk::on(shelf.another());
    desk.commit(vec![create("a"), create("b")]);
    let operations = |desk: &Desk| desk.ring().get("a").unwrap().version(1).unwrap().uses().operations();
    let note = |desk: &Desk| {
        desk.ring().get("a").unwrap().version(1).unwrap().uses().note(desk.now.wall, 3);
    };
    note(&desk);
    desk.tick_after(1_000);
    assert_eq!(shelf.revision(), 1, "not at every tick");
    shelf.inner().faults.push_back(Fault::Fails(AppendError::Failed));
    desk.tick_after(1_000 * USES_PERSIST_SECONDS);
    assert_eq!(shelf.revision(), 1);
    desk.tick_after(1_000 * USES_PERSIST_SECONDS);
    assert_eq!(shelf.revision(), 2, "what was not written is not forgotten");
    assert_eq!(shelf.inner().appends[1].0.len(), 1, "only of keys that were used");
    desk.tick_after(1_000 * USES_PERSIST_SECONDS);
    assert_eq!(shelf.revision(), 2);
    note(&desk);
    let flushed = Arc::new(Mutex::new(false));
    let done = Arc::clone(&flushed);
    desk.keeper.flush(Last::Everything, Box::new(move || *done.lock().unwrap() = true));
    let work = desk.keeper.next();
    desk.keeper.carry_out(work, &mut desk.ledger, desk.now);
    assert!(*flushed.lock().unwrap());
    let again = Desk::on(shelf.another());
    assert_eq!((operations(&desk), operations(&again)), (6, 6));
    assert!(!again.ring().get("a").unwrap().take_news(), "what was read is not news");
}

#[test]
fn figures_of_a_busy_key_are_written_no_more_often_than_of_another() {
    let shelf = Shelf::default();
    let mut desk = Desk::on(shelf.same());
    desk.commit(vec![create("a")]);
    for _ in 0..5 * USES_PERSIST_SECONDS {
        desk.ring().get("a").unwrap().version(1).unwrap().uses().note(desk.now.wall, 1);
        desk.tick_after(1_000);
    }
    let written = shelf.revision() - 1;
    assert!((4..=5).contains(&written), "{written} times in five rounds");
}

#[test]
fn every_key_has_its_turn_however_busy_the_others_are() {
    const KEYS: usize = 2 * FIGURES_PER_APPEND_MAX_COUNT + 1;
    let shelf = Shelf::default();
    let mut desk = Desk::on(shelf.same());
    let mut numbers = (0..KEYS).map(|number| create(&format!("k{number}"))).peekable();
    while numbers.peek().is_some() {
        let some = numbers.by_ref().take(2_000).collect();
        assert!(desk.commit(some).iter().all(|committed| committed.outcome.is_ok()));
    }
    let before = shelf.revision();
    desk.tick_after(0);
    let seconds = USES_PERSIST_SECONDS + 5;
    for _ in 0..seconds {
        desk.ring().keys().for_each(|key| key.version(1).unwrap().uses().note(desk.now.wall, 1));
        desk.tick_after(1_000);
    }
    assert_eq!(shelf.revision() - before, 3, "a round takes as many appends as it needs, and no more");
    // As after a crash.
    let again = Desk::on(shelf.another()).ring();
    let least = again.keys().map(|key| key.version(1).unwrap().uses().operations()).min().unwrap();
    assert!(least >= USES_PERSIST_SECONDS, "{least}");
}

#[test]
fn attempts_of_an_earlier_start_get_the_outcome_they_had() {
    let shelf = Shelf::default();
    let mut desk = Desk::on(shelf.another());
    desk.commit(vec![create("a")]);
    let recent = shelf.another().load(&mut |_| Ok(())).unwrap().recent;
    let unfinished = |number, before| crate::audit::replay::Unfinished {
        request: RequestId::new(1, number),
        event: "key.create".to_owned(),
        principal: Some("0a1b2c3d".to_owned()),
        key: Some("a".to_owned()),
        api_key: None,
        before,
        after: None,
    };
    let all = [unfinished(0, 0), unfinished(0, 1), unfinished(7, 0)];
    desk.ledger.diary.reconcile(&all, &recent, desk.now.wall).unwrap();
    let told = desk.told();
    let outcomes: Vec<bool> =
        told.iter().map(|line| line.contains("\"outcome\":\"success\",\"code\":\"reconciled\"")).collect();
    assert_eq!(outcomes, [true, false, false], "{told:?}");
    assert!(told[0].contains("\"principal\":\"0a1b2c3d\",\"key\":\"a\",\"prev\""), "{}", told[0]);
}

#[test]
fn an_attempt_that_the_store_may_have_forgotten_has_an_unknown_outcome() {
    let desk = Desk::on(Shelf::default());
    let mut diary = diary_in(File::options().append(true).open(&desk.diary).unwrap());
    let full: Vec<_> = (0..4_096).map(|number| RequestId::new(1, number).to_bytes()).collect();
    let of = |number, after: Option<u64>| crate::audit::replay::Unfinished {
        request: RequestId::new(1, number),
        event: "key.create".to_owned(),
        principal: None,
        key: None,
        api_key: None,
        before: 0,
        after: after.map(|number| RequestId::new(1, number)),
    };
    let all = [of(7, None), of(9_000, None), of(9_000, Some(8_000)), of(9_000, Some(3))];
    diary.reconcile(&all, &full, desk.now.wall).unwrap();
    diary.reconcile(&all[1..2], &full[1..], desk.now.wall).unwrap();
    let outcome =
        |line: &String| line.split("\"outcome\":\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
    let outcomes: Vec<_> = desk.told().iter().map(outcome).collect();
    assert_eq!(outcomes, ["success", "unknown", "unknown", "failure", "failure"]);
}

#[test]
fn a_record_of_another_name_or_kind_is_not_read() {
    let shelf = Shelf::default();
    let mut desk = Desk::on(shelf.another());
    desk.commit(vec![create("a"), create("b")]);
    {
        let mut inner = shelf.inner();
        let records = &mut inner.appends[0].0;
        let (one, other) = (records[0].sealed.clone(), records[1].sealed.clone());
        (records[0].sealed, records[1].sealed) = (other, one);
    }
    let refused = load(&mut shelf.another(), &sealer()).unwrap_err().to_string();
    assert!(refused.contains("not authentic"), "{refused}");
}

#[test]
fn a_group_is_judged_without_its_refused_changes() {
    let sealer = sealer();
    let mut group = group::Group::new(&sealer, State::default(), crate::store::Bounds::default());
    let mut draw = |target: &mut [u8]| {
        target.fill(3);
        Ok(())
    };
    let mut at = Circumstances { now: WallTime::default(), restore_window_seconds: 0, draw: &mut draw };
    assert!(group.judge(&Asked { change: rotate("a"), origin: [1; 16] }, &mut at));
    assert!(group.is_empty() && group.origins.is_empty() && group.touched.is_empty());
    assert!(group.judge(&Asked { change: create("a"), origin: [2; 16] }, &mut at));
    assert_eq!((group.is_empty(), group.origins.len(), group.verdicts.len()), (false, 1, 2));
}

#[test]
fn how_far_the_streams_have_come_is_noted_when_there_is_news_and_at_the_end() {
    const PAUSE: u64 = AUDIT_CHECKPOINT_SECONDS * 1_000;
    let shelf = Shelf::default();
    let mut desk = Desk::on(shelf.same());
    let chain = chain();
    let tips = vec![
        (Who::Worker(0), Root::new(Secret::take(&mut [7; 32])).chain("s-w0").unwrap().tip()),
        (Who::Keeper, chain.tip()),
    ];
    let file = File::options().append(true).open(&desk.diary).unwrap();
    let sink = Sink::new(file, "s-k", chain);
    desk.ledger.diary = Diary::new(Outlets::new(Some(sink), None, Syncing::Written), 5);
    desk.ledger.checkpoints = Checkpoints::new(START, tips, Vec::new());
    let revision_after = |desk: &mut Desk, millis: u64| {
        desk.tick_after(millis);
        shelf.revision()
    };
    assert_eq!(revision_after(&mut desk, 0), 0);
    assert_eq!(revision_after(&mut desk, PAUSE), 1);
    assert_eq!(revision_after(&mut desk, PAUSE), 1, "the line that tells of it is no news");
    desk.commit(vec![create("a")]);
    assert_eq!(revision_after(&mut desk, PAUSE - 1), 2);
    assert_eq!(revision_after(&mut desk, 1), 3);
    shelf.inner().faults.push_back(Fault::Fails(AppendError::Full));
    desk.commit(vec![create("b")]);
    desk.commit(vec![create("b")]);
    shelf.inner().faults.push_back(Fault::Fails(AppendError::Full));
    assert_eq!(revision_after(&mut desk, PAUSE), 4, "it failed");
    assert_eq!(revision_after(&mut desk, KEEPER_RETRY_MILLIS), 5, "and is tried again");
    for _ in 0..2 {
        desk.ledger.flush(desk.now);
        assert_eq!(shelf.revision(), 6, "the end is noted once");
    }
    // The last line tells of the checkpoint itself.
    let last = desk.lines().len() as u64;
    let opening = load(&mut shelf.another(), &sealer()).unwrap();
    assert_eq!(opening.checkpoints.len(), 1);
    let noted = &opening.checkpoints[0];
    assert!(noted.ended && noted.start == START);
    assert_eq!(
        noted.streams.iter().map(|of| (of.who, of.last.seq)).collect::<Vec<_>>(),
        [(Who::Worker(0), 0), (Who::Keeper, last - 1)]
    );
}

#[test]
fn what_is_removed_is_noted_first_and_a_start_without_files_is_forgotten() {
    let shelf = Shelf::default();
    let mut desk = Desk::on(shelf.same());
    let mark = |seq: u64| Mark { seq, mac: [9; 16] };
    let old = Start { seconds: 0, random: 1 };
    let of = |who| StreamMark { who, last: mark(9), removed: Mark::default() };
    let streams = vec![of(Who::Worker(0)), of(Who::Keeper)];
    let earlier = vec![Checkpoint { start: old, ended: true, streams }];
    desk.ledger.checkpoints = Checkpoints::new(START, Vec::new(), earlier);
    let noted = Arc::new(Mutex::new(Vec::new()));
    let mut remove = |who: Who, seq: u64, is_all: bool| {
        let removal = Removal { stream: Stream { start: old, who }, through: mark(seq), is_all };
        let told = Arc::clone(&noted);
        desk.keeper.note_removed(vec![removal], Box::new(move |may| told.lock().unwrap().push(may)));
        let work = desk.keeper.next();
        desk.keeper.carry_out(work, &mut desk.ledger, desk.now);
        load(&mut shelf.another(), &sealer()).unwrap().checkpoints
    };
    let left = remove(Who::Worker(0), 4, false);
    assert_eq!(
        (left[0].streams[0].removed, left[0].streams[0].last, left[0].ended),
        (mark(4), mark(9), true)
    );
    let left = remove(Who::Worker(0), 12, true);
    assert_eq!(left[0].streams.iter().map(|of| of.who).collect::<Vec<_>>(), [Who::Keeper]);
    shelf.inner().faults.push_back(Fault::Fails(AppendError::Full));
    assert_eq!(remove(Who::Keeper, 9, true).len(), 1, "it could not be noted");
    assert_eq!(remove(Who::Keeper, 9, true), []);
    assert_eq!(*noted.lock().unwrap(), [true, true, false, true]);
}
