//! API keys and their use figures as bytes: what the store keeps, sealed.
//!
//! Owns both encodings. Invariants: no secret of an API key is in them; every value has one encoding, and only that one is
//! read back, apart from the formats before, which are read and never written; no bytes make a decoder panic.

use std::sync::Arc;

use zeroize::Zeroizing;

use crate::auth::entry::{
    ApiKey, DIGEST_BYTES, Generation, Previous, SALT_BYTES, TOKEN_SECRET_BYTES, Terms, Usage,
};
use crate::clock::WallTime;
use crate::crypto::kdf;
use crate::limits::TIME_MAX_MILLIS;
use crate::model::{ApiKeyId, Grants, Identity};
use crate::network::Network;
use crate::quota::Rate;
use crate::secret::Secret;

const KIND: u8 = b'A';
const USE_KIND: u8 = b'B';
/// The first format, which knew one kind of key.
const FORMAT_FIRST: u8 = 1;
/// The one before, which knew no identities.
const FORMAT_BEFORE: u8 = 2;
const FORMAT: u8 = 3;
const USE_FORMAT: u8 = 1;
/// In the first format, the one byte that said what a key may do.
const ADMIN: u8 = 1;
/// The name of a key of the first format, which knew no names.
pub const FIRST_NAME: &str = "admin";

/// The bytes are no record that this version knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// They are a record of another kind, or of a format that a newer version writes.
    Format,
    /// They are not what an encoder writes.
    Content,
}

/// The record of `key`: all of it but its use figures.
#[must_use]
pub fn encode_key(key: &ApiKey) -> Zeroizing<Vec<u8>> {
    encode_as(FORMAT, key)
}

fn encode_as(format: u8, key: &ApiKey) -> Zeroizing<Vec<u8>> {
    let terms = &*key.terms;
    let scopes = terms.grants.to_string();
    let networks: Vec<String> = terms.networks.iter().map(Network::to_string).collect();
    let generations = 1 + usize::from(key.previous.is_some());
    let texts = terms.name.len() + terms.description.len() + scopes.len();
    let of_networks: usize = networks.iter().map(|network| 2 + network.len()).sum();
    // As long as it may be: memory that grows leaves copies of secrets behind.
    let of_identities: usize = terms.identities.iter().map(|identity| 2 + identity.as_str().len()).sum();
    let of_lists = of_networks + of_identities;
    let capacity = 128 + texts + of_lists + generations * (24 + DIGEST_BYTES + TOKEN_SECRET_BYTES);
    let mut record = Zeroizing::new(Vec::with_capacity(capacity));
    record.extend_from_slice(&[KIND, format]);
    record.extend_from_slice(key.id.as_bytes());
    record.extend_from_slice(&key.salt);
    put_time(&mut record, Some(key.created));
    record.push(u8::from(key.created_by.is_some()));
    record.extend_from_slice(key.created_by.as_ref().map_or(&[][..], |by| by.as_bytes()));
    put_time(&mut record, terms.expires);
    put_time(&mut record, key.revoked);
    let (per_second, burst) = terms.rate.map_or((0, 0), |rate| (rate.per_second(), rate.burst()));
    record.extend_from_slice(&per_second.to_be_bytes());
    record.extend_from_slice(&burst.to_be_bytes());
    put_text(&mut record, &terms.name);
    put_text(&mut record, &terms.description);
    put_text(&mut record, &scopes);
    record.push(u8::try_from(networks.len()).unwrap_or(u8::MAX));
    networks.iter().for_each(|network| put_text(&mut record, network));
    if format >= FORMAT {
        record.push(u8::try_from(terms.identities.len()).unwrap_or(u8::MAX));
        terms.identities.iter().for_each(|identity| put_text(&mut record, identity.as_str()));
    }
    put_generation(&mut record, &key.current);
    record.push(u8::from(key.previous.is_some()));
    if let Some(previous) = &key.previous {
        put_generation(&mut record, &previous.generation);
        put_time(&mut record, Some(previous.ends));
    }
    record
}

/// The API key of a record, without use figures.
///
/// # Errors
/// [`Malformed`]
pub fn decode_key(record: &[u8]) -> Result<ApiKey, Malformed> {
    match record.split_first_chunk::<2>() {
        Some(([KIND, format @ (FORMAT_BEFORE | FORMAT)], rest)) => {
            let key = Reader(rest).key(*format).ok_or(Malformed::Content)?;
            // One encoding for each value: what would be written differently was not written by an encoder.
            if *encode_as(*format, &key) == record { Ok(key) } else { Err(Malformed::Content) }
        }
        Some(([KIND, FORMAT_FIRST], rest)) => Reader(rest).first_key().ok_or(Malformed::Content),
        _ => Err(Malformed::Format),
    }
}

