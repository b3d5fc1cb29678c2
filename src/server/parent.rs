//! What the process that started this one says in the environment: sockets that it has opened, where it wants to be told
//! of our state, how often of our life (`sd_listen_fds(3)`, `sd_notify(3)`, `sd_watchdog_enabled(3)`).
//!
//! Owns [`Manager`]. Invariants: what is meant for another process is not taken; a number or a name that cannot be right
//! stops the start. The variables stay in the environment, since to change that is not safe in a program with threads; it
//! is read once, and no program is ever run that could read it after us.

use core::time::Duration;
use std::ffi::{OsStr, OsString};
use std::os::fd::OwnedFd;

use crate::config::HandedOver;
use crate::limits::{INHERITED_NAME_MAX_BYTES, INHERITED_SOCKETS_MAX_COUNT};
use crate::sandbox::descriptors;
use crate::sandbox::namespaces::Starter;
use crate::server::error::ServerError;
use crate::server::listeners::Inherited;

/// Says, beside `LISTEN_FDS`, which process has opened the sockets, where that cannot know our number beforehand: by the number that
/// our parent has for us, which is 0 in process numbers of our own.
pub(crate) const PARENT_VARIABLE: &str = "LISTEN_PARENT_PID";
/// The first descriptor that is handed over.
pub(crate) const FIRST_NUMBER: i32 = 3;

/// What the parent wants.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Manager {
    /// What each inherited socket is called, in the order of their numbers.
    names: Vec<String>,
    /// The process that is our own supervisor, if the parent is: standard input is the socket on which it is told, and it has
    /// opened everything.
    supervisor: Option<u32>,
    /// The socket on which somebody else is told.
    notify: Option<OsString>,
    /// The longest silence before the parent ends this process.
    watchdog: Option<Duration>,
}

impl Manager {
    /// Reads `environment`, for the process `own` with the parent `parent`.
    ///
    /// # Errors
    /// A count or a name that cannot be right.
    pub fn read(environment: &[(OsString, OsString)], own: u32, parent: u32) -> Result<Self, ServerError> {
        let get =
            |name: &str| environment.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_os_str());
        let is = |name: &str, id: u32| get(name).is_some_and(|value| value == OsStr::new(&id.to_string()));
        let supervised = is(PARENT_VARIABLE, parent);
        let names = match get("LISTEN_FDS") {
            Some(count) if supervised || is("LISTEN_PID", own) => names(count, get("LISTEN_FDNAMES"))?,
            _ => Vec::new(),
        };
        let watched = supervised || get("WATCHDOG_PID").is_none() || is("WATCHDOG_PID", own);
        let micros = get("WATCHDOG_USEC").filter(|_| watched).and_then(OsStr::to_str);
        let watchdog = micros.and_then(|text| text.parse().ok()).filter(|micros| *micros > 0);
        Ok(Self {
            names,
            supervisor: supervised.then_some(parent),
            notify: get("NOTIFY_SOCKET").filter(|_| !supervised).map(OsStr::to_owned),
            watchdog: watchdog.map(Duration::from_micros),
        })
    }

    /// What the settings have to know of it.
    #[must_use]
    pub fn handed_over(&self) -> HandedOver {
        match self.names.len() {
            count if self.supervisor.is_some() => HandedOver::Everything(count),
            0 => HandedOver::Nothing,
            count => HandedOver::Some(count),
        }
    }

    /// Takes the sockets. They are duplicates: whoever closes what was inherited does not close these.
    pub(super) fn take_sockets(&self) -> Result<Vec<Inherited>, ServerError> {
        let numbers = (FIRST_NUMBER..).zip(&self.names);
        numbers
            .map(|(number, name)| {
                let fd: OwnedFd = descriptors::adopt(number).map_err(|error| {
                    ServerError::config(format!(
                        "LISTEN_FDS: descriptor {number} cannot be taken over: {error}"
                    ))
                })?;
                Ok(Inherited { fd, name: name.clone() })
            })
            .collect()
    }

    /// Our own supervisor, if that is who has started this process.
    pub(super) const fn supervisor(&self) -> Option<u32> {
        self.supervisor
    }

    /// The same, for the lock-down.
    pub(super) fn starter(&self) -> Starter {
        self.supervisor.map_or_else(Starter::default, |_| Starter::Supervisor)
    }

    pub(super) fn notify(&self) -> Option<&OsStr> {
        self.notify.as_deref()
    }

    pub(super) const fn watchdog(&self) -> Option<Duration> {
        self.watchdog
    }
}

