//! Starts the real binary on a free port with a fresh data directory, and ends it.
//!
//! Owns the process and its folder. Invariants: nothing of the caller's environment reaches the server; its streams
//! are always read, so that it never waits for us; whatever happens to the test, the process ends and the folder goes.

#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking, and says where")]
#![allow(clippy::print_stdout, reason = "a test that is skipped says so")]
#![allow(dead_code, reason = "included by several test files, none of which uses all of it")]

#[path = "client.rs"]
pub(crate) mod client;

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use client::{Client, Reply, Request};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// How a reason begins for which a test may be skipped even where skipping is not allowed.
pub(crate) const NO_MOUNT: &str = "no file system can be mounted here";

/// The same of control groups.
pub(crate) const NO_CONTROL_GROUP: &str = "no control group can be made here";

/// The same of network namespaces.
pub(crate) const NO_NETWORK: &str = "no network namespace can be made here";

/// How long is waited for what must come: far longer than any machine takes, so that only what never comes reaches it.
const PATIENCE: Duration = Duration::from_secs(120);

/// The time between two looks at what is waited for.
const BETWEEN_LOOKS: Duration = Duration::from_millis(1);

/// Looks again and again until it is so, for as long as a slow machine may take; returns whether it came to be so.
pub(crate) fn comes(mut is_so: impl FnMut() -> bool) -> bool {
    let begun = Instant::now();
    while !is_so() {
        if begun.elapsed() > PATIENCE {
            return false;
        }
        // Not at once: what is waited for needs the processor.
        std::thread::park_timeout(BETWEEN_LOOKS);
    }
    true
}

/// What stands in a file of lines to which a server still writes: a line that is being written is waited for.
pub(crate) fn read_lines(path: &Path) -> String {
    let mut text = String::new();
    let is_whole = comes(|| {
        text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        text.is_empty() || text.ends_with('\n')
    });
    assert!(is_whole, "{} ends inside a line", path.display());
    text
}

/// A port of loopback at which nobody listens, nor will for as long as this lives: it is bound, and no more.
#[derive(Debug)]
pub(crate) struct Closed(socket2::Socket);

impl Closed {
    /// Takes one.
    pub(crate) fn new() -> Self {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None);
        let socket = socket.expect("a socket");
        socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).expect("a free port");
        Self(socket)
    }

    /// Its address.
    pub(crate) fn address(&self) -> SocketAddr {
        self.0.local_addr().expect("an address").as_socket().expect("an address of the Internet")
    }
}

/// Says aloud that a test does not run here; fails it where skipping is not allowed.
pub(crate) fn skip(reason: &str) {
    // Whether a file system may be mounted, or a control group or a network namespace made, is not for this tree to say: that may be
    // missing anywhere.
    if [NO_MOUNT, NO_CONTROL_GROUP, NO_NETWORK].iter().any(|known| reason.starts_with(known)) {
        println!("skipped: {reason}");
        return;
    }
    let required = std::env::var_os("QUANTONIUM_REQUIRE").is_some_and(|value| value == "1");
    assert!(!required, "skipping is not allowed here: {reason}");
    println!("skipped: {reason}");
}

/// The binary under test; says aloud if there is none.
pub(crate) fn binary() -> Option<PathBuf> {
    let path = std::env::var_os("QUANTONIUM_BIN").map(PathBuf::from);
    if path.is_none() {
        skip("QUANTONIUM_BIN is not set");
    }
    path
}

/// The binary under test, to serve: behind the tracer that `QUANTONIUM_TRACER` names, if it does: a word on each line. That begins with the
/// whole path of a program, which takes the server's place as our child's name alone (`strace -D`): it stays our child.
pub(crate) fn program() -> Option<Command> {
    let binary = binary()?;
    let tracer = std::env::var("QUANTONIUM_TRACER").unwrap_or_default();
    let mut words = tracer.lines();
    let Some(first) = words.next() else { return Some(Command::new(binary)) };
    let mut command = Command::new(first);
    command.args(words).arg(binary);
    Some(command)
}

/// Has a server tell its log in the form for people, which tests look into, unless the test has said how.
pub(crate) fn read_by_people(command: &mut Command) {
    if !command.get_envs().any(|(name, _)| name == LOG_FORMAT) {
        command.env(LOG_FORMAT, "human");
    }
}

