//! Where things stand in etcd: the keys below the prefix.
//!
//! Owns [`Layout`] and `Place`. Invariants: no key says what its record is about; a key that is none of these is told
//! apart and never taken for one.

use super::super::record::Path;
use crate::encoding::{hex_decode, hex_encode};
use crate::limits::{ETCD_PREFIX_MAX_BYTES, STORE_ORIGINS_MAX_COUNT};

/// Tells the servers of a fleet apart.
pub type ServerId = [u8; 4];

/// What a key is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// The header: ring and wrapped root key.
    Ring,
    /// Where the state stands.
    Head,
    /// A record.
    Record(Path),
    /// The origins of a change.
    Origins(u16),
    /// A server that lives.
    Member(ServerId),
}

/// The keys of one store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Ends in `/`.
    prefix: Vec<u8>,
}

impl Layout {
    /// The keys below `prefix`: one or more parts of letters, digits, `.`, `_` and `-` with `/` between them; nothing if it
    /// is not of that form.
    #[must_use]
    pub fn new(prefix: &str) -> Option<Self> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        let part = |part: &str| !part.is_empty() && part.bytes().all(plain);
        let good = prefix.len() < ETCD_PREFIX_MAX_BYTES && prefix.split('/').all(part);
        good.then(|| Self { prefix: format!("{prefix}/").into_bytes() })
    }

    /// What all keys begin with, and the first key behind all of them.
    #[must_use]
    pub fn span(&self) -> (Vec<u8>, Vec<u8>) {
        let mut end = self.prefix.clone();
        // It ends in a slash, which has a successor.
        if let Some(last) = end.last_mut() {
            *last += 1;
        }
        (self.prefix.clone(), end)
    }

    pub(super) fn ring(&self) -> Vec<u8> {
        self.key(b"ring")
    }

    pub(super) fn head(&self) -> Vec<u8> {
        self.key(b"head")
    }

    pub(super) fn record(&self, path: Path) -> Vec<u8> {
        self.hex(b"r/", path.as_bytes())
    }

    /// The place of the origins of change number `change`.
    pub(super) fn origins(&self, change: u64) -> Vec<u8> {
        let slot = u16::try_from(change % STORE_ORIGINS_MAX_COUNT as u64).unwrap_or_default();
        self.hex(b"o/", &slot.to_be_bytes())
    }

    pub(super) fn member(&self, id: ServerId) -> Vec<u8> {
        self.hex(b"m/", &id)
    }

    /// The first key behind `key`: where the next page begins.
    pub(super) fn behind(key: &[u8]) -> Vec<u8> {
        let mut next = key.to_vec();
        next.push(0);
        next
    }

    /// What `key` is for; nothing if it is not one of these.
    pub(super) fn place(&self, key: &[u8]) -> Option<Place> {
        let name = key.strip_prefix(self.prefix.as_slice())?;
        match name {
            b"ring" => return Some(Place::Ring),
            b"head" => return Some(Place::Head),
            _ => {}
        }
        let (kind, digits) = name.split_at_checked(2)?;
        match kind {
            b"r/" => exact(digits).map(Path::new).map(Place::Record),
            b"o/" => exact(digits).map(u16::from_be_bytes).map(Place::Origins),
            b"m/" => exact(digits).map(Place::Member),
            _ => None,
        }
    }

    fn key(&self, name: &[u8]) -> Vec<u8> {
        [self.prefix.as_slice(), name].concat()
    }

    fn hex(&self, kind: &[u8], bytes: &[u8]) -> Vec<u8> {
        let mut digits = [0; 2 * Path::BYTES];
        let len = hex_encode(bytes, &mut digits).unwrap_or_default();
        [self.prefix.as_slice(), kind, digits.get(..len).unwrap_or_default()].concat()
    }
}

fn exact<const LEN: usize>(digits: &[u8]) -> Option<[u8; LEN]> {
    let mut bytes = [0; LEN];
    (hex_decode(digits, &mut bytes)? == LEN).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_told_apart_and_found_again() {
        let layout = Layout::new("quantonium/prod").unwrap();
        for (key, place) in [
            (layout.ring(), Place::Ring),
            (layout.head(), Place::Head),
            (layout.record(Path::new([0xA7; 16])), Place::Record(Path::new([0xA7; 16]))),
            (layout.origins(4_096 + 258), Place::Origins(258)),
            (layout.member([1, 2, 3, 255]), Place::Member([1, 2, 3, 255])),
        ] {
            assert_eq!(layout.place(&key), Some(place));
            let (begin, end) = layout.span();
            assert!(begin <= key && key < end, "{place:?}");
            assert_eq!(Layout::new("quantonium/pro").unwrap().place(&key), None);
        }
        assert_eq!(
            layout.record(Path::new([0xA7; 16])),
            [b"quantonium/prod/r/".as_slice(), &b"a7".repeat(16)].concat()
        );
        for foreign in ["r/a7", "r/A7A7A7A7A7A7A7A7A7A7A7A7A7A7A7A7", "o/00000", "m/", "x/00", "heads", ""] {
            assert_eq!(layout.place(format!("quantonium/prod/{foreign}").as_bytes()), None, "{foreign}");
        }
    }

    #[test]
    fn a_prefix_is_plain_text() {
        for good in ["q", "a/b", "A.b_c-9/d"] {
            assert!(Layout::new(good).is_some(), "{good}");
        }
        for bad in ["", "/", "a/", "/a", "a//b", "a b", "ä", "a?b", &"a".repeat(ETCD_PREFIX_MAX_BYTES)] {
            assert!(Layout::new(bad).is_none(), "{bad}");
        }
    }
}
