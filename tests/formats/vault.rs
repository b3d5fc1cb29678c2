//! `docs/VAULT.md` is true to the table of the second face.
//!
//! Owns the reading of its table of paths. Invariant: a path without its scope and its event in one row is a finding.

use quantonium::api::route::TABLE as OWN;
use quantonium::api::vault::route::TABLE;
use quantonium::audit::line;

use crate::FORMATS;

pub(crate) const VAULT: &str = include_str!("../../docs/VAULT.md");

#[test]
fn every_event_is_documented() {
    for event in OWN.iter().chain(TABLE).filter_map(|route| route.event) {
        assert!(FORMATS.contains(&format!("`{event}`")), "{event}");
    }
    assert!(FORMATS.contains(&format!("`{}`", line::STORE_HEAD)));
}

#[test]
fn every_path_of_the_second_face_is_documented_with_its_scope_and_event() {
    let rows: Vec<&str> =
        VAULT.lines().filter(|line| line.starts_with("| `") && line.contains("` |")).collect();
    for route in TABLE {
        let words = route.pattern.strip_prefix("/v1/").unwrap().replace("{mount}/", "transit/");
        let mut parts = words.rsplit(['/', '{']);
        let name = parts.find(|word| !word.is_empty() && !word.ends_with('}')).unwrap();
        let row = rows.iter().find(|row| {
            row.contains(name)
                && route.event.is_none_or(|event| row.contains(event) || row.contains("the same"))
                && route.permission().is_none_or(|permission| row.contains(permission.name()))
        });
        assert!(row.is_some(), "{} {} ({name})", route.method.name(), route.pattern);
    }
}
