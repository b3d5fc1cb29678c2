//! The head of a store in etcd: where the state stands, and what proves that nothing of it is missing or old.
//!
//! Owns [`Stand`], [`FleetKeys`] and the bytes of head, records, origins and members, which docs/FLEET.md describes. Invariants: a digest
//! names each record with its content; nothing here trusts a length that it did not check.

use core::fmt;

use super::super::record::{Head, Origin, Path, Record};
use super::super::seal::SEAL_NONCE_BYTES;
use super::layout::ServerId;
use crate::crypto::Error;
use crate::crypto::aead::{self, Algorithm, KEY_BYTES, TAG_BYTES};
use crate::crypto::mac::MacKey;
use crate::limits::STORE_ORIGINS_MAX_COUNT;
use crate::secret::Secret;

/// The number of the format that this version writes, and the only one that it reads.
const FORMAT: u8 = 1;
/// What a head begins with.
const KIND: u8 = b'H';
const STAND_BYTES: usize = 2 + 8 + 16 + 16 + DIGEST_BYTES + 8 + 8 + 8;
const DIGEST_BYTES: usize = 32;

/// What stands for one record, or for all of them.
pub(super) type Digest = [u8; DIGEST_BYTES];

/// Where the state stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Stand {
    /// The revision, and what authenticates all that led to it.
    pub(super) head: Head,
    /// The tag of the head before.
    pub(super) before: [u8; 16],
    /// Of all records.
    pub(super) digest: Digest,
    /// How many records there are.
    pub(super) records: u64,
    /// How many changes there were that had origins.
    pub(super) changes: u64,
    /// When it was made, by the clock of the server that made it: for people.
    pub(super) at_millis: u64,
}

/// Why bytes are not what they should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// They were altered, are of another ring, or of another time.
    Forged,
    /// A newer version wrote them.
    Newer,
}

/// What seals and proves all that is not a record.
pub struct FleetKeys {
    ring: [u8; 16],
    head: Secret<KEY_BYTES>,
    member: Secret<KEY_BYTES>,
    digest: MacKey,
}

impl FleetKeys {
    pub(in crate::store) const fn new(
        ring: [u8; 16],
        head: Secret<KEY_BYTES>,
        member: Secret<KEY_BYTES>,
        digest: MacKey,
    ) -> Self {
        Self { ring, head, member, digest }
    }

    /// What a record adds to the digest.
    pub(super) fn element(&self, path: Path, revision: u64, sealed: &[u8]) -> Digest {
        let tag = self.digest.tag(&[b"r", path.as_bytes(), &revision.to_be_bytes(), sealed]);
        tag.as_bytes().first_chunk().copied().unwrap_or_default()
    }

    /// The tag that `stand` must have, whatever it has.
    pub(super) fn tag(&self, stand: &Stand) -> [u8; 16] {
        let tag = self.digest.tag(&[
            b"h",
            &self.ring,
            &stand.before,
            &stand.head.revision.to_be_bytes(),
            &stand.digest,
            &stand.records.to_be_bytes(),
            &stand.changes.to_be_bytes(),
            &stand.at_millis.to_be_bytes(),
        ]);
        tag.as_bytes().first_chunk().copied().unwrap_or_default()
    }

    /// The value of the head.
    pub(super) fn seal_head(&self, stand: &Stand, nonce: [u8; SEAL_NONCE_BYTES]) -> Result<Vec<u8>, Error> {
        let mut plain = Vec::with_capacity(STAND_BYTES);
        plain.extend_from_slice(&[KIND, FORMAT]);
        plain.extend_from_slice(&stand.head.revision.to_be_bytes());
        plain.extend_from_slice(&stand.head.tag);
        plain.extend_from_slice(&stand.before);
        plain.extend_from_slice(&stand.digest);
        plain.extend_from_slice(&stand.records.to_be_bytes());
        plain.extend_from_slice(&stand.changes.to_be_bytes());
        plain.extend_from_slice(&stand.at_millis.to_be_bytes());
        self.head.with(|key| seal(key, nonce, &self.ring, &plain))
    }

    /// Reads the value of the head. Its tag is the right one.
    pub(super) fn open_head(&self, value: &[u8]) -> Result<Stand, Fault> {
        let plain = self.head.with(|key| open(key, &self.ring, value))?;
        let mut rest = plain.as_slice();
        let read = |rest: &mut &[u8]| {
            if take::<2>(rest)? != [KIND, FORMAT] {
                return Some(Err(Fault::Newer));
            }
            let head = Head { revision: take(rest).map(u64::from_be_bytes)?, tag: take(rest)? };
            let (before, digest) = (take(rest)?, take(rest)?);
            let mut number = || take(rest).map(u64::from_be_bytes);
            let (records, changes, at_millis) = (number()?, number()?, number()?);
            Some(Ok(Stand { head, before, digest, records, changes, at_millis }))
        };
        let stand = read(&mut rest).ok_or(Fault::Forged)??;
        if rest.is_empty() && self.tag(&stand) == stand.head.tag { Ok(stand) } else { Err(Fault::Forged) }
    }

