//! What rows of the table of settings have in common.
//!
//! Owns the makers of rows. Invariant: each is a constant.

use super::settings::{Fallback, Group, Id, Kind, Setting, Unit};
use crate::limits;

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

pub(super) const fn millis(id: Id, name: &'static str, default: u64, help: &'static str) -> Setting {
    row(id, name, Kind::Number(Unit::Millis), Fallback::Number(default), Group::Time, help)
        .bounded(limits::TIME_LIMIT_FLOOR_MILLIS, limits::TIME_LIMIT_CEILING_MILLIS)
}

pub(super) const fn identity(id: Id, name: &'static str, help: &'static str) -> Setting {
    let default = Fallback::Number(limits::IDENTITY_DEFAULT_NUMBER as u64);
    row(id, name, Kind::Number(Unit::Identity), default, Group::Start, help)
        .bounded(limits::IDENTITY_FLOOR_NUMBER as u64, limits::IDENTITY_CEILING_NUMBER as u64)
}

/// A setting of the store that is not there unless it is given.
pub(super) const fn of_store(id: Id, name: &'static str, kind: Kind, help: &'static str) -> Setting {
    row(id, name, kind, Fallback::Nothing, Group::Store, help)
}

pub(super) const fn switch(id: Id, name: &'static str, group: Group, help: &'static str) -> Setting {
    row(id, name, Kind::Switch, Fallback::Off, group, help)
}

pub(super) const fn capacity(
    id: Id,
    name: &'static str,
    unit: Unit,
    default: u64,
    help: &'static str,
) -> Setting {
    row(id, name, Kind::Number(unit), Fallback::Number(default), Group::Capacity, help)
}
