//! `quantonium local`: the ciphertexts of a server, without one, under a key that it has given out.
//!
//! Owns [`LocalKey`]. Invariants: what is written is what the server writes, byte for byte but for random ones; nothing of a
//! plaintext is written before it was verified; a key with nonces of 96 bits seals streams only, since nobody counts here;
//! a key whose ciphertexts would open nowhere seals nothing.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind, Read};
use std::path::Path;

use serde::Deserialize;
use zeroize::Zeroizing;

use super::failure::Failure;
use super::remote::arguments::Form;
use super::remote::input::Reading;
use super::remote::output::Sink;
use super::remote::progress::Progress;
use crate::crypto::aead::{self, Algorithm, KEY_BYTES};
use crate::crypto::stream::{self, Binding, CHUNK_BYTES, HEADER_BYTES, Opener, SEALED_CHUNK_BYTES, Sealer};
use crate::crypto::{envelope, kdf, random};
use crate::encoding::{base64_decode, base64_decode_in_place, hex_decode};
use crate::exit::Exit;
use crate::keyring::{self, Material};
use crate::limits::{
    BODY_PAYLOAD_MAX_BYTES, CLIENT_FILE_MAX_BYTES, ENVELOPE_OVERHEAD_MAX_BYTES, PLAINTEXT_MAX_BYTES,
};
use crate::model::KeyType;
use crate::secret::Secret;
use crate::store::quoted;

/// The keys of one version.
struct Version {
    number: u32,
    enc: Secret<KEY_BYTES>,
    sub: Secret<KEY_BYTES>,
}

/// A key that a server has given out.
pub(super) struct LocalKey {
    algorithm: Algorithm,
    /// Whether it was made with `derived`, where that is known: exports of old do not say.
    derived: Option<bool>,
    /// Whether it was made with `convergent`, where that is known.
    convergent: Option<bool>,
    versions: Vec<Version>,
}

/// An export, as far as it is needed.
#[derive(Deserialize)]
struct Exported<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    derived: Option<bool>,
    convergent: Option<bool>,
    #[serde(borrow)]
    versions: BTreeMap<&'a str, Parts<'a>>,
}

#[derive(Deserialize)]
struct Parts<'a> {
    encryption_key: Option<&'a str>,
    sub_key: Option<&'a str>,
}

impl LocalKey {
    /// Reads the file of an export, or of an unsealed backup.
    pub(super) fn read(path: &Path) -> Result<Self, Failure> {
        let most = usize::try_from(CLIENT_FILE_MAX_BYTES).unwrap_or(usize::MAX);
        let text = Reading::open(Some(path))?.read_whole(most, "that is no key")?;
        let text = str::from_utf8(text.trim_ascii()).unwrap_or_default();
        let key = if text.starts_with(keyring::backup::PLAIN_PREFIX) {
            Self::from_backup(text)
        } else if text.starts_with(keyring::backup::SEALED_PREFIX) {
            return Err(Failure::config(format!(
                "{} is a sealed backup, which only its server opens: bring it back with `quantonium key restore`, or use \
                 `quantonium key export`",
                quoted(path)
            )));
        } else {
            Self::from_export(text)
        };
        key.filter(|key| !key.versions.is_empty()).ok_or_else(|| {
            Failure::config(format!(
                "{} holds no key that encrypts, as `quantonium key export` writes it",
                quoted(path)
            ))
        })
    }

    fn from_backup(text: &str) -> Option<Self> {
        let key = keyring::read_plain_backup(text).ok()?;
        let versions = key.versions().filter_map(|version| match version.material()? {
            Material::Encryption { enc, sub, .. } => Some(Version {
                number: version.number(),
                enc: enc.with(Secret::copy_of),
                sub: sub.with(Secret::copy_of),
            }),
            Material::Mac(_) => None,
        });
        Some(Self {
            algorithm: algorithm(key.kind())?,
            derived: Some(key.options().derived),
            convergent: Some(key.options().convergent),
            versions: versions.collect(),
        })
    }

    fn from_export(text: &str) -> Option<Self> {
        let exported: Exported<'_> = serde_json::from_str(text).ok()?;
        let algorithm = algorithm(KeyType::from_name(exported.kind)?)?;
        let mut versions = Vec::new();
        for (number, parts) in exported.versions {
            let number = number.parse().ok().filter(|number| *number > 0)?;
            versions.push(Version {
                number,
                enc: secret(parts.encryption_key?)?,
                sub: secret(parts.sub_key?)?,
            });
        }
        versions.sort_by_key(|version| version.number);
        let (derived, convergent) = (exported.derived, exported.convergent);
        Some(Self { algorithm, derived, convergent, versions })
    }

    fn version(&self, number: Option<u32>) -> Result<&Version, Failure> {
        let found = match number {
            Some(number) => self.versions.iter().find(|version| version.number == number),
            None => self.versions.last(),
        };
        found.ok_or_else(|| {
            Failure::config(format!(
                "the file of the key has no version {}: export the key again",
                number.unwrap_or(0)
            ))
        })
    }

