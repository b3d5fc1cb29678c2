//! The stream cipher of the AEADs, by everything that computes it on this machine.
//!
//! Owns the target. Key, nonce and counter are the fuzzer's, so it reaches the end of the counter, to which no message is
//! long enough to lead.

use quantonium::crypto::cipher::{Backend, Cipher, GROUP_BYTES};

use super::split_choice;

/// One keystream over what is given, made longer, in three pieces of which one is overwritten: each gives what the portable
/// one gives.
pub(super) fn cipher(data: &[u8]) {
    let (first, rest) = split_choice(data);
    let (second, rest) = split_choice(rest);
    let Some((key, rest)) = rest.split_first_chunk::<32>() else { return };
    let Some((nonce, rest)) = rest.split_first_chunk::<12>() else { return };
    let Some((block, message)) = rest.split_first_chunk::<4>() else { return };
    // Up to 8 KiB, as long as the message says, which need not be all there.
    let len = message.len() * 4 / GROUP_BYTES;
    let mut given = vec![[0; GROUP_BYTES]; len.min(32)];
    given.as_flattened_mut().iter_mut().zip(message).for_each(|(to, from)| *to = *from);
    let streamed = |backend| {
        let mut target = given.clone();
        let mut cipher = Cipher::at(backend, key, nonce, u32::from_le_bytes(*block));
        let (applied, rest) = target.split_at_mut(usize::from(first).min(given.len()));
        let (drawn, last) = rest.split_at_mut(usize::from(second).min(rest.len()));
        cipher.apply(applied);
        cipher.draw(drawn);
        cipher.apply(last);
        target
    };
    let portable = Backend::all().last().map(streamed);
    for backend in Backend::all() {
        assert_eq!(Some(streamed(backend)), portable, "{}", backend.name());
    }
}
