//! How a row of the table of settings is written.
//!
//! Owns the short forms of rows that many settings share. Invariant: each gives a whole [`Setting`], so that the table says
//! of a setting only what is its own.

use super::settings::{Fallback, Group, Id, Kind, Setting, Unit};
use crate::limits;

/// A row without bounds.
pub(super) const fn row(
    id: Id,
    name: &'static str,
    kind: Kind,
    fallback: Fallback,
    group: Group,
    help: &'static str,
) -> Setting {
    Setting { id, name, kind, fallback, floor: 0, ceiling: 0, group, help }
}

/// What is off unless it is asked for.
pub(super) const fn switch(id: Id, name: &'static str, group: Group, help: &'static str) -> Setting {
    row(id, name, Kind::Switch, Fallback::Off, group, help)
}

/// A path that need not be named.
pub(super) const fn path(id: Id, name: &'static str, group: Group, help: &'static str) -> Setting {
    row(id, name, Kind::Path, Fallback::Nothing, group, help)
}

/// One of some words. `words`: those, and what it is if nothing is said.
pub(super) const fn choice(
    id: Id,
    name: &'static str,
    words: (&'static [&'static str], &'static str),
    group: Group,
    help: &'static str,
) -> Setting {
    row(id, name, Kind::Choice(words.0), Fallback::Text(words.1), group, help)
}

/// A time, in milliseconds, in the bounds of all of them.
pub(super) const fn millis(id: Id, name: &'static str, default: u64, help: &'static str) -> Setting {
    row(id, name, Kind::Number(Unit::Millis), Fallback::Number(default), Group::Time, help)
        .bounded(limits::TIME_LIMIT_FLOOR_MILLIS, limits::TIME_LIMIT_CEILING_MILLIS)
}

/// A user or a group.
pub(super) const fn identity(id: Id, name: &'static str, help: &'static str) -> Setting {
    let default = Fallback::Number(limits::IDENTITY_DEFAULT_NUMBER as u64);
    row(id, name, Kind::Number(Unit::Identity), default, Group::Start, help)
        .bounded(limits::IDENTITY_FLOOR_NUMBER as u64, limits::IDENTITY_CEILING_NUMBER as u64)
}

/// A setting of the store that is not there unless it is given.
pub(super) const fn of_store(id: Id, name: &'static str, kind: Kind, help: &'static str) -> Setting {
    row(id, name, kind, Fallback::Nothing, Group::Store, help)
}

/// How old what is known of a shared store may be.
pub(super) const fn max_staleness() -> Setting {
    let kind = Kind::Number(Unit::Seconds);
    let default = Fallback::Number(limits::STALENESS_DEFAULT_SECONDS);
    let help = "How old what is known of a shared store may be before credentials are refused";
    row(Id::MaxStaleness, "max-staleness", kind, default, Group::Store, help)
        .bounded(limits::STALENESS_FLOOR_SECONDS, limits::STALENESS_CEILING_SECONDS)
}

/// How much there may be of something.
pub(super) const fn capacity(
    id: Id,
    name: &'static str,
    unit: Unit,
    default: u64,
    help: &'static str,
) -> Setting {
    row(id, name, Kind::Number(unit), Fallback::Number(default), Group::Capacity, help)
}
