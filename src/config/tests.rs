//! The two stages together: precedence, defaults, refusals.

use core::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use super::*;
use crate::http::forwarded::Field;
use crate::limits;
use crate::log::Filter;
use crate::model::{Mode, Step};
use crate::network::Network;
use crate::quota::Rate;

const MACHINE: Machine = Machine { processors: 3, handed_over: HandedOver::Nothing };

struct ConfigFile(PathBuf);

impl ConfigFile {
    fn new(name: &str, text: &str) -> Self {
        let path = std::env::temp_dir().join(format!("quantonium-{name}-{}.toml", std::process::id()));
        std::fs::write(&path, text).unwrap();
        Self(path)
    }

    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for ConfigFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn plain(text: &str) -> Endpoint {
    Endpoint::Tcp(text.parse().unwrap(), Scheme::Http)
}

fn loaded(flags: &[(Id, &str)], environment: &[(&str, &str)]) -> Result<Loaded, String> {
    let mut raw = Raw::default();
    for (id, text) in flags {
        raw.add_flag(*id, text.into()).map_err(|setting| setting.name.to_owned())?;
    }
    let environment = environment.iter().map(|(name, value)| (name.into(), value.into()));
    load(raw, environment, MACHINE).map_err(|error| error.to_string())
}

fn config(flags: &[(Id, &str)], environment: &[(&str, &str)]) -> Result<Config, String> {
    loaded(flags, environment).map(|loaded| loaded.config)
}

const DEV: (Id, &str) = (Id::Dev, "true");

#[test]
fn defaults_are_those_of_limits() {
    let found = config(&[DEV], &[]).unwrap();
    let expected = Config {
        dev: true,
        data_dir: PathBuf::from("./quantonium-dev"),
        master_key_file: None,
        store: None,
        max_staleness_seconds: limits::STALENESS_DEFAULT_SECONDS,
        init: false,
        backup_key_file: None,
        restore_window_seconds: limits::RESTORE_WINDOW_DEFAULT_SECONDS,
        store_wait_seconds: 0,
        min_store_revision: None,
        accept_store_rollback: false,
        audit_rotate_bytes: limits::AUDIT_ROTATE_DEFAULT_BYTES,
        audit_retention_days: limits::AUDIT_RETENTION_DEFAULT_DAYS,
        audit_max_bytes: limits::AUDIT_TOTAL_DEFAULT_BYTES,
        audit_compress: true,
        listen: vec![plain("127.0.0.1:8080")],
        unix_mode: 0o660,
        defer_accept_seconds: 0,
        tls: None,
        allowed_hosts: Vec::new(),
        cors_origins: Vec::new(),
        no_console: false,
        max_handshakes: 256,
        max_handshakes_per_address: NonZeroUsize::new(8),
        handshake_timeout_ms: 5_000,
        insecure_http: false,
        trusted_proxies: Vec::new(),
        local_proxies: false,
        forwarded_field: Field::XForwardedFor,
        workers: 3,
        max_connections: limits::CONNECTIONS_DEFAULT_COUNT,
        max_connections_per_address: NonZeroUsize::new(limits::CONNECTIONS_PER_ADDRESS_DEFAULT_COUNT),
        max_requests_per_connection: limits::REQUESTS_PER_CONNECTION_DEFAULT_COUNT,
        rate_limit: None,
        address_rate_limit: Rate::new(100, 1_000),
        max_memory_bytes: limits::LEASE_BUDGET_DEFAULT_BYTES,
        head_timeout_ms: limits::HEAD_READ_MAX_MILLIS,
        body_timeout_ms: limits::BODY_READ_MAX_MILLIS,
        body_gap_timeout_ms: limits::BODY_GAP_MAX_MILLIS,
        idle_timeout_ms: limits::IDLE_MAX_MILLIS,
        write_timeout_ms: limits::WRITE_STALL_MAX_MILLIS,
        drain_timeout_ms: limits::DRAIN_DEFAULT_MILLIS,
        user_id: 1001,
        group_id: 1001,
        audit_sink: AuditSink::File,
        audit_synced: false,
        audit_body: true,
        log_format: LogFormat::Auto,
        log_filter: Filter::default(),
        token_issuer: "quantonium".into(),
        token_audience: "quantonium".into(),
        vault_mount: Some("transit".into()),
        sandbox_mode: Mode::Auto,
        sandbox_allow_missing: Vec::new(),
        integrity: IntegrityPolicy { action: IntegrityAction::Report, interval_seconds: 60 },
        niceness: 0,
    };
    assert_eq!(found, expected);
}

#[test]
fn flag_beats_environment_beats_file_beats_default() {
    let file = ConfigFile::new("precedence", "dev = true\nworkers = 5\nidle_timeout_ms = 500\n");
    let in_file = ("QUANTONIUM_CONFIG", file.path());
    let workers =
        |flags: &[(Id, &str)], environment: &[(&str, &str)]| config(flags, environment).unwrap().workers;
    let in_environment = ("QUANTONIUM_WORKERS", "6");
    assert_eq!(workers(&[(Id::Workers, "7")], &[in_file, in_environment]), 7);
    assert_eq!(workers(&[], &[in_file, in_environment]), 6);
    assert_eq!(workers(&[], &[in_file]), 5);
    assert_eq!(workers(&[DEV], &[]), 3);
    assert_eq!(config(&[], &[in_file, in_environment]).unwrap().idle_timeout_ms, 500);
    // The flag that names the file beats the variable that does.
    let other = ConfigFile::new("precedence-other", "dev = true\nworkers = 9\n");
    assert_eq!(workers(&[(Id::ConfigFile, other.path())], &[in_file]), 9);
}

#[test]
fn addresses_of_a_stronger_source_replace_the_others() {
    let listen = config(
        &[DEV, (Id::Listen, "127.0.0.1:1"), (Id::Listen, "[::1]:2")],
        &[("QUANTONIUM_LISTEN", "127.0.0.1:3,127.0.0.1:4")],
    )
    .unwrap()
    .listen;
    assert_eq!(listen, ["127.0.0.1:1", "[::1]:2"].map(plain));
}

#[test]
fn a_switch_can_be_turned_off_again() {
    let environment = [
        ("QUANTONIUM_DEV", "yes"),
        ("QUANTONIUM_DATA_DIR", "/srv/q"),
        ("QUANTONIUM_MASTER_KEY_FILE", "/run/secrets/q"),
    ];
    assert!(config(&[], &environment).unwrap().dev);
    assert!(!config(&[(Id::Dev, "false")], &environment).unwrap().dev);
}

#[test]
fn messages_name_the_source() {
    let file = ConfigFile::new("sources", "dev = true\nworkers = 0\n");
    assert_eq!(
        config(&[DEV], &[("QUANTONIUM_WORKERS", "0")]).unwrap_err(),
        "--workers: 0 is below 1 (set by QUANTONIUM_WORKERS)"
    );
    assert_eq!(
        config(&[DEV, (Id::Workers, "65")], &[]).unwrap_err(),
        "--workers: 65 is above 62 (set on the command line)"
    );
    assert_eq!(
        config(&[], &[("QUANTONIUM_CONFIG", file.path())]).unwrap_err(),
        format!("--workers: 0 is below 1 (set in {}, line 2, column 11)", file.path())
    );
}

#[test]
fn every_number_is_held_to_its_bounds() {
    for setting in SETTINGS.iter().filter(|setting| matches!(setting.kind, Kind::Number(_))) {
        let given = |number: u64| {
            let flags = [DEV, (Id::BodyTimeout, "3600000"), (setting.id, &*number.to_string())];
            let skip = usize::from(setting.id == Id::BodyTimeout);
            config(&[&flags[..1], &flags[1 + skip..]].concat(), &[])
        };
        assert!(given(setting.ceiling).is_ok(), "{}", setting.name);
        assert!(given(setting.ceiling + 1).unwrap_err().contains("is above"), "{}", setting.name);
        assert!(given(setting.floor).is_ok(), "{}", setting.name);
        if let Some(below) = setting.floor.checked_sub(1) {
            assert!(given(below).unwrap_err().contains("is below"), "{}", setting.name);
        }
    }
}

#[test]
fn a_missing_data_directory_says_what_to_give() {
    let refusal = config(&[], &[]).unwrap_err();
    assert_eq!(
        refusal,
        "no data directory: give --data-dir DIR or set QUANTONIUM_DATA_DIR, or try it out with --dev"
    );
    let given = [(Id::DataDir, "/srv/q"), (Id::MasterKeyFile, "/run/secrets/q")];
    assert_eq!(config(&given, &[]).unwrap().data_dir, Path::new("/srv/q"));
    assert_eq!(config(&[DEV, (Id::DataDir, "/srv/q")], &[]).unwrap().data_dir, Path::new("/srv/q"));
}

#[test]
fn a_missing_master_key_says_what_to_give() {
    let refusal = config(&[(Id::DataDir, "/srv/q")], &[]).unwrap_err();
    assert!(
        refusal.starts_with("no master key: give --master-key-file FILE, set QUANTONIUM_MASTER_KEY_FILE")
    );
    assert!(refusal.contains("LoadCredential=quantonium-master-key:FILE"), "{refusal}");
    assert!(refusal.contains("`quantonium init --generate-master-key`"), "{refusal}");
    assert_eq!(config(&[DEV], &[]).unwrap().master_key_file, None, "--dev makes its own");
    let named = config(&[DEV, (Id::MasterKeyFile, "/run/secrets/q")], &[]).unwrap().master_key_file;
    assert_eq!(named.as_deref(), Some(Path::new("/run/secrets/q")));
}

#[test]
fn the_credential_of_systemd_is_the_master_key_when_no_other_is_named() {
    let folder = std::env::temp_dir().join(format!("quantonium-config-credentials-{}", std::process::id()));
    std::fs::create_dir(&folder).unwrap();
    let credential = folder.join("quantonium-master-key");
    std::fs::write(&credential, "").unwrap();
    let systemd = [("CREDENTIALS_DIRECTORY", folder.to_str().unwrap())];
    let flags = [(Id::DataDir, "/srv/q")];
    let found = config(&flags, &systemd);
    let named = config(&[flags[0], (Id::MasterKeyFile, "/run/secrets/q")], &systemd);
    let offline = load_offline(
        Raw::default(),
        [("CREDENTIALS_DIRECTORY", &*folder), ("QUANTONIUM_DATA_DIR", Path::new("/srv/q"))]
            .map(|(name, value)| (name.into(), value.into())),
    );
    std::fs::remove_dir_all(&folder).unwrap();
    assert_eq!(found.unwrap().master_key_file, Some(credential.clone()));
    assert_eq!(named.unwrap().master_key_file.as_deref(), Some(Path::new("/run/secrets/q")));
    assert_eq!(offline.unwrap().master_key_file, Some(credential));
}

#[test]
fn offline_commands_judge_only_what_they_need() {
    let offline = |pairs: &[(&str, &str)]| {
        let pairs = pairs.iter().map(|(name, value)| (OsString::from(name), OsString::from(value)));
        load_offline(Raw::default(), pairs.collect::<Vec<_>>()).map_err(|error| error.to_string())
    };
    let found = offline(&[
        ("QUANTONIUM_DATA_DIR", "/srv/q"),
        ("QUANTONIUM_WORKERS", "none"),
        ("QUANTONIUM_LISTEN", "0.0.0.0:80"),
        ("QUANTONIUM_MIN_STORE_REVISION", "12"),
    ])
    .unwrap();
    assert_eq!(found.data_dir, Path::new("/srv/q"));
    assert_eq!((found.master_key_file, found.min_store_revision), (None, Some(12)));
    assert!(!found.accept_store_rollback);
    assert_eq!((found.user_id, found.group_id), (1001, 1001));
    assert!(offline(&[]).unwrap_err().starts_with("no data directory"));
    assert!(offline(&[("QUANTONIUM_MASTER_KEY", "x")]).unwrap_err().contains("QUANTONIUM_MASTER_KEY_FILE"));
}

#[test]
fn the_settings_of_the_store_are_taken_from_every_source() {
    let file = ConfigFile::new(
        "store",
        "dev = true\nrestore_window = 60\nmin_store_revision = 7\nbackup_key_file = '/b'\n",
    );
    let found = config(
        &[(Id::Init, "true")],
        &[("QUANTONIUM_CONFIG", file.path()), ("QUANTONIUM_ACCEPT_STORE_ROLLBACK", "1")],
    )
    .unwrap();
    assert_eq!((found.restore_window_seconds, found.min_store_revision), (60, Some(7)));
    assert_eq!(found.backup_key_file.as_deref(), Some(Path::new("/b")));
    assert!(found.init && found.accept_store_rollback);
}

#[test]
fn plain_http_beyond_loopback_needs_a_word() {
    for address in ["0.0.0.0:8080", "[::]:8080", "10.0.0.1:80", "[::ffff:10.0.0.1]:80", "[fe80::1]:80"] {
        let flags = [DEV, (Id::Listen, "127.0.0.1:1"), (Id::Listen, address)];
        let refusal = config(&flags, &[]).unwrap_err();
        assert!(refusal.contains("give --insecure-http if a proxy in front speaks TLS"), "{refusal}");
        assert!(refusal.contains(address), "{refusal}");
        assert!(config(&flags, &[("QUANTONIUM_INSECURE_HTTP", "1")]).is_ok());
    }
    for address in ["127.0.0.1:80", "127.9.9.9:80", "[::1]:80", "[::ffff:127.0.0.1]:80"] {
        assert!(config(&[DEV, (Id::Listen, address)], &[]).is_ok(), "{address}");
    }
}

#[test]
fn sockets_have_room_for_every_worker() {
    let listen = |count| vec!["127.0.0.1:0"; count].join(",");
    let given = |count| config(&[DEV, (Id::Workers, "62"), (Id::Listen, &listen(count))], &[]);
    assert!(given(3).is_ok());
    let refusal = given(4).unwrap_err();
    assert!(refusal.contains("4 addresses for 62 workers need 248 sockets"), "{refusal}");
}

#[test]
fn the_gap_inside_a_body_fits_into_the_whole() {
    let short = config(&[DEV, (Id::BodyTimeout, "2000")], &[]).unwrap();
    assert_eq!(short.body_gap_timeout_ms, 2_000);
    let refusal = config(&[DEV, (Id::BodyTimeout, "2000"), (Id::BodyGapTimeout, "2001")], &[]).unwrap_err();
    assert!(refusal.contains("2001 is longer than --body-timeout-ms (2000)"), "{refusal}");
}

#[test]
fn no_limit_per_address_is_said_by_zero() {
    let config = config(&[DEV, (Id::MaxConnectionsPerAddress, "0")], &[]).unwrap();
    assert_eq!(config.max_connections_per_address, None);
}

#[test]
fn limits_and_proxies_are_taken_from_every_source() {
    let file =
        ConfigFile::new("proxies", "dev = true\naddress_rate_limit = 0\ntrusted_proxy = '10.0.0.0/8'\n");
    let in_file = ("QUANTONIUM_CONFIG", file.path());
    let found =
        config(&[(Id::RateLimit, "7:9")], &[in_file, ("QUANTONIUM_FORWARDED_HEADER", "forwarded")]).unwrap();
    assert_eq!((found.rate_limit, found.address_rate_limit), (Rate::new(7, 9), None));
    assert_eq!(found.trusted_proxies, [Network::parse("10.0.0.0/8").unwrap()]);
    assert!(!found.local_proxies && config(&[DEV, (Id::TrustedProxy, "unix")], &[]).unwrap().local_proxies);
    assert_eq!(found.forwarded_field, Field::Forwarded);
    let flags = [(Id::TrustedProxy, "::1"), (Id::TrustedProxy, "127.0.0.1,192.0.2.0/24")];
    assert_eq!(config(&flags, &[in_file]).unwrap().trusted_proxies.len(), 3, "a stronger source replaces");
    for (id, text, refusal) in [
        (Id::RateLimit, "fast", "--rate-limit: fast is not PER_SECOND or PER_SECOND:BURST"),
        (Id::TrustedProxy, "10.0.0.1/8", "--trusted-proxy: \"10.0.0.1/8\" has bits set behind its prefix"),
        (Id::ForwardedHeader, "via", "--forwarded-header: via is not x-forwarded-for or forwarded (set on"),
    ] {
        let found = config(&[DEV, (id, text)], &[]).unwrap_err();
        assert!(found.starts_with(refusal), "{found}");
    }
}

#[test]
fn the_lock_down_is_said_in_every_source() {
    let file = ConfigFile::new(
        "lock-down",
        "dev = true\nsandbox = 'container'\nsandbox_allow_missing = ['landlock', 'securebits']\nniceness = 19\n",
    );
    let in_file = ("QUANTONIUM_CONFIG", file.path());
    let found = config(&[], &[in_file]).unwrap();
    assert_eq!((found.sandbox_mode, found.niceness), (Mode::Container, 19));
    assert_eq!(found.sandbox_allow_missing, [Step::Landlock, Step::Securebits]);
    let flags = [
        (Id::Sandbox, "strict"),
        (Id::SandboxAllowMissing, "empty-root"),
        (Id::SandboxAllowMissing, "key-memory,pid-namespace"),
        (Id::IntegrityAction, "stop"),
    ];
    let found = config(&flags, &[in_file, ("QUANTONIUM_INTEGRITY_INTERVAL_SECONDS", "5")]).unwrap();
    assert_eq!(found.sandbox_mode, Mode::Strict);
    assert_eq!(found.sandbox_allow_missing, [Step::EmptyRoot, Step::KeyMemory, Step::PidNamespace]);
    assert_eq!(found.integrity, IntegrityPolicy { action: IntegrityAction::Stop, interval_seconds: 5 });
    for (id, text, refusal) in [
        (Id::Sandbox, "off", "--sandbox: off is not auto or strict or container (set on the command line)"),
        (Id::SandboxAllowMissing, "landlok", "--sandbox-allow-missing: \"landlok\" is none of key-memory, "),
        (
            Id::SandboxAllowMissing,
            "seccomp",
            "--sandbox-allow-missing: seccomp cannot be missing: nothing is",
        ),
        (Id::IntegrityAction, "ignore", "--integrity-action: ignore is not report or stop"),
    ] {
        let found = config(&[DEV, (id, text)], &[]).unwrap_err();
        assert!(found.starts_with(refusal), "{found}");
    }
}

#[test]
fn root_is_not_an_identity_to_switch_to() {
    for id in [Id::UserId, Id::GroupId] {
        assert!(config(&[DEV, (id, "0")], &[]).unwrap_err().contains("0 is below 1"));
        // The kernel reads this number as "leave it unchanged".
        assert!(config(&[DEV, (id, "4294967295")], &[]).unwrap_err().contains("is above"));
    }
}

#[test]
fn warnings_come_with_the_configuration() {
    let loaded = loaded(&[DEV], &[("QUANTONIUM_LISTENS", "x")]).unwrap();
    assert_eq!(loaded.warnings.len(), 1);
    assert!(loaded.warnings[0].contains("did you mean QUANTONIUM_LISTEN?"));
}

#[test]
fn a_health_check_needs_only_the_addresses() {
    let environment = |pairs: &[(&str, &str)]| -> Vec<(OsString, OsString)> {
        pairs.iter().map(|(name, value)| (name.into(), value.into())).collect()
    };
    let found =
        listen_endpoints(environment(&[("QUANTONIUM_LISTEN", "0.0.0.0:9"), ("QUANTONIUM_WORKERS", "x")]));
    assert_eq!(found, Ok(vec![plain("0.0.0.0:9")]));
    assert_eq!(listen_endpoints(environment(&[])), Ok(vec![plain("127.0.0.1:8080")]));
    let file = ConfigFile::new("addresses", "listen = '127.0.0.1:7'\n");
    let found = listen_endpoints(environment(&[("QUANTONIUM_CONFIG", file.path())]));
    assert_eq!(found, Ok(vec![plain("127.0.0.1:7")]));
}

#[test]
fn audit_lines_are_synced_where_there_is_a_file() {
    let with = |sink: &str, durability: &str| {
        config(&[DEV, (Id::AuditSink, sink), (Id::AuditDurability, durability)], &[])
            .map(|config| (config.audit_sink, config.audit_synced))
    };
    assert_eq!(with("file", "synced"), Ok((AuditSink::File, true)));
    assert_eq!(with("both", "synced"), Ok((AuditSink::Both, true)));
    assert_eq!(with("stdout", "written"), Ok((AuditSink::Stdout, false)));
    assert!(with("stdout", "synced").unwrap_err().starts_with("--audit-durability: nothing is synced"));
    assert_eq!(
        with("stderr", "written").unwrap_err(),
        "--audit-sink: stderr is not file or stdout or both (set on the command line)"
    );
    assert!(with("file", "").unwrap_err().contains("is not written or synced"));
}

#[test]
fn sockets_that_were_handed_over_take_the_place_of_the_default_or_of_all() {
    let listen = |handed_over, flags: &[(Id, &str)]| {
        let mut raw = Raw::default();
        for (id, text) in [DEV].iter().chain(flags) {
            raw.add_flag(*id, text.into()).unwrap();
        }
        load(raw, [], Machine { processors: 3, handed_over }).map(|loaded| loaded.config.listen)
    };
    let given = [(Id::Listen, "127.0.0.1:1")];
    assert_eq!(listen(HandedOver::Some(1), &[]), Ok(Vec::new()), "the default is not served beside them");
    assert_eq!(listen(HandedOver::Some(1), &given), Ok(vec![plain("127.0.0.1:1")]));
    assert_eq!(listen(HandedOver::Everything(1), &given), Ok(Vec::new()));
    assert_eq!(listen(HandedOver::Nothing, &[]), Ok(vec![plain("127.0.0.1:8080")]));
    assert!(listen(HandedOver::Some(limits::LISTENERS_MAX_COUNT), &[]).is_err(), "one for each worker");
}

#[test]
fn a_store_in_etcd_has_what_it_needs_and_nothing_else() {
    const DIR: (Id, &str) = (Id::DataDir, "d");
    const KEY: (Id, &str) = (Id::MasterKeyFile, "m");
    const PLAIN: (Id, &str) = (Id::Store, "etcd://a:1,b/q");
    const SECURE: (Id, &str) = (Id::Store, "etcds://a/q");
    const CA: (Id, &str) = (Id::StoreCa, "ca");
    let store = |flags: &[(Id, &str)]| config(&[&[DIR, KEY], flags].concat(), &[]).map(|config| config.store);
    assert_eq!(store(&[]), Ok(None));
    let remote = store(&[PLAIN]).unwrap().unwrap();
    assert_eq!(
        (remote.place.hosts.len(), remote.authorities, remote.own, remote.user),
        (2, None, None, None)
    );
    let own = [(Id::StoreCert, "c"), (Id::StoreKey, "k")];
    let user = [(Id::StoreUser, "u"), (Id::StorePasswordFile, "p")];
    let remote = store(&[&[SECURE, CA], &own[..], &user[..]].concat()).unwrap().unwrap();
    assert_eq!(remote.own, Some(("c".into(), "k".into())));
    assert_eq!(remote.user, Some(("u".to_owned(), "p".into())));
    for (flags, told) in [
        (&[(Id::Store, "http://a/q")][..], "etcd://HOST:PORT"),
        (&[SECURE], "needs --store-ca"),
        (&[PLAIN, CA], "needs etcds://"),
        (&[PLAIN, own[0], own[1]], "etcds://"),
        (&[SECURE, CA, own[0]], "--store-key"),
        (&[PLAIN, user[0]], "--store-password-file"),
        (&[CA], "--store names none"),
        (&[PLAIN, DEV], "--dev"),
    ] {
        let refused = store(flags).unwrap_err();
        assert!(refused.contains(told), "{refused}");
    }
}

#[test]
fn the_log_is_for_people_on_a_terminal_and_in_the_journal_unless_asked_otherwise() {
    use crate::log::Form::{Human, Journal, Json};
    let forms = |asked: LogFormat| {
        let surroundings = [(false, false), (true, false), (false, true), (true, true)];
        surroundings.map(|(is_terminal, is_journal)| asked.form(is_terminal, is_journal))
    };
    assert_eq!(forms(LogFormat::Auto), [Json, Human, Journal, Journal]);
    assert_eq!(forms(LogFormat::Json), [Json; 4]);
    assert_eq!(forms(LogFormat::Human), [Human, Human, Journal, Journal]);
}
