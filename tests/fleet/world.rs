//! Some servers on one etcd, as the cases use them.
//!
//! Owns them. Invariant: what etcd does not answer in time is asked for again where a case is about something else.

use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::unistd::Pid;

use crate::etcd::Etcd;
use crate::server::client::{Reply, Request};
use crate::server::{self, Ended, Scratch, Server};

/// How long anything may take that has to come: no measure of anything, but of a machine that stands still for a while.
pub(crate) const PATIENCE: Duration = Duration::from_secs(180);
/// Of servers that a test waits to be stale; longer than a machine stands still.
pub(crate) const STALENESS: &str = "--max-staleness=15";
pub(crate) const MASTER_KEY: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f\n";

pub(crate) struct Fleet {
    pub(crate) etcd: Etcd,
    pub(crate) servers: Vec<Server>,
    pub(crate) admin: String,
    pub(crate) master: String,
    pub(crate) flags: Vec<String>,
}

impl Fleet {
    /// An etcd and so many servers, which are asked with further `flags`.
    pub(crate) fn start(count: usize, flags: &[&str]) -> Option<Self> {
        server::binary()?;
        let first = Scratch::new();
        let etcd = Etcd::start(&first.path("."))?;
        let file = first.path("master.key");
        fs::write(&file, MASTER_KEY).expect("a file");
        owner_only(&file);
        let master = format!("--master-key-file={}", file.display());
        let flags = flags.iter().map(|flag| (*flag).to_owned()).collect();
        let mut fleet = Self { etcd, servers: Vec::new(), admin: String::new(), master, flags };
        let made = fleet.add_in(&first, &["--init"]);
        fleet.admin = made.key().to_owned();
        assert!(fleet.admin.starts_with("qk_"), "{made:?}");
        fleet.servers.push(made);
        for _ in 1..count {
            let server = fleet.add_in(&Scratch::new(), &[]);
            fleet.servers.push(server);
        }
        Some(fleet)
    }

    pub(crate) fn try_add_in(&self, scratch: &Arc<Scratch>, more: &[&str]) -> Result<Server, Ended> {
        let store = self.etcd.store("fleet/test");
        let mut flags = vec![store.as_str(), self.master.as_str(), "--workers=2", "--no-console"];
        flags.extend(self.flags.iter().map(String::as_str));
        flags.extend(more);
        Server::try_start_in(scratch, &flags).expect("the binary")
    }

    /// One that starts: an etcd that does not answer in time ends a start, which is begun again then.
    pub(crate) fn add_in(&self, scratch: &Arc<Scratch>, more: &[&str]) -> Server {
        started(|| self.try_add_in(scratch, more))
    }

    pub(crate) fn ask(&self, server: usize, request: Request) -> Reply {
        self.servers[server].call(&request.key(&self.admin))
    }

    /// Asks again until the answer is as `good` says; how long that took.
    pub(crate) fn until(
        &self,
        server: usize,
        what: impl Fn() -> Request,
        good: impl Fn(&Reply) -> bool,
    ) -> Duration {
        let begun = Instant::now();
        loop {
            let reply = self.ask(server, what());
            if good(&reply) {
                return begun.elapsed();
            }
            assert!(begun.elapsed() < PATIENCE, "{reply:?}");
        }
    }

    /// Has a change made: what etcd does not answer in time is asked for again, and then it may have been done. Returns the last reply, and
    /// how many tries nobody knows the outcome of.
    pub(crate) fn change(&self, server: usize, what: impl Fn() -> Request) -> (Reply, u64) {
        change(&self.servers[server], &self.admin, what)
    }

    pub(crate) fn create(&self, server: usize, name: &str) {
        let (reply, unknown) = self.change(server, || create(name));
        assert!(reply.status == 201 || unknown > 0 && matches!(reply.status, 200 | 409), "{reply:?}");
    }