    /// The AEAD key of this version and context.
    fn aead_key(&self, version: &Version, context: &[u8]) -> Result<Secret<KEY_BYTES>, Failure> {
        self.check(context)?;
        if context.is_empty() {
            return Ok(version.enc.with(Secret::copy_of));
        }
        Ok(version.enc.with(|enc| kdf::derived_key(enc, context))?)
    }

    fn check(&self, context: &[u8]) -> Result<(), Failure> {
        match (self.derived, context.is_empty()) {
            (Some(true), true) => Err(Failure::config("the key is a derived one: give --context")),
            (Some(false), false) => Err(Failure::config("the key is no derived one: leave --context out")),
            _ => Ok(()),
        }
    }
}

impl LocalKey {
    /// Whether what is sealed here opens at the server.
    fn check_sealing(&self, context: &[u8]) -> Result<(), Failure> {
        match (self.derived, self.convergent) {
            (Some(_), Some(false)) => self.check(context),
            (_, Some(true)) => Err(Failure::config(
                "the key is a convergent one, whose ciphertexts only its server makes: use `quantonium encrypt`",
            )),
            _ => Err(Failure::config(
                "the export does not say whether the key is a derived or convergent one: export it again",
            )),
        }
    }
}

/// Seals what `reading` gives.
pub(super) fn encrypt(
    key: &LocalKey,
    number: Option<u32>,
    form: Form,
    binding: Binding<'_>,
    mut reading: Reading,
    mut sink: Sink,
) -> Result<(), Failure> {
    key.check_sealing(binding.context)?;
    let version = key.version(number)?;
    let counted = key.algorithm == Algorithm::ChaCha20Poly1305;
    if counted && matches!(form, Form::Text | Form::Binary) {
        return Err(Failure::refused(
            "a chacha20-poly1305 key may seal so many messages only, which nobody counts here: use --form stream",
        )
        .with_exit(Exit::Usage));
    }
    let wants_stream = counted || form == Form::Stream;
    let first = if wants_stream { Zeroizing::default() } else { reading.read(PLAINTEXT_MAX_BYTES + 1)? };
    let is_long = first.len() > PLAINTEXT_MAX_BYTES;
    if is_long && form != Form::Auto {
        let text = "the input has more than 1 MiB, which this form does not take: leave --form out";
        return Err(Failure::refused(text).with_exit(Exit::Usage));
    }
    if wants_stream || is_long {
        return seal_stream(version, binding, reading, first, sink);
    }
    let mut drawn = Zeroizing::new([0; KEY_BYTES]);
    random::draw_key(&mut drawn)?;
    let nonce = drawn.get(..key.algorithm.nonce_len()).unwrap_or_default();
    let mut data = first;
    let aead_key = key.aead_key(version, binding.context)?;
    let tag = aead_key
        .with(|aead_key| aead::seal(key.algorithm, aead_key, nonce, binding.associated_data, &mut data))?;
    let mut sealed = vec![0; (data.len() + ENVELOPE_OVERHEAD_MAX_BYTES).div_ceil(3) * 4];
    let len = if form == Form::Binary {
        let head = envelope::write_binary_header(&mut sealed, version.number).ok_or_else(broken)?;
        sealed.truncate(head);
        sealed.extend([nonce, &data, &tag].concat());
        sealed.len()
    } else {
        let head = envelope::write_text_prefix(&mut sealed, version.number).ok_or_else(broken)?;
        let rest = sealed.get_mut(head..).unwrap_or_default();
        let body = envelope::write_text_body(rest, nonce, &data, &tag).ok_or_else(broken)?;
        sealed.truncate(head + body);
        sealed.push(b'\n');
        sealed.len()
    };
    sink.write(sealed.get(..len).unwrap_or_default())?;
    sink.finish()
}

/// Opens what `reading` gives, in whichever form.
pub(super) fn decrypt(
    key: &LocalKey,
    binding: Binding<'_>,
    mut reading: Reading,
    sink: Sink,
) -> Result<(), Failure> {
    let mut first = reading.read(stream::MAGIC.len())?;
    if *first == stream::MAGIC {
        return open_stream(key, binding, reading, &first, sink);
    }
    let rest = reading.read_whole(BODY_PAYLOAD_MAX_BYTES, "that is no ciphertext of this program")?;
    first.extend_from_slice(&rest);
    let (number, mut body) = match envelope::recognise(&first) {
        Some(envelope::Form::Binary) => {
            envelope::parse_binary(&first).map(|(number, body)| (number, Zeroizing::new(body.to_vec())))
        }
        Some(envelope::Form::Text) => {
            envelope::parse_text(first.trim_ascii_end()).and_then(|(number, text)| {
                let mut body = Zeroizing::new(text.to_vec());
                let len = base64_decode_in_place(&mut body)?;
                body.truncate(len);
                Some((number, body))
            })
        }
        None => None,
    }
    .ok_or_else(rejected)?;
    let version = key.version(Some(number))?;
    let aead_key = key.aead_key(version, binding.context)?;
    let (nonce, data, tag) = envelope::split_body(key.algorithm, &mut body).ok_or_else(rejected)?;
    let opened = aead_key
        .with(|aead_key| aead::open(key.algorithm, aead_key, nonce, binding.associated_data, data, tag));
    opened.map_err(|_| rejected())?;
    sink.fill(data)
}

