//! Seal timing of the project's cipher beside OpenSSL, ring and the `chacha20poly1305` crate.
//!
//! All seal ChaCha20-Poly1305 (RFC 8439) in place with a detached tag and 16 bytes of associated data. Their
//! rounds are interleaved, so that a change of the machine's speed hits all alike, and the least time of all
//! rounds counts. The numbers to quote are ratios to OpenSSL (above 1 is faster); times move between machines.
//! Before anything is timed, all must give the same ciphertext and tag.

use std::error::Error;
use std::hint::black_box;
use std::io::Write as _;
use std::time::{Duration, Instant};

use chacha20poly1305::AeadInOut as _;
use chacha20poly1305::{ChaCha20Poly1305, KeyInit as _};
use openssl::cipher::Cipher;
use openssl::cipher_ctx::CipherCtx;
use quantonium::crypto::aead::{self, Algorithm, Backends};
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};

const SIZES_BYTES: [usize; 8] = [16, 64, 256, 1 << 10, 4 << 10, 16 << 10, 64 << 10, 1 << 20];
const ROUNDS_COUNT: usize = 600;
/// Time of one round of one peer: so short that many rounds pass between two turns of the scheduler, of which the least counts.
const ROUND: Duration = Duration::from_micros(400);
const KEY: [u8; 32] = [0x42; 32];
const AAD: [u8; 16] = [0x17; 16];

type Outcome<T> = Result<T, Box<dyn Error>>;

/// One implementation: seals `data` in place under `nonce`, returns the tag.
trait Peer {
    fn name(&self) -> &'static str;
    fn seal(&mut self, nonce: &[u8; 12], data: &mut [u8]) -> Outcome<[u8; 16]>;
}

/// The project's own composition, with one of its ciphers and one of its MACs.
struct Own(Backends);

impl Peer for Own {
    fn name(&self) -> &'static str {
        let fastest = Backends::fastest();
        match self.0 {
            it if it == fastest => "quantonium",
            it if it.mac == fastest.mac => "chacha20",
            it => it.mac.name(),
        }
    }

    fn seal(&mut self, nonce: &[u8; 12], data: &mut [u8]) -> Outcome<[u8; 16]> {
        aead::seal_by(self.0, Algorithm::ChaCha20Poly1305, &KEY, nonce, &AAD, data)
            .map_err(|_| "quantonium refused".into())
    }
}

/// OpenSSL's EVP with one context whose key stays set, as a careful C program uses it.
struct OpenSsl {
    context: CipherCtx,
    scratch: Vec<u8>,
}

impl OpenSsl {
    fn new() -> Outcome<Self> {
        let mut context = CipherCtx::new()?;
        context.encrypt_init(Some(Cipher::chacha20_poly1305()), Some(&KEY), None)?;
        Ok(Self { context, scratch: Vec::new() })
    }
}

impl Peer for OpenSsl {
    fn name(&self) -> &'static str {
        "openssl"
    }

    fn seal(&mut self, nonce: &[u8; 12], data: &mut [u8]) -> Outcome<[u8; 16]> {
        let mut tag = [0; 16];
        self.context.encrypt_init(None, None, Some(nonce))?;
        self.context.cipher_update(&AAD, None)?;
        self.context.cipher_update_inplace(data, data.len())?;
        self.scratch.resize(64, 0);
        self.context.cipher_final(&mut self.scratch)?;
        self.context.tag(&mut tag)?;
        Ok(tag)
    }
}

/// ring: BoringSSL's assembly.
struct Ring(LessSafeKey);

impl Peer for Ring {
    fn name(&self) -> &'static str {
        "ring"
    }

    fn seal(&mut self, nonce: &[u8; 12], data: &mut [u8]) -> Outcome<[u8; 16]> {
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let tag = self.0.seal_in_place_separate_tag(nonce, Aad::from(&AAD), data);
        Ok(tag.map_err(|_| "ring refused")?.as_ref().try_into()?)
    }
}

/// The ready-made composition of the same two crates, compiled with the same flags.
struct ReadyMade(ChaCha20Poly1305);