/// Has a server bear clients that are slow, unless the test has said how slow they may be: here they are so because the
/// machine has something else to do, and a time limit that nobody looks at must not be what a test meets.
fn bear_slow_clients(command: &mut Command) {
    let is_said = |words: &str| command.get_args().any(|word| word.to_string_lossy().starts_with(words));
    // The longest silence in a body is no longer than the whole of it.
    let limits = [
        ("HANDSHAKE", "--handshake-timeout"),
        ("HEAD", "--head-timeout"),
        ("BODY", "--body-timeout"),
        ("BODY_GAP", "--body-"),
        ("IDLE", "--idle-timeout"),
        ("WRITE", "--write-timeout"),
    ];
    let unsaid: Vec<&str> =
        limits.iter().filter(|(_, flag)| !is_said(flag)).map(|(limit, _)| *limit).collect();
    for limit in unsaid {
        command.env(format!("QUANTONIUM_{limit}_TIMEOUT_MS"), "60000");
    }
}

/// An address that is free, with a port that the kernel hands out to nobody who has not asked for it: it stays free while
/// a server ends and another one starts.
pub(crate) fn free_address() -> SocketAddr {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let range = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let first: u32 = range.split_whitespace().next().and_then(|first| first.parse().ok()).unwrap_or(32_768);
    let count = first.saturating_sub(10_000);
    let own = std::process::id() % 1_000 * 16 + NEXT.fetch_add(1, Ordering::Relaxed);
    let candidates = (0..count).filter_map(|step| u16::try_from(10_000 + (own + step) % count).ok());
    // Where there is no such port, one that is likely to stay free.
    let bound = candidates.chain([0]).find_map(|port| TcpListener::bind(("127.0.0.1", port)).ok());
    bound.and_then(|bound| bound.local_addr().ok()).expect("a free port")
}

/// Names the form of the log.
pub(crate) const LOG_FORMAT: &str = "QUANTONIUM_LOG_FORMAT";

/// Puts a copy of a program where every user can execute it.
///
/// Another process writes it: a file that this one writes could still be open in a child that another test has just forked, and
/// what is open for writing is not executed (ETXTBSY).
pub(crate) fn copy_program(from: &Path, to: &Path) {
    assert!(Command::new("cp").args([from, to]).status().expect("cp").success(), "cp {}", from.display());
    fs::set_permissions(to, fs::Permissions::from_mode(0o755)).expect("a mode");
}

/// Runs `quantonium` with these words and with the data directory of `--dev`; returns what it left.
pub(crate) fn command(words: &[&str], data_dir: &Path) -> Option<Ended> {
    let mut command = Command::new(binary()?);
    command.args(words).arg("--data-dir").arg(data_dir).env_clear().stdin(Stdio::null());
    read_by_people(&mut command);
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Some(Ended {
        code: output.status.code(),
        signal: output.status.signal(),
        stdout: text(output.stdout),
        stderr: text(output.stderr),
    })
}

/// Asserts that `quantonium store verify` finds nothing wrong in a data directory of `--dev`.
pub(crate) fn assert_sound(data_dir: &Path) {
    let verified = command(&["store", "verify"], data_dir).expect("the binary");
    assert_eq!(verified.code, Some(0), "{verified:?}");
}

/// A folder of a test, removed when the test is done with it.
#[derive(Debug)]
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    /// Makes an empty one.
    pub(crate) fn new() -> Arc<Self> {
        Self::new_in(&std::env::temp_dir())
    }

    /// Makes an empty one in memory, if there is a place for that: what ends with a process needs no disk.
    pub(crate) fn in_memory() -> Arc<Self> {
        let memory = Path::new("/dev/shm");
        if memory.is_dir() { Self::new_in(memory) } else { Self::new() }
    }

    /// Makes an empty one in this directory.
    pub(crate) fn new_in(parent: &Path) -> Arc<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = parent.join(format!("quantonium-test-{}-{number}", std::process::id()));
        // What stands there under this process's number is left over from another process.
        let _ = fs::remove_dir_all(&path);
        fs::create_dir(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        Arc::new(Self(path))
    }

    /// Takes an existing one, whose content goes with it.
    pub(crate) fn at(path: PathBuf) -> Arc<Self> {
        Arc::new(Self(path))
    }

    /// Makes one with a copy of another one's data directory.
    pub(crate) fn copy_of(other: &Self) -> Arc<Self> {
        let made = Self::new_in(other.0.parent().expect("a parent"));
        let copied = Command::new("cp").arg("-a").arg(other.data_dir()).arg(made.data_dir()).status();
        assert!(copied.is_ok_and(|status| status.success()), "cp -a");
        made
    }

    /// The path of `name` in it.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// The data directory of servers that are started in it.
    pub(crate) fn data_dir(&self) -> PathBuf {
        self.path("data")
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// What a server left behind.
#[derive(Debug)]
pub(crate) struct Ended {
    /// Its exit code; nothing if a signal ended it.
    pub(crate) code: Option<i32>,
    /// The signal that ended it, if one did.
    pub(crate) signal: Option<i32>,
    /// All of its standard output.
    pub(crate) stdout: String,
    /// All of its standard error.
    pub(crate) stderr: String,
}

/// A running server.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    stdout: Option<BufReader<ChildStdout>>,
    stdout_read: String,
    stderr: Option<JoinHandle<()>>,
    told: Arc<Mutex<Vec<u8>>>,
    addresses: Vec<SocketAddr>,
    key: String,
    scratch: Arc<Scratch>,
}