/// The use figures of an API key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UseRecord {
    /// Whose they are.
    pub id: ApiKeyId,
    /// How often it was used.
    pub count: u64,
    /// When last, to the second.
    pub last: WallTime,
}

/// The record of the use figures of `key`.
#[must_use]
pub fn encode_use(key: &ApiKey) -> Vec<u8> {
    let mut record = vec![USE_KIND, USE_FORMAT];
    record.extend_from_slice(key.id.as_bytes());
    record.extend_from_slice(&key.usage.count().to_be_bytes());
    put_time(&mut record, key.usage.last());
    record
}

/// The use figures of a record.
///
/// # Errors
/// [`Malformed`]
pub fn decode_use(record: &[u8]) -> Result<UseRecord, Malformed> {
    let rest = record.strip_prefix(&[USE_KIND, USE_FORMAT]).ok_or(Malformed::Format)?;
    let mut reader = Reader(rest);
    let mut read = || {
        let (id, count, last) = (reader.id()?, u64::from_be_bytes(reader.take()?), reader.time()?);
        Some(UseRecord { id, count, last: last.unwrap_or_default() })
    };
    let figures = read().ok_or(Malformed::Content)?;
    if reader.0.is_empty() { Ok(figures) } else { Err(Malformed::Content) }
}

/// Milliseconds; zero stands for nothing.
fn put_time(record: &mut Vec<u8>, time: Option<WallTime>) {
    record.extend_from_slice(&time.map_or(0, WallTime::as_millis).to_be_bytes());
}

fn put_text(record: &mut Vec<u8>, text: &str) {
    record.extend_from_slice(&u16::try_from(text.len()).unwrap_or(u16::MAX).to_be_bytes());
    record.extend_from_slice(text.as_bytes());
}

fn put_generation(record: &mut Vec<u8>, generation: &Generation) {
    record.extend_from_slice(&generation.number.to_be_bytes());
    record.extend_from_slice(&generation.digest);
    generation.token_secret.with(|secret| record.extend_from_slice(secret));
    put_time(record, Some(generation.created));
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*taken)
    }

    fn id(&mut self) -> Option<ApiKeyId> {
        ApiKeyId::parse(&self.take::<{ ApiKeyId::LEN }>()?)
    }

    fn number(&mut self) -> Option<u32> {
        self.take().map(u32::from_be_bytes)
    }

    #[expect(clippy::option_option, reason = "the outer one says whether there was a time to read")]
    fn time(&mut self) -> Option<Option<WallTime>> {
        let millis = u64::from_be_bytes(self.take()?);
        (millis <= TIME_MAX_MILLIS).then(|| (millis != 0).then(|| WallTime::from_millis(millis)))
    }

    fn text(&mut self) -> Option<&'a str> {
        let len = usize::from(u16::from_be_bytes(self.take()?));
        let (text, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        str::from_utf8(text).ok()
    }

    fn generation(&mut self) -> Option<Generation> {
        let (number, digest) = (self.number()?, self.take::<DIGEST_BYTES>()?);
        let (secret, rest) = self.0.split_first_chunk::<TOKEN_SECRET_BYTES>()?;
        self.0 = rest;
        let token_secret = Secret::copy_of(secret);
        let created = self.time()?.unwrap_or_default();
        (number > 0).then_some(Generation { number, digest, token_secret, created })
    }

    fn key(&mut self, format: u8) -> Option<ApiKey> {
        let (id, salt, created) = (self.id()?, self.take::<SALT_BYTES>()?, self.time()?);
        let created_by = match self.take()? {
            [0] => None,
            [1] => Some(self.id()?),
            _ => return None,
        };
        let (expires, revoked) = (self.time()?, self.time()?);
        let rate = match (self.number()?, self.number()?) {
            (0, 0) => None,
            (per_second, burst) => Some(Rate::new(per_second, burst)?),
        };
        let (name, description) = (self.text()?.into(), self.text()?.into());
        let grants = Grants::parse(self.text()?.split(' ')).ok()?;
        let [count] = self.take()?;
        let networks: Option<Box<[Network]>> =
            (0..count).map(|_| self.text().and_then(|text| Network::parse(text).ok())).collect();
        let [count] = if format >= FORMAT { self.take()? } else { [0] };
        let identities: Option<Box<[Identity]>> = (0..count).map(|_| Identity::parse(self.text()?)).collect();
        let (networks, identities) = (networks?, identities?);
        let terms = Terms { name, description, grants, expires, rate, networks, identities };
        let current = Arc::new(self.generation()?);
        let previous = match self.take()? {
            [0] => None,
            [1] => Some(Previous { generation: Arc::new(self.generation()?), ends: self.time()?? }),
            _ => return None,
        };
        let (created, terms) = (created.unwrap_or_default(), Arc::new(terms));
        let usage = Arc::new(Usage::default());
        terms.is_valid().then_some(ApiKey {
            id,
            salt,
            terms,
            created,
            created_by,
            revoked,
            current,
            previous,
            usage,
        })
    }

    /// The first format knew keys that may do everything, and no tokens.
    fn first_key(&mut self) -> Option<ApiKey> {
        let (id, rights, created) = (self.id()?, self.take::<1>()?, self.time()?.unwrap_or_default());
        let (salt, digest) = (self.take::<SALT_BYTES>()?, self.take::<DIGEST_BYTES>()?);
        if rights != [ADMIN] || !self.0.is_empty() {
            return None;
        }
        // The digest is a MAC under the pepper, and nowhere but in this sealed record.
        let token_secret = kdf::derive_secret(&salt, &digest, &[b"quantonium/token-secret/v1"]).ok()?;
        Some(ApiKey {
            id,
            salt,
            terms: Arc::new(Terms::first()),
            created,
            created_by: None,
            revoked: None,
            current: Arc::new(Generation { number: 1, digest, token_secret, created }),
            previous: None,
            usage: Arc::new(Usage::default()),
        })
    }
}

