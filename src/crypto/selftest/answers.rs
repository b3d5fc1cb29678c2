//! The known answers as data.
//!
//! Owns the vectors and their types. Sources: FIPS 180-4 ("abc"), RFC 4231 test case 2, RFC 5869 test case 1,
//! RFC 8439 section 2.8.2, draft-irtf-cfrg-xchacha-03 appendix A.3.1. The tags of the long messages and the
//! generator's bytes are this project's own, computed with an independent implementation that follows the
//! text of the documents (integers for Poly1305, one block at a time for ChaCha20). The stream, the keystream, the
//! derived key and the signature come from the Python implementation in `tests/interop`.

use super::super::{aead, hash, keystream, stream};

/// Length of the long AEAD message: more than a piece, a rest of whole groups, a last group, a partial block.
pub(super) const LONG_MESSAGE_BYTES: usize = 9999;
/// Length of the request to the generator that gets a keystream of its own.
pub(super) const GENERATOR_LONG_BYTES: usize = 1300;

/// Plaintext of the last of the two chunks of the stream.
pub(super) const STREAM_END: &[u8; 5] = b"hello";
/// Length of the keystream whose hash is known: several groups of blocks, and a part of one.
pub(super) const KEYSTREAM_BYTES: usize = 9999;

const AEAD_MESSAGE_BYTES: usize = 114;
const AEAD_MESSAGE: &[u8; AEAD_MESSAGE_BYTES] = b"Ladies and Gentlemen of the class of '99: \
If I could offer you only one tip for the future, sunscreen would be it.";
const AEAD_KEY: [u8; 32] = hex("808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9f");
const AEAD_AAD: [u8; 12] = hex("50515253c0c1c2c3c4c5c6c7");
const SUB: [u8; 32] = hex("202122232425262728292a2b2c2d2e2f303132333435363738393a3b3c3d3e3f");
const MAC_MESSAGE: &[u8] = b"what do ya want for nothing?";

/// Everything that [`super::run`] checks.
#[derive(Clone)]
pub(super) struct Answers {
    pub(super) hashes: [HashAnswer; 3],
    pub(super) macs: [MacAnswer; 3],
    pub(super) kdf: KdfAnswer,
    pub(super) aeads: [AeadAnswer; 2],
    pub(super) derived: DerivedAnswer,
    pub(super) stream: StreamAnswer,
    pub(super) keystream: KeystreamAnswer,
    pub(super) signature: SignatureAnswer,
    pub(super) generator: GeneratorAnswer,
}

#[derive(Clone)]
pub(super) struct HashAnswer {
    pub(super) name: &'static str,
    pub(super) algorithm: hash::Algorithm,
    pub(super) message: &'static [u8],
    pub(super) digest: &'static [u8],
}

#[derive(Clone)]
pub(super) struct MacAnswer {
    pub(super) name: &'static str,
    pub(super) algorithm: hash::Algorithm,
    pub(super) key: &'static [u8],
    pub(super) message: &'static [u8],
    pub(super) tag: &'static [u8],
}

#[derive(Clone)]
pub(super) struct KdfAnswer {
    pub(super) name: &'static str,
    pub(super) salt: &'static [u8],
    pub(super) ikm: &'static [u8],
    pub(super) info: &'static [u8],
    pub(super) okm: [u8; 42],
}

#[derive(Clone)]
pub(super) struct AeadAnswer {
    pub(super) name: &'static str,
    pub(super) algorithm: aead::Algorithm,
    pub(super) key: &'static [u8; 32],
    pub(super) nonce: &'static [u8],
    pub(super) aad: &'static [u8],
    pub(super) plaintext: &'static [u8; AEAD_MESSAGE_BYTES],
    pub(super) ciphertext: [u8; AEAD_MESSAGE_BYTES],
    pub(super) tag: [u8; aead::TAG_BYTES],
    pub(super) long_tag: [u8; aead::TAG_BYTES],
}

#[derive(Clone)]
pub(super) struct DerivedAnswer {
    pub(super) name: &'static str,
    pub(super) enc: [u8; 32],
    pub(super) context: &'static [u8],
    pub(super) key: [u8; 32],
}

