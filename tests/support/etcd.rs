//! Starts a real etcd of one member on free ports of this machine, and ends it.
//!
//! Owns the process. Invariant: whatever happens to the test, the process ends; its data stays in the folder of the test.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use quantonium::broker::{Access, Endpoint};

use crate::server::skip;

/// A member of a cluster of its own.
pub(crate) struct Etcd {
    child: Option<Child>,
    folder: PathBuf,
    /// For its clients, and for its peers, of whom there are none.
    ports: (u16, u16),
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
            let mut etcd = Self { child: None, folder, ports: (free_port(), free_port()) };
            if etcd.run(&[]) {
                return Some(etcd);
            }
        }
        panic!("etcd does not start");
    }

    /// Starts it again on its ports with its data.
    pub(crate) fn run(&mut self, flags: &[&str]) -> bool {
        let url = |port: u16| format!("http://127.0.0.1:{port}");
        let (client, peer) = (url(self.ports.0), url(self.ports.1));
        fs::create_dir_all(&self.folder).expect("a folder");
        let log = fs::File::create(self.folder.join("log")).expect("a log");
        let mut command = Command::new("etcd");
        command.args(["--name", "one", "--data-dir"]).arg(self.folder.join("data"));
        command.args(["--listen-client-urls", &client, "--advertise-client-urls", &client]);
        command.args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer]);
        command.args(["--initial-cluster", &format!("one={peer}"), "--unsafe-no-fsync"]).args(flags);
        if !self.knows("--unsafe-no-fsync") {
            command = without(&command, "--unsafe-no-fsync");
        }
        command
            .env_clear()
            .stdin(Stdio::null())
            .stdout(Stdio::from(log.try_clone().expect("a log")))
            .stderr(log);
        let mut child = command.spawn().expect("etcd");
        loop {
            let access = quantonium::broker::Direct::new(self.access(), Box::new(|| {}));
            if is_ready(access) {
                self.child = Some(child);
                return true;
            }
            if child.try_wait().expect("its state").is_some() {
                return false;
            }
        }
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
        let address = ([127, 0, 0, 1], self.ports.0).into();
        Access::plain(vec![Endpoint { host: "localhost".to_owned(), address }])
    }

    /// Runs `etcdctl` and returns what it says; nothing if it fails.
    pub(crate) fn ctl(&self, words: &[&str]) -> Option<String> {
        let endpoint = format!("--endpoints=http://127.0.0.1:{}", self.ports.0);
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

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("its address").port()
}

impl Drop for Etcd {
    fn drop(&mut self) {
        self.kill();
    }
}
