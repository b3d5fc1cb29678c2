//! Typed look-ups in what was given.
//!
//! Owns [`Reader`]. Invariant: a value that was given is its setting's, or the message names who gave it.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use super::checked::{CertificateFiles, HandedOver, IntegrityAction, IntegrityPolicy, Machine, Remote, Tls};
use super::endpoint::{Endpoint, Scheme};
use super::error::ConfigError;
use super::master_key;
use super::raw::{Raw, Source};
use super::settings::{Fallback, Id, Kind, Unit};
use super::value;
use crate::broker::StorePlace;
use crate::http::forwarded::Field;
use crate::limits;
use crate::log::Filter;
use crate::model::Step;
use crate::network::Network;
use crate::quota::Rate;

/// Typed look-ups; each falls back to the setting's default.
pub(super) struct Reader<'a> {
    pub(super) raw: &'a Raw,
    pub(super) machine: Machine,
}

impl Reader<'_> {
    /// The last text that was given, read by `parse`, or nothing if none was given.
    fn given<T>(
        &self,
        id: Id,
        parse: impl FnOnce(&OsStr) -> Result<T, String>,
    ) -> Result<Option<T>, ConfigError> {
        let Some(given) = self.raw.get(id) else { return Ok(None) };
        let text = given.texts.last().map_or(OsStr::new(""), |text| text.as_os_str());
        parse(text).map(Some).map_err(|reason| refused(id, &given.source, reason))
    }

    pub(super) fn switch(&self, id: Id) -> Result<bool, ConfigError> {
        Ok(self.given(id, value::switch)?.unwrap_or(id.setting().fallback == Fallback::On))
    }

    pub(super) fn path(&self, id: Id) -> Result<Option<PathBuf>, ConfigError> {
        self.given(id, value::path)
    }

    pub(super) fn data_dir(&self, dev: bool) -> Result<PathBuf, ConfigError> {
        let fallback = match Id::DataDir.setting().fallback {
            Fallback::RequiredUnlessDev(text) if dev => Some(PathBuf::from(text)),
            _ => None,
        };
        self.path(Id::DataDir)?.or(fallback).ok_or(ConfigError::DataDirMissing)
    }

    /// The file of the master key, without which only a server for development starts.
    pub(super) fn master_key_file(
        &self,
        dev: bool,
        credentials: Option<&Path>,
    ) -> Result<Option<PathBuf>, ConfigError> {
        let file = master_key::resolve(self.path(Id::MasterKeyFile)?, credentials);
        if file.is_none() && !dev { Err(ConfigError::MasterKeyMissing) } else { Ok(file) }
    }

    /// Where to serve, and then where to redirect.
    pub(super) fn endpoints(&self) -> Result<Vec<Endpoint>, ConfigError> {
        let usual = if self.raw.get(Id::TlsCert).is_some() { Scheme::Https } else { Scheme::Http };
        let parse = |source: &Source, texts: &[_]| {
            value::endpoints(texts, usual).map_err(|reason| refused(Id::Listen, source, reason))
        };
        let mut all = match (self.raw.get(Id::Listen), Id::Listen.setting().fallback) {
            _ if matches!(self.machine.handed_over, HandedOver::Everything(_)) => return Ok(Vec::new()),
            (None, _) if self.machine.handed_over != HandedOver::Nothing => Ok(Vec::new()),
            (Some(given), _) => parse(&given.source, &given.texts),
            (None, Fallback::Text(text)) => parse(&Source::Flag, &[text.into()]),
            (None, _) => parse(&Source::Flag, &[]),
        }?;
        if let Some(given) = self.raw.get(Id::RedirectListen) {
            let refused = |reason| refused(Id::RedirectListen, &given.source, reason);
            for endpoint in value::endpoints(&given.texts, Scheme::Redirect).map_err(refused)? {
                if all.iter().any(|other| other.clashes(&endpoint)) {
                    return Err(refused(format!("{endpoint} is served already")));
                }
                all.push(endpoint);
            }
        }
        Ok(all)
    }

    pub(super) fn mode(&self) -> Result<u32, ConfigError> {
        Ok(self.given(Id::UnixMode, value::mode)?.unwrap_or(limits::UNIX_MODE_DEFAULT_NUMBER))
    }

    pub(super) fn list<T: PartialEq>(
        &self,
        id: Id,
        expected: &str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Result<Vec<T>, ConfigError> {
        let Some(given) = self.raw.get(id) else { return Ok(Vec::new()) };
        value::list(&given.texts, expected, parse).map_err(|reason| refused(id, &given.source, reason))
    }

    pub(super) fn paths(&self, id: Id) -> Result<Vec<PathBuf>, ConfigError> {
        self.list(id, "a path", |text| value::path(OsStr::new(text)).ok())
    }

    pub(super) fn tls(&self) -> Result<Option<Tls>, ConfigError> {
        let (certs, keys, ocsp) =
            (self.paths(Id::TlsCert)?, self.paths(Id::TlsKey)?, self.paths(Id::TlsOcsp)?);
        let client_ca = self.path(Id::TlsClientCa)?;
        let client_crls = self.paths(Id::TlsClientCrl)?;
        if !client_crls.is_empty() && client_ca.is_none() {
            return Err(ConfigError::AuthorityMissing);
        }
        if certs.len() != keys.len() || ocsp.len() > certs.len() {
            return Err(ConfigError::UnpairedCertificates { certs: certs.len(), keys: keys.len() });
        }
        if certs.is_empty() {
            return if client_ca.is_some() { Err(ConfigError::CertificateMissing) } else { Ok(None) };
        }
        let mut ocsp = ocsp.into_iter();
        let pairs = certs.into_iter().zip(keys);
        let certificates =
            pairs.map(|(cert, key)| CertificateFiles { cert, key, ocsp: ocsp.next() }).collect();
        Ok(Some(Tls {
            certificates,
            client_ca,
            client_crls,
            client_required: self.word(Id::TlsClientAuth)? == "required",
            tls12: self.word(Id::TlsMinVersion)? == "1.2",
        }))
    }

    pub(super) fn networks(&self, id: Id) -> Result<(Vec<Network>, bool), ConfigError> {
        let Some(given) = self.raw.get(id) else { return Ok((Vec::new(), false)) };
        value::networks(&given.texts).map_err(|reason| refused(id, &given.source, reason))
    }

    pub(super) fn steps(&self, id: Id) -> Result<Vec<Step>, ConfigError> {
        let Some(given) = self.raw.get(id) else { return Ok(Vec::new()) };
        value::steps(&given.texts).map_err(|reason| refused(id, &given.source, reason))
    }

    pub(super) fn log_filter(&self) -> Result<Filter, ConfigError> {
        Ok(self.given(Id::LogLevel, |text| Filter::parse(&value::text(text)?))?.unwrap_or_default())
    }

    pub(super) fn integrity(&self) -> Result<IntegrityPolicy, ConfigError> {
        let action = match self.word(Id::IntegrityAction)? {
            "stop" => IntegrityAction::Stop,
            _ => IntegrityAction::Report,
        };
        Ok(IntegrityPolicy { action, interval_seconds: self.number(Id::IntegrityInterval)? })
    }

    pub(super) fn rate(&self, id: Id) -> Result<Option<Rate>, ConfigError> {
        let fallback = match id.setting().fallback {
            Fallback::Text(text) => value::rate(OsStr::new(text)).ok().flatten(),
            _ => None,
        };
        Ok(self.given(id, value::rate)?.unwrap_or(fallback))
    }

    pub(super) fn forwarded_field(&self) -> Result<Field, ConfigError> {
        let word = self.given(Id::ForwardedHeader, |text| value::choice(&Field::NAMES, text))?;
        Ok(word.and_then(Field::named).unwrap_or_default())
    }

    /// The number that was given, if one was.
    pub(super) fn optional_number(&self, id: Id) -> Result<Option<u64>, ConfigError> {
        let setting = id.setting();
        let unit = match setting.kind {
            Kind::Number(unit) => unit,
            _ => Unit::Count,
        };
        self.given(id, |text| value::number(setting, unit, text))
    }

    pub(super) fn number(&self, id: Id) -> Result<u64, ConfigError> {
        let setting = id.setting();
        let fallback = match setting.fallback {
            Fallback::Number(number) => number,
            Fallback::Processors => (self.machine.processors as u64).clamp(setting.floor, setting.ceiling),
            _ => setting.floor,
        };
        Ok(self.optional_number(id)?.unwrap_or(fallback))
    }

    /// The text that was given, or the setting's own.
    pub(super) fn text(&self, id: Id) -> Result<String, ConfigError> {
        let Fallback::Text(usual) = id.setting().fallback else { return Ok(String::new()) };
        Ok(self.given(id, value::text)?.unwrap_or_else(|| usual.to_owned()))
    }

    /// The store in etcd, if one is named.
    pub(super) fn remote(&self) -> Result<Option<Remote>, ConfigError> {
        let place = self.given(Id::Store, |text| {
            let place = text.to_str().and_then(StorePlace::parse);
            place.ok_or_else(|| {
                "not of the form etcd://HOST:PORT[,HOST:PORT...]/PREFIX, or etcds://".to_owned()
            })
        })?;
        let wrong = |id: Id, reason: &str| {
            let source = self.raw.get(id).map_or(Source::Flag, |given| given.source.clone());
            Err(refused(id, &source, reason.to_owned()))
        };
        let (authorities, cert, key) =
            (self.path(Id::StoreCa)?, self.path(Id::StoreCert)?, self.path(Id::StoreKey)?);
        let user = self.given(Id::StoreUser, value::text)?;
        let password = self.path(Id::StorePasswordFile)?;
        let Some(place) = place else {
            let ids = [Id::StoreCa, Id::StoreCert, Id::StoreKey, Id::StoreUser, Id::StorePasswordFile];
            let first = ids.into_iter().find(|id| self.raw.get(*id).is_some());
            return first.map_or(Ok(None), |id| wrong(id, "it is for etcd, and --store names none"));
        };
        if self.switch(Id::Dev)? {
            return wrong(Id::Store, "not with --dev, which keeps its store in its own directory");
        }
        if place.secure != authorities.is_some() {
            let reason = if place.secure { "etcds:// needs --store-ca" } else { "--store-ca needs etcds://" };
            return wrong(Id::Store, reason);
        }
        let own = match (cert, key) {
            (None, None) => None,
            (Some(cert), Some(key)) if place.secure => Some((cert, key)),
            _ => return wrong(Id::StoreCert, "a certificate needs --store-key, and both need etcds://"),
        };
        let user = match (user, password) {
            (None, None) => None,
            (Some(user), Some(password)) => Some((user, password)),
            _ => return wrong(Id::StoreUser, "a user needs --store-password-file, and a password its user"),
        };
        Ok(Some(Remote { place, authorities, own, user }))
    }

    /// The word that was given, or the first of the setting's.
    pub(super) fn word(&self, id: Id) -> Result<&'static str, ConfigError> {
        let words = if let Kind::Choice(words) = id.setting().kind { words } else { &[] };
        let given = self.given(id, |text| value::choice(words, text))?;
        Ok(given.or_else(|| words.first().copied()).unwrap_or_default())
    }

    /// Where clients of Vault find the engine, if they are served.
    pub(super) fn vault_mount(&self) -> Result<Option<String>, ConfigError> {
        let Fallback::Text(usual) = Id::VaultMount.setting().fallback else { return Ok(None) };
        let mount = self.given(Id::VaultMount, value::vault_mount)?.unwrap_or_else(|| usual.to_owned());
        let on = self.word(Id::VaultApi)? == "on";
        Ok(Some(mount).filter(|_| on))
    }

    /// The silence inside a body. Its default follows a shorter total; one that was given must fit.
    pub(super) fn body_gap(&self, total: u64) -> Result<u64, ConfigError> {
        let gap = self.number(Id::BodyGapTimeout)?;
        if gap > total && self.raw.get(Id::BodyGapTimeout).is_some() {
            return Err(ConfigError::GapBeyondTotal { gap, total });
        }
        Ok(gap.min(total))
    }

    pub(super) fn count(&self, id: Id) -> Result<usize, ConfigError> {
        self.number(id).map(|number| usize::try_from(number).unwrap_or(usize::MAX))
    }

    pub(super) fn identity(&self, id: Id) -> Result<u32, ConfigError> {
        self.number(id).map(|number| u32::try_from(number).unwrap_or(limits::IDENTITY_CEILING_NUMBER))
    }
}

fn refused(id: Id, source: &Source, reason: String) -> ConfigError {
    ConfigError::Value { id, source: source.clone(), reason }
}
