//! The inputs that the fuzzers have kept, run once each through the same targets, without a fuzzer.
//!
//! `make fuzz` makes new ones; `docs/BUILD.md` says how they come here.

#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a test fails by panicking, and says where"
)]

#[path = "../fuzz/src/targets/mod.rs"]
mod targets;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use targets::TARGETS;

const FILES_MAX_COUNT: usize = 100;
const FILE_MAX_BYTES: usize = 4096;

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz").join(name)
}

/// The names of what is in a folder.
fn names(folder: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn every_kept_input_still_passes_its_target() {
    for (name, run) in TARGETS {
        let corpus = folder("corpus").join(name);
        for file in names(&corpus) {
            // Shown if the target fails.
            println!("fuzz/corpus/{name}/{file}");
            run(&fs::read(corpus.join(&file)).unwrap());
        }
    }
}

#[test]
fn every_target_has_a_small_corpus_and_a_dictionary() {
    let known: BTreeSet<String> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(known.len(), TARGETS.len(), "names are unique");
    assert_eq!(names(&folder("corpus")), known);
    assert_eq!(names(&folder("dictionaries")), known.iter().map(|name| format!("{name}.dict")).collect());
    for name in known {
        let corpus = folder("corpus").join(&name);
        let files = names(&corpus);
        assert!((5..=FILES_MAX_COUNT).contains(&files.len()), "{name}: {} files", files.len());
        for file in files {
            let len = fs::metadata(corpus.join(&file)).unwrap().len();
            assert!(usize::try_from(len).unwrap() <= FILE_MAX_BYTES, "{name}/{file}: {len} bytes");
        }
    }
}
