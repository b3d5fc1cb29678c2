//! Who asks, and what they may do: credentials in requests and the API keys they are compared with.
//!
//! Owns the form of an API key ([`api_key`]), what a request may carry ([`credential`]), tokens ([`jwt`]), the API keys
//! at one moment ([`Directory`]), what can be done to them ([`change`]) and the check of one that is presented ([`Authenticator`]).
//! Invariants: a secret is kept only as a salted, peppered HMAC; a comparison takes the same time for an unknown identifier
//! as for a wrong secret; nothing that leaves the server says which of the two it was.

pub mod api_key;
pub mod authenticator;
pub mod change;
pub mod credential;
pub mod directory;
pub mod entry;
pub mod jwt;
pub mod record;
pub mod withdrawn;

pub use authenticator::{Authenticator, Authority, NotAKey, Refused};
pub use change::{Change, ChangeError, Effect, Outcome, TermsChange};
pub use credential::{CredentialFault, find};
pub use directory::Directory;
pub use entry::{ApiKey, Generation, Terms, Usage};
pub use record::{Malformed, UseRecord, decode_key, decode_use, encode_key, encode_use};