    /// The value of the origins of change number `change`, which led to `revision`.
    pub(super) fn seal_origins(&self, revision: u64, change: u64, origins: &[Origin]) -> Vec<u8> {
        let mut value = Vec::with_capacity(16 + 16 * origins.len() + TAG_BYTES);
        value.extend_from_slice(&revision.to_be_bytes());
        value.extend_from_slice(&change.to_be_bytes());
        origins.iter().for_each(|origin| value.extend_from_slice(origin));
        let tag = self.origins_tag(&value);
        value.extend_from_slice(&tag);
        value
    }

    /// Reads the value of origins: which change they are of, and they.
    pub(super) fn open_origins(&self, value: &[u8]) -> Result<(u64, Vec<Origin>), Fault> {
        let (mut rest, tag) = value.split_last_chunk::<TAG_BYTES>().ok_or(Fault::Forged)?;
        if self.origins_tag(rest) != *tag {
            return Err(Fault::Forged);
        }
        let _revision = take::<8>(&mut rest).ok_or(Fault::Forged)?;
        let change = take(&mut rest).map(u64::from_be_bytes).ok_or(Fault::Forged)?;
        let (origins, odd) = rest.as_chunks::<16>();
        if !odd.is_empty() || origins.len() > STORE_ORIGINS_MAX_COUNT {
            return Err(Fault::Forged);
        }
        Ok((change, origins.to_vec()))
    }

    /// What a server says of itself to the others.
    ///
    /// # Errors
    /// What sealing returns; none in practice.
    pub fn seal_member(
        &self,
        id: ServerId,
        nonce: [u8; SEAL_NONCE_BYTES],
        words: &[u8],
    ) -> Result<Vec<u8>, Error> {
        self.member.with(|key| seal(key, nonce, &self.associated(id), words))
    }

    /// What the server `id` says of itself.
    pub(super) fn open_member(&self, id: ServerId, value: &[u8]) -> Result<Vec<u8>, Fault> {
        self.member.with(|key| open(key, &self.associated(id), value))
    }

    fn associated(&self, id: ServerId) -> [u8; 20] {
        let mut aad = [0; 20];
        let (ring, of) = aad.split_at_mut(16);
        ring.copy_from_slice(&self.ring);
        of.copy_from_slice(&id);
        aad
    }

    fn origins_tag(&self, value: &[u8]) -> [u8; TAG_BYTES] {
        let tag = self.digest.tag(&[b"o", &self.ring, value]);
        tag.as_bytes().first_chunk().copied().unwrap_or_default()
    }
}

impl fmt::Debug for FleetKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FleetKeys(redacted)")
    }
}

/// The value of a record that is there.
pub(super) fn encode_record(revision: u64, sealed: &[u8]) -> Vec<u8> {
    [revision.to_be_bytes().as_slice(), sealed].concat()
}

/// The record at `path` whose value this is.
pub(super) fn decode_record(path: Path, value: &[u8]) -> Option<Record> {
    let (revision, sealed) = value.split_first_chunk()?;
    Some(Record { path, revision: u64::from_be_bytes(*revision), sealed: Some(sealed.to_vec()) })
}

/// Takes `element` in, or out.
pub(super) fn fold(digest: &mut Digest, element: &Digest) {
    digest.iter_mut().zip(element).for_each(|(place, byte)| *place ^= byte);
}

fn seal(
    key: &[u8; KEY_BYTES],
    nonce: [u8; SEAL_NONCE_BYTES],
    aad: &[u8],
    plain: &[u8],
) -> Result<Vec<u8>, Error> {
    let mut value = Vec::with_capacity(1 + SEAL_NONCE_BYTES + plain.len() + TAG_BYTES);
    value.push(FORMAT);
    value.extend_from_slice(&nonce);
    value.extend_from_slice(plain);
    let (_, data) = value.split_at_mut(1 + SEAL_NONCE_BYTES);
    let tag = aead::seal(Algorithm::XChaCha20Poly1305, key, &nonce, aad, data)?;
    value.extend_from_slice(&tag);
    Ok(value)
}

