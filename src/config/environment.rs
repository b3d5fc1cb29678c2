//! Settings from environment variables.
//!
//! Owns the rules for `QUANTONIUM_*`: a setting's variable is taken, one that would carry a secret stops the
//! start, an unknown one is warned about. The only other variables that are read name the directory of systemd's
//! credentials, and the file with a caller's API key. Invariants: no value of a variable that is not a setting is looked at beyond whether it is empty;
//! an empty variable counts as not set.

use std::ffi::OsString;
use std::path::PathBuf;

use super::error::{ConfigError, shown};
use super::master_key::CREDENTIALS_VARIABLE;
use super::raw::{Raw, Source};
use super::settings::{ENVIRONMENT_PREFIX, SETTINGS};
use super::suggest::nearest;

/// Read by the tests, the build, and commands that ask a server, never by the server. Those of certificates name files.
const OTHERS: [&str; 8] = [
    "QUANTONIUM_BIN",
    "QUANTONIUM_REQUIRE",
    "QUANTONIUM_ALLOW_SLOW",
    "QUANTONIUM_COMMIT",
    "QUANTONIUM_URL",
    "QUANTONIUM_CA_CERT",
    "QUANTONIUM_CLIENT_CERT",
    "QUANTONIUM_CLIENT_KEY",
];
/// The tests name further binaries by variables that begin so.
const OTHERS_PREFIX: &str = "QUANTONIUM_BIN_";
/// Names the file with the API key of a command that asks a server; the server itself has no use for it.
const API_KEY_FILE: &str = "QUANTONIUM_API_KEY_FILE";
/// A variable whose last word is one of these carries a secret.
const SECRET_WORDS: [&str; 5] = ["KEY", "SECRET", "TOKEN", "PASSWORD", "PASSPHRASE"];

/// What the environment says beside the settings.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Surroundings {
    /// Warnings about unknown variables.
    pub(super) warnings: Vec<String>,
    /// The directory of the credentials that systemd hands over.
    pub(super) credentials: Option<PathBuf>,
    /// The file with the API key of who asks a server.
    pub(super) api_key_file: Option<PathBuf>,
}

/// Adds the settings among `variables` to `raw` and returns the rest of what they say.
///
/// # Errors
/// [`ConfigError::SecretInEnvironment`].
pub(super) fn read(
    variables: impl IntoIterator<Item = (OsString, OsString)>,
    raw: &mut Raw,
) -> Result<Surroundings, ConfigError> {
    let known: Vec<_> = SETTINGS.iter().map(|setting| (setting.variable(), setting.id)).collect();
    let mut surroundings = Surroundings::default();
    for (name, value) in variables {
        if name == CREDENTIALS_VARIABLE && !value.is_empty() {
            surroundings.credentials = Some(PathBuf::from(&value));
        }
        if value.is_empty() || !name.as_encoded_bytes().starts_with(ENVIRONMENT_PREFIX.as_bytes()) {
            continue;
        }
        let name = shown(&name);
        if let Some((_, id)) = known.iter().find(|(variable, _)| *variable == name) {
            raw.add(*id, Source::Environment, value);
        } else if name == API_KEY_FILE {
            surroundings.api_key_file = Some(PathBuf::from(value));
        } else if OTHERS.contains(&name.as_str()) || name.starts_with(OTHERS_PREFIX) {
            // Not ours to judge.
        } else if name.rsplit('_').next().is_some_and(|word| SECRET_WORDS.contains(&word)) {
            return Err(ConfigError::SecretInEnvironment { name });
        } else {
            surroundings.warnings.push(unknown(&name));
        }
    }
    Ok(surroundings)
}

