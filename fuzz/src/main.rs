//! The program that libFuzzer drives: one for all targets, of which `QUANTONIUM_FUZZ_TARGET` names one.
//!
//! Owns the choice. Without a target it says which there are and ends with 64.

#![no_main]

mod targets;

use std::sync::OnceLock;

use targets::{TARGETS, Target};

static CHOSEN: OnceLock<Target> = OnceLock::new();

libfuzzer_sys::fuzz_target!(
    init: choose(),
    |data: &[u8]| {
        if let Some((_, run)) = CHOSEN.get() {
            run(data);
        }
    }
);

fn choose() {
    let wanted = std::env::var("QUANTONIUM_FUZZ_TARGET").unwrap_or_default();
    match TARGETS.iter().find(|(name, _)| *name == wanted) {
        Some(target) => drop(CHOSEN.set(*target)),
        None => {
            let names: Vec<&str> = TARGETS.iter().map(|(name, _)| *name).collect();
            eprintln!("QUANTONIUM_FUZZ_TARGET must be one of: {}", names.join(" "));
            std::process::exit(64);
        }
    }
}