/// The names of `count` sockets; those that have none are called `unknown`, as by systemd.
fn names(count: &OsStr, names: Option<&OsStr>) -> Result<Vec<String>, ServerError> {
    let shown = count.to_string_lossy();
    let wrong = |reason: &str| ServerError::config(format!("LISTEN_FDS={shown}: {reason}"));
    let count: usize = shown.parse().map_err(|_| wrong("not a number"))?;
    if count > INHERITED_SOCKETS_MAX_COUNT {
        return Err(wrong(&format!("more than {INHERITED_SOCKETS_MAX_COUNT} sockets")));
    }
    let text = names.map(|names| names.to_string_lossy().into_owned()).unwrap_or_default();
    let mut all: Vec<String> = text.split(':').filter(|_| !text.is_empty()).map(str::to_owned).collect();
    if all.len() > count || all.iter().any(|name| name.len() > INHERITED_NAME_MAX_BYTES) {
        return Err(wrong("LISTEN_FDNAMES does not fit"));
    }
    all.resize(count, "unknown".to_owned());
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: u32 = 100;
    const PARENT: u32 = 99;

    fn read(variables: &[(&str, &str)]) -> Result<Manager, String> {
        let environment: Vec<_> =
            variables.iter().map(|(name, value)| (OsString::from(name), OsString::from(value))).collect();
        Manager::read(&environment, OWN, PARENT).map_err(|error| error.to_string())
    }

    #[test]
    fn sockets_are_taken_only_if_they_are_meant_for_this_process() {
        let taken =
            read(&[("LISTEN_PID", "100"), ("LISTEN_FDS", "2"), ("LISTEN_FDNAMES", "http:x")]).unwrap();
        assert_eq!(taken.names, ["http", "x"]);
        assert_eq!(taken.handed_over(), HandedOver::Some(2));
        for pid in ["99", "", "1000", "100 "] {
            let other = read(&[("LISTEN_PID", pid), ("LISTEN_FDS", "2")]).unwrap();
            assert_eq!(other.handed_over(), HandedOver::Nothing, "{pid}");
        }
        assert_eq!(read(&[("LISTEN_FDS", "2")]).unwrap(), Manager::default());
        let unnamed = read(&[("LISTEN_PID", "100"), ("LISTEN_FDS", "2")]).unwrap();
        assert_eq!(unnamed.names, ["unknown", "unknown"]);
    }

    #[test]
    fn a_supervisor_is_known_by_its_number_and_hands_over_everything() {
        let supervised = read(&[
            (PARENT_VARIABLE, "99"),
            ("LISTEN_FDS", "0"),
            ("NOTIFY_SOCKET", "/run/elsewhere"),
            ("WATCHDOG_PID", "99"),
            ("WATCHDOG_USEC", "2000000"),
        ])
        .unwrap();
        assert_eq!(supervised.handed_over(), HandedOver::Everything(0));
        assert_eq!((supervised.notify(), supervised.watchdog()), (None, Some(Duration::from_secs(2))));
        assert_eq!(read(&[(PARENT_VARIABLE, "98"), ("LISTEN_FDS", "1")]).unwrap(), Manager::default());
    }

    #[test]
    fn counts_and_names_that_cannot_be_right_stop_the_start() {
        for (count, names) in [("x", ""), ("-1", ""), ("65", ""), ("99999999999999999999", ""), ("1", "a:b")]
        {
            let refused =
                read(&[("LISTEN_PID", "100"), ("LISTEN_FDS", count), ("LISTEN_FDNAMES", names)]).unwrap_err();
            assert!(refused.starts_with(&format!("LISTEN_FDS={count}: ")), "{refused}");
        }
    }

    #[test]
    fn a_watchdog_of_another_process_is_not_ours() {
        let watchdog = |variables: &[(&str, &str)]| read(variables).unwrap().watchdog;
        assert_eq!(watchdog(&[("WATCHDOG_USEC", "5")]), Some(Duration::from_micros(5)));
        assert_eq!(
            watchdog(&[("WATCHDOG_USEC", "5"), ("WATCHDOG_PID", "100")]),
            Some(Duration::from_micros(5))
        );
        assert_eq!(watchdog(&[("WATCHDOG_USEC", "5"), ("WATCHDOG_PID", "7")]), None);
        assert_eq!(watchdog(&[("WATCHDOG_USEC", "0")]), None);
    }
}
