//! The header of a store in etcd: what it says, how it opens, and how it is put under another master key.
//!
//! Owns the three. Invariants: a header is replaced in one transaction, and only if it is the very one that was read, so that there is no half
//! of it; servers that run have the root key, which stays, and read the header at their start alone.

use std::path::Path;

use super::Etcd;
use super::image::only;
use super::layout::Layout;
use super::link::{Demand, Link, LinkError, Pair, Span, Swap, Swapped};
use crate::clock::Moment;
use crate::crypto::Error;
use crate::crypto::random::{Generator, Kernel};
use crate::store::error::StoreError;
use crate::store::journal::format::{Header, HeaderFault};
use crate::store::root::{MasterKey, RootKey};

impl Etcd {
    /// What the header says to everybody.
    ///
    /// # Errors
    /// [`StoreError::NoFleet`]; what etcd refuses; a header that is none.
    pub fn inspect(link: &mut dyn Link, layout: &Layout, place: &Path) -> Result<Header, StoreError> {
        let pair = read_ring(link, layout, place)?;
        read_header(&pair.value, place)
    }

    /// Puts the store under another master key, in one transaction.
    ///
    /// # Errors
    /// As for [`Etcd::open`]; [`StoreError::Remote`] if somebody else was first.
    pub fn rekey(
        link: &mut dyn Link,
        layout: &Layout,
        place: &Path,
        master: &MasterKey,
        new: &MasterKey,
    ) -> Result<(), StoreError> {
        let key = layout.ring();
        let pair = read_ring(link, layout, place)?;
        let (header, root) = open_header(&pair.value, place, master)?;
        let nonce = Generator::new(Kernel, Moment::now())?.array(Moment::now())?;
        let value = Header::wrap(new, &root, header.ring, header.file, nonce)?.encode().to_vec();
        let demands = vec![Demand { key: key.clone(), is: Some((pair.value, pair.revision)) }];
        let puts = vec![(key.clone(), value.clone())];
        match link.swap(&Swap { demands, removals: Vec::new(), puts })? {
            Swapped::Done { .. } => Ok(()),
            Swapped::Lost(page) | Swapped::Doubtful(page)
                if only(page.clone(), &key).is_some_and(|pair| pair.value == value) =>
            {
                Ok(())
            }
            Swapped::Lost(_) | Swapped::Doubtful(_) => {
                Err(LinkError::Refused("the header was changed meanwhile".to_owned()).into())
            }
        }
    }
}

fn read_ring(link: &mut dyn Link, layout: &Layout, place: &Path) -> Result<Pair, StoreError> {
    let key = layout.ring();
    let page = link.read(&Span { from: key.clone(), to: Vec::new(), at: 0 })?;
    only(page, &key).ok_or_else(|| StoreError::NoFleet { place: place.to_owned() })
}

fn read_header(value: &[u8], place: &Path) -> Result<Header, StoreError> {
    let path = || place.to_owned();
    Header::parse(value).map_err(|fault| match fault {
        HeaderFault::UnknownFormat(found) => StoreError::UnknownFormat { path: path(), found },
        HeaderFault::NotAJournal | HeaderFault::Damaged => StoreError::DamagedHeader { path: path() },
    })
}

/// Reads the header and unwraps its root key.
pub(super) fn open_header(
    value: &[u8],
    place: &Path,
    master: &MasterKey,
) -> Result<(Header, RootKey), StoreError> {
    let path = || place.to_owned();
    let header = read_header(value, place)?;
    let given = master.id()?;
    if given != header.master_key {
        return Err(StoreError::WrongMasterKey { path: path(), needed: header.master_key, given });
    }
    let root = header.unwrap(master).map_err(|error| match error {
        Error::Rejected => StoreError::DamagedHeader { path: path() },
        error => StoreError::Crypto(error),
    })?;
    Ok((header, root))
}
