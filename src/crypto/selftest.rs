//! Known answers, checked before the program serves: a wrong one stops the start.
//!
//! Owns the list of checks; the answers are data in `answers`. Invariants: every primitive of this floor, and
//! every form with keys of its own, has a row; whatever can refuse is also shown something to refuse. The long messages go through the wide paths
//! of the back-end that was chosen for this CPU, which the short published vectors do not reach.

mod answers;

use core::fmt;

use super::aead::{self, TAG_BYTES};
use super::random::{Generator, SEED_BYTES, SeedSource};
use super::stream::{self, Opener, Sealer};
use super::{Error, hash, kdf, keystream, mac, signature};
use crate::clock::Moment;
use crate::limits;
use answers::{
    AeadAnswer, Answers, DerivedAnswer, GeneratorAnswer, HashAnswer, KdfAnswer, KeystreamAnswer, MacAnswer,
    SignatureAnswer, StreamAnswer,
};

/// What gave a wrong answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Name of the primitive.
    pub primitive: &'static str,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "self-test of {} failed", self.primitive)
    }
}

impl std::error::Error for Failure {}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        Self::SelfTest(failure)
    }
}

/// So many parts has the test: each takes a small part of a millisecond.
pub const PARTS: usize = 9;

/// Checks every primitive against its known answers. Takes about a millisecond.
///
/// # Errors
/// The first primitive that gave a wrong answer.
pub fn run() -> Result<(), Failure> {
    check(&answers::PUBLISHED)
}

/// Checks one part of it, counted from 0: for a thread that has little time at once. Beyond the last there is nothing
/// to check.
///
/// # Errors
/// The first primitive of that part that gave a wrong answer.
pub fn run_part(part: usize) -> Result<(), Failure> {
    check_part(&answers::PUBLISHED, part)
}

fn check(answers: &Answers) -> Result<(), Failure> {
    (0..PARTS).try_for_each(|part| check_part(answers, part))
}

fn check_part(answers: &Answers, part: usize) -> Result<(), Failure> {
    match part {
        0 => answers.hashes.iter().try_for_each(|answer| verdict(answer.name, hash_holds(answer))),
        1 => answers.macs.iter().try_for_each(|answer| verdict(answer.name, mac_holds(answer))),
        2 => verdict(answers.kdf.name, kdf_holds(&answers.kdf)),
        3 => answers
            .aeads
            .iter()
            .try_for_each(|answer| verdict(answer.name, aead_holds(answer) && long_aead_holds(answer))),
        4 => verdict(answers.derived.name, derived_holds(&answers.derived)),
        5 => verdict(answers.stream.name, stream_holds(&answers.stream)),
        6 => verdict(answers.keystream.name, keystream_holds(&answers.keystream)),
        7 => verdict(answers.signature.name, signature_holds(&answers.signature)),
        8 => verdict(answers.generator.name, generator_holds(&answers.generator)),
        _ => Ok(()),
    }
}

fn verdict(primitive: &'static str, holds: bool) -> Result<(), Failure> {
    if holds { Ok(()) } else { Err(Failure { primitive }) }
}

fn hash_holds(answer: &HashAnswer) -> bool {
    hash::digest(answer.algorithm, &[answer.message]).as_bytes() == answer.digest
}

fn mac_holds(answer: &MacAnswer) -> bool {
    let key = mac::MacKey::new(answer.algorithm, answer.key);
    let mut altered = [0u8; limits::DIGEST_MAX_BYTES];
    let (altered, _) = altered.split_at_mut(answer.tag.len());
    altered.copy_from_slice(answer.tag);
    flip(altered);
    key.verify(&[answer.message], answer.tag).is_ok() && key.verify(&[answer.message], altered).is_err()
}

fn kdf_holds(answer: &KdfAnswer) -> bool {
    let mut okm = [0u8; 42];
    kdf::derive(answer.salt, answer.ikm, &[answer.info], &mut okm).is_ok() && okm == answer.okm
}

fn aead_holds(answer: &AeadAnswer) -> bool {
    let mut data = *answer.plaintext;
    let Ok(tag) = aead::seal(answer.algorithm, answer.key, answer.nonce, answer.aad, &mut data) else {
        return false;
    };
    data == answer.ciphertext && tag == answer.tag && opens_and_refuses(answer, &mut data, answer.plaintext)
}

/// Bytes 0 to 250 over and over.
fn count_up(target: &mut [u8]) {
    for (byte, value) in target.iter_mut().zip((0..=250u8).cycle()) {
        *byte = value;
    }
}

