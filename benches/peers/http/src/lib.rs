//! The work of an `encrypt` as a careful author would write it over a framework: what the peers have in common.
//!
//! Owns [`Work`]. It checks the API key, reads the JSON, decodes, seals and encodes, with the same cipher and the same base64 as
//! the server that is measured, so that what differs is the server. It writes no audit line, keeps no limits, looks at no
//! permission and locks nothing in: what the server does beside that is on its side of the ratio.

use std::env;
use std::error::Error;
use std::sync::Mutex;

use quantonium::clock::Moment;
use quantonium::crypto::aead::{self, Algorithm};
use quantonium::crypto::hash;
use quantonium::crypto::mac::{MacKey, Tag};
use quantonium::crypto::random::{Generator, Kernel};
use quantonium::encoding::{base64_decode_to_vec, base64_encode, base64_len};
use serde::{Deserialize, Serialize};

/// What fails ends the program.
pub type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

const NONCE_BYTES: usize = 24;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked<'a> {
    key: &'a str,
    plaintext: &'a str,
}

#[derive(Serialize)]
struct Answered<'a> {
    ciphertext: &'a str,
    key_version: u32,
}

/// The state of a peer.
pub struct Work {
    pepper: MacKey,
    admin: Tag,
    key: [u8; 32],
    random: Mutex<Generator<Kernel>>,
}

impl Work {
    /// Takes the API key from `BENCH_KEY`, and draws a key to seal with.
    ///
    /// # Errors
    /// If either cannot be had.
    pub fn new() -> Outcome<Self> {
        let now = Moment::now();
        let mut random = Generator::new(Kernel, now).map_err(|_| "no random bytes")?;
        let mut key = [0; 32];
        random.fill(now, &mut key).map_err(|_| "no random bytes")?;
        let pepper = MacKey::new(hash::Algorithm::Sha256, &key);
        let admin = pepper.tag(&[env::var("BENCH_KEY")?.as_bytes()]);
        Ok(Self { pepper, admin, key, random: Mutex::new(random) })
    }

    /// The JSON of the reply, or the status that refuses.
    ///
    /// # Errors
    /// A status of HTTP.
    pub fn encrypt(&self, credential: Option<&[u8]>, body: &[u8]) -> Result<Vec<u8>, u16> {
        let credential = credential.ok_or(401_u16)?;
        if !self.admin.matches(self.pepper.tag(&[credential]).as_bytes()) {
            return Err(401);
        }
        let asked: Asked<'_> = serde_json::from_slice(body).map_err(|_| 400_u16)?;
        if asked.key != "bench" {
            return Err(404);
        }
        let mut data = base64_decode_to_vec(asked.plaintext.as_bytes()).ok_or(400_u16)?;
        let mut sealed = Vec::with_capacity(NONCE_BYTES + data.len() + 16);
        let mut nonce = [0; NONCE_BYTES];
        self.random.lock().map_err(|_| 500_u16)?.fill(Moment::now(), &mut nonce).map_err(|_| 500_u16)?;
        let tag = aead::seal(Algorithm::XChaCha20Poly1305, &self.key, &nonce, b"bench", &mut data)
            .map_err(|_| 500_u16)?;
        sealed.extend_from_slice(&nonce);
        sealed.extend_from_slice(&data);
        sealed.extend_from_slice(&tag);
        let mut text = vec![0; base64_len(sealed.len())];
        base64_encode(&sealed, &mut text);
        let ciphertext = std::str::from_utf8(&text).map_err(|_| 500_u16)?;
        serde_json::to_vec(&Answered { ciphertext, key_version: 1 }).map_err(|_| 500)
    }
}

/// Where to listen: the only argument.
///
/// # Errors
/// If there is none.
pub fn address() -> Outcome<String> {
    env::args().nth(1).ok_or_else(|| "which address?".into())
}
