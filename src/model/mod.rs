//! Plain types that several floors speak of: who asks, what a route demands, which request it is.
//!
//! Owns no behaviour beyond construction and display. Invariant: nothing here holds a secret.

mod identity;
mod posture;
mod principal;
mod scope;
mod trace;

use core::fmt;

pub use identity::{IDENTITY_FORMS, Identities, Identity};
pub use posture::{Mode, Outcome, Posture, Step};
pub use principal::{ApiKeyId, Principal, TokenTerms};
pub use scope::{Grants, KeyGlob, Scope, ScopeError};
pub use trace::{TraceId, TraceParent};

use crate::integrity::Failed;
use crate::limits::KEY_NAME_MAX_BYTES;

/// What a caller must be allowed to do before a route serves it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Permission {
    /// Seal data under a key.
    Encrypt,
    /// Open data sealed under a key.
    Decrypt,
    /// Open data and seal it again under another version, without seeing it.
    Rewrap,
    /// Make data keys, wrapped under a key.
    Datakey,
    /// Sign data.
    Sign,
    /// Check signatures.
    Verify,
    /// Hash data.
    Hash,
    /// Draw random bytes.
    Entropy,
    /// Draw the keystream of a fresh nonce.
    Keystream,
    /// Draw the keystream of a nonce of the caller's choice.
    KeystreamRederive,
    /// Read what keys there are and their state.
    KeysRead,
    /// Create, rotate, configure, import and delete keys.
    KeysManage,
    /// Take key material out, in the open or sealed.
    KeysExport,
    /// Create, configure, rotate and revoke API keys.
    AuthManage,
    /// Read the audit log.
    AuditRead,
    /// Read metrics and the state of the lock-down.
    MetricsRead,
}

impl Permission {
    /// Every permission, in the order in which documents name them.
    pub const ALL: [Self; 16] = [
        Self::Encrypt,
        Self::Decrypt,
        Self::Rewrap,
        Self::Datakey,
        Self::Sign,
        Self::Verify,
        Self::Hash,
        Self::Entropy,
        Self::Keystream,
        Self::KeystreamRederive,
        Self::KeysRead,
        Self::KeysManage,
        Self::KeysExport,
        Self::AuthManage,
        Self::AuditRead,
        Self::MetricsRead,
    ];

    /// The name under which scopes grant it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Encrypt => "encrypt",
            Self::Decrypt => "decrypt",
            Self::Rewrap => "rewrap",
            Self::Datakey => "datakey",
            Self::Sign => "sign",
            Self::Verify => "verify",
            Self::Hash => "hash",
            Self::Entropy => "entropy",
            Self::Keystream => "keystream",
            Self::KeystreamRederive => "keystream.rederive",
            Self::KeysRead => "keys.read",
            Self::KeysManage => "keys.manage",
            Self::KeysExport => "keys.export",
            Self::AuthManage => "auth.manage",
            Self::AuditRead => "audit.read",
            Self::MetricsRead => "metrics.read",
        }
    }

    /// The permission of this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|permission| permission.name() == name)
    }

    /// Whether it is about a key, so that it can be granted for some of them.
    #[must_use]
    pub const fn takes_key(self) -> bool {
        !matches!(self, Self::Hash | Self::Entropy | Self::AuthManage | Self::AuditRead | Self::MetricsRead)
    }

    /// The bit that stands for it in a set.
    #[must_use]
    pub const fn bit(self) -> u32 {
        1 << self as u32
    }
}

/// The identifier of one request, as it stands in its reply, its audit line and its log lines.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct RequestId([u8; Self::LEN]);

impl RequestId {
    /// Length of the text form in bytes.
    pub const LEN: usize = 32;

    /// Forms the identifier of a worker's `count`-th request; `start` is random for each start of each worker.
    #[must_use]
    pub fn new(start: u64, count: u64) -> Self {
        let mut raw = [0u8; Self::LEN / 2];
        let (high, low) = raw.split_at_mut(8);
        high.copy_from_slice(&start.to_be_bytes());
        low.copy_from_slice(&count.to_be_bytes());
        let mut text = [b'0'; Self::LEN];
        // The lengths agree by construction, so the refusal cannot happen.
        let _ = crate::encoding::hex_encode(&raw, &mut text);
        Self(text)
    }

