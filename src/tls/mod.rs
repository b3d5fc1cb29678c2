//! TLS as a transport: what a worker puts between a socket and a connection.
//!
//! | module | what is there |
//! |---|---|
//! | [`provider`] | the one seam to the library of algorithms: groups, suites, tickets, the first random draw |
//! | [`session`] | a TLS session over any transport, itself a transport |
//! | `records` | where the records of a stream begin and end |
//! | [`material`] | certificates and keys from their files' bytes, checked against one another |
//! | [`revocation`] | which client certificates their authorities have revoked |
//! | [`server_config`] | what a server offers and demands; the choice of a certificate by name |
//! | [`current`] | the configuration in force, replaced on reload without losing the tickets |
//! | [`identity`] | whom a verified client certificate names |
//! | [`self_signed`] | a certificate for development |
//! | [`client`] | what commands ask a server with |
//! | [`certificate`], `der`, `pem` | the few fields of a certificate that are looked at, and how they are written down |
//!
//! Owns the choice of protocol: TLS 1.3, and TLS 1.2 only when asked for; `http/1.1` and nothing else; no early data.
//! Invariants: nothing here opens a file or waits; input from a peer ends in an error, never in a panic; no error
//! shows a byte of a key; what a session holds for a peer that does not read is bounded.

pub mod certificate;
pub mod client;
pub mod current;
mod der;
mod error;
pub mod identity;
pub mod material;
mod pem;
pub mod provider;
mod records;
pub mod revocation;
pub mod self_signed;
pub mod server_config;
pub mod session;
#[cfg(test)]
mod tests;
pub mod told;

pub use current::{Current, Edition};
pub use error::TlsError;
pub use material::Material;
pub use server_config::{ClientAuth, Materials, MinVersion, Options};
pub use session::{Scratch, Session};
pub use told::{Agreed, failure_of};
