//! What an API key or a token allows: scopes, and sets of them.
//!
//! Owns [`Scope`], [`KeyGlob`] and [`Grants`]. Invariants: the text of a scope has one form, and only that one is read; a set
//! names nothing twice and is bounded; [`Grants::covers`] never says yes to something that the covering set does not
//! allow.

use core::fmt;

use crate::limits::{SCOPE_MAX_BYTES, SCOPES_MAX_COUNT};
use crate::model::Permission;

/// Which keys a scope is about: a name in which `*` stands for any run of characters, also for none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyGlob(Box<str>);

impl KeyGlob {
    /// Takes `text` if it is of the form: a key name in which stars may stand.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        let first = text.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric() || byte == b'*');
        let rest = text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-' | b'*'));
        (first && rest && text.len() <= SCOPE_MAX_BYTES).then(|| Self(text.into()))
    }

    /// Whether `name` is one of those that are meant.
    ///
    /// Takes at most the product of both lengths in steps, which are bounded.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        let (pattern, name) = (self.0.as_bytes(), name.as_bytes());
        let (mut at, mut seen) = (0, 0);
        // Where the last star stands, and how much of the name it stands for.
        let mut star: Option<(usize, usize)> = None;
        while let Some(byte) = name.get(seen) {
            match pattern.get(at) {
                Some(b'*') => {
                    star = Some((at, seen));
                    at += 1;
                }
                Some(wanted) if wanted == byte => {
                    at += 1;
                    seen += 1;
                }
                _ => {
                    let Some((place, until)) = star else { return false };
                    star = Some((place, until + 1));
                    at = place + 1;
                    seen = until + 1;
                }
            }
        }
        pattern.get(at..).is_some_and(|rest| rest.iter().all(|byte| *byte == b'*'))
    }

    /// Whether every name that `other` means is meant here. A star of `other` is only stood for by one of ours, so that a
    /// yes is certain; a no may be wrong.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        self.matches(&other.0)
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// One thing that is allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Everything.
    Admin,
    /// What a permission names, for the keys of the glob; without one for all of them, or where no key is meant.
    On(Permission, Option<KeyGlob>),
}

impl Scope {
    /// The text of [`Scope::Admin`].
    pub const ADMIN: &'static str = "admin";

    /// The scope of this text.
    ///
    /// # Errors
    /// [`ScopeError`]
    pub fn parse(text: &str) -> Result<Self, ScopeError> {
        if text.len() > SCOPE_MAX_BYTES {
            return Err(ScopeError::TooLong);
        }
        if text == Self::ADMIN {
            return Ok(Self::Admin);
        }
        let (name, glob) = text.split_once(':').map_or((text, None), |(name, glob)| (name, Some(glob)));
        let permission = Permission::from_name(name).ok_or(ScopeError::Unknown)?;
        let Some(glob) = glob else { return Ok(Self::On(permission, None)) };
        if !permission.takes_key() {
            return Err(ScopeError::TakesNoKey);
        }
        KeyGlob::new(glob).map(|glob| Self::On(permission, Some(glob))).ok_or(ScopeError::Glob)
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Admin => f.write_str(Self::ADMIN),
            Self::On(permission, None) => f.write_str(permission.name()),
            Self::On(permission, Some(glob)) => write!(f, "{}:{}", permission.name(), glob.as_str()),
        }
    }
}

/// Why a text is no scope, or several are no set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScopeError {
    /// No permission has this name.
    Unknown,
    /// What follows the colon is no key name with stars.
    Glob,
    /// The permission is not about keys.
    TakesNoKey,
    /// The text is longer than any scope.
    TooLong,
    /// There are none.
    Empty,
    /// There are more than a set may have.
    TooMany,
    /// One is named twice.
    Repeated,
}

impl fmt::Display for ScopeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unknown => "a scope is `admin`, or the name of a permission and perhaps `:` and key names",
            Self::Glob => "behind the colon of a scope stands a key name, in which * means any characters",
            Self::TakesNoKey => {
                "a scope of hash, entropy, auth.manage, audit.read or metrics.read names no keys"
            }
            Self::TooLong => "a scope is too long",
            Self::Empty => "at least one scope is needed",
            Self::TooMany => "there are too many scopes",
            Self::Repeated => "a scope is named twice",
        })
    }
}

impl std::error::Error for ScopeError {}

