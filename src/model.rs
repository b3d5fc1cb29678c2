//! Plain types that several floors speak of: who asks, what a route demands, which request it is.
//!
//! Owns no behaviour beyond construction and display. Invariant: nothing here holds a secret.

use core::fmt;

use crate::limits::KEY_NAME_MAX_BYTES;

/// What a caller must be allowed to do before a route serves it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Permission {
    /// Seal data under a key.
    Encrypt,
    /// Open data sealed under a key.
    Decrypt,
    /// Read what keys there are and their state.
    KeysRead,
    /// Create, rotate and configure keys.
    KeysManage,
}

impl Permission {
    /// The name under which scopes grant it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Encrypt => "encrypt",
            Self::Decrypt => "decrypt",
            Self::KeysRead => "keys.read",
            Self::KeysManage => "keys.manage",
        }
    }
}

/// Somebody who was recognised, and what they may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Principal {
    id: [u8; Self::ID_BYTES],
    rights: Rights,
}

/// What a principal may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rights {
    /// Everything.
    Admin,
}

impl Principal {
    /// Length of an identifier.
    pub const ID_BYTES: usize = 8;

    /// A principal from its public identifier; anything but letters and digits is not taken.
    #[must_use]
    pub fn new(id: [u8; Self::ID_BYTES], rights: Rights) -> Option<Self> {
        id.iter().all(u8::is_ascii_alphanumeric).then_some(Self { id, rights })
    }

    /// The public identifier.
    #[must_use]
    pub fn id(&self) -> &str {
        // Checked when it was made: it is ASCII.
        str::from_utf8(&self.id).unwrap_or_default()
    }

    /// Whether the principal may do what `permission` names.
    #[must_use]
    pub const fn may(&self, permission: Permission) -> bool {
        match (self.rights, permission) {
            (Rights::Admin, _) => true,
        }
    }
}

/// The identifier of one request, as it stands in its reply, its audit line and its log lines.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct RequestId([u8; Self::LEN]);

impl RequestId {
    /// Length of the text form in bytes.
    pub const LEN: usize = 32;

    /// Forms the identifier of a worker's `count`-th request; `start` is random for each start of each worker.
    #[must_use]
    pub fn new(start: u64, count: u64) -> Self {
        let mut text = [b'0'; Self::LEN];
        let mut raw = [0u8; Self::LEN / 2];
        let (high, low) = raw.split_at_mut(8);
        high.copy_from_slice(&start.to_be_bytes());
        low.copy_from_slice(&count.to_be_bytes());
        // The lengths agree by construction, so the refusal cannot happen.
        let _ = crate::encoding::hex_encode(&raw, &mut text);
        Self(text)
    }

    /// The text form: lower-case hexadecimal.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; Self::LEN] {
        &self.0
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| fmt::Write::write_char(f, char::from(*byte)))
    }
}

impl fmt::Debug for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The name of a key: 1 to 128 letters, digits, `.`, `_` and `-`, the first of them a letter or a digit.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyName(Box<str>);

impl KeyName {
    /// Takes `name` if it is of the form.
    #[must_use]
    pub fn new(name: &str) -> Option<Self> {
        Self::is_valid(name).then(|| Self(name.into()))
    }

    /// Whether `name` is of the form, and so safe to stand in paths, audit lines and log lines unescaped.
    #[must_use]
    pub fn is_valid(name: &str) -> bool {
        let bytes = name.as_bytes();
        bytes.len() <= KEY_NAME_MAX_BYTES
            && bytes.first().is_some_and(u8::is_ascii_alphanumeric)
            && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What a key is used for and with which algorithm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyType {
    /// XChaCha20-Poly1305: 192-bit random nonces, no practical limit on uses.
    XChaCha20Poly1305,
    /// ChaCha20-Poly1305 (RFC 8439): 96-bit random nonces, uses counted and bounded.
    ChaCha20Poly1305,
}

impl KeyType {
    /// Every type, in the order in which documents name them.
    pub const ALL: [Self; 2] = [Self::XChaCha20Poly1305, Self::ChaCha20Poly1305];

    /// The name in the API.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::XChaCha20Poly1305 => "xchacha20-poly1305",
            Self::ChaCha20Poly1305 => "chacha20-poly1305",
        }
    }

    /// The type of this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// A change of the key ring that a handler asks for; only the keeper carries one out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Make a key with one version.
    Create {
        /// The new key's name.
        name: KeyName,
        /// The new key's type.
        kind: KeyType,
    },
    /// Make a new version of a key and encrypt with it from then on.
    Rotate {
        /// The key.
        name: KeyName,
        /// Rotate only if this is still the latest version: set when the server itself found the version worn out,
        /// so that many workers who find it at once cause one rotation.
        only_if_latest: Option<u32>,
    },
}

impl Change {
    /// The key that is changed.
    #[must_use]
    pub const fn key(&self) -> &KeyName {
        match self {
            Self::Create { name, .. } | Self::Rotate { name, .. } => name,
        }
    }

    /// What it is called in audit lines.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Create { .. } => "key.create",
            Self::Rotate { .. } => "key.rotate",
        }
    }
}

/// How the server is, for those who ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Health {
    /// Time since the server was ready.
    pub uptime_seconds: u64,
    /// Whether the audit log takes lines.
    pub audit: bool,
    /// Whether the random generator has a fresh enough seed.
    pub entropy: bool,
    /// Whether every step of the lock-down took.
    pub sandbox: bool,
    /// Whether the server is ending.
    pub draining: bool,
}

impl Health {
    /// Whether requests will be served as they should.
    #[must_use]
    pub const fn is_good(&self) -> bool {
        self.audit && self.entropy && self.sandbox
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_names_are_of_one_harmless_form() {
        for good in ["a", "orders", "0", "A.b_c-9", &"x".repeat(128)] {
            assert!(KeyName::new(good).is_some(), "{good}");
        }
        for bad in ["", ".a", "-a", "_a", "a/b", "a b", "a\"", "ä", "a\n", "a%2f", &"x".repeat(129)] {
            assert!(KeyName::new(bad).is_none(), "{bad:?}");
        }
    }

    #[test]
    fn key_types_are_found_by_name() {
        for kind in KeyType::ALL {
            assert_eq!(KeyType::from_name(kind.name()), Some(kind));
        }
        assert_eq!(KeyType::from_name("aes256-gcm96"), None);
    }

    #[test]
    fn request_ids_show_start_and_count() {
        let id = RequestId::new(0x0102_0304_0506_0708, 255);
        assert_eq!(id.to_string(), "010203040506070800000000000000ff");
        assert_eq!(id.as_bytes().len(), RequestId::LEN);
    }
}
