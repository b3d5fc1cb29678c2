//! Sealing takes no branch and no address from a byte of key, associated data or message.
//!
//! Told by memcheck (valgrind) of a child, which is this program again: it declares those bytes undefined, and memcheck
//! finds each jump and each address that is made of them. Valgrind knows no AVX-512: of the MACs, the portable one and that
//! of AVX2 are looked at, not the one of AVX-512, which has the same form.

#![cfg(target_arch = "x86_64")]
#![expect(unsafe_code, reason = "memcheck is spoken to by instructions that do nothing elsewhere")]
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that meets what it does not expect fails"
)]

use std::arch::asm;
use std::process::Command;

use quantonium::crypto::aead::{self, Algorithm};
use quantonium::crypto::authenticator::{Authenticator, Backend};

const CASE: &str = "QUANTONIUM_CONSTANT_TIME_CASE";
/// What memcheck ends with if it found something.
const FOUND: i32 = 9;

/// Requests of memcheck: the letters M and C, and a number.
const UNDEFINED: u64 = 0x4d43_0001;
const DEFINED: u64 = 0x4d43_0002;

/// Declares bytes undefined or defined to memcheck.
fn declare(request: u64, bytes: &mut [u8]) {
    let arguments = [request, bytes.as_mut_ptr() as u64, bytes.len() as u64, 0, 0, 0];
    // SAFETY: a register is rotated by 128 bits in all and another exchanged with itself, so nothing changes but flags and
    // the result register; valgrind knows the sequence, and reads the arguments.
    unsafe {
        asm!(
            "rol rdi, 3", "rol rdi, 13", "rol rdi, 61", "rol rdi, 51", "xchg rbx, rbx",
            in("rax") &raw const arguments, inout("rdx") 0u64 => _, options(nostack),
        );
    }
}

/// Lengths that take every path: nothing, a part of a block, single blocks, vectors with and without a rest.
const LENGTHS: [usize; 8] = [0, 5, 16, 100, 200, 300, 1_003, 10_000];

fn seal_secrets() {
    for backend in Backend::all() {
        for len in LENGTHS {
            let (mut key, mut aad, mut data) = ([7; 32], [3; 16], vec![9; len]);
            for secret in [&mut key[..], &mut aad, &mut data] {
                declare(UNDEFINED, secret);
            }
            let mut mac = Authenticator::new(backend, &key);
            mac.absorb(&aad);
            mac.absorb(&data);
            let mut tag = mac.finish(aad.len(), data.len());
            declare(DEFINED, &mut tag);
            let nonce = &[5; 24][..12];
            let sealed = aead::seal_by(backend, Algorithm::ChaCha20Poly1305, &key, nonce, &aad, &mut data);
            declare(DEFINED, &mut data);
            let mut sealed = sealed.unwrap();
            declare(DEFINED, &mut sealed);
            assert!(len == 0 || data != vec![9; len], "{}", backend.name());
            assert_ne!(sealed, tag);
        }
    }
}

/// How memcheck ends when a child does this.
fn checked(case: &str) -> (Option<i32>, String) {
    let ended = Command::new("valgrind")
        .args(["--quiet", &format!("--error-exitcode={FOUND}")])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "the_child_seals_what_is_undefined", "--test-threads=1"])
        .env(CASE, case)
        .output()
        .unwrap();
    (ended.status.code(), String::from_utf8_lossy(&ended.stderr).into_owned())
}

#[test]
fn the_child_seals_what_is_undefined() {
    // Only the child has a case; elsewhere the declarations do nothing.
    seal_secrets();
    if std::env::var(CASE).as_deref() == Ok("leaky") {
        let mut secret = [1u8];
        declare(UNDEFINED, &mut secret);
        assert!(std::hint::black_box(secret)[0] != 2);
    }
}

#[test]
fn no_branch_and_no_address_depends_on_what_is_sealed() {
    if Command::new("valgrind").arg("--version").output().is_err() {
        println!("skipped: valgrind is not installed");
        assert!(std::env::var("QUANTONIUM_REQUIRE").as_deref() != Ok("1"), "required: valgrind");
        return;
    }
    let (code, said) = checked("leaky");
    assert_eq!(code, Some(FOUND), "a branch on a secret would be seen: {said}");
    let (code, said) = checked("none");
    assert_eq!(code, Some(0), "{said}");
}
