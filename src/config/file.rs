//! Settings from the TOML file.
//!
//! Owns the reading of the file and the map from its values to texts. Invariants: the file is read only up to
//! its limit; every refusal names line and column; a value of another TOML type than its setting's is refused
//! here, so that the checks after it see one form of text, whoever gave it.

use core::ops::Range;
use std::ffi::OsString;
use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::error::{ConfigError, Place};
use super::raw::{Raw, Source};
use super::settings::{Id, Kind, SETTINGS, Setting, Unit};
use super::suggest::nearest;
use crate::limits::CONFIG_FILE_MAX_BYTES;

/// Reads the file at `path` and adds its settings to `raw`.
///
/// # Errors
/// The variants of [`ConfigError`] that speak of the file.
pub(super) fn read(path: &Path, raw: &mut Raw) -> Result<(), ConfigError> {
    let text =
        contents(path).map_err(|reason| ConfigError::FileUnreadable { path: path.to_owned(), reason })?;
    parse(&text, path, raw)
}

fn contents(path: &Path) -> Result<String, String> {
    let file = File::open(path).map_err(|error| error.to_string())?;
    let mut bytes = Vec::new();
    file.take(CONFIG_FILE_MAX_BYTES + 1).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    if bytes.len() as u64 > CONFIG_FILE_MAX_BYTES {
        return Err(format!("it is larger than {CONFIG_FILE_MAX_BYTES} bytes"));
    }
    String::from_utf8(bytes).map_err(|_| "it is not UTF-8".to_owned())
}

fn parse(text: &str, path: &Path, raw: &mut Raw) -> Result<(), ConfigError> {
    let place = |span: Option<Range<usize>>| place(text, path, span.map_or(0, |span| span.start));
    let table = DeTable::parse(text).map_err(|error| ConfigError::FileSyntax {
        place: place(error.span()),
        reason: error.message().replace('\n', "; "),
    })?;
    // In the order of the file, so that the first mistake is the one that is reported.
    let mut entries: Vec<_> = table.get_ref().iter().collect();
    entries.sort_by_key(|(key, _)| key.span().start);
    for (key, value) in entries {
        let known = SETTINGS.iter().find(|setting| setting.key().as_deref() == Some(key.get_ref()));
        let Some(setting) = known else {
            return Err(ConfigError::UnknownKey {
                place: place(Some(key.span())),
                key: key.get_ref().to_string(),
                nearest: nearest(key.get_ref(), SETTINGS.iter().filter_map(Setting::key)),
            });
        };
        let at = place(Some(value.span()));
        let texts = texts(setting, value.get_ref()).map_err(|found| ConfigError::WrongType {
            place: at.clone(),
            id: setting.id,
            expected: expected(setting.kind),
            found,
        })?;
        if texts.is_empty() {
            return Err(empty_list(setting.id, at));
        }
        for text in texts {
            raw.add(setting.id, Source::File(at.clone()), text);
        }
    }
    Ok(())
}

/// The texts of a value, or the name of its type if the setting does not take it.
fn texts(setting: &Setting, value: &DeValue<'_>) -> Result<Vec<OsString>, &'static str> {
    let one = |text: String| Ok(vec![OsString::from(text)]);
    match (setting.kind, value) {
        (Kind::Switch, DeValue::Boolean(on)) => one(on.to_string()),
        (
            Kind::Path
            | Kind::Addresses
            | Kind::Networks
            | Kind::Paths
            | Kind::Hosts
            | Kind::Origins
            | Kind::Steps
            | Kind::Mode
            | Kind::Rate
            | Kind::Choice(_)
            | Kind::Text
            | Kind::Number(Unit::Bytes),
            DeValue::String(text),
        ) => one(text.to_string()),
        (Kind::Number(_) | Kind::Rate, DeValue::Integer(number)) => {
            // A number that is no 64-bit one keeps its digits, so that the message can repeat them.
            let digits = number.as_str();
            one(i64::from_str_radix(digits, number.radix())
                .map_or_else(|_| digits.to_owned(), |number| number.to_string()))
        }
        (
            Kind::Addresses | Kind::Networks | Kind::Paths | Kind::Hosts | Kind::Origins | Kind::Steps,
            DeValue::Array(items),
        ) => items
            .iter()
            .map(|item: &Spanned<DeValue<'_>>| match item.get_ref() {
                DeValue::String(text) => Ok(OsString::from(text.as_ref())),
                other => Err(named(other)),
            })
            .collect(),
        (_, other) => Err(named(other)),
    }
}

const fn expected(kind: Kind) -> &'static str {
    match kind {
        Kind::Switch => "true or false",
        Kind::Path | Kind::Choice(_) | Kind::Text | Kind::Mode => "a string",
        Kind::Rate => "an integer or a string like \"100:1000\"",
        Kind::Addresses | Kind::Networks | Kind::Paths | Kind::Hosts | Kind::Origins | Kind::Steps => {
            "a string or an array of strings"
        }
        Kind::Number(Unit::Bytes) => "an integer or a string like \"64MiB\"",
        Kind::Number(_) => "an integer",
    }
}

const fn named(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a float",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "an array",
        DeValue::Table(_) => "a table",
    }
}

fn empty_list(id: Id, place: Place) -> ConfigError {
    ConfigError::Value {
        id,
        source: Source::File(place),
        reason: "an empty list; give at least one address".to_owned(),
    }
}