impl Server {
    /// Starts one with these flags of `serve` in a fresh folder; nothing where no binary is given.
    pub(crate) fn start(flags: &[&str]) -> Option<Self> {
        Self::start_in(&Scratch::new(), flags)
    }

    /// Starts one in this folder: on port 0 of loopback unless the flags say where, for development unless they name
    /// a master key, and ready when this returns.
    pub(crate) fn start_in(scratch: &Arc<Scratch>, flags: &[&str]) -> Option<Self> {
        let started = Self::try_start_in(scratch, flags)?;
        Some(started.unwrap_or_else(|ended| panic!("the server ended before it listened: {ended:?}")))
    }

    /// The same of a server that may end before it listens.
    pub(crate) fn try_start_in(scratch: &Arc<Scratch>, flags: &[&str]) -> Option<Result<Self, Ended>> {
        let mut command = program()?;
        command.arg("serve").arg("--data-dir").arg(scratch.data_dir());
        let listens = flags.iter().filter(|flag| flag.starts_with("--listen")).count();
        if listens == 0 {
            command.args(["--listen", "127.0.0.1:0"]);
        }
        if !flags.iter().any(|flag| flag.starts_with("--master-key-file") || *flag == "--dev") {
            command.arg("--dev");
        }
        command.args(flags).env_clear();
        let redirects = flags.iter().filter(|flag| flag.starts_with("--redirect-listen")).count();
        Some(Self::try_spawn(command, scratch, listens.max(1) + redirects))
    }

    /// Starts what `command` says, which announces `listens` addresses.
    ///
    /// # Panics
    /// It ends before it listens; its standard error is shown.
    pub(crate) fn spawn(command: Command, scratch: &Arc<Scratch>, listens: usize) -> Self {
        let started = Self::try_spawn(command, scratch, listens);
        started.unwrap_or_else(|ended| panic!("the server ended before it listened: {ended:?}"))
    }

    /// The same of a server that may end before it listens.
    pub(crate) fn try_spawn(command: Command, scratch: &Arc<Scratch>, listens: usize) -> Result<Self, Ended> {
        Self::try_spawn_by(Command::spawn, command, scratch, listens)
    }

    /// The same, started by `spawn`.
    pub(crate) fn try_spawn_by(
        spawn: impl FnOnce(&mut Command) -> std::io::Result<Child>,
        mut command: Command,
        scratch: &Arc<Scratch>,
        listens: usize,
    ) -> Result<Self, Ended> {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        read_by_people(&mut command);
        bear_slow_clients(&mut command);
        let mut child = spawn(&mut command).unwrap_or_else(|error| panic!("{command:?}: {error}"));
        // None if `spawn` has led it elsewhere.
        let told = Arc::new(Mutex::new(Vec::new()));
        let stderr = child.stderr.take().map(|mut stderr| {
            let told = Arc::clone(&told);
            std::thread::spawn(move || {
                let mut piece = [0; 4096];
                // What was read before an error is what there is to show.
                while let Ok(read @ 1..) = stderr.read(&mut piece) {
                    told.lock()
                        .expect("nobody panics with it")
                        .extend_from_slice(piece.get(..read).unwrap_or_default());
                }
            })
        });
        let stdout = child.stdout.take().map(BufReader::new);
        let mut server = Self {
            child,
            stdout,
            stdout_read: String::new(),
            stderr,
            told,
            addresses: Vec::new(),
            key: String::new(),
            scratch: Arc::clone(scratch),
        };
        for _ in 0..listens {
            let line = server.try_line_with("listening on http")?;
            let address = line.split("://").nth(1).unwrap_or_default().trim_end();
            let address = address.parse().unwrap_or_else(|error| panic!("{line:?}: {error}"));
            server.addresses.push(address);
        }
        server.key = server.find_key();
        Ok(server)
    }

