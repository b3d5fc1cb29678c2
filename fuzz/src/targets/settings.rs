//! The configuration file.
//!
//! Owns the file that is read, one for each thread.

use std::fs;
use std::path::PathBuf;

use quantonium::config::{Config, HandedOver, Id, Machine, Raw, load};

/// A configuration file of hostile bytes: read, or refused with a message of one line that names it.
pub(super) fn config(data: &[u8]) {
    let memory = PathBuf::from("/dev/shm");
    let parent = if memory.is_dir() { memory } else { std::env::temp_dir() };
    let thread = format!("{:?}", std::thread::current().id());
    let number: String = thread.chars().filter(char::is_ascii_digit).collect();
    let path = parent.join(format!("quantonium-fuzz-{}-{number}.toml", std::process::id()));
    fs::write(&path, data).unwrap();
    let read = || -> Result<Config, String> {
        let mut raw = Raw::default();
        raw.add_flag(Id::ConfigFile, path.clone().into()).map_err(|setting| setting.name.to_owned())?;
        let loaded = load(
            raw,
            [("QUANTONIUM_DEV".into(), "true".into())],
            Machine { processors: 2, handed_over: HandedOver::Nothing },
        );
        loaded.map(|loaded| loaded.config).map_err(|error| error.to_string())
    };
    let (first, second) = (read(), read());
    fs::remove_file(&path).unwrap();
    assert_eq!(first, second, "the same file says the same");
    match first {
        Ok(_) => {
            let text = str::from_utf8(data).expect("what is taken is text");
            // A second setting behind everything: whatever stood before, it is read or refused, never passed over.
            assert!(!text.contains('\0'));
        }
        Err(message) => {
            assert!(!message.chars().any(char::is_control), "{message:?}");
            assert!(message.len() <= 4 * data.len() + 1024, "{} bytes for {}", message.len(), data.len());
        }
    }
}
