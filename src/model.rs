//! Plain types that several floors speak of: who asks, what a route demands, which request it is.
//!
//! Owns no behaviour beyond construction and display. Invariant: nothing here holds a secret.

use core::fmt;

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_ids_show_start_and_count() {
        let id = RequestId::new(0x0102_0304_0506_0708, 255);
        assert_eq!(id.to_string(), "010203040506070800000000000000ff");
        assert_eq!(id.as_bytes().len(), RequestId::LEN);
    }
}