    /// The admin key: in its file, or shown, or not known.
    fn find_key(&self) -> String {
        let kept = fs::read_to_string(self.scratch.data_dir().join("admin.key"));
        let shown = || self.stdout_read.split("nothing else keeps it): ").nth(1)?.lines().next();
        kept.map_or_else(|_| shown().unwrap_or_default().to_owned(), |kept| kept.trim_end().to_owned())
    }

    /// The next line of standard output that begins with `start`.
    pub(crate) fn line_with(&mut self, start: &str) -> String {
        let line = self.try_line_with(start);
        line.unwrap_or_else(|ended| panic!("the server ended before it said {start:?}: {ended:?}"))
    }

    fn try_line_with(&mut self, start: &str) -> Result<String, Ended> {
        loop {
            let mut line = String::new();
            let stdout = self.stdout.as_mut().expect("standard output");
            if stdout.read_line(&mut line).expect("a line of standard output") == 0 {
                return Err(self.collect());
            }
            self.stdout_read.push_str(&line);
            if line.starts_with(start) {
                return Ok(line);
            }
        }
    }

    /// The first address that it listens on.
    pub(crate) fn address(&self) -> SocketAddr {
        *self.addresses.first().expect("an address")
    }

    /// Every address, in the order of the flags.
    pub(crate) fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// The admin API key.
    pub(crate) fn key(&self) -> &str {
        &self.key
    }

    /// The folder that it was started in.
    pub(crate) fn scratch(&self) -> &Arc<Scratch> {
        &self.scratch
    }

    /// Its data directory.
    pub(crate) fn data_dir(&self) -> PathBuf {
        self.scratch.data_dir()
    }

    /// The process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its folder in /proc.
    pub(crate) fn proc(&self) -> PathBuf {
        Path::new("/proc").join(self.pid().to_string())
    }

    /// Whether the process has not ended.
    pub(crate) fn is_alive(&mut self) -> bool {
        self.child.try_wait().expect("the process's state").is_none()
    }

    /// Opens a connection to this address of its own.
    pub(crate) fn connect_to(&self, number: usize) -> Client {
        Client::connect(*self.addresses.get(number).expect("an address"))
    }

    /// Opens a connection.
    pub(crate) fn connect(&self) -> Client {
        Client::connect(self.address())
    }

    /// Sends a request, as it is, on a connection of its own.
    pub(crate) fn call(&self, request: &Request) -> Reply {
        self.connect().call(request)
    }

    /// Sends a request with the admin key on a connection of its own.
    pub(crate) fn ask(&self, request: Request) -> Reply {
        self.call(&request.key(&self.key))
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.pid()).expect("a process number");
        kill(Pid::from_raw(pid), signal).expect("a signal");
    }

    /// Lets it open descriptors up to this number, which its own user may do; says whether that can be done here.
    pub(crate) fn limit_descriptors(&self, count: u64) -> bool {
        let mut command = if nix::unistd::geteuid().is_root() {
            let mut command = Command::new("setpriv");
            let id = quantonium::limits::IDENTITY_DEFAULT_NUMBER;
            command.args([&format!("--reuid={id}"), &format!("--regid={id}"), "--clear-groups", "prlimit"]);
            command
        } else {
            Command::new("prlimit")
        };
        command.args(["--pid", &self.pid().to_string(), &format!("--nofile={count}:")]);
        command.status().is_ok_and(|status| status.success())
    }

    /// Ends it with SIGTERM and returns what it left.
    pub(crate) fn stop(mut self) -> Ended {
        self.signal(Signal::SIGTERM);
        self.collect()
    }

    /// Waits for its end and returns what it left.
    pub(crate) fn wait(mut self) -> Ended {
        self.collect()
    }

    /// What it wrote to standard error until now.
    pub(crate) fn told(&self) -> String {
        String::from_utf8_lossy(&self.told.lock().expect("nobody panics with it")).into_owned()
    }

    fn collect(&mut self) -> Ended {
        let mut stdout = core::mem::take(&mut self.stdout_read);
        if let Some(mut rest) = self.stdout.take() {
            rest.read_to_string(&mut stdout).expect("standard output is text");
        }
        let status = self.child.wait().expect("the process's end");
        if let Some(reader) = self.stderr.take() {
            reader.join().expect("the reader of standard error");
        }
        Ended { code: status.code(), signal: status.signal(), stdout, stderr: self.told() }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Both fail if it has ended already, and then nothing is left to do.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