impl Peer for ReadyMade {
    fn name(&self) -> &'static str {
        "crate"
    }

    fn seal(&mut self, nonce: &[u8; 12], data: &mut [u8]) -> Outcome<[u8; 16]> {
        let tag = self.0.encrypt_inout_detached(&(*nonce).into(), &AAD, data.into());
        Ok(tag.map_err(|_| "chacha20poly1305 refused")?.into())
    }
}

fn peers() -> Outcome<Vec<Box<dyn Peer>>> {
    let ring = UnboundKey::new(&CHACHA20_POLY1305, &KEY).map_err(|_| "ring refused the key")?;
    let mut peers: Vec<Box<dyn Peer>> = vec![Box::new(OpenSsl::new()?)];
    // The fastest, then the crate's cipher with each MAC: a processor with the one has the other's.
    let (fastest, portable) = (Backends::fastest(), Backends::all().last());
    let by_crate = |it: &Backends| portable.is_some_and(|portable| it.cipher == portable.cipher);
    for backends in Backends::all().filter(|it| *it == fastest || by_crate(it)) {
        peers.push(Box::new(Own(backends)));
    }
    peers.push(Box::new(Ring(LessSafeKey::new(ring))));
    peers.push(Box::new(ReadyMade(ChaCha20Poly1305::new(&KEY.into()))));
    Ok(peers)
}

/// All peers must agree with the first one, twice over: a context that is used again must not remember.
fn agree(peers: &mut [Box<dyn Peer>]) -> Outcome<()> {
    for size in SIZES_BYTES.into_iter().chain([1, 15, 63, 65, 4095]) {
        let mut wanted: Option<(Vec<u8>, [u8; 16])> = None;
        for peer in peers.iter_mut() {
            for _ in 0..2 {
                let mut data: Vec<u8> = (0..size).map(|at| (at % 251) as u8).collect();
                let tag = peer.seal(&[9; 12], &mut data)?;
                let sealed = (data, tag);
                if wanted.get_or_insert_with(|| sealed.clone()) != &sealed {
                    return Err(format!("{} disagrees at {size} bytes", peer.name()).into());
                }
            }
        }
    }
    Ok(())
}

/// Nanoseconds for one seal, over as many as fit in a round.
fn round(peer: &mut dyn Peer, data: &mut [u8], count: u64) -> Outcome<f64> {
    let mut nonce = [0u8; 12];
    let start = Instant::now();
    for number in 0..count {
        nonce[..8].copy_from_slice(&number.to_le_bytes());
        black_box(peer.seal(&nonce, black_box(data))?);
    }
    Ok(start.elapsed().as_nanos() as f64 / count as f64)
}

/// The least time of every peer at one size, in nanoseconds.
fn measure(peers: &mut [Box<dyn Peer>], size: usize) -> Outcome<Vec<f64>> {
    let mut data = vec![0u8; size];
    let mut counts = Vec::new();
    for peer in peers.iter_mut() {
        round(peer.as_mut(), &mut data, 3)?;
        let once = round(peer.as_mut(), &mut data, 3)?;
        counts.push((ROUND.as_nanos() as f64 / once).clamp(1.0, 1e6) as u64);
    }
    let mut least = vec![f64::INFINITY; peers.len()];
    for _ in 0..ROUNDS_COUNT {
        for ((peer, count), least) in peers.iter_mut().zip(&counts).zip(&mut least) {
            *least = least.min(round(peer.as_mut(), &mut data, *count)?);
        }
    }
    Ok(least)
}

fn main() -> Outcome<()> {
    let mut out = std::io::stdout().lock();
    let mut peers = peers()?;
    agree(&mut peers)?;
    writeln!(out, "seal, ratio to {} (above 1 is faster)", openssl::version::version())?;
    write!(out, "{:>9}{:>14}", "bytes", "openssl ns")?;
    for peer in peers.iter().skip(1) {
        write!(out, "{:>14}{:>8}", format!("{} ns", peer.name()), "ratio")?;
    }
    writeln!(out)?;
    for size in SIZES_BYTES {
        let times = measure(&mut peers, size)?;
        let (first, others) = times.split_first().ok_or("no peer")?;
        write!(out, "{size:>9}{first:>14.1}")?;
        for time in others {
            write!(out, "{time:>14.1}{:>8.2}", first / time)?;
        }
        writeln!(out)?;
    }
    Ok(())
}
