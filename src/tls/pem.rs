//! PEM, the text form of certificates and keys (RFC 7468).
//!
//! Owns [`blocks`] and [`write`]. Invariants: what was decoded is wiped when dropped, since it may be a key; text between
//! blocks is skipped; a block that is cut, mislabelled or not base64 is an error and not skipped.

use zeroize::Zeroizing;

use crate::encoding::{base64_decode_in_place, base64_encode, base64_len};
use crate::limits::TLS_FILE_MAX_BYTES;
use crate::tls::TlsError;

/// One block: its label and its bytes.
pub(super) struct Block<'a> {
    pub(super) label: &'a [u8],
    pub(super) bytes: Zeroizing<Vec<u8>>,
}

/// The blocks of a file, in order.
pub(super) fn blocks(text: &[u8]) -> Result<Vec<Block<'_>>, TlsError> {
    if text.len() > TLS_FILE_MAX_BYTES {
        return Err(TlsError::TooLarge);
    }
    let mut found = Vec::new();
    let mut open: Option<(&[u8], Zeroizing<Vec<u8>>)> = None;
    for line in text.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii) {
        if let Some(label) = boundary(line, b"-----BEGIN ") {
            // Room for the whole of it at once: growing would leave copies behind.
            let body = Zeroizing::new(Vec::with_capacity(text.len()));
            if open.replace((label, body)).is_some() {
                return Err(TlsError::NotPem);
            }
        } else if let Some(end) = boundary(line, b"-----END ") {
            let (label, mut bytes) = open.take().ok_or(TlsError::NotPem)?;
            if label != end {
                return Err(TlsError::NotPem);
            }
            let length = base64_decode_in_place(&mut bytes).ok_or(TlsError::NotPem)?;
            if length == 0 {
                return Err(TlsError::NotPem);
            }
            bytes.truncate(length);
            found.push(Block { label, bytes });
        } else if let Some((_, body)) = &mut open {
            // A header belongs to the encryption of OpenSSL's old form (RFC 1421, section 4.6.1).
            if line.starts_with(b"Proc-Type:") {
                return Err(TlsError::EncryptedKey);
            }
            body.extend_from_slice(line);
        }
    }
    if open.is_some() || found.is_empty() { Err(TlsError::NotPem) } else { Ok(found) }
}

/// The text form of `bytes` under `label`.
pub(super) fn write(label: &str, bytes: &[u8]) -> Zeroizing<String> {
    let mut body = Zeroizing::new(vec![0; base64_len(bytes.len())]);
    // The length is the one that was asked for.
    let length = base64_encode(bytes, &mut body).unwrap_or_default();
    let mut text = Zeroizing::new(String::with_capacity(length + length / 64 + 2 * label.len() + 64));
    text.push_str("-----BEGIN ");
    text.push_str(label);
    text.push_str("-----\n");
    for line in body.get(..length).unwrap_or_default().chunks(64) {
        text.extend(line.iter().map(|byte| char::from(*byte)));
        text.push('\n');
    }
    text.push_str("-----END ");
    text.push_str(label);
    text.push_str("-----\n");
    text
}

fn boundary<'a>(line: &'a [u8], start: &[u8]) -> Option<&'a [u8]> {
    line.strip_prefix(start)?.strip_suffix(b"-----")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        for length in [1, 47, 48, 49, 500] {
            let bytes: Vec<u8> = (0..length).map(|at: u32| at.to_le_bytes()[0]).collect();
            let text = format!("a remark\r\n{}and more\n{}", *write("A B", &bytes), *write("C", b"x"))
                .replace('\n', "\r\n");
            let read = blocks(text.as_bytes()).unwrap();
            assert_eq!(read.len(), 2);
            assert_eq!((read[0].label, &**read[0].bytes), (&b"A B"[..], &bytes[..]));
            assert_eq!((read[1].label, &**read[1].bytes), (&b"C"[..], &b"x"[..]));
        }
    }

    #[test]
    fn broken_blocks_are_refused() {
        let whole = write("K", b"0123456789").to_string();
        for broken in [
            String::new(),
            "remark".to_owned(),
            whole.replace("-----END K-----", ""),
            whole.replace("END K", "END L"),
            whole.replace("-----BEGIN K-----", ""),
            whole.replace("MDEy", "MD!y"),
            "-----BEGIN K-----\n-----END K-----\n".to_owned(),
            format!("-----BEGIN K-----\n{whole}"),
        ] {
            assert_eq!(blocks(broken.as_bytes()).err(), Some(TlsError::NotPem), "{broken}");
        }
        let old = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\nAAAA\n-----END RSA PRIVATE KEY-----\n";
        assert_eq!(blocks(old.as_bytes()).err(), Some(TlsError::EncryptedKey));
        assert_eq!(blocks(&vec![b'\n'; TLS_FILE_MAX_BYTES + 1]).err(), Some(TlsError::TooLarge));
    }
}
