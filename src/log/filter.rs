//! Which lines are told.
//!
//! Owns [`Level`], [`Module`] and [`Filter`]. Invariant: the lists of levels and modules are closed; their names are part of the form of the
//! log, and do not change with the files that lines come from.

use core::sync::atomic::{AtomicU8, Ordering};

/// How much a log line matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Level {
    /// Something failed.
    Error,
    /// Something to look at; service goes on.
    Warn,
    /// What happens in a healthy run.
    Info,
    /// What is of use to somebody who looks for a fault: a line for each request.
    Debug,
}

impl Level {
    /// All of them, the gravest first.
    pub const ALL: [Self; 4] = [Self::Error, Self::Warn, Self::Info, Self::Debug];

    /// The word of filters, of JSON and of metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
        }
    }

    /// The word of the human form.
    pub(super) const fn shout(self) -> &'static str {
        match self {
            Self::Error => "ERROR",
            Self::Warn => "WARN",
            Self::Info => "INFO",
            Self::Debug => "DEBUG",
        }
    }

    /// What the journal of systemd reads at the beginning of a line (sd-daemon(3)).
    pub(super) const fn priority(self) -> &'static str {
        match self {
            Self::Error => "<3>",
            Self::Warn => "<4>",
            Self::Info => "<6>",
            Self::Debug => "<7>",
        }
    }

    fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|level| level.name() == name)
    }
}

/// What a line is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Module {
    /// Start, settings, threads, the end.
    Server,
    /// `quantonium supervise`.
    Supervise,
    /// Listeners and connections.
    Network,
    /// Requests.
    Http,
    /// Certificates.
    Tls,
    /// The store and what is kept in it.
    Store,
    /// The audit log.
    Audit,
    /// Steps of the lock-down.
    Sandbox,
    /// Checks of the process by itself.
    Integrity,
    /// The log itself.
    Log,
}

impl Module {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Server,
        Self::Supervise,
        Self::Network,
        Self::Http,
        Self::Tls,
        Self::Store,
        Self::Audit,
        Self::Sandbox,
        Self::Integrity,
        Self::Log,
    ];

    /// Its name in lines and filters.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Supervise => "supervise",
            Self::Network => "network",
            Self::Http => "http",
            Self::Tls => "tls",
            Self::Store => "store",
            Self::Audit => "audit",
            Self::Sandbox => "sandbox",
            Self::Integrity => "integrity",
            Self::Log => "log",
        }
    }

    fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|module| module.name() == name)
    }
}

/// The level of which, or graver, the lines of each module are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Filter([Level; Module::ALL.len()]);

impl Default for Filter {
    fn default() -> Self {
        Self([Level::Info; Module::ALL.len()])
    }
}

impl Filter {
    /// Reads `info,store=debug,tls=warn`: a level for all modules, and levels for some.
    ///
    /// # Errors
    /// The half sentence for the message.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut filter = Self::default();
        let items = || text.split(',').map(str::trim);
        // The level for all first, wherever it stands.
        let mut general = items().filter(|item| !item.contains('='));
        if let Some(word) = general.next() {
            filter = Self([level(word)?; Module::ALL.len()]);
        }
        if let Some(second) = general.next() {
            return Err(format!("{second:?} is a second level for all modules"));
        }
        for (name, word) in items().filter_map(|item| item.split_once('=')) {
            let module = Module::from_name(name.trim())
                .ok_or_else(|| format!("{name:?} is none of {}", Module::ALL.map(Module::name).join(", ")))?;
            let wanted = level(word.trim())?;
            if let Some(place) = filter.0.get_mut(module as usize) {
                *place = wanted;
            }
        }
        Ok(filter)
    }
}

fn level(word: &str) -> Result<Level, String> {
    Level::from_name(word)
        .ok_or_else(|| format!("{word:?} is none of {}", Level::ALL.map(Level::name).join(", ")))
}

/// A filter that every thread may look at while it is set.
#[derive(Debug)]
pub(super) struct Thresholds([AtomicU8; Module::ALL.len()]);

impl Thresholds {
    pub(super) const fn usual() -> Self {
        Self([const { AtomicU8::new(Level::Info as u8) }; Module::ALL.len()])
    }

    pub(super) fn set(&self, filter: &Filter) {
        for (place, level) in self.0.iter().zip(filter.0) {
            place.store(level as u8, Ordering::Relaxed);
        }
    }

    #[inline]
    pub(super) fn lets(&self, level: Level, module: Module) -> bool {
        self.0.get(module as usize).is_none_or(|most| level as u8 <= most.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(text: &str) -> Vec<String> {
        let thresholds = Thresholds::usual();
        thresholds.set(&Filter::parse(text).unwrap());
        let pairs = Module::ALL.iter().flat_map(|module| Level::ALL.map(|level| (level, *module)));
        let told = pairs.filter(|(level, module)| thresholds.lets(*level, *module));
        told.map(|(level, module)| format!("{}={}", module.name(), level.name())).collect()
    }

    #[test]
    fn a_module_has_its_own_level_or_that_of_all() {
        let lines = told("warn,store=debug, tls = error");
        assert!(lines.contains(&"store=debug".to_owned()) && lines.contains(&"server=warn".to_owned()));
        assert!(lines.contains(&"tls=error".to_owned()));
        for missing in ["server=info", "tls=warn"] {
            assert!(!lines.contains(&missing.to_owned()), "{missing}: {lines:?}");
        }
        assert_eq!(told("store=debug,warn"), told("warn,store=debug"), "the order does not matter");
        assert_eq!(Filter::parse("info"), Ok(Filter::default()));
    }

    #[test]
    fn what_is_no_filter_is_refused_by_name() {
        for (text, said) in [
            ("", "\"\" is none of error, warn, info, debug"),
            ("loud", "\"loud\" is none of"),
            ("info,stor=debug", "\"stor\" is none of server, "),
            ("info,store=all", "\"all\" is none of error"),
            ("info,warn", "\"warn\" is a second level"),
            ("INFO", "\"INFO\" is none of"),
        ] {
            let refused = Filter::parse(text).unwrap_err();
            assert!(refused.starts_with(said), "{text}: {refused}");
        }
    }

    #[test]
    fn places_and_names_agree() {
        for (place, module) in Module::ALL.into_iter().enumerate() {
            assert_eq!((module as usize, Module::from_name(module.name())), (place, Some(module)));
        }
        for (place, level) in Level::ALL.into_iter().enumerate() {
            assert_eq!((level as usize, level.shout()), (place, level.name().to_uppercase().as_str()));
        }
    }
}