/// Line and column of the byte `offset`, both from 1; columns count characters.
fn place(text: &str, path: &Path, offset: usize) -> Place {
    let before = text.get(..offset.min(text.len())).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    Place { path: path.to_owned(), line, column }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<Raw, String> {
        let mut raw = Raw::default();
        parse(text, Path::new("q.toml"), &mut raw).map_err(|error| error.to_string())?;
        Ok(raw)
    }

    #[test]
    fn every_key_is_read() {
        let raw = parsed(
            "rate_limit = 5\naddress_rate_limit = '5:9'\ntrusted_proxy = ['::1', '10.0.0.0/8']\n\
             forwarded_header = 'forwarded'\ndev = true\ndata_dir = '/srv/q'\nlisten = ['127.0.0.1:1', '[::1]:2']\nmax_memory = '64MiB'\n\
             workers = 0x10\nidle_timeout_ms = 1_000\n",
        )
        .unwrap();
        let texts = |id| raw.get(id).unwrap().texts.clone();
        assert_eq!(texts(Id::Dev), ["true"]);
        assert_eq!(texts(Id::DataDir), ["/srv/q"]);
        assert_eq!(texts(Id::Listen), ["127.0.0.1:1", "[::1]:2"]);
        assert_eq!(texts(Id::MaxMemory), ["64MiB"]);
        assert_eq!(texts(Id::Workers), ["16"]);
        assert_eq!(texts(Id::IdleTimeout), ["1000"]);
        let Source::File(place) = &raw.get(Id::IdleTimeout).unwrap().source else { panic!("a file") };
        assert_eq!((place.line, place.column), (10, 19));
        assert_eq!(texts(Id::RateLimit), ["5"]);
        assert_eq!(texts(Id::AddressRateLimit), ["5:9"]);
        assert_eq!(texts(Id::TrustedProxy), ["::1", "10.0.0.0/8"]);
        assert_eq!(texts(Id::ForwardedHeader), ["forwarded"]);
    }

    #[test]
    fn unknown_keys_are_refused_with_place_and_nearest() {
        assert_eq!(
            parsed("dev = true\n  worker = 1\n").unwrap_err(),
            "q.toml, line 2, column 3: unknown key worker; did you mean workers?"
        );
        assert_eq!(
            parsed("[server]\nworkers = 1\n").unwrap_err(),
            "q.toml, line 1, column 2: unknown key server; `quantonium help` lists the settings"
        );
        // The file cannot name another file.
        assert!(parsed("config = 'x'").unwrap_err().contains("unknown key config"));
    }

    #[test]
    fn the_first_mistake_of_the_file_is_reported() {
        let refusal = parsed("zzzzz = 1\naaaaa = 1\n").unwrap_err();
        assert!(refusal.contains("unknown key zzzzz"), "{refusal}");
    }

    #[test]
    fn wrong_types_are_refused_with_place() {
        for (text, refusal) in [
            ("dev = 'true'", "q.toml, line 1, column 7: dev takes true or false, not a string"),
            ("workers = '4'", "q.toml, line 1, column 11: workers takes an integer, not a string"),
            ("workers = 1.5", "q.toml, line 1, column 11: workers takes an integer, not a float"),
            ("data_dir = ['x']", "q.toml, line 1, column 12: data_dir takes a string, not an array"),
            (
                "listen = [1]",
                "q.toml, line 1, column 10: listen takes a string or an array of strings, not an integer",
            ),
            (
                "max_memory = true",
                "q.toml, line 1, column 14: max_memory takes an integer or a string like \"64MiB\", not a boolean",
            ),
            (
                "listen = []",
                "--listen: an empty list; give at least one address (set in q.toml, line 1, column 10)",
            ),
        ] {
            assert_eq!(parsed(text).unwrap_err(), refusal);
        }
    }

    #[test]
    fn broken_toml_is_refused_with_place_on_one_line() {
        for text in ["workers = ", "workers = 1\nworkers = 2", "= 1", "listen = [", "a = \"\u{1}\""] {
            let refusal = parsed(text).unwrap_err();
            assert!(refusal.starts_with("q.toml, line "), "{refusal}");
            assert!(!refusal.contains('\n'), "{refusal}");
        }
        assert!(parsed("é = 1\nworkers = 1\nworkers = 2\n").is_err());
        // Nesting without end must be an error, not a stack overflow.
        assert!(parsed(&format!("dev = {}", "[".repeat(100_000))).is_err());
    }

    #[test]
    fn columns_count_characters() {
        let text = "# é\n'é' = 1";
        assert_eq!(place(text, Path::new("q"), text.find('=').unwrap()).column, 5);
        assert_eq!(place(text, Path::new("q"), usize::MAX).line, 2);
    }

    #[test]
    fn files_that_cannot_be_taken_are_refused() {
        let dir = std::env::temp_dir();
        let path = dir.join(format!("quantonium-config-file-{}.toml", std::process::id()));
        let mut raw = Raw::default();
        let refusal = read(&path, &mut raw).unwrap_err().to_string();
        assert!(refusal.contains("cannot read the configuration file"), "{refusal}");
        let limit = usize::try_from(CONFIG_FILE_MAX_BYTES).unwrap();
        std::fs::write(&path, vec![b'#'; limit + 1]).unwrap();
        let too_large = read(&path, &mut raw).unwrap_err().to_string();
        std::fs::write(&path, vec![b'#'; limit]).unwrap();
        let largest = read(&path, &mut raw);
        std::fs::write(&path, b"# \xff").unwrap();
        let not_text = read(&path, &mut raw).unwrap_err().to_string();
        std::fs::remove_file(&path).unwrap();
        assert!(too_large.ends_with("it is larger than 262144 bytes"), "{too_large}");
        assert_eq!(largest, Ok(()));
        assert!(not_text.ends_with("it is not UTF-8"), "{not_text}");
        assert!(read(&dir, &mut raw).is_err(), "a directory is no file");
    }
}
