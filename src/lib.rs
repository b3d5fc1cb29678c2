//! Quantonium: cryptography as a service in one static binary. This page is the guided tour.
//!
//! The crate is a house. A module imports from floors below it and never from above; `tests/tidy.rs` reads the
//! sources and holds that. Read it from the ground up, or begin with [`server`] and go down.
//!
//! | floor | modules | what is there |
//! |---|---|---|
//! | ground | [`limits`], [`memory`], [`secret`], [`clock`], [`encoding`], [`model`], [`network`], [`quota`], [`publication`], [`metrics`], [`console`], [`build_info`], [`exit`] | every bound; the heap that is closed; secrets that wipe themselves; the one door of time; base64; plain types; networks and rates; what is counted; output that cannot fail |
//! | first | [`crypto`] | sealing and opening in place, MACs, key derivation, the generator, ciphertext forms, known answers |
//! | second | [`keyring`], [`auth`], [`audit`], [`limiter`] | keys and their versions as immutable snapshots; who asks; what is told of it; how often |
//! | third | [`store`] | the data directory: what outlives a run |
//! | side | [`reactor`], [`http`] | one poll and many tasks; HTTP/1 on the wire, and nothing of the application |
//! | roof | [`api`] | a file for each resource and one table of routes |
//! | gate | [`sandbox`] | a file for each privilege that is given up |
//! | attic | [`config`], [`keeper`], [`server`], [`cli`] | settings; the one thread that makes changes; start, workers, end; the command line |
//!
//! # One request
//!
//! A worker accepts a connection ([`reactor::run`]) and gives it a task that rests as a few bytes
//! ([`http::connection::Idle`]). Its first byte takes a workspace with leased buffers ([`reactor::lease`]).
//! [`http::head::Head`] parses the head and refuses what two parsers could read in two ways. The service behind
//! [`http::service::Service`] finds the row in [`api::route::TABLE`], asks [`auth::Authenticator`] who it is, and only then
//! is the body waited for. The handler ([`api::encrypt`], say) is a plain function: it takes the key from its snapshot
//! ([`publication::View`]), seals in place ([`crypto::aead::seal`]) and writes the reply into the output buffer. One line is
//! appended to the worker's [`audit::Batch`]. At the end of the turn of the loop all lines go out in one write, and
//! only then the replies ([`reactor::Turn::committed`]).
//!
//! A change of the key ring is returned by its handler as a [`keyring::Change`]. The [`keeper`] carries it out
//! ([`keyring::change::apply`]), publishes the new snapshot ([`publication::Publication`]), and the handler is called again.
//!
//! # Rules that hold everywhere
//!
//! - Every bound is a constant of [`limits`].
//! - No `unsafe` but in the few files that `tests/tidy/words.rs` lists, no panic on any input, an error enum for each floor.
//! - Handlers and parsers are plain functions and types without I/O; whatever waits is at the edge.
//! - A task parks for exactly four reasons, which [`reactor`] lists.
//!
//! `docs/ARCHITECTURE.md` says where to add what, `docs/SANDBOX.md` what the process may still do.

pub mod build_info;
pub mod clock;
pub mod console;
pub mod cursor;
pub mod encoding;
pub mod exit;
pub mod fleet;
pub mod integrity;
pub mod limits;
pub mod log;
pub mod memory;
pub mod metrics;
pub mod model;
pub mod network;
pub mod publication;
pub mod quota;
pub mod secret;

pub mod crypto;

pub mod audit;
pub mod auth;
pub mod keyring;
pub mod limiter;

pub mod store;

pub mod http;
pub mod reactor;
#[cfg(feature = "tls")]
pub mod tls;

pub mod api;

pub mod sandbox;

pub mod broker;
pub mod cli;
pub mod config;
pub mod keeper;
#[cfg(feature = "pentest")]
pub mod pentest;
pub mod server;
