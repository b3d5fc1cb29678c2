//! API keys in the hands of the keeper: judged with keys in one group, durable, settled, counted.

use std::io::Cursor;

use super::*;
use crate::audit::line::{self, Event, Outcome as Told, Request};
use crate::audit::replay::{Replay, Unfinished};
use crate::auth::entry::{DIGEST_BYTES, SALT_BYTES, TOKEN_SECRET_BYTES};
use crate::auth::{self, ApiKey, Generation, Terms, TermsChange};
use crate::limits::AUDIT_LINE_MAX_BYTES;
use crate::model::{ApiKeyId, Grants};
use crate::secret::Secret;

fn id(number: u32) -> ApiKeyId {
    ApiKeyId::parse(format!("{number:08x}").as_bytes()).unwrap()
}

fn generation(number: u32) -> Arc<Generation> {
    let token_secret = Secret::take(&mut [1; TOKEN_SECRET_BYTES]);
    Arc::new(Generation { number, digest: [7; DIGEST_BYTES], token_secret, created: WallTime::default() })
}

pub(in crate::keeper) fn make(number: u32, scopes: &[&str]) -> Change {
    let grants = Grants::parse(scopes.iter().copied()).unwrap();
    let terms = Arc::new(Terms { grants, ..Terms::first() });
    let (id, salt) = (id(number), [3; SALT_BYTES]);
    auth::Change::Create { by: None, id, salt, terms, generation: generation(1) }.into()
}

fn limit(number: u32, scopes: &[&str]) -> Change {
    let grants = Some(Grants::parse(scopes.iter().copied()).unwrap());
    let terms = Box::new(TermsChange { grants, ..TermsChange::default() });
    auth::Change::Configure { by: None, id: id(number), terms }.into()
}

fn renew(number: u32, next: u32) -> Change {
    let (id, generation) = (id(number), generation(next));
    auth::Change::Rotate { by: None, id, generation, overlap_seconds: 60 }.into()
}

fn revoke(number: u32) -> Change {
    auth::Change::Revoke { by: None, id: id(number) }.into()
}

fn forget(number: u32) -> Change {
    auth::Change::Delete { by: None, id: id(number) }.into()
}

impl Desk {
    fn caller(&self, number: u32) -> Option<Arc<ApiKey>> {
        self.publication.current().callers.get(id(number)).cloned()
    }

    fn scopes(&self, number: u32) -> String {
        self.caller(number).unwrap().terms.grants.to_string()
    }

    fn is_revoked(&self, number: u32) -> bool {
        self.caller(number).unwrap().revoked.is_some()
    }
}

const LAST_ADMIN: ChangeError = ChangeError::Caller(auth::ChangeError::LastAdmin);
const NO_CALLER: ChangeError = ChangeError::Caller(auth::ChangeError::Unknown);

#[test]
fn api_keys_and_keys_are_changed_in_one_append_and_read_back() {
    let shelf = Shelf::default();
    let mut desk = Desk::on(shelf.another());
    let errors = desk.errors(vec![
        revoke(1),
        make(1, &["admin"]),
        create("a"),
        make(2, &["encrypt:a*"]),
        make(2, &["hash"]),
        rotate("a"),
        renew(2, 2),
        revoke(1),
    ]);
    let exists = ChangeError::Caller(auth::ChangeError::Exists);
    let (unknown, exists, last) = (Some(NO_CALLER), Some(exists), Some(LAST_ADMIN));
    assert_eq!(errors, [unknown, None, None, None, exists, None, None, last]);
    assert_eq!((shelf.revision(), shelf.inner().appends[0].0.len()), (1, 3));
    assert_eq!((desk.latest("a"), desk.caller(2).unwrap().current.number), (2, 2));
    assert_eq!(all(&Desk::on(shelf.another())), all(&desk));
    // Of what is forgotten nothing is left, its figures neither.
    desk.caller(2).unwrap().usage.note(desk.now.wall);
    desk.ledger.flush(desk.now);
    assert_eq!(desk.errors(vec![revoke(2), forget(2)]), [None, None]);
    let inner = shelf.inner();
    assert_eq!(inner.appends[2].0.iter().filter(|record| record.sealed.is_none()).count(), 2);
    drop(inner);
    assert_eq!(all(&Desk::on(shelf.another())), all(&desk));
    assert!(desk.caller(2).is_none() && desk.caller(1).is_some());
}