/// A set of scopes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grants {
    scopes: Box<[Scope]>,
    admin: bool,
    /// A bit for each permission that is granted for every key.
    everywhere: u32,
    /// A bit for each permission that is granted for some key.
    somewhere: u32,
}

impl Grants {
    /// The set of one: [`Scope::Admin`].
    #[must_use]
    pub fn admin() -> Self {
        Self::of(Box::new([Scope::Admin]))
    }

    /// The set of these texts, in their order.
    ///
    /// # Errors
    /// [`ScopeError`]
    pub fn parse<'a>(texts: impl IntoIterator<Item = &'a str>) -> Result<Self, ScopeError> {
        let mut scopes: Vec<Scope> = Vec::new();
        for text in texts {
            let scope = Scope::parse(text)?;
            if scopes.contains(&scope) {
                return Err(ScopeError::Repeated);
            }
            if scopes.len() >= SCOPES_MAX_COUNT {
                return Err(ScopeError::TooMany);
            }
            scopes.push(scope);
        }
        if scopes.is_empty() { Err(ScopeError::Empty) } else { Ok(Self::of(scopes.into())) }
    }

    fn of(scopes: Box<[Scope]>) -> Self {
        let (mut admin, mut everywhere, mut somewhere) = (false, 0, 0);
        for scope in &scopes {
            match scope {
                Scope::Admin => admin = true,
                Scope::On(permission, glob) => {
                    somewhere |= permission.bit();
                    if glob.as_ref().is_none_or(|glob| glob.as_str() == "*") {
                        everywhere |= permission.bit();
                    }
                }
            }
        }
        Self { scopes, admin, everywhere, somewhere }
    }

    /// The scopes, in the order in which they were given.
    pub fn iter(&self) -> impl Iterator<Item = &Scope> {
        self.scopes.iter()
    }

    /// Whether everything is allowed.
    #[must_use]
    pub const fn is_admin(&self) -> bool {
        self.admin
    }

    /// Whether what `permission` names is allowed, be it for some keys only.
    #[must_use]
    pub const fn may(&self, permission: Permission) -> bool {
        self.admin || self.somewhere & permission.bit() != 0
    }

    /// Whether what `permission` names is allowed for the key of this name.
    #[must_use]
    pub fn may_key(&self, permission: Permission, name: &str) -> bool {
        self.admin
            || self.everywhere & permission.bit() != 0
            || (self.somewhere & permission.bit() != 0
                && self.globs(permission).any(|glob| glob.matches(name)))
    }

    /// Whether nothing is allowed by `other` that is not allowed here. A yes is certain.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        self.admin
            || other.scopes.iter().all(|scope| match scope {
                Scope::Admin => false,
                Scope::On(permission, None) => self.everywhere & permission.bit() != 0,
                Scope::On(permission, Some(glob)) => {
                    self.everywhere & permission.bit() != 0
                        || self.globs(*permission).any(|own| own.covers(glob))
                }
            })
    }

    fn globs(&self, permission: Permission) -> impl Iterator<Item = &KeyGlob> {
        self.scopes.iter().filter_map(move |scope| match scope {
            Scope::On(of, Some(glob)) if *of == permission => Some(glob),
            _ => None,
        })
    }
}

impl fmt::Display for Grants {
    /// Separated by blanks, as RFC 6749, section 3.3 writes them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, scope) in self.scopes.iter().enumerate() {
            if index > 0 {
                f.write_str(" ")?;
            }
            write!(f, "{scope}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn glob(text: &str) -> KeyGlob {
        KeyGlob::new(text).unwrap()
    }

    fn grants(texts: &[&str]) -> Grants {
        Grants::parse(texts.iter().copied()).unwrap()
    }

    #[test]
    fn a_star_stands_for_any_run_and_nothing_else_is_special() {
        for (pattern, name) in [
            ("*", "a"),
            ("orders", "orders"),
            ("orders-*", "orders-"),
            ("o*s", "os"),
            ("*-*-x", "a-b-c-x"),
            ("a**", "a"),
        ] {
            assert!(glob(pattern).matches(name), "{pattern} {name}");
        }
        for (pattern, name) in [
            ("orders", "orders2"),
            ("orders-*", "orders"),
            ("a.c", "abc"),
            ("o*s", "osx"),
            ("*-x", "a-y"),
            ("A", "a"),
        ] {
            assert!(!glob(pattern).matches(name), "{pattern} {name}");
        }
        for bad in ["", "-a", "a b", "a:b", "a/b", "a?", "[a]", "ä", &"a".repeat(SCOPE_MAX_BYTES + 1)] {
            assert!(KeyGlob::new(bad).is_none(), "{bad:?}");
        }
    }