#[derive(Clone)]
pub(super) struct StreamAnswer {
    pub(super) name: &'static str,
    pub(super) sub: [u8; 32],
    pub(super) version: u32,
    pub(super) salt: [u8; stream::SALT_BYTES],
    pub(super) binding: stream::Binding<'static>,
    pub(super) header: [u8; stream::HEADER_BYTES],
    pub(super) first_tag: [u8; aead::TAG_BYTES],
    pub(super) last_chunk: [u8; STREAM_END.len() + aead::TAG_BYTES],
}

#[derive(Clone)]
pub(super) struct KeystreamAnswer {
    pub(super) name: &'static str,
    pub(super) sub: [u8; 32],
    pub(super) version: u32,
    pub(super) context: &'static [u8],
    pub(super) nonce: [u8; keystream::NONCE_BYTES],
    pub(super) sha256: [u8; 32],
}

#[derive(Clone)]
pub(super) struct SignatureAnswer {
    pub(super) name: &'static str,
    pub(super) key: [u8; 32],
    pub(super) version: u32,
    pub(super) message: &'static [u8],
    pub(super) text: &'static [u8],
}

#[derive(Clone)]
pub(super) struct GeneratorAnswer {
    pub(super) name: &'static str,
    pub(super) first: [u8; 48],
    pub(super) long_sha256: [u8; 32],
    pub(super) reseeded: [u8; 48],
}

