//! The first stage: what was given, as text, with who gave it.
//!
//! Owns [`Raw`]. Invariant: for each setting only the texts of its strongest source are kept (flag, then
//! environment, then file); nothing is checked beyond that.

use std::collections::BTreeMap;
use std::ffi::OsString;

use super::error::Place;
use super::settings::{Id, Setting};

/// Who gave a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A flag.
    Flag,
    /// An environment variable.
    Environment,
    /// A key of the configuration file.
    File(Place),
}

impl Source {
    /// For the end of a message about `setting`.
    #[must_use]
    pub fn named(&self, setting: &Setting) -> String {
        match self {
            Self::Flag => "set on the command line".to_owned(),
            Self::Environment => format!("set by {}", setting.variable()),
            Self::File(place) => format!("set in {place}"),
        }
    }

    const fn rank(&self) -> u8 {
        match self {
            Self::Flag => 0,
            Self::Environment => 1,
            Self::File(_) => 2,
        }
    }
}

/// The texts of one setting and their source.
#[derive(Clone, Debug)]
pub struct Given {
    /// Who gave them.
    pub source: Source,
    /// The texts, at least one; more only for a setting that repeats.
    pub texts: Vec<OsString>,
}

/// Everything that was given.
#[derive(Clone, Debug, Default)]
pub struct Raw(BTreeMap<Id, Given>);

impl Raw {
    /// What was given for `id`.
    #[must_use]
    pub fn get(&self, id: Id) -> Option<&Given> {
        self.0.get(&id)
    }

    /// Adds a flag's value; a flag that does not repeat must not have been given before.
    ///
    /// # Errors
    /// The setting, if it is given twice.
    pub fn add_flag(&mut self, id: Id, text: OsString) -> Result<(), &'static Setting> {
        let setting = id.setting();
        if self.0.contains_key(&id) && !setting.repeats() {
            return Err(setting);
        }
        self.add(id, Source::Flag, text);
        Ok(())
    }

    /// Adds a text unless a stronger source has spoken; replaces those of weaker ones.
    pub(super) fn add(&mut self, id: Id, source: Source, text: OsString) {
        match self.0.get_mut(&id) {
            Some(given) if given.source.rank() < source.rank() => {}
            Some(given) if given.source.rank() == source.rank() => given.texts.push(text),
            _ => {
                self.0.insert(id, Given { source, texts: vec![text] });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_strongest_source_wins_in_any_order() {
        let place = || Place { path: "q.toml".into(), line: 1, column: 1 };
        for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0]] {
            let mut raw = Raw::default();
            for source in order {
                let (source, text) = match source {
                    0 => (Source::Flag, "flag"),
                    1 => (Source::Environment, "environment"),
                    _ => (Source::File(place()), "file"),
                };
                raw.add(Id::DataDir, source, text.into());
            }
            let given = raw.get(Id::DataDir).unwrap();
            assert_eq!((&given.source, given.texts.as_slice()), (&Source::Flag, &["flag".into()][..]));
        }
    }

    #[test]
    fn only_addresses_and_networks_repeat() {
        let mut raw = Raw::default();
        assert!(raw.add_flag(Id::Listen, "a".into()).is_ok());
        assert!(raw.add_flag(Id::Listen, "b".into()).is_ok());
        assert_eq!(raw.get(Id::Listen).unwrap().texts, ["a", "b"]);
        assert!(raw.add_flag(Id::TrustedProxy, "a".into()).is_ok());
        assert!(raw.add_flag(Id::TrustedProxy, "b".into()).is_ok());
        assert!(raw.add_flag(Id::Workers, "1".into()).is_ok());
        assert_eq!(raw.add_flag(Id::Workers, "1".into()).unwrap_err().name, "workers");
    }
}