    #[test]
    fn scopes_have_one_form() {
        for text in [
            "admin",
            "encrypt",
            "encrypt:*",
            "decrypt:orders-*",
            "hash",
            "keys.manage:a",
            "keystream.rederive:k",
        ] {
            assert_eq!(Scope::parse(text).unwrap().to_string(), text);
        }
        for (text, why) in [
            ("", ScopeError::Unknown),
            ("Encrypt", ScopeError::Unknown),
            ("admin:*", ScopeError::Unknown),
            ("encrypt:", ScopeError::Glob),
            ("encrypt:a b", ScopeError::Glob),
            ("hash:*", ScopeError::TakesNoKey),
            ("auth.manage:k", ScopeError::TakesNoKey),
        ] {
            assert_eq!(Scope::parse(text), Err(why), "{text}");
        }
        assert_eq!(Grants::parse([]), Err(ScopeError::Empty));
        assert_eq!(Grants::parse(["hash", "hash"]), Err(ScopeError::Repeated));
        let many: Vec<String> = (0..=SCOPES_MAX_COUNT).map(|number| format!("sign:k{number}")).collect();
        assert_eq!(Grants::parse(many.iter().map(String::as_str)), Err(ScopeError::TooMany));
    }

    #[test]
    fn a_grant_reaches_as_far_as_its_glob() {
        let some = grants(&["encrypt:orders-*", "decrypt", "hash"]);
        assert!(some.may(Permission::Encrypt) && some.may(Permission::Hash) && !some.may(Permission::Sign));
        assert!(
            some.may_key(Permission::Encrypt, "orders-1") && !some.may_key(Permission::Encrypt, "orders")
        );
        assert!(some.may_key(Permission::Decrypt, "orders") && !some.may_key(Permission::Sign, "orders-1"));
        assert!(
            Grants::admin().may_key(Permission::KeysExport, "x")
                && Grants::admin().may(Permission::AuthManage)
        );
        assert_eq!(some.to_string(), "encrypt:orders-* decrypt hash");
    }

    #[test]
    fn nobody_covers_more_than_he_has() {
        let own = grants(&["encrypt:orders-*", "decrypt", "sign:*"]);
        for within in [
            &["encrypt:orders-1"][..],
            &["encrypt:orders-*"],
            &["encrypt:orders-a*b", "decrypt:x"],
            &["sign"],
        ] {
            assert!(own.covers(&grants(within)), "{within:?}");
        }
        for beyond in [
            &["encrypt"][..],
            &["encrypt:*"],
            &["encrypt:orders*"],
            &["admin"],
            &["verify"],
            &["decrypt", "hash"],
        ] {
            assert!(!own.covers(&grants(beyond)), "{beyond:?}");
        }
        assert!(Grants::admin().covers(&Grants::admin()));
    }

    proptest! {
        #[test]
        fn what_is_covered_is_matched(outer in "[ab*]{1,6}", inner in "[ab*]{1,6}", fill in proptest::collection::vec("[ab]{0,3}", 6)) {
            let (outer, inner) = (glob(&outer), glob(&inner));
            let mut fills = fill.iter();
            let name: String = inner.as_str().chars().map(|char| match char {
                '*' => fills.next().cloned().unwrap_or_default(),
                char => char.to_string(),
            }).collect();
            prop_assert!(inner.matches(&name));
            prop_assert!(!outer.covers(&inner) || outer.matches(&name), "{name}");
        }

        #[test]
        fn matching_is_what_a_plain_search_says(pattern in "[ab*]{1,7}", name in "[ab]{0,8}") {
            fn plain(pattern: &[u8], name: &[u8]) -> bool {
                match pattern.split_first() {
                    None => name.is_empty(),
                    Some((b'*', rest)) => (0..=name.len()).any(|skip| plain(rest, &name[skip..])),
                    Some((byte, rest)) => name.first() == Some(byte) && plain(rest, &name[1..]),
                }
            }
            prop_assert_eq!(glob(&pattern).matches(&name), plain(pattern.as_bytes(), name.as_bytes()));
        }
    }
}
