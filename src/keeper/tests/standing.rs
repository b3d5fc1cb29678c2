//! Where the store stands is told in each part of the keeper's stream, so that none but the last is needed for it.

use std::fs::File;
use std::sync::Arc;

use super::super::shelf::Shelf;
use super::{Desk, chain, create};
use crate::audit::{Office, Outlets, Sink, Succession, Syncing};
use crate::keeper::Diary;

const DAY_MILLIS: u64 = 86_400_000;

#[test]
fn a_new_part_tells_once_where_the_store_stands_and_what_is_before_it_is_not_needed() {
    let mut desk = Desk::on(Shelf::default());
    let office = Arc::new(Office::new(1));
    let appending = || Arc::new(File::options().append(true).open(&desk.diary).unwrap());
    let succession = Succession { office: Arc::clone(&office), stream: 0, rotate_bytes: u64::MAX };
    let sink = Sink::with_parts(appending(), "s-k", chain(), succession);
    office.tell_ready(0, appending());
    let outlets = Outlets::new(Some(sink), None, Syncing::Written);
    desk.ledger.diary = Diary::new(outlets, 5).with_office(Arc::clone(&office));
    assert_eq!(office.standing_part(), 0, "nothing was told");
    desk.commit(vec![create("a")]);
    assert_eq!((desk.heads(), office.standing_part()), (vec![1], 1));
    // The first line of a new day is the first one of a new part; it tells nothing of the store.
    desk.tick_after(DAY_MILLIS);
    assert_eq!((desk.heads(), office.standing_part()), (vec![1], 1), "no line, no part");
    office.note_reload(true);
    desk.tick_after(1_000);
    desk.tick_after(1_000);
    assert_eq!((desk.heads(), office.standing_part()), (vec![1, 1], 2));
    desk.tick_after(1_000);
    assert_eq!(desk.heads(), [1, 1], "once");
}
