//! Starts a real etcd of one member on free ports of this machine, and ends it.
//!
//! Owns the process. Invariant: whatever happens to the test, the process ends; its data stays in the folder of the test.

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use quantonium::broker::{Access, Endpoint};

use crate::server::skip;

/// Members of a cluster hold no election because a machine stands still for a while.
pub(crate) const PATIENT: &[&str] = &["--heartbeat-interval=250", "--election-timeout=2500"];

/// Where ports are taken from.
const PORTS: Range<u16> = 20_000..30_000;

/// Where a member runs.
pub(crate) struct Site {
    /// Its address.
    pub(crate) host: Ipv4Addr,
    /// What comes before its command: how it gets there.
    pub(crate) before: Vec<String>,
    /// Its ports, if they are its own already.
    pub(crate) ports: Option<(u16, u16)>,
}

impl Site {
    /// On this machine, beside others.
    fn here() -> Self {
        Self { host: Ipv4Addr::LOCALHOST, before: Vec::new(), ports: None }
    }
}

/// A member of a cluster, of its own unless it was started with others.
pub(crate) struct Etcd {
    child: Option<Child>,
    host: Ipv4Addr,
    before: Vec<String>,
    folder: PathBuf,
    name: String,
    /// For its clients, and for its peers.
    ports: (u16, u16),
    /// All members, as they are told of them.
    members: String,
    /// Its certificate, its key and whom it takes for a client, if it speaks TLS.
    tls: Option<[PathBuf; 3]>,
}

impl Etcd {
    /// Starts one with its data in `folder`; says aloud if there is no etcd here.
    pub(crate) fn start(folder: &Path) -> Option<Self> {
        if Command::new("etcd").arg("--version").output().is_err() {
            skip("etcd is not installed (apt-get install --no-install-recommends etcd-server etcd-client)");
            return None;
        }
        // A port that is free now may be taken before it is used: then another one is tried.
        for number in 0..20 {
            let folder = folder.join(format!("etcd-{number}"));
            let ports = (free_port(), free_port());
            let members = format!("one=http://127.0.0.1:{}", ports.1);
            let Site { host, before, .. } = Site::here();
            let name = "one".to_owned();
            let mut etcd = Self { child: None, host, before, folder, name, ports, members, tls: None };
            if etcd.run(&[]) {
                return Some(etcd);
            }
        }
        panic!("etcd does not start");
    }

    /// Starts one that speaks TLS to its clients, and asks for their certificates.
    pub(crate) fn start_secure(folder: &Path, tls: [PathBuf; 3]) -> Option<Self> {
        let mut etcd = Self::start(folder)?;
        etcd.kill();
        etcd.tls = Some(tls);
        etcd.spawn(&[]);
        // Whoever asks it in the clear is told so: until then it does not listen.
        let address = ("127.0.0.1", etcd.ports.0);
        while std::net::TcpStream::connect(address).is_err() {
            assert!(etcd.child.as_mut().expect("a process").try_wait().expect("its state").is_none());
        }
        Some(etcd)
    }

    /// Starts three members of one cluster.
    pub(crate) fn start_three(folder: &Path) -> Option<Vec<Self>> {
        Self::start_three_at(folder, &[Site::here(), Site::here(), Site::here()], PATIENT)
    }

    /// The same at these places, with further `flags`.
    pub(crate) fn start_three_at(folder: &Path, sites: &[Site; 3], flags: &[&str]) -> Option<Vec<Self>> {
        if Command::new("etcd").arg("--version").output().is_err() {
            skip("etcd is not installed (apt-get install --no-install-recommends etcd-server etcd-client)");
            return None;
        }
        for number in 0..20 {
            let names = ["one", "two", "three"];
            let ports = sites.each_ref().map(|site| site.ports.unwrap_or_else(|| (free_port(), free_port())));
            let member = |((name, site), (_, peer)): ((&&str, &Site), &(u16, u16))| {
                format!("{name}=http://{}:{peer}", site.host)
            };
            let members = names.iter().zip(sites).zip(&ports).map(member).collect::<Vec<_>>().join(",");
            let mut all: Vec<Self> = names
                .iter()
                .zip(sites)
                .zip(ports)
                .map(|((name, site), ports)| Self {
                    child: None,
                    host: site.host,
                    before: site.before.clone(),
                    folder: folder.join(format!("etcd-{number}-{name}")),
                    name: (*name).to_owned(),
                    ports,
                    members: members.clone(),
                    tls: None,
                })
                .collect();
            all.iter_mut().for_each(|member| member.spawn(flags));
            if all.iter_mut().all(Self::is_up) {
                return Some(all);
            }
        }
        panic!("etcd does not start");
    }

    /// Starts it again on its ports with its data, and waits until it answers.
    pub(crate) fn run(&mut self, flags: &[&str]) -> bool {
        self.spawn(flags);
        self.is_up()
    }

