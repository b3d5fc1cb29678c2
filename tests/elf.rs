//! The binary itself: a static position-independent executable whose every protection of the ELF format is on.
//!
//! The files come from `QUANTONIUM_BIN` and `QUANTONIUM_BIN_AARCH64`; `readelf` reads them.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "the whole file is a test, of which clippy sees only the functions marked as such"
)]

use std::path::{Path, PathBuf};
use std::process::Command;

/// Largest binary of this stage, with TLS and without.
const BINARY_MAX_BYTES: u64 = if cfg!(feature = "tls") { 73 } else { 34 } * 1_024 * 1_024 / 10;

/// Says that a test cannot run here; fails where that is not accepted.
fn skip(reason: &str) {
    println!("skipped: {reason}");
    assert!(std::env::var("QUANTONIUM_REQUIRE").as_deref() != Ok("1"), "required: {reason}");
}

/// The file that a variable names.
fn binary(variable: &str) -> Option<PathBuf> {
    let path = std::env::var_os(variable).map(PathBuf::from);
    if path.is_none() {
        skip(&format!("{variable} is not set"));
    }
    path
}

/// What `readelf` says of headers, segments and dynamic section; nothing if it is not installed.
fn readelf(path: &Path) -> Option<String> {
    let Ok(output) = Command::new("readelf").env("LC_ALL", "C").arg("-hldW").arg(path).output() else {
        skip("readelf is not installed");
        return None;
    };
    assert!(output.status.success(), "{}: {}", path.display(), String::from_utf8_lossy(&output.stderr));
    Some(String::from_utf8(output.stdout).unwrap())
}

/// The rest of the first line that, without its indentation, starts with `name`.
fn line<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.trim_start().strip_prefix(name))
}

/// The entries of the dynamic section as (name, value): `(FLAGS_1)  Flags: NOW PIE`.
fn dynamic<'a>(text: &'a str, name: &str) -> Vec<&'a str> {
    let tag = format!("({name})");
    text.lines().filter_map(|line| Some(line.split_once(tag.as_str())?.1.trim())).collect()
}

/// The segments of a kind, each as (address, size, flags without spaces).
fn segments(text: &str, kind: &str) -> Vec<(u64, u64, String)> {
    let number = |word: &str| u64::from_str_radix(word.trim_start_matches("0x"), 16).unwrap();
    text.lines()
        .filter_map(|line| line.trim_start().strip_prefix(kind)?.strip_prefix(' '))
        .map(|rest| {
            // Offset, virtual address, physical address, size in the file, size in memory, flags, alignment.
            let words: Vec<&str> = rest.split_whitespace().collect();
            let flags = words[5..words.len() - 1].concat();
            (number(words[1]), number(words[4]), flags)
        })
        .collect()
}

/// Every property, for the file of one architecture.
fn assert_hardened(path: &Path, machine: &str) {
    let Some(text) = readelf(path) else { return };
    assert_eq!(line(&text, "Machine:").unwrap().trim(), machine);
    assert!(line(&text, "Type:").unwrap().trim().starts_with("DYN "), "position-independent:\n{text}");
    assert!(dynamic(&text, "FLAGS_1").iter().any(|flags| flags.contains("PIE")), "an executable:\n{text}");
    assert!(segments(&text, "INTERP").is_empty(), "no interpreter:\n{text}");
    assert!(dynamic(&text, "NEEDED").is_empty(), "no dynamic library:\n{text}");
    assert!(dynamic(&text, "TEXTREL").is_empty(), "no relocation in read-only segments:\n{text}");
    assert!(dynamic(&text, "FLAGS").iter().any(|flags| flags.contains("BIND_NOW")), "bound at once:\n{text}");

    let stack = segments(&text, "GNU_STACK");
    assert_eq!(stack.len(), 1, "{text}");
    assert_eq!(stack[0].2, "RW", "the stack is not executable:\n{text}");
    let loads = segments(&text, "LOAD");
    assert!(loads.len() >= 2, "{text}");
    for (_, _, flags) in &loads {
        assert!(!(flags.contains('W') && flags.contains('E')), "writable and executable:\n{text}");
    }
    // Full RELRO: what the loader writes, the dynamic section and the tables of addresses, is read-only afterwards.
    let relro = segments(&text, "GNU_RELRO");
    assert_eq!(relro.len(), 1, "{text}");
    let (start, size, _) = &relro[0];
    let (table, length, _) = &segments(&text, "DYNAMIC")[0];
    assert!(start <= table && table + length <= start + size, "the dynamic section is protected:\n{text}");
}

#[test]
fn the_binary_is_a_hardened_static_pie_of_the_promised_size() {
    let Some(path) = binary("QUANTONIUM_BIN") else { return };
    let machine = match std::env::consts::ARCH {
        "x86_64" => "Advanced Micro Devices X86-64",
        "aarch64" => "AArch64",
        other => panic!("no name for {other}"),
    };
    assert_hardened(&path, machine);
    let size = std::fs::metadata(&path).unwrap().len();
    println!("{}: {size} bytes, at most {BINARY_MAX_BYTES}", path.display());
    assert!(size <= BINARY_MAX_BYTES);
}

#[test]
fn the_binary_holds_nothing_of_the_penetration_test() {
    let Some(path) = binary("QUANTONIUM_BIN") else { return };
    let bytes = std::fs::read(&path).unwrap();
    for word in ["pentest", "PENETRATION", "penetration", "no-such-system"] {
        let found = bytes.windows(word.len()).any(|part| part == word.as_bytes());
        assert!(!found, "{}: holds {word:?}", path.display());
    }
    // What is looked for is there in the build that is attacked: else the words above would prove nothing.
    let Some(path) = std::env::var_os("QUANTONIUM_BIN_PENTEST") else { return };
    let bytes = std::fs::read(path).unwrap();
    for word in ["--pentest-without", "PENETRATION TEST BUILD", "penetration test", "no-such-system"] {
        assert!(bytes.windows(word.len()).any(|part| part == word.as_bytes()), "no {word:?}");
    }
}

#[test]
fn the_binary_for_aarch64_is_a_hardened_static_pie() {
    let Some(path) = binary("QUANTONIUM_BIN_AARCH64") else { return };
    assert_hardened(&path, "AArch64");
    println!("{}: {} bytes", path.display(), std::fs::metadata(&path).unwrap().len());
}

#[test]
fn the_binary_for_aarch64_runs_under_emulation() {
    let Some(path) = binary("QUANTONIUM_BIN_AARCH64") else { return };
    let Ok(output) = Command::new("qemu-aarch64").arg(&path).arg("version").output() else {
        return skip("qemu-aarch64 is not installed");
    };
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}\n{}", output.status, text(&output.stderr));
    print!("{}", text(&output.stdout));
    assert!(text(&output.stdout).contains("aarch64-unknown-linux-musl"), "{}", text(&output.stdout));
}