/// A message longer than every piece and group, counted up, of which the tag is known.
fn long_aead_holds(answer: &AeadAnswer) -> bool {
    let mut plaintext = [0u8; answers::LONG_MESSAGE_BYTES];
    count_up(&mut plaintext);
    let mut data = plaintext;
    let sealed = aead::seal(answer.algorithm, answer.key, answer.nonce, answer.aad, &mut data);
    sealed == Ok(answer.long_tag) && {
        let opened =
            aead::open(answer.algorithm, answer.key, answer.nonce, answer.aad, &mut data, &answer.long_tag);
        opened.is_ok() && data == plaintext
    }
}

/// Opens `data` with the right tag, and shows that it is refused, and cleared, with an altered one.
fn opens_and_refuses(answer: &AeadAnswer, data: &mut [u8], plaintext: &[u8]) -> bool {
    let AeadAnswer { algorithm, key, nonce, aad, .. } = *answer;
    let mut forged = answer.ciphertext;
    let mut altered: [u8; TAG_BYTES] = answer.tag;
    flip(&mut altered);
    aead::open(algorithm, key, nonce, aad, &mut forged, &altered) == Err(Error::Rejected)
        && forged.iter().all(|byte| *byte == 0)
        && aead::open(algorithm, key, nonce, aad, data, &answer.tag).is_ok()
        && data == plaintext
}

fn derived_holds(answer: &DerivedAnswer) -> bool {
    kdf::derived_key(&answer.enc, answer.context).is_ok_and(|key| key.matches(&answer.key))
}

/// A stream of one full chunk, counted up, and a short one.
fn stream_holds(answer: &StreamAnswer) -> bool {
    let Ok((mut sealer, header)) = Sealer::new(&answer.sub, answer.version, answer.salt, answer.binding)
    else {
        return false;
    };
    let mut chunk = vec![0u8; stream::SEALED_CHUNK_BYTES];
    let (plaintext, tag) = chunk.split_at_mut(stream::CHUNK_BYTES);
    count_up(plaintext);
    let first = sealer.seal(plaintext, false);
    tag.copy_from_slice(&answer.first_tag);
    let mut end = *answers::STREAM_END;
    let last = sealer.seal(&mut end, true);
    header == answer.header
        && first == Ok(answer.first_tag)
        && last.is_ok_and(|tag| answer.last_chunk.iter().eq(end.iter().chain(&tag)))
        && stream_opens_and_refuses(answer, &mut chunk)
}

/// Opens the stream whose first chunk is given, and shows that it is refused with an altered header and chunk.
fn stream_opens_and_refuses(answer: &StreamAnswer, chunk: &mut [u8]) -> bool {
    let mut altered = answer.header;
    flip(&mut altered);
    let refused = Opener::new(&answer.sub, &altered, answer.binding).is_err();
    let Ok(mut opener) = Opener::new(&answer.sub, &answer.header, answer.binding) else {
        return false;
    };
    let mut last = answer.last_chunk;
    let counted = opener
        .open(chunk, false)
        .is_ok_and(|plaintext| plaintext.iter().copied().eq((0..=250).cycle().take(stream::CHUNK_BYTES)));
    let ended = opener.open(&mut last, true).is_ok_and(|plaintext| plaintext == answers::STREAM_END);
    refused && counted && ended && opener.is_finished() && opener.open(chunk, false).is_err()
}

fn keystream_holds(answer: &KeystreamAnswer) -> bool {
    let mut drawn = [0u8; answers::KEYSTREAM_BYTES];
    keystream::fill(&answer.sub, answer.version, answer.context, &answer.nonce, &mut drawn).is_ok()
        && hash::sha256(&[&drawn]) == answer.sha256
}

fn signature_holds(answer: &SignatureAnswer) -> bool {
    let tag = mac::MacKey::new(hash::Algorithm::Sha256, &answer.key).tag(&[answer.message]);
    let mut text = [0u8; signature::TEXT_MAX_BYTES];
    let written = signature::write_text(&mut text, answer.version, &tag).and_then(|len| text.get(..len));
    let read = signature::parse_text(answer.text);
    written == Some(answer.text)
        && read.is_some_and(|(version, read)| version == answer.version && tag.matches(read.as_bytes()))
}

fn flip(tag: &mut [u8]) {
    if let Some(last) = tag.last_mut() {
        *last ^= 1;
    }
}

/// Two seeds that are known, and then none.
struct Scripted(usize);

impl SeedSource for Scripted {
    fn fill(&mut self, seed: &mut [u8; SEED_BYTES]) -> Result<(), Error> {
        for (byte, value) in seed.iter_mut().zip(0u8..) {
            *byte = value;
        }
        match self.0 {
            0 => {}
            1 => seed.reverse(),
            _ => return Err(Error::Entropy),
        }
        self.0 += 1;
        Ok(())
    }
}