fn open(key: &[u8; KEY_BYTES], aad: &[u8], value: &[u8]) -> Result<Vec<u8>, Fault> {
    let (format, rest) = value.split_first().ok_or(Fault::Forged)?;
    if *format != FORMAT {
        return Err(Fault::Newer);
    }
    let (nonce, rest) = rest.split_first_chunk::<SEAL_NONCE_BYTES>().ok_or(Fault::Forged)?;
    let (data, tag) = rest.split_last_chunk::<TAG_BYTES>().ok_or(Fault::Forged)?;
    let mut plain = data.to_vec();
    let opened = aead::open(Algorithm::XChaCha20Poly1305, key, nonce, aad, &mut plain, tag);
    opened.map(|()| plain).map_err(|_| Fault::Forged)
}

fn take<const LEN: usize>(rest: &mut &[u8]) -> Option<[u8; LEN]> {
    let (chunk, after) = rest.split_first_chunk::<LEN>()?;
    *rest = after;
    Some(*chunk)
}

#[cfg(test)]
mod tests {
    use super::super::super::root::RootKey;
    use super::*;

    fn keys(ring: u8) -> FleetKeys {
        RootKey::take(&mut [7; 32]).fleet_keys([ring; 16]).unwrap()
    }

    fn stand(keys: &FleetKeys) -> Stand {
        let head = Head { revision: 5, tag: [0; 16] };
        let mut stand =
            Stand { head, before: [3; 16], digest: [4; 32], records: 9, changes: 2, at_millis: 1 };
        stand.head.tag = keys.tag(&stand);
        stand
    }

    #[test]
    fn a_head_opens_in_its_ring_only_and_as_it_was_sealed() {
        let keys = keys(1);
        let value = keys.seal_head(&stand(&keys), [8; 24]).unwrap();
        assert_eq!(keys.open_head(&value), Ok(stand(&keys)));
        assert_eq!(self::keys(2).open_head(&value), Err(Fault::Forged));
        for at in 0..value.len() {
            let mut altered = value.clone();
            altered[at] ^= 1;
            assert!(keys.open_head(&altered).is_err(), "byte {at}");
            assert!(keys.open_head(&value[..at]).is_err(), "cut at {at}");
        }
        let mut untrue = stand(&keys);
        untrue.records += 1;
        let value = keys.seal_head(&untrue, [8; 24]).unwrap();
        assert_eq!(keys.open_head(&value), Err(Fault::Forged), "its tag is of another head");
    }

    #[test]
    fn the_tag_depends_on_everything_that_led_to_the_head() {
        let keys = keys(1);
        let of = stand(&keys);
        let others = [
            Stand { before: [9; 16], ..of },
            Stand { digest: [9; 32], ..of },
            Stand { records: 8, ..of },
            Stand { changes: 3, ..of },
            Stand { at_millis: 2, ..of },
            Stand { head: Head { revision: 6, ..of.head }, ..of },
        ];
        for other in others {
            assert_ne!(keys.tag(&other), keys.tag(&of), "{other:?}");
        }
        assert_ne!(self::keys(2).tag(&of), keys.tag(&of), "another ring");
    }

    #[test]
    fn the_digest_tells_place_time_and_content_of_each_record_and_not_their_order() {
        let keys = keys(1);
        let (one, two) = (Path::new([1; 16]), Path::new([2; 16]));
        let elements = [(one, 1, b"a"), (two, 1, b"a"), (one, 2, b"a"), (one, 1, b"b")];
        let elements = elements.map(|(path, revision, sealed)| keys.element(path, revision, sealed));
        for (at, element) in elements.iter().enumerate() {
            assert!(!elements[..at].contains(element), "{at}");
        }
        let (mut forth, mut back) = ([0; 32], [0; 32]);
        elements.iter().for_each(|element| fold(&mut forth, element));
        elements.iter().rev().for_each(|element| fold(&mut back, element));
        assert_eq!(forth, back);
        elements.iter().for_each(|element| fold(&mut forth, element));
        assert_eq!(forth, [0; 32], "what is taken out again leaves nothing behind");
    }

    #[test]
    fn origins_and_members_open_at_their_own_place_only() {
        let keys = keys(1);
        let value = keys.seal_origins(5, 7, &[[1; 16], [2; 16]]);
        assert_eq!(keys.open_origins(&value), Ok((7, vec![[1; 16], [2; 16]])));
        for at in 0..value.len() {
            let mut altered = value.clone();
            altered[at] ^= 1;
            assert_eq!(keys.open_origins(&altered), Err(Fault::Forged), "byte {at}");
        }
        let value = keys.seal_member([1; 4], [3; 24], b"words").unwrap();
        assert_eq!(keys.open_member([1; 4], &value).as_deref(), Ok(b"words".as_slice()));
        assert_eq!(keys.open_member([2; 4], &value), Err(Fault::Forged));
        assert_eq!(keys.open_member([1; 4], &[2; 60]), Err(Fault::Newer));
        assert_eq!(keys.open_member([1; 4], b""), Err(Fault::Forged));
    }
}