pub(super) const PUBLISHED: Answers = Answers {
    hashes: [
        HashAnswer {
            name: "sha-256",
            algorithm: hash::Algorithm::Sha256,
            message: b"abc",
            digest: &hex::<32>("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
        },
        HashAnswer {
            name: "sha-384",
            algorithm: hash::Algorithm::Sha384,
            message: b"abc",
            digest: &hex::<48>(
                "cb00753f45a35e8bb5a03d699ac65007272c32ab0eded1631a8b605a43ff5bed\
                 8086072ba1e7cc2358baeca134c825a7",
            ),
        },
        HashAnswer {
            name: "sha-512",
            algorithm: hash::Algorithm::Sha512,
            message: b"abc",
            digest: &hex::<64>(
                "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a\
                 2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f",
            ),
        },
    ],
    macs: [
        MacAnswer {
            name: "hmac-sha-256",
            algorithm: hash::Algorithm::Sha256,
            key: b"Jefe",
            message: MAC_MESSAGE,
            tag: &hex::<32>("5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"),
        },
        MacAnswer {
            name: "hmac-sha-384",
            algorithm: hash::Algorithm::Sha384,
            key: b"Jefe",
            message: MAC_MESSAGE,
            tag: &hex::<48>(
                "af45d2e376484031617f78d2b58a6b1b9c7ef464f5a01b47e42ec3736322445e\
                 8e2240ca5e69e2c78b3239ecfab21649",
            ),
        },
        MacAnswer {
            name: "hmac-sha-512",
            algorithm: hash::Algorithm::Sha512,
            key: b"Jefe",
            message: MAC_MESSAGE,
            tag: &hex::<64>(
                "164b7a7bfcf819e2e395fbe73b56e0a387bd64222e831fd610270cd7ea250554\
                 9758bf75c05a994a6d034f65f8f0e6fdcaeab1a34d4a6b4b636e070a38bce737",
            ),
        },
    ],
    kdf: KdfAnswer {
        name: "hkdf-sha256",
        salt: &hex::<13>("000102030405060708090a0b0c"),
        ikm: &[0x0b; 22],
        info: &hex::<10>("f0f1f2f3f4f5f6f7f8f9"),
        okm: hex("3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865"),
    },
    aeads: [
        AeadAnswer {
            name: "chacha20-poly1305",
            algorithm: aead::Algorithm::ChaCha20Poly1305,
            key: &AEAD_KEY,
            nonce: &hex::<12>("070000004041424344454647"),
            aad: &AEAD_AAD,
            plaintext: AEAD_MESSAGE,
            ciphertext: hex("d31a8d34648e60db7b86afbc53ef7ec2a4aded51296e08fea9e2b5a736ee62d6\
                 3dbea45e8ca9671282fafb69da92728b1a71de0a9e060b2905d6a5b67ecd3b36\
                 92ddbd7f2d778b8c9803aee328091b58fab324e4fad675945585808b4831d7bc\
                 3ff4def08e4b7a9de576d26586cec64b6116"),
            tag: hex("1ae10b594f09e26a7e902ecbd0600691"),
            long_tag: hex("8df9a53967806b17e4e9f267a3dfa09b"),
        },
        AeadAnswer {
            name: "xchacha20-poly1305",
            algorithm: aead::Algorithm::XChaCha20Poly1305,
            key: &AEAD_KEY,
            nonce: &hex::<24>("404142434445464748494a4b4c4d4e4f5051525354555657"),
            aad: &AEAD_AAD,
            plaintext: AEAD_MESSAGE,
            ciphertext: hex("bd6d179d3e83d43b9576579493c0e939572a1700252bfaccbed2902c21396cbb\
                 731c7f1b0b4aa6440bf3a82f4eda7e39ae64c6708c54c216cb96b72e1213b452\
                 2f8c9ba40db5d945b11b69b982c1bb9e3f3fac2bc369488f76b2383565d3fff9\
                 21f9664c97637da9768812f615c68b13b52e"),
            tag: hex("c0875924c1c7987947deafd8780acf49"),
            long_tag: hex("c14a72ee8ffdfdcf88c1146317dc37ca"),
        },
    ],
    derived: DerivedAnswer {
        name: "derived-key",
        enc: hex("000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"),
        context: b"tenant 7",
        key: hex("2a3920bcb153ef023e35dd0d1e90382c03aa444796d68214682be463f3999dcf"),
    },
    stream: StreamAnswer {
        name: "stream",
        sub: SUB,
        version: 300,
        salt: hex("808182838485868788898a8b8c8d8e8f"),
        binding: stream::Binding { context: b"tenant 7", associated_data: b"order 47" },
        header: hex("514e53010000012c808182838485868788898a8b8c8d8e8feca45165ae6f0057\
             d014126467aa1dbb1264a14566b1d3895e4b16731f1a1c9e"),
        first_tag: hex("7bd762b81c1c3fd60bf4cbc90a342406"),
        last_chunk: hex("fbb5b55501883ce2619c5d73b50a027b7710b0c4d6"),
    },
    keystream: KeystreamAnswer {
        name: "keystream",
        sub: SUB,
        version: 300,
        context: b"tenant 7",
        nonce: hex("404142434445464748494a4b4c4d4e4f5051525354555657"),
        sha256: hex("423df2d6a8bf7fe97fd324eb4023ecdbe2606802397c69146160f9d0947ce617"),
    },
    signature: SignatureAnswer {
        name: "signature",
        key: hex("404142434445464748494a4b4c4d4e4f505152535455565758595a5b5c5d5e5f"),
        version: 1,
        message: b"order 47",
        text: b"quantonium:v1:np1uQzjYJzdZ4nxeytC5XCRB6KqzzkvR9W6iQR0Kvbs=",
    },
    generator: GeneratorAnswer {
        name: "chacha20-generator",
        first: hex("5c6c3531b91eec9aa8d9b4e7f77d9c466e0584fe0ec6153f73a7d98234bbdf9c\
             1491936c63519d217f487cbdb33a48a9"),
        long_sha256: hex("8bf2744b64be25bb15f1a6b03cef4383006876e51f307915be81600c6b1dbe57"),
        reseeded: hex("9631d5eccc7a7eb9e2aa9dba8002b654a7b45f2fd770e31ef5f1abf8bf4c65fa\
             3adad33211a6d8d8e2c75371afc9fd79"),
    },
};

/// Reads hexadecimal when the program is compiled; anything else than `2 * N` digits stops the compiler.
#[expect(
    clippy::indexing_slicing,
    clippy::panic,
    reason = "runs at compile time only, where a panic is an error of the compiler"
)]
const fn hex<const N: usize>(text: &str) -> [u8; N] {
    const fn digit(byte: u8) -> u8 {
        match byte {
            b'0'..=b'9' => byte - b'0',
            b'a'..=b'f' => byte - b'a' + 10,
            _ => panic!("not a hexadecimal digit"),
        }
    }
    let text = text.as_bytes();
    assert!(text.len() == 2 * N, "not the length of the answer");
    let mut bytes = [0; N];
    let mut place = 0;
    while place < N {
        bytes[place] = digit(text[2 * place]) << 4 | digit(text[2 * place + 1]);
        place += 1;
    }
    bytes
}
