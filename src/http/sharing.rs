//! Whose pages may read replies: the Fetch standard's CORS protocol, as far as a server takes part in it.
//!
//! Owns [`Origins`], the origins that a configuration lists, and [`Sharing`], what one reply says of that. Invariants: a
//! reply is shared with one listed origin or with none, never with all of them, and never with the credentials that a
//! browser keeps; what is written of an origin comes from the list and not from the request; as soon as anything is listed
//! every reply says that it depends on `Origin`, so that no cache gives one origin what is for another.

use crate::cursor::Cursor;

/// The fields of replies that pages may read, beside those that they always may.
const EXPOSED: &[u8] =
    b"\r\nAccess-Control-Expose-Headers: Accept-Patch, Allow, Date, RateLimit, RateLimit-Policy, \
    Retry-After, Server-Timing, WWW-Authenticate, X-Key-Version, X-RateLimit-Limit, X-RateLimit-Remaining, \
    X-RateLimit-Reset, X-Request-Id, X-Request-Time";
const VARY: &[u8] = b"\r\nVary: Origin";
const VARY_ASKED: &[u8] = b"\r\nVary: Origin, Access-Control-Request-Method, Access-Control-Request-Headers";
const ALLOW_ORIGIN: &[u8] = b"\r\nAccess-Control-Allow-Origin: ";

/// The place of an origin in the list.
pub type OriginIndex = u8;

/// The origins whose pages may read replies.
#[derive(Debug, Default)]
pub struct Origins(Box<[String]>);

impl Origins {
    /// These; as many as an index can tell.
    #[must_use]
    pub fn new(list: &[String]) -> Self {
        Self(list.iter().take(usize::from(OriginIndex::MAX)).cloned().collect())
    }

    /// The listed origin that is, byte for byte, the value of an `Origin`.
    #[must_use]
    pub fn find(&self, value: Option<&[u8]>) -> Option<OriginIndex> {
        let value = value?;
        let at = self.0.iter().position(|origin| origin.as_bytes() == value)?;
        OriginIndex::try_from(at).ok()
    }

    /// What a reply says to the origin that was found, if one was.
    #[must_use]
    pub fn sharing(&self, found: Option<OriginIndex>) -> Sharing<'_> {
        if self.0.is_empty() {
            return Sharing::Closed;
        }
        found
            .and_then(|at| self.0.get(usize::from(at)))
            .map_or(Sharing::Withheld, |origin| Sharing::With(origin))
    }
}

/// With whom a reply is shared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sharing<'a> {
    /// No origin is listed, and nothing is said.
    #[default]
    Closed,
    /// Not with who asks; the same question from elsewhere may have another answer.
    Withheld,
    /// With the pages of this origin.
    With(&'a str),
    /// It answers the question of a browser what its pages may send, or could: it depends on what is asked too, and is
    /// shared with this origin, if with one.
    Asked(Option<&'a str>),
}

impl<'a> Sharing<'a> {
    /// The same for the reply to `OPTIONS`.
    #[must_use]
    pub const fn asked(self) -> Self {
        match self {
            Self::Closed => Self::Closed,
            Self::Withheld => Self::Asked(None),
            Self::With(origin) => Self::Asked(Some(origin)),
            Self::Asked(origin) => Self::Asked(origin),
        }
    }

    /// The origin with whose pages the reply is shared.
    #[must_use]
    pub const fn origin(self) -> Option<&'a str> {
        match self {
            Self::Closed | Self::Withheld => None,
            Self::With(origin) => Some(origin),
            Self::Asked(origin) => origin,
        }
    }

    /// Writes the fields. Returns nothing if they find no room.
    pub(super) fn put(self, cursor: &mut Cursor<'_>) -> Option<()> {
        match self {
            Self::Closed => return Some(()),
            Self::Withheld | Self::With(_) => cursor.put(VARY)?,
            Self::Asked(_) => cursor.put(VARY_ASKED)?,
        }
        if let Some(origin) = self.origin() {
            cursor.put(ALLOW_ORIGIN)?;
            cursor.put(origin.as_bytes())?;
            cursor.put(EXPOSED)?;
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::{ORIGIN_MAX_BYTES, SETTING_LIST_MAX_COUNT};

    fn written(sharing: Sharing<'_>) -> String {
        let mut room = [0; 1_024];
        let mut cursor = Cursor::new(&mut room);
        sharing.put(&mut cursor).unwrap();
        let len = cursor.position();
        String::from_utf8(room[..len].to_vec()).unwrap()
    }

    fn two() -> Origins {
        Origins::new(&["https://a.example".to_owned(), "http://localhost:3000".to_owned()])
    }

    #[test]
    fn nothing_is_said_while_nothing_is_listed() {
        let origins = Origins::default();
        let found = origins.find(Some(b"https://a.example"));
        assert_eq!((found, origins.sharing(found)), (None, Sharing::Closed));
        assert_eq!(written(Sharing::Closed.asked()), "");
    }

    #[test]
    fn an_origin_is_found_byte_for_byte_only() {
        let origins = two();
        assert_eq!(origins.find(Some(b"https://a.example")), Some(0));
        assert_eq!(origins.find(Some(b"http://localhost:3000")), Some(1));
        for other in [
            "",
            "null",
            "*",
            "https://A.example",
            "https://a.example/",
            "https://a.example:443",
            "http://a.example",
            "https://a.example.evil",
            "https://evil.a.example",
            "https://a.example https://b.example",
        ] {
            assert_eq!(origins.find(Some(other.as_bytes())), None, "{other}");
        }
        assert_eq!(origins.find(None), None);
    }

    #[test]
    fn what_is_said_names_one_origin_or_none() {
        let origins = two();
        assert_eq!(written(origins.sharing(None)), "\r\nVary: Origin");
        assert_eq!(written(origins.sharing(Some(9))), "\r\nVary: Origin");
        let shared = written(origins.sharing(Some(1)));
        assert!(shared.starts_with(
            "\r\nVary: Origin\r\nAccess-Control-Allow-Origin: http://localhost:3000\r\nAccess-Control-Expose-Headers: "
        ));
        assert!(!shared.contains('*') && !shared.contains("Credentials"));
        let vary = "\r\nVary: Origin, Access-Control-Request-Method, Access-Control-Request-Headers";
        assert_eq!(written(origins.sharing(None).asked()), vary);
        let asked = written(origins.sharing(Some(0)).asked());
        assert!(asked.starts_with(&format!("{vary}\r\nAccess-Control-Allow-Origin: https://a.example\r\n")));
    }

    #[test]
    fn every_origin_that_can_be_listed_has_an_index() {
        let list: Vec<String> =
            (0..SETTING_LIST_MAX_COUNT).map(|at| format!("https://{at}.example")).collect();
        let origins = Origins::new(&list);
        for origin in &list {
            let found = origins.find(Some(origin.as_bytes()));
            assert_eq!(origins.sharing(found), Sharing::With(origin));
        }
        let longest = "o".repeat(ORIGIN_MAX_BYTES);
        assert!(written(Sharing::With(&longest)).len() < 700);
    }
}