fn unknown(name: &str) -> String {
    // Compared without the prefix that all share: it would make every variable look like every other.
    let word = |name: &str| name.strip_prefix(ENVIRONMENT_PREFIX).unwrap_or(name).to_owned();
    match nearest(&word(name), SETTINGS.iter().map(|setting| word(&setting.variable()))) {
        Some(nearest) => {
            format!("{name} is not a setting and is ignored; did you mean {ENVIRONMENT_PREFIX}{nearest}?")
        }
        None => format!("{name} is not a setting and is ignored"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::settings::Id;
    use super::*;

    fn scan(variables: &[(&str, &str)]) -> (Raw, Result<Vec<String>, ConfigError>) {
        let mut raw = Raw::default();
        let variables = variables.iter().map(|(name, value)| (name.into(), value.into()));
        let outcome = read(variables, &mut raw);
        (raw, outcome.map(|surroundings| surroundings.warnings))
    }

    #[test]
    fn every_setting_has_its_variable() {
        for setting in &SETTINGS {
            let (raw, warnings) = scan(&[(&setting.variable(), "x")]);
            assert_eq!(warnings, Ok(vec![]));
            assert_eq!(raw.get(setting.id).unwrap().texts, ["x"]);
            assert_eq!(raw.get(setting.id).unwrap().source, Source::Environment);
        }
    }

    #[test]
    fn secrets_by_value_stop_the_start_and_are_not_printed() {
        for name in [
            "QUANTONIUM_MASTER_KEY",
            "QUANTONIUM_API_KEY",
            "QUANTONIUM_ADMIN_KEY",
            "QUANTONIUM_JWT_SECRET",
            "QUANTONIUM_TOKEN",
            "QUANTONIUM_ETCD_PASSWORD",
        ] {
            let (_, outcome) = scan(&[(name, "hunter2")]);
            let refusal = outcome.unwrap_err().to_string();
            assert!(refusal.contains(&format!("set {name}_FILE to its path")), "{refusal}");
            assert!(!refusal.contains("hunter2"), "{refusal}");
        }
    }

    #[test]
    fn unknown_variables_are_warned_about_with_the_nearest_setting() {
        let (_, outcome) = scan(&[("QUANTONIUM_WORKER", "2"), ("QUANTONIUM_SPLINES", "3"), ("PATH", "/")]);
        assert_eq!(
            outcome.unwrap(),
            [
                "QUANTONIUM_WORKER is not a setting and is ignored; did you mean QUANTONIUM_WORKERS?",
                "QUANTONIUM_SPLINES is not a setting and is ignored",
            ]
        );
    }

    #[test]
    fn the_paths_of_secrets_and_the_variables_of_tests_pass() {
        let (_, outcome) = scan(&[
            ("QUANTONIUM_BIN", "/x"),
            ("QUANTONIUM_BIN_V3", "/x"),
            ("QUANTONIUM_REQUIRE", "1"),
            ("QUANTONIUM_ALLOW_SLOW", "1"),
            ("QUANTONIUM_COMMIT", "abc"),
        ]);
        assert_eq!(outcome, Ok(vec![]));
        let (raw, outcome) = scan(&[
            ("QUANTONIUM_MASTER_KEY_FILE", "/run/secrets/master"),
            ("QUANTONIUM_BACKUP_KEY_FILE", "/run/secrets/backup"),
            (API_KEY_FILE, "/run/secrets/api"),
        ]);
        assert_eq!(outcome, Ok(vec![]));
        assert_eq!(raw.get(Id::MasterKeyFile).unwrap().texts, ["/run/secrets/master"]);
        // A kind of secret that this version does not know: its path gives nothing away.
        let (_, outcome) = scan(&[("QUANTONIUM_ETCD_PASSWORD_FILE", "/run/secrets/etcd")]);
        assert_eq!(outcome.map(|warnings| warnings.len()), Ok(1));
    }

    #[test]
    fn the_directory_of_credentials_is_told() {
        let credentials = |value: &str| {
            read([(CREDENTIALS_VARIABLE.into(), value.into())], &mut Raw::default()).unwrap().credentials
        };
        assert_eq!(credentials("/run/credentials/q"), Some(PathBuf::from("/run/credentials/q")));
        assert_eq!(credentials(""), None);
    }

    #[test]
    fn the_file_of_the_callers_api_key_is_told() {
        let named = read([(API_KEY_FILE.into(), "k".into())], &mut Raw::default()).unwrap().api_key_file;
        assert_eq!(named, Some(PathBuf::from("k")));
    }

    #[test]
    fn an_empty_variable_counts_as_not_set() {
        let (raw, outcome) = scan(&[("QUANTONIUM_WORKERS", ""), ("QUANTONIUM_API_KEY", "")]);
        assert_eq!(outcome, Ok(vec![]));
        assert!(raw.get(Id::Workers).is_none());
    }
}