fn generator_holds(answer: &GeneratorAnswer) -> bool {
    let start = Moment::from_nanos(0);
    let later = start.plus_millis(limits::RESEED_AFTER_MILLIS);
    let last = later.plus_millis(limits::RESEED_AFTER_MILLIS);
    let Ok(mut generator) = Generator::new(Scripted(0), start) else {
        return false;
    };
    let mut long = [0u8; answers::GENERATOR_LONG_BYTES];
    generator.array(start) == Ok(answer.first)
        && generator.fill(start, &mut long).is_ok()
        && hash::sha256(&[&long]) == answer.long_sha256
        && generator.array(later) == Ok(answer.reseeded)
        && generator.array::<16>(last) == Err(Error::Entropy)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure_of(answers: &Answers) -> &'static str {
        check(answers).expect_err("a corrupted answer must be noticed").primitive
    }

    #[test]
    fn every_answer_comes_out() {
        assert_eq!(run(), Ok(()));
    }

    #[test]
    fn a_corrupted_hash_answer_names_its_hash() {
        for row in 0..answers::PUBLISHED.hashes.len() {
            let mut answers = answers::PUBLISHED.clone();
            let mut wrong = answers.hashes[row].digest.to_vec();
            wrong[0] ^= 1;
            answers.hashes[row].digest = wrong.leak();
            assert_eq!(failure_of(&answers), answers.hashes[row].name);
        }
    }

    #[test]
    fn a_corrupted_mac_answer_names_its_mac() {
        for row in 0..answers::PUBLISHED.macs.len() {
            let mut answers = answers::PUBLISHED.clone();
            let mut wrong = answers.macs[row].tag.to_vec();
            wrong[5] ^= 0x80;
            answers.macs[row].tag = wrong.leak();
            assert_eq!(failure_of(&answers), answers.macs[row].name);
        }
    }

    #[test]
    fn a_corrupted_kdf_answer_names_the_kdf() {
        let mut answers = answers::PUBLISHED.clone();
        answers.kdf.okm[41] ^= 1;
        assert_eq!(failure_of(&answers), "hkdf-sha256");
    }

    #[test]
    fn a_corrupted_aead_answer_names_its_aead() {
        for row in 0..answers::PUBLISHED.aeads.len() {
            let corruptions: [fn(&mut AeadAnswer); 3] = [
                |answer| answer.tag[0] ^= 1,
                |answer| answer.ciphertext[113] ^= 1,
                |answer| answer.long_tag[15] ^= 1,
            ];
            for corrupt in corruptions {
                let mut answers = answers::PUBLISHED.clone();
                corrupt(&mut answers.aeads[row]);
                assert_eq!(failure_of(&answers), answers.aeads[row].name);
            }
        }
    }

    #[test]
    fn a_corrupted_answer_of_a_form_names_the_form() {
        type Corruption = (&'static str, fn(&mut Answers));
        let corruptions: [Corruption; 10] = [
            ("derived-key", |answers| answers.derived.key[31] ^= 1),
            ("derived-key", |answers| answers.derived.context = b"tenant 8"),
            ("stream", |answers| answers.stream.header[7] ^= 1),
            ("stream", |answers| answers.stream.header[55] ^= 1),
            ("stream", |answers| answers.stream.first_tag[0] ^= 1),
            ("stream", |answers| answers.stream.last_chunk[0] ^= 1),
            ("stream", |answers| answers.stream.last_chunk[20] ^= 1),
            ("keystream", |answers| answers.keystream.sha256[0] ^= 1),
            ("keystream", |answers| answers.keystream.nonce[23] ^= 1),
            ("signature", |answers| answers.signature.version = 2),
        ];
        for (row, (name, corrupt)) in corruptions.into_iter().enumerate() {
            let mut answers = answers::PUBLISHED.clone();
            corrupt(&mut answers);
            assert_eq!(failure_of(&answers), name, "row {row}");
        }
    }

    #[test]
    fn a_corrupted_generator_answer_names_the_generator() {
        let corruptions: [fn(&mut GeneratorAnswer); 3] = [
            |answer| answer.first[0] ^= 1,
            |answer| answer.long_sha256[0] ^= 1,
            |answer| answer.reseeded[0] ^= 1,
        ];
        for corrupt in corruptions {
            let mut answers = answers::PUBLISHED.clone();
            corrupt(&mut answers.generator);
            assert_eq!(failure_of(&answers), "chacha20-generator");
        }
    }

    #[test]
    fn a_failure_shows_only_the_name() {
        let failure = Failure { primitive: "sha-256" };
        assert_eq!(failure.to_string(), "self-test of sha-256 failed");
        assert_eq!(Error::from(failure).to_string(), failure.to_string());
    }
}