    /// The identifier of this text form.
    #[must_use]
    pub fn parse(text: &[u8]) -> Option<Self> {
        let text: [u8; Self::LEN] = text.try_into().ok()?;
        text.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')).then_some(Self(text))
    }

    /// The bytes that the text form stands for.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; Self::LEN / 2] {
        let digit = |byte: u8| if byte.is_ascii_digit() { byte - b'0' } else { byte - b'a' + 10 };
        let (pairs, _) = self.0.as_chunks::<2>();
        let mut bytes = [0; Self::LEN / 2];
        for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
            *byte = digit(*high) << 4 | digit(*low);
        }
        bytes
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
    /// HMAC-SHA256 (RFC 2104).
    HmacSha256,
    /// HMAC-SHA384.
    HmacSha384,
    /// HMAC-SHA512.
    HmacSha512,
}

impl KeyType {
    /// Every type, in the order in which documents name them.
    pub const ALL: [Self; 5] = [
        Self::XChaCha20Poly1305,
        Self::ChaCha20Poly1305,
        Self::HmacSha256,
        Self::HmacSha384,
        Self::HmacSha512,
    ];

    /// The name in the API.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::XChaCha20Poly1305 => "xchacha20-poly1305",
            Self::ChaCha20Poly1305 => "chacha20-poly1305",
            Self::HmacSha256 => "hmac-sha256",
            Self::HmacSha384 => "hmac-sha384",
            Self::HmacSha512 => "hmac-sha512",
        }
    }

    /// The type of this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// Whether keys of this type encrypt. They also sign, with a key of their own; the others only sign.
    #[must_use]
    pub const fn encrypts(self) -> bool {
        matches!(self, Self::XChaCha20Poly1305 | Self::ChaCha20Poly1305)
    }

    /// Whether the seals of a version are counted, because its nonces have 96 bits.
    #[must_use]
    pub const fn counts_seals(self) -> bool {
        matches!(self, Self::ChaCha20Poly1305)
    }
}

/// What a version of a key may still do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VersionState {
    /// Everything.
    Enabled,
    /// Open and verify, but not seal or sign.
    DecryptOnly,
    /// Nothing, until it is enabled again.
    Disabled,
    /// Nothing ever again: its secrets are gone.
    Destroyed,
}

impl VersionState {
    /// Every state, from the freest to the most final.
    pub const ALL: [Self; 4] = [Self::Enabled, Self::DecryptOnly, Self::Disabled, Self::Destroyed];

    /// The name in the API.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Enabled => "enabled",
            Self::DecryptOnly => "decrypt-only",
            Self::Disabled => "disabled",
            Self::Destroyed => "destroyed",
        }
    }

    /// The state of this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.name() == name)
    }
}

/// What is settled when a key is made and never changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyOptions {
    /// The type.
    pub kind: KeyType,
    /// Whether each use derives a key of its own from the caller's context. Only for types that encrypt.
    pub derived: bool,
    /// Whether equal plaintexts of one context give equal ciphertexts. Only for derived keys.
    pub convergent: bool,
    /// Whether its material may be given out.
    pub exportable: bool,
    /// Whether a backup of it may leave unsealed.
    pub plaintext_backup: bool,
}

impl KeyOptions {
    /// A key of this type with nothing allowed that is not needed.
    #[must_use]
    pub const fn of(kind: KeyType) -> Self {
        Self { kind, derived: false, convergent: false, exportable: false, plaintext_backup: false }
    }
}

/// What an operator may change on a key at any time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// The oldest version that opens and verifies, at least 1.
    pub min_decryption_version: u32,
    /// The oldest version that seals and signs when it is asked for by number; 0: only the latest is bound by nothing.
    pub min_encryption_version: u32,
    /// How many of the newest versions a rotation keeps; older ones are destroyed. 0: all.
    pub keep_versions: u32,
    /// Age of the latest version at which the server rotates the key by itself. 0: never.
    pub auto_rotate_seconds: u64,
    /// Whether the key may be deleted.
    pub deletion_allowed: bool,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            min_decryption_version: 1,
            min_encryption_version: 0,
            keep_versions: 0,
            auto_rotate_seconds: 0,
            deletion_allowed: false,
        }
    }
}

