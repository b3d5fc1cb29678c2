//! A secret in every form in which it may turn up, and the search for them.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking, and says where")]
#![allow(dead_code, reason = "included by several test files, none of which uses all of it")]

use memchr::memmem;

/// A secret in one of the forms that it may be found in.
#[derive(Clone, Debug)]
pub(crate) struct Needle {
    pub(crate) name: String,
    pub(crate) bytes: Vec<u8>,
}

/// The digits of base64, without padding.
pub(crate) fn base64(bytes: &[u8], url: bool) -> Vec<u8> {
    let mut digits = vec![0; quantonium::encoding::base64_len(bytes.len())];
    assert!(quantonium::encoding::base64_encode(bytes, &mut digits).is_some());
    let swap = |digit: u8| match digit {
        b'+' if url => b'-',
        b'/' if url => b'_',
        other => other,
    };
    digits.into_iter().filter(|digit| *digit != b'=').map(swap).collect()
}

/// Every form of a secret.
pub(crate) fn needles(name: &str, secret: &[u8]) -> Vec<Needle> {
    assert!(secret.len() >= 16, "{name} is found by chance");
    let hex: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
    let mut forms = vec![secret.to_vec(), hex.to_uppercase().into_bytes(), hex.into_bytes()];
    for (shift, url) in [(0, false), (1, false), (2, false), (0, true), (1, true), (2, true)] {
        let digits = base64(&[&[0; 2][..shift], secret].concat(), url);
        // Digits at either end that belong to other bytes, too, are left out.
        let before = (shift * 8).div_ceil(6);
        let whole = (shift + secret.len()) * 8 / 6;
        forms.push(digits[before..whole].to_vec());
    }
    forms.into_iter().map(|bytes| Needle { name: name.to_owned(), bytes }).collect()
}

/// The first needle that is in `hay`.
pub(crate) fn find<'a>(needles: &'a [Needle], hay: &[u8]) -> Option<&'a Needle> {
    needles.iter().find(|needle| memmem::find(hay, &needle.bytes).is_some())
}