impl Terms {
    /// The terms of the first key, which may do everything.
    #[must_use]
    pub fn first() -> Self {
        Self {
            name: FIRST_NAME.into(),
            description: "".into(),
            grants: Grants::admin(),
            expires: None,
            rate: None,
            networks: Box::new([]),
            identities: Box::new([]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn generation(number: u32) -> Arc<Generation> {
        let token_secret = Secret::take(&mut [3; TOKEN_SECRET_BYTES]);
        Arc::new(Generation { number, digest: [9; 32], token_secret, created: WallTime::from_millis(5) })
    }

    fn full() -> ApiKey {
        ApiKey {
            id: ApiKeyId::parse(b"0a1b2c3d").unwrap(),
            salt: [7; SALT_BYTES],
            terms: Arc::new(Terms {
                name: "gate\u{e4}way".into(),
                description: "of the north wing".into(),
                grants: Grants::parse(["encrypt:orders-*", "hash"]).unwrap(),
                expires: Some(WallTime::from_millis(1_900_000_000_000)),
                rate: Rate::new(5, 50),
                networks: Box::new([
                    Network::parse("192.0.2.0/24").unwrap(),
                    Network::parse("2001:db8::/32").unwrap(),
                ]),
                identities: Box::new([
                    Identity::parse("dns:svc.example.net").unwrap(),
                    Identity::parse("unix-user:7").unwrap(),
                ]),
            }),
            created: WallTime::from_millis(1_700_000_000_123),
            created_by: ApiKeyId::parse(b"ffffffff"),
            revoked: Some(WallTime::from_millis(1_800_000_000_000)),
            current: generation(2),
            previous: Some(Previous { generation: generation(1), ends: WallTime::from_millis(77) }),
            usage: Arc::new(Usage::restored(41, WallTime::from_millis(9_000))),
        }
    }

    fn bare() -> ApiKey {
        ApiKey {
            terms: Arc::new(Terms::first()),
            created_by: None,
            revoked: None,
            previous: None,
            current: generation(1),
            ..full()
        }
    }

    #[test]
    fn a_record_reads_back_and_no_other_bytes_do() {
        for key in [full(), bare()] {
            let record = encode_key(&key);
            let read = decode_key(&record).unwrap();
            assert_eq!(*encode_key(&read), *record);
            assert_eq!((read.id, &read.terms, read.revoked), (key.id, &key.terms, key.revoked));
            for len in 0..record.len() {
                assert!(decode_key(&record[..len]).is_err(), "{len}");
            }
            assert_eq!(decode_key(&[&record[..], b"x"].concat()).err(), Some(Malformed::Content));
            for at in 0..record.len() {
                let mut altered = record.to_vec();
                altered[at] ^= 0x80;
                if let Ok(other) = decode_key(&altered) {
                    assert_eq!(
                        *encode_key(&other),
                        altered,
                        "byte {at} means something else, and is written so"
                    );
                }
            }
        }
    }

    #[test]
    fn a_record_of_the_first_format_is_a_key_that_may_do_everything() {
        let mut record = b"A\x010a1b2c3d\x01".to_vec();
        record.extend_from_slice(&1_700_000_000_123u64.to_be_bytes());
        record.extend_from_slice(&[7; SALT_BYTES]);
        record.extend_from_slice(&[9; DIGEST_BYTES]);
        let key = decode_key(&record).unwrap();
        assert!(key.terms.grants.is_admin() && key.current.number == 1 && key.current.digest == [9; 32]);
        assert_eq!(decode_key(&record[..record.len() - 1]).err(), Some(Malformed::Content));
        assert!(decode_key(&encode_key(&key)).is_ok());
    }

    #[test]
    fn a_record_is_what_the_document_says() {
        let secret = |number: u8| {
            let token_secret = [3; TOKEN_SECRET_BYTES];
            [&[0, 0, 0, number], &[9; 32][..], &token_secret, &5u64.to_be_bytes()].concat()
        };
        let front: &[&[u8]] = &[
            b"0a1b2c3d",
            &[7; 16],
            &1_700_000_000_123u64.to_be_bytes(),
            b"\x01ffffffff",
            &1_900_000_000_000u64.to_be_bytes(),
            &1_800_000_000_000u64.to_be_bytes(),
            b"\0\0\0\x05\0\0\0\x32",
            b"\0\x09gate\xc3\xa4way",
            b"\0\x11of the north wing",
            b"\0\x15encrypt:orders-* hash",
            b"\x02\0\x0c192.0.2.0/24\0\x0d2001:db8::/32",
        ];
        let identities: &[u8] = b"\x02\0\x13dns:svc.example.net\0\x0bunix-user:7";
        let end = [&secret(2)[..], &[1], &secret(1), &77u64.to_be_bytes()].concat();
        let record = [b"A\x03", &front.concat()[..], identities, &end].concat();
        assert_eq!(*encode_key(&full()), record);
        let before = [b"A\x02", &front.concat()[..], &end].concat();
        let read = decode_key(&before).unwrap();
        assert_eq!(*read.terms, Terms { identities: Box::new([]), ..(*full().terms).clone() });
        assert_eq!(encode_key(&read)[..2], *b"A\x03", "it is written in the present format");
        for strange in [
            // As a peer would never be named, twice the same, and more of them than there may be.
            &b"\x01\0\x05dns:A"[..],
            b"\x01\0\x05mac:a",
            b"\x02\0\x05dns:a\0\x05dns:a",
            b"\x09\0\x05dns:a\0\x05dns:b\0\x05dns:c\0\x05dns:d\0\x05dns:e\0\x05dns:f\0\x05dns:g\0\x05dns:h\0\x05dns:i",
        ] {
            let record = [b"A\x03", &front.concat()[..], strange, &end].concat();
            assert_eq!(decode_key(&record).err(), Some(Malformed::Content), "{}", strange.escape_ascii());
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_a_decoder_panic_and_what_is_read_is_written_so(format in 0u8..4, bytes in proptest::collection::vec(any::<u8>(), 0..400), at in 0usize..400, with in any::<u8>()) {
            let mut altered = encode_key(&full()).to_vec();
            let at = at % altered.len();
            altered[at] = with;
            for record in [[&[KIND, format][..], &bytes].concat(), altered] {
                if let Ok(key) = decode_key(&record) {
                    prop_assert!(record[1] != FORMAT || *encode_key(&key) == record);
                    prop_assert!(key.terms.is_valid());
                }
            }
        }
    }

    #[test]
    fn figures_read_back() {
        let record = encode_use(&full());
        let read = decode_use(&record).unwrap();
        assert_eq!((read.count, read.last), (41, WallTime::from_millis(9_000)));
        for len in 0..record.len() {
            assert!(decode_use(&record[..len]).is_err());
        }
        assert!(decode_use(&[&record[..], b"x"].concat()).is_err());
    }
}
