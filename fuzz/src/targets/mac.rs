//! The MAC of the AEADs, by everything that computes it on this machine.
//!
//! Owns the target. Key and message are the fuzzer's, so it reaches carries that no cipher would lead to.

use quantonium::crypto::authenticator::{Authenticator, Backend};

use super::split_choice;

/// One key over two sections, the second in two pieces: each gives the tag of the portable one.
pub(super) fn mac(data: &[u8]) {
    let (cut, rest) = split_choice(data);
    let (aad_len, rest) = split_choice(rest);
    let Some((key, rest)) = rest.split_first_chunk::<32>() else { return };
    let (aad, message) = rest.split_at(usize::from(aad_len).min(rest.len()));
    // All but the last piece of a section are whole blocks.
    let (first, second) = message.split_at((usize::from(cut) * 16).min(message.len()));
    let tag = |backend| {
        let mut mac = Authenticator::new(backend, key);
        mac.absorb(aad);
        mac.absorb(first);
        mac.absorb(second);
        mac.finish(aad.len(), message.len())
    };
    let portable = Backend::all().last().map(tag);
    for backend in Backend::all() {
        assert_eq!(Some(tag(backend)), portable, "{}", backend.name());
    }
}
