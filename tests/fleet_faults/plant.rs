//! Three members of etcd and three servers, as processes: started, stopped, killed, and started again.
//!
//! Owns them, and what they wrote of themselves. Invariants: a server keeps its address and its data directory over all of its starts; whoever
//! has ended without being told to is written down as such; what they wrote is kept in the folder of the run.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::etcd::Etcd;
use crate::history::{History, What};
use crate::load::pause;
use crate::network::{Network, Node, is_loopback};
use crate::server::client::{Client, Reply, Request};
use crate::server::{Scratch, Server, binary};

const MASTER_KEY: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f\n";
/// What servers are told; the shortest there is.
pub(crate) const STALENESS: Duration = Duration::from_secs(10);
/// How long anything may take that has to come once everything was mended.
const PATIENCE: Duration = Duration::from_secs(300);
/// Between the starts of one and of the next one.
const BETWEEN: Duration = Duration::from_millis(150);
const AGAIN: Duration = Duration::from_millis(50);

/// A server over all of its starts.
pub(crate) struct Site {
    number: usize,
    scratch: Arc<Scratch>,
    running: Option<Server>,
    /// Whether its end is meant.
    doomed: bool,
    pub(crate) life: Arc<AtomicU64>,
}

/// All six.
pub(crate) struct Plant {
    pub(crate) network: Network,
    pub(crate) members: Vec<Etcd>,
    sites: Vec<Site>,
    master: PathBuf,
    folder: PathBuf,
    pub(crate) admin: String,
    _scratch: Arc<Scratch>,
}

impl Plant {
    /// All of them on a fresh store; what they write of themselves goes to `folder`. Says aloud if that cannot be had here.
    pub(crate) fn start(folder: &Path, history: &History) -> Option<Self> {
        binary()?;
        let scratch = Scratch::in_memory();
        let (network, members) = Network::start(&scratch.path("."))?;
        let master = scratch.path("master.key");
        fs::write(&master, MASTER_KEY).expect("a file");
        fs::set_permissions(&master, fs::Permissions::from_mode(0o600)).expect("its mode");
        let site = |number| Site {
            number,
            scratch: Scratch::in_memory(),
            running: None,
            doomed: false,
            life: Arc::new(AtomicU64::new(0)),
        };
        let sites = (0..3).map(site).collect();
        let folder = folder.to_owned();
        let mut plant =
            Self { network, members, sites, master, folder, admin: String::new(), _scratch: scratch };
        plant.start_server(0, &["--init"], history);
        plant.admin = plant.server(0).key().to_owned();
        plant.start_servers(&[1, 2], history);
        Some(plant)
    }

    pub(crate) fn server(&self, number: usize) -> &Server {
        self.sites[number].running.as_ref().expect("it runs")
    }

    pub(crate) fn life(&self, number: usize) -> Arc<AtomicU64> {
        Arc::clone(&self.sites[number].life)
    }

    fn command(&self, number: usize, more: &[&str]) -> Command {
        let address = self.network.address(number);
        let mut command = self.network.command(number, &binary().expect("looked at before"));
        command.arg("serve").arg("--data-dir").arg(self.sites[number].scratch.data_dir());
        command
            .arg(format!("--listen={address}"))
            .arg(format!("--master-key-file={}", self.master.display()));
        command.arg(format!("--store=etcd://{}/faults", self.network.endpoints(number)));
        command.arg(format!("--max-staleness={}", STALENESS.as_secs()));
        // Who knocks with what was revoked is to be asked who it is, each time.
        command.args(["--workers=1", "--no-console", "--address-rate-limit=0"]).args(more);
        if !is_loopback(address) {
            command.arg("--insecure-http");
        }
        command.env_clear();
        command
    }

    fn start_server(&mut self, number: usize, more: &[&str], history: &History) {
        let command = || self.command(number, more);
        let server = started(&command, &self.sites[number], history);
        self.sites[number].running = Some(server);
    }

    /// Starts these, the one after the other, and waits until all listen.
    fn start_servers(&mut self, numbers: &[usize], history: &History) {
        let plant: &Self = self;
        let started: Vec<(usize, Server)> = std::thread::scope(|scope| {
            let mut threads = Vec::new();
            for number in numbers {
                let command = move || plant.command(*number, &[]);
                threads
                    .push(scope.spawn(move || (*number, started(&command, &plant.sites[*number], history))));
                pause(BETWEEN);
            }
            threads.into_iter().map(|thread| thread.join().expect("a start")).collect()
        });
        for (number, server) in started {
            self.sites[number].running = Some(server);
            self.sites[number].doomed = false;
        }
    }

    /// The process that speaks to etcd for a server, if both live.
    pub(crate) fn broker(&self, number: usize) -> Option<Pid> {
        let pid = self.server(number).pid();
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
        children.split_whitespace().next()?.parse().ok().map(Pid::from_raw)
    }

    pub(crate) fn kill_broker(&mut self, number: usize) {
        let Some(broker) = self.broker(number) else { return };
        self.sites[number].doomed = true;
        // It may be gone with its server.
        let _ = kill(broker, Signal::SIGKILL);
    }

