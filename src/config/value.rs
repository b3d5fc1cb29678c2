//! Values of settings from their text.
//!
//! Owns the grammar of each kind. Invariants: nothing is guessed (no signs, no white space, no other units);
//! a refusal is a half sentence that names the text and what would be right.

use std::ffi::{OsStr, OsString};
use std::net::SocketAddr;
use std::path::PathBuf;

use super::error::shown;
use super::settings::{Setting, Unit};
use crate::limits::LISTENERS_MAX_COUNT;

const UNITS: [(&str, u64); 3] = [("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30)];

/// On or off.
///
/// # Errors
/// The half sentence for the message.
pub(super) fn switch(text: &OsStr) -> Result<bool, String> {
    match text.to_str().map(str::to_ascii_lowercase).as_deref() {
        Some("true" | "1" | "yes" | "on") => Ok(true),
        Some("false" | "0" | "no" | "off") => Ok(false),
        _ => Err(format!("{} is neither true nor false", shown(text))),
    }
}

/// A path that the kernel would take.
///
/// # Errors
/// The half sentence for the message.
pub(super) fn path(text: &OsStr) -> Result<PathBuf, String> {
    if text.is_empty() {
        return Err("an empty path".to_owned());
    }
    if text.as_encoded_bytes().contains(&0) {
        return Err(format!("{} holds a zero byte", shown(text)));
    }
    Ok(PathBuf::from(text))
}

/// One of these words.
///
/// # Errors
/// The half sentence for the message.
pub(super) fn word(words: &[&'static str], text: &OsStr) -> Result<&'static str, String> {
    let found = words.iter().find(|word| text == **word);
    found.copied().ok_or_else(|| format!("{} is none of {}", shown(text), words.join(", ")))
}

/// A number within the bounds of `setting`, in its unit.
///
/// # Errors
/// The half sentence for the message.
pub(super) fn number(setting: &Setting, unit: Unit, text: &OsStr) -> Result<u64, String> {
    let digits = text.to_str().unwrap_or_default();
    let (digits, factor) = match unit {
        Unit::Bytes => UNITS
            .iter()
            .find_map(|(name, factor)| digits.strip_suffix(name).map(|digits| (digits, *factor)))
            .unwrap_or((digits, 1)),
        Unit::Count | Unit::Millis | Unit::Seconds | Unit::Identity => (digits, 1),
    };
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        let form = match unit {
            Unit::Bytes => "a number of bytes, like 67108864, 65536KiB, 64MiB or 1GiB",
            Unit::Millis => "a whole number of milliseconds",
            Unit::Seconds => "a whole number of seconds",
            Unit::Count | Unit::Identity => "a whole number",
        };
        return Err(format!("{} is not {form}", shown(text)));
    }
    let number = digits.parse().ok().and_then(|number: u64| number.checked_mul(factor));
    match number {
        Some(number) if number < setting.floor => Err(format!("{} is below {}", shown(text), setting.floor)),
        Some(number) if number <= setting.ceiling => Ok(number),
        _ => Err(format!("{} is above {}", shown(text), setting.ceiling)),
    }
}

/// Addresses from texts that may each hold several, separated by commas.
///
/// # Errors
/// The half sentence for the message.
pub(super) fn addresses(texts: &[OsString]) -> Result<Vec<SocketAddr>, String> {
    let mut all: Vec<SocketAddr> = Vec::new();
    for text in texts {
        for part in text.to_string_lossy().split(',') {
            let Ok(address) = part.trim().parse::<SocketAddr>() else {
                return Err(format!(
                    "\"{}\" is not an address and port, like 127.0.0.1:8080 or [::1]:8080",
                    shown(OsStr::new(part))
                ));
            };
            if address.port() != 0 && all.contains(&address) {
                return Err(format!("{address} is listed twice"));
            }
            if all.len() == LISTENERS_MAX_COUNT {
                return Err(format!("more than {LISTENERS_MAX_COUNT} addresses"));
            }
            all.push(address);
        }
    }
    if all.is_empty() {
        return Err("an empty list; give at least one address".to_owned());
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::super::settings::Id;
    use super::*;

    fn bytes(text: &str) -> Result<u64, String> {
        number(Id::MaxMemory.setting(), Unit::Bytes, OsStr::new(text))
    }

    #[test]
    fn switches_have_eight_spellings() {
        for text in ["true", "1", "yes", "on", "TRUE", "On"] {
            assert_eq!(switch(OsStr::new(text)), Ok(true), "{text}");
        }
        for text in ["false", "0", "no", "off", "Off"] {
            assert_eq!(switch(OsStr::new(text)), Ok(false), "{text}");
        }
        for text in ["", "2", "y", " true"] {
            assert!(switch(OsStr::new(text)).is_err(), "{text}");
        }
    }

    #[test]
    fn bytes_take_binary_suffixes_only() {
        assert_eq!(bytes("8388608"), Ok(8 << 20));
        assert_eq!(bytes("16384KiB"), Ok(16 << 20));
        assert_eq!(bytes("64MiB"), Ok(64 << 20));
        assert_eq!(bytes("1GiB"), Ok(1 << 30));
        for text in ["64MB", "64M", "64mib", "64 MiB", "MiB", "", "+64MiB", "-1", "1.5GiB", "0x10"] {
            let refusal = bytes(text).unwrap_err();
            assert!(refusal.contains("64MiB or 1GiB"), "{text}: {refusal}");
        }
    }

    #[test]
    fn numbers_are_held_within_their_bounds() {
        assert_eq!(bytes("1KiB"), Err("1KiB is below 8388608".to_owned()));
        assert_eq!(bytes("17GiB"), Err("17GiB is above 17179869184".to_owned()));
        let vast = format!("{}GiB", u64::MAX);
        assert_eq!(bytes(&vast), Err(format!("{vast} is above 17179869184")));
        let vast = "9".repeat(40);
        assert_eq!(bytes(&vast), Err(format!("{vast} is above 17179869184")));
    }

    #[test]
    fn suffixes_belong_to_bytes() {
        let refusal = number(Id::Workers.setting(), Unit::Count, OsStr::new("1KiB")).unwrap_err();
        assert_eq!(refusal, "1KiB is not a whole number");
    }

    #[test]
    fn addresses_are_split_at_commas() {
        let texts = ["127.0.0.1:1, [::1]:2".into(), "10.0.0.1:0".into(), "10.0.0.1:0".into()];
        let shown: Vec<String> = addresses(&texts).unwrap().iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["127.0.0.1:1", "[::1]:2", "10.0.0.1:0", "10.0.0.1:0"]);
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for text in ["", ",", "8080", ":8080", "localhost:8080", "::1:80", "127.0.0.1", "127.0.0.1:65536"] {
            let refusal = addresses(&[text.into()]).unwrap_err();
            assert!(refusal.contains("is not an address and port"), "{text}: {refusal}");
        }
        assert_eq!(
            addresses(&["127.0.0.1:1,127.0.0.1:1".into()]),
            Err("127.0.0.1:1 is listed twice".to_owned())
        );
        assert!(addresses(&[]).unwrap_err().starts_with("an empty list"));
        assert!(addresses(&["127.0.0.1:0,".repeat(300).into()]).unwrap_err().starts_with("more than"));
    }

    #[test]
    fn paths_without_meaning_are_refused() {
        assert!(path(OsStr::new("")).is_err());
        assert!(path(OsStr::new("a\0b")).is_err());
        assert_eq!(path(OsStr::new("./x")), Ok(PathBuf::from("./x")));
    }
}
