//! The data directory: everything that outlives a run.
//!
//! Owns the directory with its lock ([`DataDir`]), the file of the admin API key ([`admin_key`]), the opening of
//! audit files ([`open_audit_file`]) and what is done with them while the server runs ([`Archive`]), and the store of sealed records: the seam to it ([`Store`]), what seals them
//! ([`Sealer`]), the keys above them ([`root`]) and the one that keeps them here ([`journal`]). Invariants: files are
//! opened by name below a directory descriptor, never through a symbolic link, so that a path that is exchanged
//! meanwhile leads nowhere else; nothing that another user owns, or that others may read, is used; only what this
//! start created is given to another user; what was acknowledged is there after any crash, or the start says that it
//! is not.

pub mod admin_key;
mod archive;
mod audit_file;
mod data_dir;
mod entry;
mod error;
pub mod etcd;
pub mod journal;
mod record;
pub mod root;
mod seal;
pub mod server_id;
mod small_file;

pub use admin_key::AdminKey;
pub use archive::{Archive, Compressing, Room};
pub use audit_file::{
    audit_file_name, list_audit_files, open_audit_file, open_audit_part, settle_audit_files,
};
pub use data_dir::DataDir;
pub use entry::Owner;
pub use error::{StoreError, quoted};
pub use etcd::{Etcd, FleetKeys, OpenedFleet};
pub use journal::Journal;
pub use record::{
    AppendError, Bounds, Compacted, Condition, Deliver, Head, Loaded, MaintainError, Origin, Path, Record,
    Standing, Store, Tail, TornTail, Unreadable, Witness,
};
pub use root::{MasterKey, RootKey};
pub use seal::{Kind, SEAL_NONCE_BYTES, SEAL_OVERHEAD_BYTES, Sealer};

#[cfg(test)]
mod scratch;