#[test]
fn of_a_failed_append_no_api_key_is_another_and_no_answer_rests_on_what_was_not_made() {
    let shelf = Shelf::default();
    let mut desk = Desk::on(shelf.another());
    desk.commit(vec![make(1, &["admin"]), make(2, &["hash"])]);
    let before = all(&desk);
    shelf.inner().faults.push_back(Fault::Fails(AppendError::Full));
    // Without the new admin key the first could not be revoked, and the third change would be another's.
    let errors =
        desk.errors(vec![revoke(7), make(9, &["admin"]), revoke(1), revoke(9), create("a"), revoke(7)]);
    let full = Some(ChangeError::StoreFull);
    assert_eq!(errors, [Some(NO_CALLER), full, full, full, full, full]);
    assert_eq!(all(&desk), before);
    assert_eq!(desk.errors(vec![revoke(1)]), [Some(LAST_ADMIN)]);
    assert_eq!(shelf.revision(), 1);
}

#[test]
fn after_an_unconfirmed_sync_revocations_and_narrowed_scopes_hold_and_new_secrets_do_not() {
    for fault in [Fault::Kept, Fault::Lost] {
        let shelf = Shelf::default();
        let mut desk = Desk::on(shelf.another());
        desk.commit(vec![
            make(1, &["admin"]),
            make(2, &["hash", "encrypt"]),
            make(3, &["hash"]),
            create("a"),
        ]);
        shelf.inner().faults.push_back(fault);
        let epoch = desk.publication.epoch();
        let changes = vec![
            make(4, &["admin"]),
            revoke(1),
            limit(2, &["hash"]),
            renew(3, 2),
            disable("a", 1),
            revoke(4),
        ];
        let committed = desk.commit(changes);
        let of = |committed: &Committed| committed.outcome.as_ref().err().copied();
        assert!(committed.iter().all(|committed| of(committed) == Some(ChangeError::Ambiguous)));
        assert!(committed.iter().all(|committed| committed.head.is_none() && committed.settle > Some(epoch)));
        assert!(desk.caller(4).is_none());
        assert!(desk.is_revoked(1), "though the admin key that was to remain is not there");
        assert_eq!((desk.scopes(2), desk.caller(3).unwrap().current.number), ("hash".to_owned(), 1));
        let version = desk.ring().get("a").unwrap().version(1).map(keyring::KeyVersion::state);
        assert_eq!(version, Some(VersionState::Disabled));
        assert_eq!(desk.errors(vec![revoke(1), limit(2, &["hash"])]), [Some(ChangeError::Ambiguous); 2]);
        assert_eq!(desk.errors(vec![make(5, &["hash"])]), [Some(ChangeError::StoreRefuses)]);
        let kept = matches!(fault, Fault::Kept);
        let again = Desk::on(shelf.another());
        assert_eq!((again.caller(4).is_some(), again.is_revoked(1)), (kept, kept));
    }
}

#[test]
fn what_takes_a_right_from_an_api_key_has_to_settle_and_what_gives_one_does_not() {
    let mut desk = Desk::on(Shelf::default());
    let settles = |desk: &mut Desk, change: Change| {
        let committed = desk.commit(vec![change]);
        assert!(committed[0].outcome.is_ok());
        committed[0].settle.map(|epoch| assert_eq!(epoch, desk.publication.epoch())).is_some()
    };
    assert!(!settles(&mut desk, make(1, &["admin"])));
    assert!(!settles(&mut desk, make(2, &["hash"])));
    assert!(!settles(&mut desk, limit(2, &["hash", "encrypt"])));
    assert!(settles(&mut desk, limit(2, &["encrypt"])));
    assert!(settles(&mut desk, limit(2, &["encrypt"])), "what is so already must be so for every worker");
    assert!(settles(&mut desk, renew(2, 2)), "its tokens end");
    assert!(settles(&mut desk, revoke(2)));
    assert!(settles(&mut desk, revoke(2)));
    assert!(settles(&mut desk, forget(2)));
}

#[test]
fn api_keys_that_another_keeper_changed_are_taken_in_with_the_figures_that_are_counted_here() {
    let shelf = Shelf::default();
    let (mut here, mut there) = (Desk::on(shelf.same()), Desk::on(shelf.another()));
    here.commit(vec![make(1, &["admin"]), make(2, &["hash"])]);
    (0..3).for_each(|_| here.caller(2).unwrap().usage.note(here.now.wall));
    let counted = Arc::clone(&here.caller(2).unwrap().usage);
    assert_eq!(there.errors(vec![limit(2, &["encrypt"]), make(3, &["hash"])]), [None, None]);
    there.caller(2).unwrap().usage.note(there.now.wall);
    there.ledger.flush(there.now);
    // The changes of the other one come while this one is about to write its own.
    let there = Arc::new(Mutex::new(there));
    let other = Arc::clone(&there);
    shelf.interrupt(move || assert_eq!(other.lock().unwrap().errors(vec![revoke(3)]), [None]));
    assert_eq!(here.errors(vec![renew(2, 2), make(4, &["hash"])]), [None, None]);
    assert_eq!((here.scopes(2), here.is_revoked(3)), ("encrypt".to_owned(), true));
    assert!(Arc::ptr_eq(&here.caller(2).unwrap().usage, &counted) && counted.count() == 3);
    let mut there = there.lock().unwrap();
    there.tick_after(1);
    assert_eq!(all(&there), all(&here));
    assert_eq!(there.errors(vec![forget(3)]), [None]);
    here.tick_after(1);
    assert!(here.caller(3).is_none());
    assert_eq!(all(&here), all(&there));
}

