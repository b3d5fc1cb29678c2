//! Which lines are asked for.
//!
//! Owns [`Filter`]. Invariants: a line passes only if every member that is named has exactly the value that is named; times
//! are compared as they stand in the lines, whose form has one width and sorts as the times do.

use crate::audit::member;
use crate::clock::WallTime;
use crate::limits::{AUDIT_FILTER_VALUE_MAX_BYTES, TIME_MAX_MILLIS};

/// The members that can be filtered by, and what stands before their values in a line.
const MEMBERS: [(&str, &[u8]); 6] = [
    ("principal", b",\"principal\":\""),
    ("key", b",\"key\":\""),
    (EVENT, b",\"event\":\""),
    ("outcome", b",\"outcome\":\""),
    ("code", b",\"code\":\""),
    ("request_id", b",\"request_id\":\""),
];
/// The member whose value may be the beginning of a name, with `*` behind it.
const EVENT: &str = "event";
const TIME: &[u8] = b",\"ts\":\"";

/// A choice of lines. The default is every line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    texts: [Option<Box<[u8]>>; MEMBERS.len()],
    since: Option<String>,
    until: Option<String>,
}

impl Filter {
    /// The names of the members that [`Filter::want`] takes.
    pub fn names() -> impl Iterator<Item = &'static str> {
        MEMBERS.iter().map(|(name, _)| *name)
    }

    /// Demands that the member `name` has this value; of an event, that its name begins with what stands before a `*` at
    /// the end. Nothing if there is no such member, or the value is longer than any.
    pub fn want(&mut self, name: &str, value: &[u8]) -> Option<()> {
        let place = MEMBERS.iter().position(|(known, _)| *known == name)?;
        *self.texts.get_mut(place)? = Some(value)
            .filter(|value| value.len() <= AUDIT_FILTER_VALUE_MAX_BYTES)?
            .to_vec()
            .into_boxed_slice()
            .into();
        Some(())
    }

    /// Demands lines of this time or later.
    pub fn want_since(&mut self, time: WallTime) {
        self.since = Some(shown(time));
    }

    /// Demands lines from before this time.
    pub fn want_until(&mut self, time: WallTime) {
        self.until = Some(shown(time));
    }

    /// Whether lines are demanded to be of some time or later.
    #[must_use]
    pub fn has_since(&self) -> bool {
        self.since.is_some()
    }

    /// Whether the line is among those that are asked for.
    #[must_use]
    pub fn passes(&self, line: &[u8]) -> bool {
        self.is_of_the_time(line)
            && MEMBERS.iter().zip(&self.texts).all(|((name, before), wanted)| {
                let Some(wanted) = wanted else { return true };
                member::text(line, before).is_some_and(|value| match wanted.split_last() {
                    Some((b'*', start)) if *name == EVENT => value.starts_with(start),
                    _ => value == &**wanted,
                })
            })
    }

    fn is_of_the_time(&self, line: &[u8]) -> bool {
        if self.since.is_none() && self.until.is_none() {
            return true;
        }
        let time = member::text(line, TIME);
        time.is_some_and(|time| {
            self.since.as_ref().is_none_or(|since| time >= since.as_bytes())
                && self.until.as_ref().is_none_or(|until| time < until.as_bytes())
        })
    }
}

/// A time as it stands in a line.
fn shown(time: WallTime) -> String {
    WallTime::from_millis(time.as_millis().min(TIME_MAX_MILLIS)).civil().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &[u8] = br#"{"seq":7,"ts":"2001-09-09T01:46:40.123Z","stream":"s-w0","event":"key.create","outcome":"failure","code":"key_exists","request_id":"00","principal":"0a1b2c3d","api_key":"other","key":"orders"}"#;

    fn passes(wanted: &[(&str, &str)]) -> bool {
        let mut filter = Filter::default();
        wanted.iter().for_each(|(name, value)| filter.want(name, value.as_bytes()).unwrap());
        filter.passes(LINE)
    }

    #[test]
    fn every_member_that_is_named_must_have_its_value() {
        assert!(passes(&[]));
        for (name, right, wrong) in [
            ("principal", "0a1b2c3d", "0a1b2c3"),
            ("key", "orders", "other"),
            ("event", "key.create", "key.creat"),
            ("outcome", "failure", "success"),
            ("code", "key_exists", "key_exists*"),
            ("request_id", "00", "000"),
        ] {
            assert!(
                passes(&[(name, right), ("event", "key.*")][..if name == "event" { 1 } else { 2 }]),
                "{name}"
            );
            assert!(!passes(&[(name, wrong)]), "{name}");
            assert!(!passes(&[(name, right), ("principal", "another")]), "{name}");
            assert!(!passes(&[(name, "")]), "{name}");
        }
        assert_eq!(Filter::default().want("stream", b"s-w0"), None);
        assert_eq!(Filter::default().want("key", &[b'k'; AUDIT_FILTER_VALUE_MAX_BYTES + 1]), None);
    }

    #[test]
    fn a_star_at_the_end_of_an_event_stands_for_any_rest() {
        for (event, passed) in [
            ("*", true),
            ("key.*", true),
            ("key.create*", true),
            ("keys*", false),
            ("*create", false),
            ("k*y.create", false),
        ] {
            assert_eq!(passes(&[("event", event)]), passed, "{event}");
        }
    }

    #[test]
    fn times_are_from_one_up_to_but_without_the_other() {
        let at = 1_000_000_000_123;
        for (since, until, passed) in [
            (Some(at), None, true),
            (Some(at + 1), None, false),
            (None, Some(at), false),
            (Some(0), Some(at + 1), true),
            (None, Some(u64::MAX), true),
            (Some(u64::MAX), None, false),
        ] {
            let mut filter = Filter::default();
            since.into_iter().for_each(|since| filter.want_since(WallTime::from_millis(since)));
            until.into_iter().for_each(|until| filter.want_until(WallTime::from_millis(until)));
            assert_eq!(filter.passes(LINE), passed, "{since:?} {until:?}");
        }
    }
}