    /// Ends a server: at once, or when it has answered what it was asked.
    pub(crate) fn end(&mut self, number: usize, signal: Signal) {
        self.sites[number].doomed = true;
        self.server(number).signal(signal);
    }

    /// Has a server stand still, with its broker or without; what it has in hand waits.
    pub(crate) fn stop(&self, number: usize, with_broker: bool, history: &History) {
        let broker = self.broker(number).filter(|_| with_broker);
        let server = self.server(number);
        for pid in broker.into_iter().chain([pid_of(server)]) {
            kill(pid, Signal::SIGSTOP).expect("a signal");
        }
        let tasks = server.proc().join("task");
        assert!(crate::server::comes(|| all_stopped(&tasks)), "it stops");
        history.note(number, self.sites[number].life.load(Ordering::SeqCst), What::Stopped);
    }

    /// Has a server go on that stands still.
    pub(crate) fn go_on(&self, number: usize, history: &History) {
        history.note(number, self.sites[number].life.load(Ordering::SeqCst), What::Continued);
        for pid in [Some(pid_of(self.server(number))), self.broker(number)].into_iter().flatten() {
            let _ = kill(pid, Signal::SIGCONT);
        }
    }

    /// Undoes what was done to the network, and starts again who has ended or stands still, in this order.
    pub(crate) fn mend(&mut self, order: &[Node], history: &History) {
        self.network.mend();
        let mut ended = Vec::new();
        for node in order {
            match *node {
                Node::Member(number) => {
                    let member = &mut self.members[number];
                    if member.runs() {
                        member.signal(Signal::SIGCONT);
                    } else {
                        member.spawn(&[]);
                        pause(BETWEEN);
                    }
                }
                Node::Server(number) => {
                    let site = &mut self.sites[number];
                    let lives = site.running.as_mut().is_some_and(Server::is_alive);
                    if site.doomed || !lives {
                        site.retire(&self.folder, history);
                        ended.push(number);
                    }
                }
            }
        }
        self.start_servers(&ended, history);
    }

    /// Asks until the answer is good: after everything was mended that must come.
    pub(crate) fn eventually(
        &self,
        server: usize,
        request: impl Fn() -> Request,
        good: impl Fn(&Reply) -> bool,
    ) -> Reply {
        let begun = Instant::now();
        let mut last = None;
        while begun.elapsed() < PATIENCE {
            let client = Client::try_connect(self.network.address(server));
            last = client.ok().and_then(|mut client| client.attempt(&request().key(&self.admin)));
            if last.as_ref().is_some_and(&good) {
                return last.expect("it is good");
            }
            pause(AGAIN);
        }
        panic!("server {server}: {last:?}");
    }
}

impl Drop for Plant {
    fn drop(&mut self) {
        for site in &self.sites {
            site.keep_log(&self.folder);
        }
        for (number, member) in self.members.iter().enumerate() {
            let _ = fs::copy(member.log(), self.folder.join(format!("member-{number}.log")));
        }
        // Before their network goes.
        self.sites.clear();
        self.members.clear();
    }
}

impl Site {
    /// Waits for the end of a process that has ended or was told to, and writes down what it left.
    fn retire(&mut self, folder: &Path, history: &History) {
        self.keep_log(folder);
        let Some(server) = self.running.take() else { return };
        let ended = server.wait();
        let gone = What::Gone { exit: ended.code, meant: self.doomed };
        history.note(self.number, self.life.load(Ordering::SeqCst), gone);
    }

    /// Adds what the server wrote of itself to its file.
    fn keep_log(&self, folder: &Path) {
        let Some(server) = &self.running else { return };
        let path = folder.join(format!("server-{}.log", self.number));
        let file = fs::File::options().create(true).append(true).open(path);
        let life = self.life.load(Ordering::SeqCst);
        // What is not kept is missing where a failure is looked into, and nowhere else.
        let _ = file.and_then(|mut file| write!(file, "--- start {life}\n{}", server.told()));
    }
}

/// One that starts: an etcd that does not answer in time ends a start, which is begun again then.
fn started(command: &impl Fn() -> Command, site: &Site, history: &History) -> Server {
    let begun = Instant::now();
    loop {
        // Before it listens: who is connected to it finds this number or a later one.
        let life = site.life.fetch_add(1, Ordering::SeqCst) + 1;
        match Server::try_spawn(command(), &site.scratch, 1) {
            Ok(server) => return server,
            Err(ended) => {
                assert!(ended.code == Some(74) && begun.elapsed() < PATIENCE, "{ended:?}");
                history.note(site.number, life, What::Gone { exit: ended.code, meant: true });
            }
        }
    }
}

fn pid_of(server: &Server) -> Pid {
    Pid::from_raw(i32::try_from(server.pid()).expect("a number"))
}

/// Whether each thread of a process stands still.
fn all_stopped(tasks: &Path) -> bool {
    let stopped = |task: &Path| {
        let stat = fs::read_to_string(task.join("stat")).unwrap_or_default();
        stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('T'))
    };
    let Ok(tasks) = fs::read_dir(tasks) else { return false };
    tasks.flatten().all(|task| stopped(&task.path()))
}
