//! The data directory: everything that outlives a run.
//!
//! Owns the directory with its lock ([`DataDir`]), the file of the admin API key ([`admin_key`]) and the opening
//! of audit files ([`open_audit_file`]). Invariants: files are opened by name below a directory descriptor,
//! never through a symbolic link, so that a path that is exchanged meanwhile leads nowhere else; nothing that
//! another user owns, or that others may read, is used; only what this start created is given to another user.

pub mod admin_key;
mod audit_file;
mod data_dir;
mod entry;
mod error;

pub use admin_key::AdminKey;
pub use audit_file::open_audit_file;
pub use data_dir::DataDir;
pub use entry::Owner;
pub use error::{StoreError, quoted};

#[cfg(test)]
mod scratch;
