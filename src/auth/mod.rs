//! Who asks: credentials in requests and the API keys they are compared with.
//!
//! Owns the form of an API key ([`api_key`]), what a request may carry ([`credential`]), tokens ([`jwt`]) and
//! the known keys ([`Registry`], [`stored`]). Invariants: a secret is kept only as a salted, peppered HMAC; a comparison takes the same time
//! for an unknown identifier as for a wrong secret; nothing here says which of the two it was.

pub mod api_key;
pub mod credential;
pub mod jwt;
pub mod registry;
pub mod stored;

pub use credential::{CredentialFault, find};
pub use registry::Registry;
pub use stored::StoredKey;
