//! `/api/auth`: API keys, tokens, and who asks.
//!
//! - `keys`: the life of API keys.
//! - `token`: a token from an API key.
//! - `profile`: who asks, and what they may do.
//! - `form`: an API key as replies show it.
//!
//! Invariant: no reply but the one that answers the making of a secret holds it.

pub(crate) mod form;
pub mod keys;
pub mod profile;
pub mod token;
