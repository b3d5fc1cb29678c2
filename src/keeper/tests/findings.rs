//! What the process finds in itself is told in the audit log once, as soon as that takes it.

use std::fs::File;
use std::sync::Arc;

use super::super::queue::Last;
use super::super::shelf::Shelf;
use super::{Desk, create, diary_in};
use crate::audit::Office;
use crate::integrity::Check;
use crate::limits::INTEGRITY_FINDINGS_UNTOLD_MAX_COUNT;
use crate::model::RequestId;

#[test]
fn findings_are_told_once_and_kept_as_long_as_the_log_takes_nothing() {
    let mut desk = Desk::on(Shelf::default());
    let office = Arc::new(Office::new(1));
    let into = |file: File| diary_in(file).with_office(Arc::clone(&office));
    desk.ledger.diary = into(File::options().write(true).open("/dev/full").unwrap());
    office.note_finding(Check::Mappings, Some("a page is \"writable\" and executable"));
    let last = office.note_finding(Check::Mappings, None);
    desk.tick_after(1_000);
    assert_eq!((desk.told().len(), office.findings_told()), (0, 0));
    assert_eq!(office.untold_findings().len(), 2);
    desk.ledger.diary = into(File::options().append(true).open(&desk.diary).unwrap());
    desk.tick_after(1_000);
    assert_eq!(office.findings_told(), last);
    desk.tick_after(1_000);
    let told = desk.told();
    assert_eq!(told.len(), 2, "{told:?}");
    let found = r#""event":"integrity.finding","outcome":"failure","check":"mappings","finding":"a page is ?writable? and executable""#;
    assert!(told[0].contains(found), "{told:?}");
    assert!(told[1].contains(r#""event":"integrity.cleared","outcome":"success","check":"mappings","prev""#));
}

#[test]
fn more_findings_than_are_kept_are_counted_with_the_first_that_is_told() {
    let mut desk = Desk::on(Shelf::default());
    let office = Arc::new(Office::new(1));
    desk.ledger.diary =
        diary_in(File::options().append(true).open(&desk.diary).unwrap()).with_office(Arc::clone(&office));
    for _ in 0..INTEGRITY_FINDINGS_UNTOLD_MAX_COUNT + 3 {
        office.note_finding(Check::Tracer, Some("traced"));
    }
    desk.tick_after(1_000);
    let told = desk.told();
    assert_eq!(told.len(), INTEGRITY_FINDINGS_UNTOLD_MAX_COUNT);
    assert!(told[0].contains(r#""event":"integrity.finding","outcome":"failure","count":3,"#), "{}", told[0]);
    assert!(told[1..].iter().all(|line| !line.contains("\"count\"")), "{told:?}");
}

#[test]
fn a_process_that_is_not_trusted_tells_its_findings_and_leaves_the_store_as_it_is() {
    let shelf = Shelf::default();
    let mut desk = Desk::on(shelf.another());
    desk.commit(vec![create("a")]);
    let before = (shelf.revision(), desk.told().len());
    desk.ring().get("a").unwrap().version(1).unwrap().uses().note(desk.now.wall, 3);
    let office = Arc::new(Office::new(1));
    desk.ledger.diary =
        diary_in(File::options().append(true).open(&desk.diary).unwrap()).with_office(Arc::clone(&office));
    office.note_finding(Check::Tracer, Some("traced"));
    let _asked = desk.keeper.submit(create("b"), &RequestId::new(1, 1)).unwrap();
    desk.keeper.tick();
    desk.keeper.flush(Last::Findings, Box::new(|| ()));
    let work = desk.keeper.next();
    desk.keeper.carry_out(work, &mut desk.ledger, desk.now);
    assert_eq!(shelf.revision(), before.0, "neither the change that waited, nor figures, nor a checkpoint");
    let told = desk.told();
    assert_eq!(told.len(), before.1 + 1, "{told:?}");
    assert!(told.last().unwrap().contains("integrity.finding"), "{told:?}");
}