fn seal_stream(
    version: &Version,
    binding: Binding<'_>,
    reading: Reading,
    first: Zeroizing<Vec<u8>>,
    mut sink: Sink,
) -> Result<(), Failure> {
    if sink.is_terminal() {
        let text =
            "the ciphertext is binary, and standard output a terminal: give --out FILE, or redirect it";
        return Err(Failure::refused(text).with_exit(Exit::Usage));
    }
    let mut drawn = Zeroizing::new([0; KEY_BYTES]);
    random::draw_key(&mut drawn)?;
    let salt = *drawn.first_chunk().ok_or_else(broken)?;
    let (mut sealer, header) = version.sub.with(|sub| Sealer::new(sub, version.number, salt, binding))?;
    sink.write(&header)?;
    let total = reading.len;
    in_chunks(CHUNK_BYTES, reading, first, total, &mut sink, |chunk, last, sink| {
        let tag = sealer.seal(chunk, last)?;
        sink.write(chunk)?;
        sink.write(&tag)
    })?;
    sink.finish()
}

fn open_stream(
    key: &LocalKey,
    binding: Binding<'_>,
    mut reading: Reading,
    first: &[u8],
    mut sink: Sink,
) -> Result<(), Failure> {
    let rest = reading.read(HEADER_BYTES - first.len())?;
    let header: [u8; HEADER_BYTES] = [first, &rest].concat().try_into().map_err(|_| rejected())?;
    let number = stream::header_version(&header).ok_or_else(rejected)?;
    key.check(binding.context)?;
    let version = key.version(Some(number))?;
    let mut opener = version.sub.with(|sub| Opener::new(sub, &header, binding)).map_err(|_| rejected())?;
    let total = reading.len;
    in_chunks(SEALED_CHUNK_BYTES, reading, Zeroizing::default(), total, &mut sink, |chunk, last, sink| {
        let opened = opener.open(chunk, last).map_err(|_| rejected())?;
        sink.write(opened)
    })?;
    sink.finish()
}

/// Hands over the input in chunks of `size_bytes`, and says of the last one that it is.
fn in_chunks(
    size_bytes: usize,
    reading: Reading,
    first: Zeroizing<Vec<u8>>,
    total: Option<u64>,
    sink: &mut Sink,
    mut take: impl FnMut(&mut [u8], bool, &mut Sink) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let mut progress = Progress::new(total, sink.is_terminal());
    let mut source = reading.behind(first);
    let failed = |error: io::Error| Failure::io(format!("the input cannot be read: {error}"));
    let mut chunk = Zeroizing::new(vec![0; size_bytes]);
    let mut next = Zeroizing::new(vec![0; size_bytes]);
    let mut filled = fill(&mut *source, &mut chunk).map_err(failed)?;
    let mut done_bytes = 0;
    loop {
        // Only what follows tells whether a whole chunk is the last.
        let following =
            if filled < size_bytes { 0 } else { fill(&mut *source, &mut next).map_err(failed)? };
        take(chunk.get_mut(..filled).unwrap_or_default(), following == 0, sink)?;
        done_bytes += filled as u64;
        progress.at(done_bytes);
        if following == 0 {
            return Ok(());
        }
        core::mem::swap(&mut chunk, &mut next);
        filled = following;
    }
}

fn fill(source: &mut dyn Read, target: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while let Some(room) = target.get_mut(filled..).filter(|room| !room.is_empty()) {
        match source.read(room) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// The algorithm of a key that encrypts.
fn algorithm(kind: KeyType) -> Option<Algorithm> {
    match kind {
        KeyType::XChaCha20Poly1305 => Some(Algorithm::XChaCha20Poly1305),
        KeyType::ChaCha20Poly1305 => Some(Algorithm::ChaCha20Poly1305),
        _ => None,
    }
}

/// Thirty-two bytes in base64 or hexadecimal.
fn secret(text: &str) -> Option<Secret<KEY_BYTES>> {
    let mut bytes = Zeroizing::new([0; KEY_BYTES]);
    let decode = if text.len() == 2 * KEY_BYTES { hex_decode } else { base64_decode };
    decode(text.as_bytes(), &mut *bytes).filter(|len| *len == KEY_BYTES)?;
    Some(Secret::copy_of(&bytes))
}

fn rejected() -> Failure {
    Failure::damaged(
        "the ciphertext does not open: it is of another key, context or associated data, or it was changed or cut off",
    )
}

/// What the bounds of a message rule out.
fn broken() -> Failure {
    Failure::refused("the ciphertext has no form").with_exit(Exit::Software)
}
