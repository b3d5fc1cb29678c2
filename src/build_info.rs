//! What this binary was built from and how.
//!
//! Owns the facts that `build.rs` found, and the check that the processor can run a build for a newer one.
//! Invariant: no fact names a path of the machine that built it, so that builds are reproducible.

/// The version of the package.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
/// The git commit of the sources, with `-dirty` if they differed from it; `unknown` if nothing told.
pub const COMMIT: &str = env!("QUANTONIUM_BUILD_COMMIT");
/// The target triple.
pub const TARGET: &str = env!("QUANTONIUM_BUILD_TARGET");
/// The enabled cargo features, separated by commas; `none` without any.
pub const FEATURES: &str = env!("QUANTONIUM_BUILD_FEATURES");
/// The processor it was compiled for: `portable` (the architecture's baseline) or a `target-cpu`.
pub const CPU: &str = env!("QUANTONIUM_BUILD_CPU");
/// The compiler flags that decide how the cryptography is compiled.
pub const FLAGS: &str = env!("QUANTONIUM_BUILD_FLAGS");

/// The crates that it is made of: JSON in the form of `cargo auditable`, compressed by zlib (RFC 1950). Scanners find it
/// by the name of its section, in a stripped binary too.
#[used]
// SAFETY: nothing else goes into this section, and whoever reads it as a static finds its bytes as they are.
#[expect(unsafe_code, reason = "a section of its own is what scanners look for")]
#[unsafe(link_section = ".dep-v0")]
static CRATES: [u8; include_bytes!(concat!(env!("OUT_DIR"), "/crates.zlib")).len()] =
    *include_bytes!(concat!(env!("OUT_DIR"), "/crates.zlib"));

/// The list of crates as it lies in the binary: JSON, compressed by zlib.
#[must_use]
pub fn crates() -> &'static [u8] {
    &CRATES
}

/// Whether this processor has what the binary was compiled for. To be called first of all.
///
/// # Errors
/// The name of a missing feature of the x86-64-v3 level (x86-64 psABI, section 3.1.1).
#[cfg(not(all(quantonium_cpu = "v3", target_arch = "x86_64")))]
pub const fn cpu_supported() -> Result<(), &'static str> {
    Ok(())
}

/// Whether this processor has what the binary was compiled for. To be called first of all.
///
/// # Errors
/// The name of a missing feature of the x86-64-v3 level (x86-64 psABI, section 3.1.1).
#[cfg(all(quantonium_cpu = "v3", target_arch = "x86_64"))]
pub fn cpu_supported() -> Result<(), &'static str> {
    v3::check(&v3::Leaves::read())
}

/// The x86-64-v3 level, asked of the processor itself: `is_x86_feature_detected!` answers from the compiler's
/// flags and would always agree with them.
#[cfg(all(target_arch = "x86_64", any(quantonium_cpu = "v3", test)))]
mod v3 {
    use core::arch::x86_64::{__cpuid, __cpuid_count};

    /// The registers of `cpuid` that matter.
    #[derive(Clone, Copy, Default)]
    pub(super) struct Leaves {
        pub(super) one_ecx: u32,
        pub(super) seven_ebx: u32,
        pub(super) extended_ecx: u32,
        /// Size of the state that the operating system saves.
        pub(super) saved_bytes: u32,
    }

    impl Leaves {
        pub(super) fn read() -> Self {
            let highest = __cpuid(0).eax;
            let extended = __cpuid(0x8000_0000).eax;
            Self {
                one_ecx: __cpuid(1).ecx,
                seven_ebx: if highest >= 7 { __cpuid_count(7, 0).ebx } else { 0 },
                extended_ecx: if extended >= 0x8000_0001 { __cpuid(0x8000_0001).ecx } else { 0 },
                saved_bytes: if highest >= 0xd { __cpuid_count(0xd, 0).ebx } else { 0 },
            }
        }
    }

    /// Legacy state and header (576 bytes) and the upper halves of the sixteen vector registers (256).
    const SAVED_WITH_AVX_BYTES: u32 = 832;

    pub(super) fn check(leaves: &Leaves) -> Result<(), &'static str> {
        for (register, bit, name) in [
            (leaves.one_ecx, 0, "sse3"),
            (leaves.one_ecx, 9, "ssse3"),
            (leaves.one_ecx, 12, "fma"),
            (leaves.one_ecx, 13, "cmpxchg16b"),
            (leaves.one_ecx, 19, "sse4.1"),
            (leaves.one_ecx, 20, "sse4.2"),
            (leaves.one_ecx, 22, "movbe"),
            (leaves.one_ecx, 23, "popcnt"),
            (leaves.one_ecx, 27, "osxsave"),
            (leaves.one_ecx, 28, "avx"),
            (leaves.one_ecx, 29, "f16c"),
            (leaves.seven_ebx, 3, "bmi1"),
            (leaves.seven_ebx, 5, "avx2"),
            (leaves.seven_ebx, 8, "bmi2"),
            (leaves.extended_ecx, 0, "lahf"),
            (leaves.extended_ecx, 5, "lzcnt"),
        ] {
            if register >> bit & 1 == 0 {
                return Err(name);
            }
        }
        if leaves.saved_bytes < SAVED_WITH_AVX_BYTES {
            return Err("avx state saved by the operating system");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_facts_are_filled_in_and_name_no_path() {
        for fact in [VERSION, COMMIT, TARGET, FEATURES, CPU, FLAGS] {
            assert!(!fact.is_empty());
            assert!(!fact.contains('/'), "{fact}");
        }
        assert!(TARGET.starts_with(std::env::consts::ARCH), "{TARGET}");
        assert_eq!(cpu_supported(), Ok(()));
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn a_processor_without_a_feature_of_the_level_is_named() {
        let full =
            v3::Leaves { one_ecx: u32::MAX, seven_ebx: u32::MAX, extended_ecx: u32::MAX, saved_bytes: 832 };
        assert_eq!(v3::check(&full), Ok(()));
        assert_eq!(v3::check(&v3::Leaves { seven_ebx: !(1 << 5), ..full }), Err("avx2"));
        assert_eq!(v3::check(&v3::Leaves { extended_ecx: !(1 << 5), ..full }), Err("lzcnt"));
        let unsaved = v3::check(&v3::Leaves { saved_bytes: 576, ..full });
        assert_eq!(unsaved, Err("avx state saved by the operating system"));
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn the_processor_is_asked_and_agrees_with_the_standard_library() {
        let detected = std::is_x86_feature_detected!("avx2")
            && std::is_x86_feature_detected!("bmi2")
            && std::is_x86_feature_detected!("fma")
            && std::is_x86_feature_detected!("lzcnt")
            && std::is_x86_feature_detected!("movbe")
            && std::is_x86_feature_detected!("f16c");
        assert_eq!(v3::check(&v3::Leaves::read()).is_ok(), detected);
    }
}
