//! Envelopes, streams, backups of keys and the records in them.
//!
//! Owns the targets of what is sealed, before and behind the seal.

use quantonium::auth::record as api_keys;
use quantonium::crypto::aead::{Algorithm, TAG_BYTES};
use quantonium::crypto::envelope::{self, Form};
use quantonium::crypto::signature;
use quantonium::crypto::stream::{
    Binding, CHUNK_BYTES, HEADER_BYTES, Opener, SALT_BYTES, SEALED_CHUNK_BYTES, Sealer, header_version,
    opened_len, sealed_len,
};
use quantonium::encoding::{base64_decode_to_vec, base64_encode, base64_len};
use quantonium::keyring::backup::{PLAIN_PREFIX, SEALED_PREFIX};
use quantonium::keyring::{
    decode_key, decode_uses, encode_key, open_backup, read_plain_backup, seal_backup, write_plain_backup,
};

use super::split_choice;

const KEY: [u8; 32] = [7; 32];

/// Both forms of a ciphertext, as read and as written.
pub(super) fn envelope(data: &[u8]) {
    let (choice, bytes) = split_choice(data);
    match choice % 3 {
        0 => read_envelope(bytes),
        1 => written_envelope(bytes),
        _ => {
            if let Some((version, presented)) = signature::parse_text(bytes) {
                let front = format!("quantonium:v{version}:");
                let front = if bytes.starts_with(b"vault:") { format!("vault:v{version}:") } else { front };
                let body = bytes.strip_prefix(front.as_bytes()).expect("a version has one spelling");
                assert_eq!(base64_decode_to_vec(body).as_deref(), Some(presented.as_bytes()));
            }
        }
    }
}

fn read_envelope(bytes: &[u8]) {
    let (text, binary) = (envelope::parse_text(bytes), envelope::parse_binary(bytes));
    assert!(text.is_none() || binary.is_none());
    if let Some((version, body)) = text {
        assert_eq!(envelope::recognise(bytes), Some(Form::Text));
        let built =
            ["quantonium", "vault"].map(|name| [format!("{name}:v{version}:").as_bytes(), body].concat());
        assert!(version > 0 && built.contains(&bytes.to_vec()), "a version has one spelling");
    }
    if let Some((version, body)) = binary {
        assert_eq!(envelope::recognise(bytes), Some(Form::Binary));
        assert_eq!([b"QN\x01", &version.to_be_bytes()[..], body].concat(), bytes);
    }
    for algorithm in [Algorithm::XChaCha20Poly1305, Algorithm::ChaCha20Poly1305] {
        let mut room = bytes.to_vec();
        match envelope::split_body(algorithm, &mut room) {
            Some((nonce, ciphertext, tag)) => assert_eq!([nonce, ciphertext, tag].concat(), bytes),
            None => assert!(bytes.len() < algorithm.nonce_len() + TAG_BYTES),
        }
    }
}

fn written_envelope(bytes: &[u8]) {
    let Some((version, body)) = bytes.split_first_chunk::<4>() else { return };
    let version = u32::from_be_bytes(*version);
    let algorithm = [Algorithm::XChaCha20Poly1305, Algorithm::ChaCha20Poly1305][bytes.len() % 2];
    let mut room = body.to_vec();
    let Some((nonce, ciphertext, tag)) = envelope::split_body(algorithm, &mut room) else { return };
    let Some(len) = envelope::text_len(version, algorithm, ciphertext.len()) else {
        return assert_eq!(version, 0, "any other has a text");
    };
    let mut text = vec![0; len];
    let front = envelope::write_text_prefix(&mut text, version).unwrap();
    assert_eq!(Some(front), envelope::text_prefix_len(version));
    assert!(front <= envelope::TEXT_PREFIX_MAX_BYTES);
    assert_eq!(envelope::write_text_body(&mut text[front..len - 1], nonce, ciphertext, tag), None);
    assert_eq!(envelope::write_text_body(&mut text[front..], nonce, ciphertext, tag), Some(len - front));
    let (read, encoded) = envelope::parse_text(&text).unwrap();
    assert_eq!((read, base64_decode_to_vec(encoded)), (version, Some(body.to_vec())));
    let mut binary = vec![0; envelope::binary_len(algorithm, ciphertext.len()).unwrap()];
    let at = envelope::write_binary_header(&mut binary, version).unwrap();
    binary[at..].copy_from_slice(body);
    assert_eq!(envelope::parse_binary(&binary), Some((version, body)));
}

/// A stream: forged ones do not open, sealed ones open unless a byte, the length or the binding was changed.
pub(super) fn stream(data: &[u8]) {
    let (choice, rest) = split_choice(data);
    if choice % 2 == 0 {
        return forged_stream(rest);
    }
    let (place, text) = split_choice(rest);
    // One chunk, or a full one in front.
    let full = if choice & 2 == 0 { 0 } else { CHUNK_BYTES };
    let plaintext: Vec<u8> = text.iter().copied().chain(core::iter::repeat_n(place, full)).collect();
    let binding = Binding { context: b"", associated_data: &text[..text.len().min(8)] };
    let sealed = seal(&plaintext, binding);
    assert_eq!(sealed_len(plaintext.len() as u64), Some(sealed.len() as u64));
    assert_eq!(opened_len(sealed.len() as u64), Some(plaintext.len() as u64));
    assert_eq!(open(&sealed, binding).as_deref(), Some(&plaintext[..]));
    let at = (usize::from(place) * 257 + text.len()) % sealed.len();
    let mut changed = sealed.clone();
    changed[at] ^= 1 << (choice >> 5);
    assert_eq!(open(&changed, binding), None, "byte {at}");
    assert_eq!(open(&sealed[..at], binding), None, "cut at {at}");
    assert_eq!(open(&sealed, Binding { context: b"other", ..binding }), None);
}