    /// Starts it again.
    pub(crate) fn spawn(&mut self, flags: &[&str]) {
        let url = |port: u16| format!("http://{}:{port}", self.host);
        let (mut client, peer) = (url(self.ports.0), url(self.ports.1));
        if self.tls.is_some() {
            client = client.replace("http:", "https:");
        }
        fs::create_dir_all(&self.folder).expect("a folder");
        let log = fs::File::options().create(true).append(true).open(self.log()).expect("a log");
        let mut words = self.before.iter().map(String::as_str).chain(["etcd"]);
        let mut command = Command::new(words.next().expect("a word"));
        command.args(words);
        command.args(["--name", &self.name, "--data-dir"]).arg(self.folder.join("data"));
        command.args(["--listen-client-urls", &client, "--advertise-client-urls", &client]);
        command.args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer]);
        command.args(["--initial-cluster", &self.members, "--unsafe-no-fsync"]).args(flags);
        if let Some([certificate, key, clients]) = &self.tls {
            command.arg("--cert-file").arg(certificate).arg("--key-file").arg(key);
            command.arg("--client-cert-auth").arg("--trusted-ca-file").arg(clients);
        }
        if !self.knows("--unsafe-no-fsync") {
            command = without(&command, "--unsafe-no-fsync");
        }
        command
            .env_clear()
            .stdin(Stdio::null())
            .stdout(Stdio::from(log.try_clone().expect("a log")))
            .stderr(log);
        self.child = Some(command.spawn().expect("etcd"));
    }

    /// Waits until it answers; whether it did not end instead.
    fn is_up(&mut self) -> bool {
        loop {
            if is_ready(quantonium::broker::Direct::new(self.access(), Box::new(|| {}))) {
                return true;
            }
            let child = self.child.as_mut().expect("a process");
            if child.try_wait().expect("its state").is_some() {
                self.child = None;
                return false;
            }
        }
    }

    /// Where it writes what it does.
    pub(crate) fn log(&self) -> PathBuf {
        self.folder.join("log")
    }

    /// Whether it runs.
    pub(crate) fn runs(&self) -> bool {
        self.child.is_some()
    }

    /// Whether it leads, as it says.
    pub(crate) fn leads(&self) -> bool {
        let status = self.ctl(&["endpoint", "status", "-w", "fields"]).unwrap_or_default();
        let field = |name: &str| {
            let line = status.lines().find(|line| line.starts_with(name))?;
            line.split(':').nth(1).map(|value| value.trim().to_owned())
        };
        field("\"MemberID\"").is_some_and(|id| field("\"Leader\"") == Some(id))
    }

    pub(crate) fn port(&self) -> u16 {
        self.ports.0
    }

    fn knows(&self, flag: &str) -> bool {
        let help = Command::new("etcd").arg("--help").output().expect("etcd --help");
        let text = [help.stdout, help.stderr].concat();
        String::from_utf8_lossy(&text).contains(flag.trim_start_matches('-'))
    }

    /// The URL of a store in it.
    pub(crate) fn store(&self, prefix: &str) -> String {
        format!("--store=etcd://127.0.0.1:{}/{prefix}", self.ports.0)
    }

    pub(crate) fn access(&self) -> Access {
        let address = (self.host, self.ports.0).into();
        Access::plain(vec![Endpoint { host: "localhost".to_owned(), address }])
    }

    /// Runs `etcdctl` and returns what it says; nothing if it fails.
    pub(crate) fn ctl(&self, words: &[&str]) -> Option<String> {
        let endpoint = format!("--endpoints=http://{}:{}", self.host, self.ports.0);
        let mut command = Command::new("etcdctl");
        command.env_clear().env("ETCDCTL_API", "3").arg(endpoint).args(words);
        let output = command.output().expect("etcdctl");
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let child = self.child.as_ref().expect("a process");
        kill(Pid::from_raw(i32::try_from(child.id()).expect("a number")), signal).expect("a signal");
    }

    /// Ends it at once.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Puts back what a backup holds (`etcdctl snapshot save`), and starts on that.
    pub(crate) fn restore(&mut self, backup: &Path) {
        self.kill();
        let data = self.folder.join("data");
        fs::remove_dir_all(&data).expect("its data");
        let peer = format!("http://127.0.0.1:{}", self.ports.1);
        let mut command = Command::new("etcdctl");
        command.env_clear().env("ETCDCTL_API", "3").args(["snapshot", "restore"]).arg(backup);
        command.args(["--name", "one", "--initial-cluster", &format!("one={peer}")]);
        command.args(["--initial-advertise-peer-urls", &peer, "--data-dir"]).arg(&data);
        assert!(command.output().expect("etcdctl").status.success());
        assert!(self.run(&[]));
    }
}

fn is_ready(mut link: quantonium::broker::Direct) -> bool {
    use quantonium::store::etcd::link::{Link as _, Span};
    link.read(&Span { from: b"ready".to_vec(), to: Vec::new(), at: 0 }).is_ok()
}

fn without(command: &Command, flag: &str) -> Command {
    let mut other = Command::new(command.get_program());
    other.args(command.get_args().filter(|arg| *arg != flag));
    other
}

/// A port that nobody has, nor gets by asking for any, also while a member of it stands still: it is below those that the
/// system gives out (`ip_local_port_range`).
fn free_port() -> u16 {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let mut tried = (0..PORTS.len()).map(|_| {
        let number = std::process::id().wrapping_mul(97).wrapping_add(COUNT.fetch_add(1, Ordering::Relaxed));
        PORTS.start + u16::try_from(number % u32::from(PORTS.end - PORTS.start)).expect("a port")
    });
    tried.find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok()).expect("a free port")
}

impl Drop for Etcd {
    fn drop(&mut self) {
        self.kill();
    }
}
