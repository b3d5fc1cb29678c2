//! Values of settings from their text.
//!
//! Owns the grammar of each kind. Invariants: nothing is guessed (no signs, no white space, no other units);
//! a refusal is a half sentence that names the text and what would be right.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use super::endpoint::{Endpoint, Scheme};
use super::error::shown;
use super::settings::{Setting, Unit};
use crate::limits::{
    HOST_MAX_BYTES, LISTENERS_MAX_COUNT, ORIGIN_MAX_BYTES, RATE_BURST_CEILING_COUNT, RATE_CEILING_COUNT,
    SETTING_LIST_MAX_COUNT, SETTING_TEXT_MAX_BYTES, TRUSTED_PROXIES_MAX_COUNT,
};
use crate::model::{KeyName, Step};
use crate::network::Network;
use crate::quota::Rate;

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

/// Endpoints from texts that may each hold several, separated by commas; `usual` is spoken where none says what.
///
/// # Errors
/// The half sentence for the message.
pub(super) fn endpoints(texts: &[OsString], usual: Scheme) -> Result<Vec<Endpoint>, String> {
    let mut all: Vec<Endpoint> = Vec::new();
    for text in texts {
        for part in text.to_string_lossy().split(',') {
            let found = Endpoint::parse(part.trim(), usual);
            // Who is redirected is so at an address and in no other way.
            let found = found.filter(|endpoint| {
                usual != Scheme::Redirect || matches!(endpoint, Endpoint::Tcp(_, Scheme::Redirect))
            });
            let Some(address) = found else {
                return Err(format!(
                    "\"{}\" is not an address and port, like 127.0.0.1:8080 or [::1]:8080{}",
                    shown(OsStr::new(part)),
                    if usual == Scheme::Redirect {
                        ""
                    } else {
                        ", with or without http:// or https://, nor unix: and an absolute path"
                    }
                ));
            };
            if all.iter().any(|other| other.clashes(&address)) {
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

/// Networks from texts that may each hold several, separated by commas.
///
/// # Errors
/// The half sentence for the message.
pub(super) fn networks(texts: &[OsString]) -> Result<(Vec<Network>, bool), String> {
    let mut all = Vec::new();
    let mut local = false;
    for text in texts {
        for part in text.to_string_lossy().split(',').map(str::trim) {
            if part == "unix" {
                local = true;
                continue;
            }
            let network =
                Network::parse(part).map_err(|error| format!("\"{}\" {error}", shown(OsStr::new(part))))?;
            if all.len() == TRUSTED_PROXIES_MAX_COUNT {
                return Err(format!("more than {TRUSTED_PROXIES_MAX_COUNT} networks"));
            }
            all.push(network);
        }
    }
    Ok((all, local))
}

/// Items of one kind from texts that may each hold several, separated by commas.
///
/// # Errors
/// The half sentence for the message.
pub(super) fn list<T: PartialEq>(
    texts: &[OsString],
    expected: &str,
    parse: impl Fn(&str) -> Option<T>,
) -> Result<Vec<T>, String> {
    let mut all = Vec::new();
    for text in texts {
        for part in text.to_string_lossy().split(',').map(str::trim) {
            let item =
                parse(part).ok_or_else(|| format!("\"{}\" is not {expected}", shown(OsStr::new(part))))?;
            if all.contains(&item) {
                return Err(format!("\"{}\" is listed twice", shown(OsStr::new(part))));
            }
            if all.len() == SETTING_LIST_MAX_COUNT {
                return Err(format!("more than {SETTING_LIST_MAX_COUNT} of them"));
            }
            all.push(item);
        }
    }
    Ok(all)
}

/// The name of a host, in lower case, with or without a port.
pub(super) fn host(text: &str) -> Option<String> {
    let (name, port) = match text.rsplit_once(':') {
        // A colon inside the brackets of an IPv6 address is none before a port.
        Some((name, port)) if !port.ends_with(']') => (name, Some(port)),
        _ => (text, None),
    };
    let bracketed = name.strip_prefix('[').and_then(|name| name.strip_suffix(']'));
    let is_name = match bracketed {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => {
            !name.is_empty()
                && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_'))
        }
    };
    let is_port = port.is_none_or(|port| port.parse::<u16>().is_ok_and(|number| number.to_string() == port));
    (is_name && is_port && text.len() <= HOST_MAX_BYTES).then(|| text.to_ascii_lowercase())
}

/// An origin as browsers send it: `http` or `https`, a host in lower case and no port that the scheme implies
/// (RFC 6454, section 6.2).
pub(super) fn origin(text: &str) -> Option<String> {
    let (scheme, rest) = text.split_once("://")?;
    let implied = match scheme {
        "http" => ":80",
        "https" => ":443",
        _ => return None,
    };
    let canonical = host(rest)? == rest && !rest.ends_with(implied);
    (canonical && text.len() <= ORIGIN_MAX_BYTES).then(|| text.to_owned())
}

/// The access mode of a file: at most three octal digits.
///
/// # Errors
/// The half sentence for the message.
pub(super) fn mode(text: &OsStr) -> Result<u32, String> {
    let found = text.to_str().filter(|text| (1..=4).contains(&text.len()));
    let found = found.filter(|text| text.bytes().all(|byte| matches!(byte, b'0'..=b'7')));
    let found = found.and_then(|text| u32::from_str_radix(text, 8).ok()).filter(|mode| *mode <= 0o777);
    found.ok_or_else(|| format!("{} is not an access mode like 660", shown(text)))
}

/// Steps of the lock-down that may be missing, from texts that may each hold several, separated by commas.
///
/// # Errors
/// The half sentence for the message.
pub(super) fn steps(texts: &[OsString]) -> Result<Vec<Step>, String> {
    let mut all = Vec::new();
    for text in texts {
        for part in text.to_string_lossy().split(',').map(str::trim) {
            let step = Step::from_name(part).ok_or_else(|| {
                let known: Vec<_> =
                    Step::ALL.into_iter().filter(|step| !step.is_mandatory()).map(Step::name).collect();
                format!("\"{}\" is none of {}", shown(OsStr::new(part)), known.join(", "))
            })?;
            if step.is_mandatory() {
                return Err(format!("{step} cannot be missing: nothing is served without it"));
            }
            if !all.contains(&step) {
                all.push(step);
            }
        }
    }
    Ok(all)
}

/// A rate: `PER_SECOND` or `PER_SECOND:BURST`; none for zero.
///
/// # Errors
/// The half sentence for the message.
pub(super) fn rate(text: &OsStr) -> Result<Option<Rate>, String> {
    let whole = text.to_str().unwrap_or_default();
    let (front, end) = whole.split_once(':').map_or((whole, None), |(front, end)| (front, Some(end)));
    let digits =
        |part: &str| part.bytes().all(|byte| byte.is_ascii_digit()).then(|| part.parse().ok()).flatten();
    let rate = match (digits(front), end.map(digits)) {
        (Some(0), None) => return Ok(None),
        (Some(per_second), None) => Rate::of(per_second),
        (Some(per_second), Some(Some(burst))) => Rate::new(per_second, burst),
        _ => None,
    };
    rate.map(Some).ok_or_else(|| {
        format!(
            "{} is not PER_SECOND or PER_SECOND:BURST, like 100:1000, from 1:1 to \
             {RATE_CEILING_COUNT}:{RATE_BURST_CEILING_COUNT}, nor 0 for no limit",
            shown(text)
        )
    })
}

/// A text without blanks, quotation marks and backslashes, so that it can stand in a token as it is.
///
/// # Errors
/// The half sentence for the message.
pub(super) fn text(text: &OsStr) -> Result<String, String> {
    let plain = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\');
    let found = text.to_str().filter(|text| (1..=SETTING_TEXT_MAX_BYTES).contains(&text.len()));
    let found = found.filter(|text| text.bytes().all(plain)).map(str::to_owned);
    found.ok_or_else(|| {
        format!("{} is not a text of 1 to {SETTING_TEXT_MAX_BYTES} visible ASCII characters", shown(text))
    })
}

/// One segment of a path that no other part of the API of Vault has.
///
/// # Errors
/// The half sentence for the message.
pub(super) fn vault_mount(text: &OsStr) -> Result<String, String> {
    let free = |text: &&str| KeyName::is_valid(text) && !matches!(*text, "sys" | "auth");
    let found = text.to_str().filter(free).map(str::to_owned);
    found.ok_or_else(|| format!("{} is not one segment of a path, other than sys and auth", shown(text)))
}

/// One of the words of a setting.
///
/// # Errors
/// The half sentence for the message.
pub(super) fn choice(words: &[&'static str], text: &OsStr) -> Result<&'static str, String> {
    let found = words.iter().find(|word| text == **word);
    found.copied().ok_or_else(|| format!("{} is not {}", shown(text), words.join(" or ")))
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
        let shown: Vec<String> =
            endpoints(&texts, Scheme::Http).unwrap().iter().map(ToString::to_string).collect();
        assert_eq!(
            shown,
            ["127.0.0.1:1", "[::1]:2", "10.0.0.1:0", "10.0.0.1:0"].map(|it| format!("http://{it}"))
        );
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for text in ["", ",", "8080", ":8080", "localhost:8080", "::1:80", "127.0.0.1", "127.0.0.1:65536"] {
            let refusal = endpoints(&[text.into()], Scheme::Http).unwrap_err();
            assert!(refusal.contains("is not an address and port"), "{text}: {refusal}");
        }
        assert_eq!(
            endpoints(&["127.0.0.1:1,127.0.0.1:1".into()], Scheme::Http),
            Err("http://127.0.0.1:1 is listed twice".to_owned())
        );
        assert!(endpoints(&[], Scheme::Http).unwrap_err().starts_with("an empty list"));
        assert!(
            endpoints(&["127.0.0.1:0,".repeat(300).into()], Scheme::Http)
                .unwrap_err()
                .starts_with("more than")
        );
    }

    #[test]
    fn networks_are_split_at_commas() {
        let shown = |texts: &[&str]| {
            let texts: Vec<OsString> = texts.iter().map(OsString::from).collect();
            networks(&texts).map(|(all, _)| all.iter().map(ToString::to_string).collect::<Vec<_>>())
        };
        assert_eq!(
            shown(&["10.0.0.0/8, ::1", "192.0.2.1"]).unwrap(),
            ["10.0.0.0/8", "::1/128", "192.0.2.1/32"]
        );
        assert_eq!(
            shown(&["10.0.0.0/8,10.0.0.1/8"]).unwrap_err(),
            "\"10.0.0.1/8\" has bits set behind its prefix: give the network's first address, or no prefix"
        );
        assert!(shown(&["proxy.example"]).unwrap_err().starts_with("\"proxy.example\" is not a network"));
        assert!(shown(&["10.0.0.0/33"]).unwrap_err().contains("no prefix length"));
        assert!(shown(&[""]).is_err() && shown(&["10.0.0.0/8,"]).is_err());
        let many = |count: usize| shown(&[&vec!["10.0.0.0/8"; count].join(",")]);
        assert!(many(TRUSTED_PROXIES_MAX_COUNT).is_ok());
        assert!(many(TRUSTED_PROXIES_MAX_COUNT + 1).unwrap_err().starts_with("more than"));
    }

    #[test]
    fn a_rate_has_a_burst_or_gets_one() {
        let read = |text: &str| rate(OsStr::new(text));
        assert_eq!(read("0"), Ok(None));
        assert_eq!(read("100:1000"), Ok(Rate::new(100, 1_000)));
        assert_eq!(read("5"), Ok(Rate::new(5, 50)));
        assert_eq!(read("1000000:10000000"), Ok(Rate::new(1_000_000, 10_000_000)));
        for text in [
            "",
            ":",
            "0:5",
            "5:0",
            "5:",
            ":5",
            "-1",
            "+1",
            "1:2:3",
            " 1",
            "1.5",
            "1000001",
            "1:10000001",
            "99999999999",
        ] {
            let refusal = read(text).unwrap_err();
            assert!(refusal.contains("is not PER_SECOND or PER_SECOND:BURST"), "{text}: {refusal}");
        }
    }

    #[test]
    fn steps_are_those_that_may_be_missing() {
        let read = |texts: &[&str]| steps(&texts.iter().map(OsString::from).collect::<Vec<_>>());
        let expected = vec![Step::Landlock, Step::EmptyRoot, Step::KeyMemory];
        assert_eq!(read(&["landlock, empty-root", "key-memory", "landlock"]), Ok(expected));
        let unknown = read(&["landlok"]).unwrap_err();
        assert!(unknown.starts_with("\"landlok\" is none of key-memory, user-namespace, "), "{unknown}");
        for step in Step::ALL {
            let refusal = format!("{step} cannot be missing: nothing is served without it");
            let found = read(&[step.name()]);
            assert_eq!(found, if step.is_mandatory() { Err(refusal) } else { Ok(vec![step]) });
            assert_eq!(
                unknown.split([' ', ',']).any(|word| word == step.name()),
                !step.is_mandatory(),
                "{step}"
            );
        }
        assert!(read(&[""]).is_err() && read(&["landlock,"]).is_err());
    }

    #[test]
    fn a_choice_is_one_of_its_words() {
        let read = |text: &str| choice(&["file", "stdout"], OsStr::new(text));
        assert_eq!(read("stdout"), Ok("stdout"));
        for text in ["", "File", "both"] {
            assert_eq!(read(text), Err(format!("{text} is not file or stdout")));
        }
    }

    #[test]
    fn paths_without_meaning_are_refused() {
        assert!(path(OsStr::new("")).is_err());
        assert!(path(OsStr::new("a\0b")).is_err());
        assert_eq!(path(OsStr::new("./x")), Ok(PathBuf::from("./x")));
    }
}