fn seal(plaintext: &[u8], binding: Binding<'_>) -> Vec<u8> {
    let (mut sealer, header) = Sealer::new(&KEY, 3, [9; SALT_BYTES], binding).unwrap();
    assert_eq!(header_version(&header), Some(3));
    let mut sealed = header.to_vec();
    let mut chunks: Vec<&[u8]> = plaintext.chunks(CHUNK_BYTES).collect();
    if chunks.is_empty() {
        chunks.push(&[]);
    }
    let last = chunks.len() - 1;
    for (number, chunk) in chunks.into_iter().enumerate() {
        let mut chunk = chunk.to_vec();
        let tag = sealer.seal(&mut chunk, number == last).unwrap();
        sealed.extend_from_slice(&chunk);
        sealed.extend_from_slice(&tag);
    }
    assert!(sealer.seal(&mut [], true).is_err(), "nothing follows the last chunk");
    sealed
}

/// Opens as a reader does that knows where the input ends. What does not open leaves zeros.
fn open(sealed: &[u8], binding: Binding<'_>) -> Option<Vec<u8>> {
    let (header, rest) = sealed.split_first_chunk::<HEADER_BYTES>()?;
    let mut opener = Opener::new(&KEY, header, binding).ok()?;
    let mut plaintext = Vec::new();
    let mut rest = rest;
    loop {
        let len = rest.len().min(SEALED_CHUNK_BYTES);
        let last = len == rest.len();
        let mut chunk = rest[..len].to_vec();
        match opener.open(&mut chunk, last) {
            Ok(opened) => plaintext.extend_from_slice(opened),
            Err(_) => {
                assert!(chunk.iter().all(|byte| *byte == 0) && !opener.is_finished());
                return None;
            }
        }
        if last {
            assert!(opener.is_finished());
            return Some(plaintext);
        }
        rest = &rest[len..];
    }
}

fn forged_stream(bytes: &[u8]) {
    assert_eq!(open(bytes, Binding::default()), None, "nobody without the key makes a stream");
    if let Some((header, rest)) = bytes.split_first_chunk::<HEADER_BYTES>() {
        let named = header_version(header);
        let begins = header.starts_with(b"QNS\x01") && header[4..8] != [0; 4];
        assert_eq!(named.is_some(), begins);
        assert!(named.is_none_or(|version| version.to_be_bytes() == header[4..8]));
        // A right header in front of chunks that are not.
        let (_, header) = Sealer::new(&KEY, 1, [1; SALT_BYTES], Binding::default()).unwrap();
        assert_eq!(open(&[&header, rest].concat(), Binding::default()), None);
    }
    if let Some(len) = bytes.first_chunk::<8>().map(|len| u64::from_be_bytes(*len)) {
        if let Some(sealed) = sealed_len(len) {
            assert_eq!(opened_len(sealed), Some(len));
        }
        if let Some(opened) = opened_len(len) {
            assert_eq!(sealed_len(opened), Some(len), "a length has one plaintext");
        }
    }
}

/// Backups as they come, and the records that stand in sealed ones.
pub(super) fn backup(data: &[u8]) {
    let (choice, bytes) = split_choice(data);
    match choice % 4 {
        0 => {
            let Ok(text) = str::from_utf8(bytes) else { return };
            assert!(open_backup(text, &KEY).is_err(), "nobody without the key makes a sealed backup");
            if let Ok(key) = read_plain_backup(text) {
                assert_eq!(write_plain_backup(&key).unwrap().as_str(), text, "a backup has one spelling");
            }
        }
        1 => key_record(bytes),
        2 => {
            if let Ok(key) = api_keys::decode_key(bytes) {
                let written = api_keys::encode_key(&key);
                let again = api_keys::decode_key(&written).expect("what is written reads back");
                assert_eq!(api_keys::encode_key(&again), written);
                assert!(key.terms.covers(&key.terms));
            }
        }
        _ => {
            let _ = api_keys::decode_use(bytes);
            let _ = decode_uses(bytes);
        }
    }
}

fn key_record(record: &[u8]) {
    let text = |prefix: &str| {
        let mut body = vec![0; base64_len(record.len())];
        base64_encode(record, &mut body).unwrap();
        format!("{prefix}{}", String::from_utf8(body).unwrap())
    };
    assert!(open_backup(&text(SEALED_PREFIX), &KEY).is_err());
    let Ok(key) = decode_key(record) else {
        return assert!(read_plain_backup(&text(PLAIN_PREFIX)).is_err());
    };
    assert_eq!(**encode_key(&key), *record, "a record has one spelling");
    assert_eq!(read_plain_backup(&text(PLAIN_PREFIX)).is_ok(), key.options().plaintext_backup);
    let mut sealed = seal_backup(&key, &KEY, &[5; 24]).unwrap();
    let opened = open_backup(&sealed, &KEY).unwrap();
    assert_eq!(**encode_key(&opened), *record);
    let at = SEALED_PREFIX.len() + record.len() % (sealed.len() - SEALED_PREFIX.len() - 4);
    let other = if sealed.as_bytes()[at] == b'A' { "B" } else { "A" };
    sealed.replace_range(at..=at, other);
    assert!(open_backup(&sealed, &KEY).is_err(), "a changed backup does not open");
}