/// The members of a [`Policy`] that a request names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PolicyChange {
    /// See [`Policy::min_decryption_version`].
    pub min_decryption_version: Option<u32>,
    /// See [`Policy::min_encryption_version`].
    pub min_encryption_version: Option<u32>,
    /// See [`Policy::keep_versions`].
    pub keep_versions: Option<u32>,
    /// See [`Policy::auto_rotate_seconds`].
    pub auto_rotate_seconds: Option<u64>,
    /// See [`Policy::deletion_allowed`].
    pub deletion_allowed: Option<bool>,
}

/// How the store is: whether keys can be changed. What exists can be used in every case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StoreHealth {
    /// It takes changes.
    #[default]
    Good,
    /// The last change found no room on the disk.
    Full,
    /// The last change could not be written.
    Failing,
    /// After a failed sync, or damage to what was written, it takes no changes until it is opened anew.
    Poisoned,
    /// It is elsewhere, and cannot be reached.
    Away,
    /// It is elsewhere, and somebody put back an earlier state.
    SetBack,
    /// It is elsewhere, and was not heard of for so long that nobody is let in any more.
    Stale,
}

impl StoreHealth {
    /// Every state.
    pub const ALL: [Self; 7] =
        [Self::Good, Self::Full, Self::Failing, Self::Poisoned, Self::Away, Self::SetBack, Self::Stale];

    /// What it means, for people.
    #[must_use]
    pub const fn detail(self) -> &'static str {
        match self {
            Self::Good => "Changes are written down.",
            Self::Full => "The disk is full: keys can be used, but not changed. Free some space.",
            Self::Failing => "The disk refuses writes: keys can be used, but not changed.",
            Self::Poisoned => {
                "A sync of the disk failed, or the journal is damaged: keys can be used, but not changed until the \
                 server is restarted."
            }
            Self::Away => {
                "etcd cannot be reached: keys can be used, but not changed, until what is known of revocations is too \
                 old."
            }
            Self::Stale => "etcd was not heard of for too long: whoever needs a credential is refused.",
            Self::SetBack => {
                "etcd holds an earlier state than it did: no change is taken, and keys can be used until what is known \
                 of revocations is too old. Restore the right state, then restart the servers."
            }
        }
    }
}

/// How the server is, for those who ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Health {
    /// Time since the server was ready.
    pub uptime_seconds: u64,
    /// Whether changes of keys are written down.
    pub store: StoreHealth,
    /// Whether the audit log takes lines.
    pub audit: bool,
    /// Whether the file system of the audit log has little room left.
    pub audit_low: bool,
    /// Whether the random generator has a fresh enough seed.
    pub entropy: bool,
    /// Whether every step of the lock-down took.
    pub sandbox: bool,
    /// What the process found when it looked at itself.
    pub integrity: Failed,
    /// Whether the server is ending.
    pub draining: bool,
}

impl Health {
    /// Whether requests will be served as they should. Nobody is let in on what is too old; otherwise a store that takes no changes does not count: what exists can be
    /// used. Nor does what the process found when it looked at itself: that is for people to judge.
    #[must_use]
    pub const fn is_good(&self) -> bool {
        let is_known = !matches!(self.store, StoreHealth::Stale);
        self.audit && self.entropy && self.sandbox && is_known
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
    fn permissions_are_found_by_name_and_have_bits_of_their_own() {
        let all = Permission::ALL.into_iter().fold(0, |seen, permission| {
            assert_eq!(Permission::from_name(permission.name()), Some(permission));
            assert_eq!(seen & permission.bit(), 0);
            seen | permission.bit()
        });
        assert_eq!(all.count_ones() as usize, Permission::ALL.len());
        assert_eq!(Permission::from_name("admin"), None);
    }

    #[test]
    fn request_ids_show_start_and_count() {
        let id = RequestId::new(0x0102_0304_0506_0708, 255);
        assert_eq!(id.to_string(), "010203040506070800000000000000ff");
        assert_eq!(id.as_bytes().len(), RequestId::LEN);
        assert_eq!(RequestId::parse(id.as_bytes()), Some(id));
        assert_eq!(id.to_bytes(), [1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0, 0, 0, 0, 0, 255]);
        for bad in [&b""[..], &[b'0'; 31], &[b'0'; 33], &[b'A'; 32], &[b'g'; 32]] {
            assert_eq!(RequestId::parse(bad), None);
        }
    }
}