    /// A new API key that may hash: its id and its secret.
    pub(crate) fn caller(&self, server: usize) -> (String, String) {
        let made =
            self.change(server, || Request::post("/api/auth/keys", r#"{"name":"app","scopes":["hash"]}"#));
        (made.0.member("id"), made.0.member("api_key"))
    }

    pub(crate) fn revoke(&self, server: usize, id: &str) {
        let path = format!("/api/auth/keys/{id}/revoke");
        let (reply, unknown) = self.change(server, || Request::post(&path, "{}"));
        assert!(reply.status == 200 || unknown > 0, "{reply:?}");
    }

    /// The process that speaks to etcd for a server.
    pub(crate) fn broker(&self, server: usize) -> Pid {
        let pid = self.servers[server].pid();
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).expect("its children");
        let brokers: Vec<i32> =
            children.split_whitespace().map(|pid| pid.parse().expect("a number")).collect();
        assert_eq!(brokers.len(), 1, "{children}");
        Pid::from_raw(brokers[0])
    }

    pub(crate) fn health(&self, server: usize) -> serde_json::Value {
        self.servers[server].call(&Request::get("/api/health")).json()
    }
}

/// Starts what ends with the code that asks for another start, unless it has shown what it shows once.
pub(crate) fn started(mut start: impl FnMut() -> Result<Server, Ended>) -> Server {
    let begun = Instant::now();
    loop {
        match start() {
            Ok(server) => return server,
            Err(ended) => {
                let again = ended.code == Some(74) && !ended.stdout.contains("qk_");
                assert!(again && begun.elapsed() < PATIENCE, "it ended: {ended:?}");
            }
        }
    }
}

pub(crate) fn change(server: &Server, admin: &str, what: impl Fn() -> Request) -> (Reply, u64) {
    let (begun, mut unknown) = (Instant::now(), 0);
    loop {
        let reply = server.call(&what().key(admin));
        if reply.status != 503 {
            return (reply, unknown);
        }
        unknown += 1;
        assert!(begun.elapsed() < PATIENCE, "{reply:?}");
    }
}

/// Asks until `good`, for what has to come.
pub(crate) fn wait_for(mut good: impl FnMut() -> bool) -> Duration {
    let begun = Instant::now();
    while !good() {
        assert!(begun.elapsed() < PATIENCE, "it never came");
    }
    begun.elapsed()
}

pub(crate) fn create(name: &str) -> Request {
    Request::post("/api/keys", format!(r#"{{"name":"{name}"}}"#))
}

pub(crate) fn encrypt(name: &str) -> Request {
    Request::post("/api/encrypt", format!(r#"{{"key":"{name}","plaintext":"aGVsbG8="}}"#))
}

pub(crate) fn decrypt(name: &str, ciphertext: &str) -> Request {
    Request::post("/api/decrypt", format!(r#"{{"key":"{name}","ciphertext":"{ciphertext}"}}"#))
}

pub(crate) fn owner_only(file: &std::path::Path) {
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(file, fs::Permissions::from_mode(0o600)).expect("its mode");
}

/// An authority, and certificate and key of etcd and of a client of it.
pub(crate) fn certificates(scratch: &Arc<Scratch>) -> (std::path::PathBuf, [std::path::PathBuf; 4]) {
    use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
    let mut params = CertificateParams::new(Vec::new()).expect("an authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().expect("a key");
    let authority = params.self_signed(&key).expect("a certificate").pem();
    let issuer = Issuer::new(params, key);
    let issue = |names: &[&str]| {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).expect("a certificate");
        // The gateway of etcd is a client of etcd, too.
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate().expect("a key");
        (params.signed_by(&key, &issuer).expect("a certificate").pem(), key.serialize_pem())
    };
    let (etcd, client) = (issue(&["localhost", "127.0.0.1"]), issue(&["quantonium"]));
    let write = |name: &str, text: &str| {
        let path = scratch.path(name);
        fs::write(&path, text).expect("a file");
        path
    };
    let files =
        [("etcd.pem", &etcd.0), ("etcd.key", &etcd.1), ("client.pem", &client.0), ("client.key", &client.1)];
    (write("ca.pem", &authority), files.map(|(name, text)| write(name, text)))
}