#[test]
fn figures_of_api_keys_are_written_with_those_of_keys_and_as_rarely() {
    let shelf = Shelf::default();
    let mut desk = Desk::on(shelf.another());
    desk.commit(vec![make(1, &["admin"]), make(2, &["hash"]), create("a"), create("b")]);
    let note = |desk: &Desk| {
        desk.ring().get("a").unwrap().version(1).unwrap().uses().note(desk.now.wall, 3);
        desk.caller(2).unwrap().usage.note(desk.now.wall);
    };
    note(&desk);
    desk.tick_after(1_000);
    assert_eq!(shelf.revision(), 1);
    shelf.inner().faults.push_back(Fault::Fails(AppendError::Failed));
    desk.tick_after(1_000 * USES_PERSIST_SECONDS);
    assert_eq!(shelf.revision(), 1);
    note(&desk);
    for _ in 0..USES_PERSIST_SECONDS {
        desk.tick_after(1_000);
    }
    assert_eq!((shelf.revision(), shelf.inner().appends[1].0.len()), (2, 2), "only of what was used");
    let again = Desk::on(shelf.another()).caller(2).unwrap();
    assert_eq!((again.usage.count(), again.usage.last()), (2, desk.caller(2).unwrap().usage.last()));
    assert!(!again.usage.has_news(), "what was read is not news");
    note(&desk);
    desk.ledger.flush(desk.now);
    assert_eq!(Desk::on(shelf.another()).caller(2).unwrap().usage.count(), 3);
}

#[test]
fn every_api_key_has_its_turn_though_there_are_more_than_an_append_takes() {
    let callers = u32::try_from(2 * FIGURES_PER_APPEND_MAX_COUNT).unwrap();
    let shelf = Shelf::default();
    let mut desk = Desk::on(shelf.another());
    let mut numbers = (1..=callers).peekable();
    while numbers.peek().is_some() {
        let some = numbers.by_ref().take(1_000).map(|number| make(number, &["admin"])).collect();
        assert!(desk.commit(some).iter().all(|committed| committed.outcome.is_ok()));
    }
    desk.commit(vec![create("a")]);
    desk.publication.current().callers.keys().for_each(|key| key.usage.note(desk.now.wall));
    desk.ring().get("a").unwrap().version(1).unwrap().uses().note(desk.now.wall, 1);
    let before = shelf.revision();
    desk.ledger.flush(desk.now);
    assert_eq!(shelf.revision() - before, 3);
    let again = Desk::on(shelf.another());
    assert!(again.publication.current().callers.keys().all(|key| key.usage.count() == 1));
    assert_eq!(again.ring().get("a").unwrap().version(1).unwrap().uses().operations(), 1);
}

#[test]
fn an_attempt_to_change_an_api_key_is_found_and_gets_the_outcome_it_had() {
    let shelf = Shelf::default();
    let mut desk = Desk::on(shelf.another());
    desk.commit(vec![make(1, &["admin"]), make(2, &["hash"])]);
    let recent = shelf.another().load(&mut |_| Ok(())).unwrap().recent;
    let mut log = Vec::new();
    for (sequence, number) in [(1, 1), (2, 8)] {
        let request = RequestId::new(1, number);
        let about =
            Request { principal: Some("0a1b2c3d"), api_key: Some("00000002"), ..diary::about(&request) };
        let event = Event {
            at: WallTime::default(),
            name: "auth.key.create",
            outcome: Told::Attempt,
            code: None,
            count: None,
            own: None,
            store: None,
            request: Some(about),
        };
        let mut chain = chain();
        let mut target = [0; AUDIT_LINE_MAX_BYTES];
        let len = line::write(&mut target, "s-w0", sequence, &event, &mut chain).unwrap();
        log.extend_from_slice(&target[..len]);
    }
    let mut replay = Replay::new();
    replay.read(&mut Cursor::new(&log), u64::MAX).unwrap();
    let unfinished: Vec<Unfinished> = replay.into_unfinished();
    desk.ledger.diary.reconcile(&unfinished, &recent, desk.now.wall).unwrap();
    let told = desk.told();
    assert_eq!(told.len(), 2, "{told:?}");
    let about = |line: &String| line.contains("\"principal\":\"0a1b2c3d\",\"api_key\":\"00000002\"");
    assert!(told.iter().all(about), "{told:?}");
    assert!(told[0].contains("\"outcome\":\"failure\"") && told[1].contains("\"outcome\":\"success\""));
}
