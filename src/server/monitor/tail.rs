//! The look at the end of the journal, which the keeper makes when it has time.
//!
//! Owns what was asked of it and what it answered ([`Asked`]). Invariant: a look that could not be made, or that nobody makes, is
//! a finding, once for each time that it is asked for.

use std::sync::{Arc, Mutex, PoisonError};

use crate::clock::Moment;
use crate::keeper::Keeper;
use crate::limits::MONITOR_TAIL_MAX_MILLIS;
use crate::store::Tail;

/// What the keeper was asked for.
#[derive(Debug, Default)]
pub(super) struct Asked {
    /// Since when it has not answered.
    since: Option<Moment>,
    /// Whether it was told that it does not.
    is_told: bool,
    /// What it found last; nothing if it has not answered, or that was told.
    answer: Arc<Mutex<Option<Tail>>>,
}

impl Asked {
    /// Has the keeper look, unless it has been asked and has not answered yet.
    pub(super) fn ask(&mut self, keeper: &Keeper, now: Moment) {
        if self.begin(now) {
            let answer = Arc::clone(&self.answer);
            keeper.look_at_tail(Box::new(move |found| put(&answer, found)));
        }
    }

    /// How it stands with the end of the journal, if there is news.
    pub(super) fn take(&mut self, keeper: &Keeper, now: Moment) -> Option<Result<(), String>> {
        self.news(keeper.take_found(), now)
    }

    /// What was found with a change comes before the answer, which may be older: that is asked for again with the next round.
    fn news(&mut self, found: Option<Tail>, now: Moment) -> Option<Result<(), String>> {
        let answered = self.answered(now);
        found.map(judge).or(answered)
    }

    fn begin(&mut self, now: Moment) -> bool {
        self.is_told = false;
        self.since.replace(self.since.unwrap_or(now)).is_none()
    }

    fn answered(&mut self, now: Moment) -> Option<Result<(), String>> {
        if let Some(found) = self.answer.lock().unwrap_or_else(PoisonError::into_inner).take() {
            self.since = None;
            return Some(judge(found));
        }
        let millis = now.nanos_since(self.since?) / 1_000_000;
        if millis < MONITOR_TAIL_MAX_MILLIS || core::mem::replace(&mut self.is_told, true) {
            return None;
        }
        let seconds = millis / 1_000;
        Some(Err(format!("the keeper has been asked to look at it for {seconds} s, and has not answered")))
    }
}

fn put(answer: &Mutex<Option<Tail>>, found: Tail) {
    *answer.lock().unwrap_or_else(PoisonError::into_inner) = Some(found);
}

fn judge(found: Tail) -> Result<(), String> {
    found.finding().map_or(Ok(()), Err)
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Moment = Moment::from_nanos(1);

    #[test]
    fn every_end_but_a_sound_one_is_a_finding_also_one_that_nobody_has_seen() {
        let mut asked = Asked::default();
        assert!(asked.begin(START));
        assert_eq!(asked.answered(START), None);
        put(&asked.answer, Tail::Sound { bytes: 7 });
        assert_eq!(asked.answered(START), Some(Ok(())));
        let ends = [Tail::Foreign { offset: 3 }, Tail::Damaged { offset: 3 }, Tail::Unread, Tail::GivenUp];
        for end in ends {
            assert!(asked.begin(START), "it has answered");
            put(&asked.answer, end);
            assert!(asked.answered(START).unwrap().is_err(), "{end:?}");
        }
    }

    #[test]
    fn an_answer_from_before_a_finding_does_not_take_it_back() {
        let mut asked = Asked::default();
        assert!(asked.begin(START));
        put(&asked.answer, Tail::Sound { bytes: 7 });
        assert!(asked.news(Some(Tail::Damaged { offset: 3 }), START).unwrap().is_err());
        assert_eq!(asked.news(None, START), None, "the answer is gone");
        assert!(asked.begin(START));
    }

    #[test]
    fn a_keeper_that_does_not_answer_is_a_finding_once_for_each_question_and_gone_when_it_does() {
        let mut asked = Asked::default();
        assert!(asked.begin(START));
        let late = START.plus_millis(MONITOR_TAIL_MAX_MILLIS);
        assert_eq!(asked.answered(Moment::from_nanos(late.as_nanos() - 1_000_000)), None);
        assert!(asked.answered(late).unwrap().unwrap_err().contains("30 s"));
        assert_eq!(asked.answered(late.plus_millis(1_000)), None, "it was told");
        assert!(!asked.begin(late.plus_millis(2_000)), "it is asked already");
        let later = late.plus_millis(3_000);
        assert!(asked.answered(later).unwrap().unwrap_err().contains("33 s"));
        put(&asked.answer, Tail::Sound { bytes: 7 });
        assert_eq!(asked.answered(later), Some(Ok(())));
        assert_eq!(
            asked.answered(later.plus_millis(MONITOR_TAIL_MAX_MILLIS)),
            None,
            "nothing is asked of it"
        );
    }
}
