//! What a request says of a key's options and policy, in JSON or in a query.
//!
//! Owns [`Settings`]. Invariant: only the form of the members is judged here; whether they fit the key is judged where
//! the change is made.

use crate::api::Rejection;
use crate::api::body::Text;
use crate::api::keys::read::parse_flag;
use crate::http::query::Query;
use crate::http::responder::Fault;
use crate::http::status::Status;
use crate::model::{KeyOptions, KeyType, PolicyChange};

const BAD_TYPE: Fault<'static> = Fault::new(
    Status::BadRequest,
    "unknown_key_type",
    "The types are xchacha20-poly1305 (the default), chacha20-poly1305, hmac-sha256, hmac-sha384 and hmac-sha512.",
);
const BAD_PARAMETER: Fault<'static> = Fault::new(
    Status::BadRequest,
    "malformed_parameter",
    "Numbers are decimal without sign or leading zeros; the others are true or false.",
);

/// What a request names; what it does not name stays as it is or as it usually is.
#[derive(Debug, Default)]
pub(super) struct Settings {
    /// The type, known by its name.
    kind: Option<KeyType>,
    derived: Option<bool>,
    exportable: Option<bool>,
    plaintext_backup: Option<bool>,
    policy: PolicyChange,
}

/// The [`PolicyChange`] of a body that has its members.
macro_rules! policy_of {
    ($body:expr) => {
        $crate::model::PolicyChange {
            min_decryption_version: $body.min_decryption_version,
            min_encryption_version: $body.min_encryption_version,
            keep_versions: $body.keep_versions,
            auto_rotate_seconds: $body.auto_rotate_seconds,
            deletion_allowed: $body.deletion_allowed,
        }
    };
}

/// The [`Settings`] of a body that has their members.
macro_rules! settings_of {
    ($body:expr) => {
        $crate::api::keys::settings::Settings::new(
            $body.kind.as_ref(),
            [$body.derived, $body.exportable, $body.plaintext_backup],
            $crate::api::keys::settings::policy_of!($body),
        )
    };
}

pub(super) use {policy_of, settings_of};

impl Settings {
    /// Those of a JSON body; `flags` are `derived`, `exportable` and `plaintext_backup`.
    ///
    /// # Errors
    /// 400 if the type is not known.
    pub(super) fn new(
        kind: Option<&Text<'_>>,
        flags: [Option<bool>; 3],
        policy: PolicyChange,
    ) -> Result<Self, Rejection> {
        let kind = kind.map(|kind| KeyType::from_name(kind.as_str()).ok_or(BAD_TYPE)).transpose()?;
        let [derived, exportable, plaintext_backup] = flags;
        Ok(Self { kind, derived, exportable, plaintext_backup, policy })
    }

    /// The parameters that [`from_query`](Self::from_query) reads.
    pub(super) const PARAMETERS: [&'static str; 9] = [
        "type",
        "derived",
        "exportable",
        "plaintext_backup",
        "min_decryption_version",
        "min_encryption_version",
        "keep_versions",
        "auto_rotate_seconds",
        "deletion_allowed",
    ];

    /// Those of a query.
    ///
    /// # Errors
    /// 400 for a parameter that stands twice or is not of its form, and for a type that is not known.
    pub(super) fn from_query(query: Query<'_>) -> Result<Self, Rejection> {
        let flag = |name| match query.find_unique(name)? {
            None => Ok(None),
            Some(text) => parse_flag(text).map(Some).ok_or(Rejection::Fault(BAD_PARAMETER)),
        };
        let number = |name| match query.find_unique(name)? {
            None => Ok(None),
            Some(text) => parse_number(&text.to_cow()).map(Some).ok_or(Rejection::Fault(BAD_PARAMETER)),
        };
        let small = |name| match number(name)? {
            None => Ok(None),
            Some(wide) => u32::try_from(wide).map(Some).map_err(|_| Rejection::Fault(BAD_PARAMETER)),
        };
        let kind = match query.find_unique("type")? {
            None => None,
            Some(text) => {
                let known = KeyType::ALL.into_iter().find(|kind| text.is(kind.name().as_bytes()));
                Some(known.ok_or(BAD_TYPE)?)
            }
        };
        let policy = PolicyChange {
            min_decryption_version: small("min_decryption_version")?,
            min_encryption_version: small("min_encryption_version")?,
            keep_versions: small("keep_versions")?,
            auto_rotate_seconds: number("auto_rotate_seconds")?,
            deletion_allowed: flag("deletion_allowed")?,
        };
        Ok(Self {
            kind,
            derived: flag("derived")?,
            exportable: flag("exportable")?,
            plaintext_backup: flag("plaintext_backup")?,
            policy,
        })
    }

    /// The options for good, and what differs from the usual policy.
    pub(super) fn resolve(self) -> (KeyOptions, PolicyChange) {
        let usual = KeyOptions::of(self.kind.unwrap_or(KeyType::XChaCha20Poly1305));
        let options = KeyOptions {
            derived: self.derived.unwrap_or(usual.derived),
            convergent: false,
            exportable: self.exportable.unwrap_or(usual.exportable),
            plaintext_backup: self.plaintext_backup.unwrap_or(usual.plaintext_backup),
            ..usual
        };
        (options, self.policy)
    }
}

/// A decimal number without sign or leading zeros.
fn parse_number(digits: &[u8]) -> Option<u64> {
    let canonical = digits == b"0" || !digits.starts_with(b"0");
    let digits = Some(digits).filter(|digits| canonical && digits.iter().all(u8::is_ascii_digit))?;
    str::from_utf8(digits).ok()?.parse().ok()
}
