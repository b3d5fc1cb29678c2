//! What the children do. Each ends with [`SURVIVED`] if it came to its end.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::net::TcpListener;
use std::os::fd::{AsFd as _, AsRawFd as _, IntoRawFd as _, OwnedFd};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;

use mio::{Events, Interest, Poll, Token, Waker};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{Gid, Uid, setgroups, setresgid, setresuid};
use quantonium::limits::{self, ARENA_GRAIN_BYTES};
use quantonium::memory;
use quantonium::model::{Mode, Outcome};
use quantonium::sandbox::confinement::{Confined, Reach};
use quantonium::sandbox::directories::Held;
use quantonium::sandbox::namespaces::Starter;
use quantonium::sandbox::probe::{Kind, kind_of};
use quantonium::sandbox::seccomp::{Role, enter};
use quantonium::sandbox::watch::Watch;
use quantonium::sandbox::{EXIT_CODE, Plan, confinement, descriptors, lock_down, namespaces, rlimits};
use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::{SURVIVED, calls};

pub(crate) fn run(task: &str) -> ! {
    // A killed child leaves no core file in the working directory.
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) }).unwrap();
    let words: Vec<&str> = task.split(' ').collect();
    match words[..] {
        ["forbidden", role, name] => make_forbidden(role_named(role), name, true),
        ["unfiltered", role, name] => make_forbidden(role_named(role), name, false),
        ["allowed", role] => make_allowed(role_named(role)),
        ["broken", "broker", name] => calls::break_out_of_broker(name),
        ["broker"] => calls::connect_as_broker(),
        ["serve"] => serve(),
        ["root"] => report_lock_down(),
        ["ordinary"] => {
            become_ordinary();
            report_lock_down();
        }
        ["namespace"] => {
            become_ordinary();
            let entered = namespaces::enter_user(Mode::Auto, Starter::Anybody, false).unwrap();
            println!("sandbox: entered: {entered}");
            report_lock_down_of(&Plan { user_namespace: entered, ..Plan::new().unwrap() });
        }
        ["mode", name] => {
            let mode =
                [Mode::Auto, Mode::Strict, Mode::Container].into_iter().find(|mode| mode.name() == name);
            report_lock_down_of(&Plan {
                mode: mode.unwrap(),
                key_memory: Outcome::Done,
                ..Plan::new().unwrap()
            });
        }
        ["container"] => {
            // As little as tells a container from the host.
            unshare(CloneFlags::CLONE_NEWIPC | CloneFlags::CLONE_NEWUTS).unwrap();
            become_ordinary();
            report_lock_down_of(&Plan {
                mode: Mode::Container,
                key_memory: Outcome::Done,
                user_namespace: namespaces::enter_user(Mode::Container, Starter::Anybody, false).unwrap(),
                ..Plan::new().unwrap()
            });
        }
        ["regain", layers] => regain(layers == "filtered", false),
        ["regain", "as-user", layers] => regain(layers == "filtered", true),
        ["lead", layers] => lead_out(layers),
        ["descriptors"] => check_descriptors(),
        ["inherited"] => check_inherited(),
        ["landlock"] => check_landlock(),
        ["unkept"] => check_unkept(),
        _ => panic!("no task {task:?}"),
    }
    calls::exit_at_once(SURVIVED)
}

fn role_named(name: &str) -> Role {
    Role::ALL.into_iter().find(|role| role.name() == name).unwrap()
}

fn make_forbidden(role: Role, name: &str, filtered: bool) -> ! {
    let calls = calls::forbidden(role);
    let call = calls.iter().find(|call| call.name == name).unwrap();
    if filtered {
        enter(role).unwrap();
    }
    call.make();
    calls::exit_at_once(SURVIVED)
}

fn make_allowed(role: Role) {
    let calls = calls::allowed(role);
    close_heap();
    enter(role).unwrap();
    for call in &calls {
        // What the kernel answers does not matter, most descriptors are closed: it must be asked.
        call.make();
    }
    if role == Role::Main {
        println!("{}: {} allowed calls passed", role.name(), calls.len());
    }
}

/// As in the program: what is allocated from here on makes no system call.
fn close_heap() {
    memory::close(64 * ARENA_GRAIN_BYTES, 0, 0).unwrap();
}

/// Counts the threads that are under their filter.
#[derive(Default)]
struct Filtered(Mutex<usize>, Condvar);

impl Filtered {
    fn announce(&self) {
        *self.0.lock().unwrap() += 1;
        self.1.notify_one();
    }

    fn await_count(&self, count: usize) {
        drop(self.1.wait_while(self.0.lock().unwrap(), |reached| *reached < count).unwrap());
    }
}

/// The server in small, with the real order of the start: descriptors in their bands, the lock-down, threads
/// that enter their filters, the main thread last.
fn serve() -> ! {
    descriptors::close_inherited(&[]).unwrap();
    rlimits::raise_descriptors().unwrap();
    let mut plan = Plan::new().unwrap();
    let (epoll, event) = (limits::FD_EPOLL_FIRST_NUMBER, limits::FD_EVENT_FIRST_NUMBER);
    let main_poll = descriptors::create_at(epoll + 1, Poll::new).unwrap();
    let main_waker =
        Arc::new(descriptors::create_at(event + 1, || Waker::new(main_poll.registry(), Token(0))).unwrap());
    let worker_poll = descriptors::create_at(epoll, Poll::new).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let port = listener.local_addr().unwrap().port();
    let listener: OwnedFd = listener.into();
    let (first, last) = (limits::FD_LISTENER_FIRST_NUMBER, limits::FD_LISTENER_LAST_NUMBER);
    let listener = TcpListener::from(descriptors::place(listener, first, last).unwrap());
    let audit = scratch_file(limits::FD_AUDIT_FIRST_NUMBER);
    let journal = scratch_file(limits::FD_JOURNAL_NUMBER);
    let _fillers = descriptors::fill_below(limits::FD_CONNECTION_FIRST_NUMBER).unwrap();
    close_heap();
    lock_down(&plan, Held::default()).unwrap();

    let filtered = Arc::new(Filtered::default());
    let (counted, waker) = (Arc::clone(&filtered), Arc::clone(&main_waker));
    thread::spawn(move || work(worker_poll, listener, &audit, &counted, &waker));
    let counted = Arc::clone(&filtered);
    thread::spawn(move || keep(&journal, &counted));
    filtered.await_count(2);
    let statuses = plan.witness.other_threads(usize::MAX).unwrap();
    plan.witness.confirm_threads(&statuses, 2).unwrap();
    assert!(plan.witness.confirm_threads(&statuses, 3).is_err());
    assert!(plan.witness.confirm_threads(&statuses[1..], 1).is_err(), "there is one more");
    watch(main_poll, plan, port)
}

/// A file without a name at the given number.
fn scratch_file(number: i32) -> File {
    let path = std::env::temp_dir().join(format!("quantonium-sandbox-{}-{number}", std::process::id()));
    let file = descriptors::create_at(number, || File::create(&path)).unwrap();
    std::fs::remove_file(path).unwrap();
    assert_eq!(file.as_raw_fd(), number);
    file
}

fn work(mut poll: Poll, listener: TcpListener, mut audit: &File, filtered: &Filtered, done: &Waker) -> ! {
    enter(Role::Worker).unwrap();
    filtered.announce();
    let mut listener = mio::net::TcpListener::from_std(listener);
    poll.registry().register(&mut listener, Token(0), Interest::READABLE).unwrap();
    let mut events = Events::with_capacity(4);
    let mut connection = None;
    let mut bytes = vec![0; 400_000];
    loop {
        poll.poll(&mut events, None).unwrap();
        if connection.is_none() {
            let Ok((mut accepted, _)) = listener.accept() else { continue };
            assert!(accepted.as_raw_fd() >= limits::FD_CONNECTION_FIRST_NUMBER);
            let both = Interest::READABLE | Interest::WRITABLE;
            poll.registry().register(&mut accepted, Token(1), both).unwrap();
            connection = Some(accepted);
        }
        // What was sent and its end may come with one event, after which none follows: it is read until nothing is left.
        while let Some(open) = connection.as_mut() {
            match open.read(&mut bytes) {
                Ok(0) => {
                    open.shutdown(std::net::Shutdown::Write).unwrap();
                    audit.write_all(b"served\n").unwrap();
                    drop_connection(connection.take());
                    done.wake().unwrap();
                }
                Ok(count) => open.write_all(&bytes[..count]).unwrap(),
                Err(error) => {
                    assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
                    break;
                }
            }
        }
    }
}

/// Closes by system call. Built with debug assertions, dropping would have the standard library ask for the
/// descriptor's flags first, which a release build does not and no filter allows.
fn drop_connection(connection: Option<mio::net::TcpStream>) {
    nix::unistd::close(connection.unwrap().into_raw_fd()).unwrap();
}

fn keep(mut journal: &File, filtered: &Filtered) -> ! {
    enter(Role::Keeper).unwrap();
    journal.write_all(b"frame").unwrap();
    journal.sync_data().unwrap();
    filtered.announce();
    loop {
        thread::park();
    }
}

fn watch(mut poll: Poll, mut plan: Plan, port: u16) -> ! {
    plan.witness.close_threads().unwrap();
    assert!(plan.witness.other_threads(1).is_err(), "the directory is given up");
    let mut events = Events::with_capacity(4);
    enter(Role::Main).unwrap();
    plan.witness.confirm_main().unwrap();
    println!("{port}");
    poll.poll(&mut events, None).unwrap();
    calls::exit_at_once(SURVIVED)
}

/// Confines itself to a directory and tries what is inside and what is outside.
fn check_landlock() {
    let outside = std::env::temp_dir().join(format!("quantonium-landlock-{}", std::process::id()));
    let inside = outside.join("audit");
    std::fs::create_dir_all(&inside).unwrap();
    std::fs::write(outside.join("secret"), "not yours").unwrap();
    std::fs::write(inside.join("old"), "a line").unwrap();
    std::os::unix::fs::symlink("../secret", inside.join("link")).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let directory = File::open(&inside).unwrap();
    become_ordinary_in(&outside);
    let reach = Reach::Files { directory: directory.as_fd(), readable: &[] };
    let Confined { outcome, abi } = confinement::confine(&reach).unwrap();
    println!("landlock {abi}: {outcome}");
    let tried = || -> Vec<(&str, Option<io::ErrorKind>)> {
        let kind = |result: io::Result<()>| result.err().map(|error| error.kind());
        let made = File::options().create_new(true).append(true).open(inside.join("new"));
        let connected = std::net::TcpStream::connect(listener.local_addr().unwrap());
        vec![
            ("make inside", kind(made.and_then(|mut file| file.write_all(b"x")))),
            ("read inside", kind(std::fs::read(inside.join("old")).map(drop))),
            ("remove inside", kind(std::fs::remove_file(inside.join("old")))),
            ("list inside", kind(std::fs::read_dir(&inside).map(drop))),
            ("directory inside", kind(std::fs::create_dir(inside.join("directory")))),
            ("link inside", kind(std::os::unix::fs::symlink("old", inside.join("other")))),
            ("read outside", kind(std::fs::read(outside.join("secret")).map(drop))),
            ("read outside by a link", kind(std::fs::read(inside.join("link")).map(drop))),
            ("read beside", kind(std::fs::read("/proc/self/status").map(drop))),
            ("write outside", kind(std::fs::write(outside.join("secret"), ""))),
            ("make outside", kind(File::create(outside.join("made")).map(drop))),
            ("remove outside", kind(std::fs::remove_file(outside.join("secret")))),
            ("move outside", kind(std::fs::rename(inside.join("new"), outside.join("moved")))),
            ("connect", kind(connected.map(drop))),
        ]
    };
    // A thread that was there before is not confined: it cleans up.
    for (what, error) in tried() {
        println!("{what}: {}", error.map_or_else(|| "done".to_owned(), |error| error.to_string()));
    }
}

/// Gives the folder to an ordinary user and becomes it, where this is root: root may do more than rules say nowhere, but
/// the server is not root either.
fn become_ordinary_in(folder: &std::path::Path) {
    chown_to_ordinary(folder);
    become_ordinary();
}

fn chown_to_ordinary(folder: &std::path::Path) {
    if nix::unistd::geteuid().is_root() {
        for path in [folder.to_owned(), folder.join("audit"), folder.join("audit/old"), folder.join("secret")]
        {
            std::os::unix::fs::chown(path, Some(1001), Some(1001)).unwrap();
        }
    }
}

/// Turns a child of root into one of an ordinary user.
fn become_ordinary() {
    if nix::unistd::geteuid().is_root() {
        let (uid, gid) = (Uid::from_raw(1001), Gid::from_raw(1001));
        setgroups(&[]).unwrap();
        setresgid(gid, gid, gid).unwrap();
        setresuid(uid, uid, uid).unwrap();
    }
}

/// Locks down and prints what the kernel says afterwards, read by a way of its own.
fn report_lock_down() {
    report_lock_down_of(&Plan::new().unwrap());
}

fn report_lock_down_of(plan: &Plan) {
    // Its path may vanish.
    let mut of_kernel = File::open("/proc/self/status").unwrap();
    match lock_down(plan, Held::default()) {
        Ok(posture) => {
            posture.steps.iter().for_each(|(step, outcome)| println!("sandbox: {step}: {outcome}"));
        }
        Err(failure) => {
            println!("{failure}");
            std::process::exit(i32::from(EXIT_CODE));
        }
    }
    let mut status = String::new();
    of_kernel.read_to_string(&mut status).unwrap();
    let told = ["Uid", "Gid", "Groups", "Cap", "NoNewPrivs"];
    for line in status.lines().filter(|line| told.iter().any(|name| line.starts_with(name))) {
        println!("{line}");
    }
    println!("dumpable {}", u8::from(nix::sys::prctl::get_dumpable().unwrap()));
    println!("core {}", getrlimit(Resource::Core).maximum.unwrap());
    let root = Uid::from_raw(0);
    println!("root regained {}", setresuid(root, root, root).is_ok());
}

/// Everything but the filter, or that too, and then the first hole: a capability by way of a new user namespace. An ordinary user has no
/// mounts of its own.
fn regain(filtered: bool, ordinary: bool) {
    if ordinary {
        become_ordinary();
    }
    lock_down(&Plan::new().unwrap(), Held::default()).unwrap();
    confinement::confine(&Reach::Nothing).unwrap();
    if filtered {
        enter(Role::Worker).unwrap();
    }
    let entered = unshare(CloneFlags::CLONE_NEWUSER);
    let has = |set| caps::has_cap(None, set, caps::Capability::CAP_SYS_ADMIN).unwrap();
    println!("entered {entered:?}, holds {}", has(caps::CapSet::Effective));
}

/// Everything but the named layers, and then the second hole: a directory that is still open leads out, though no path does.
fn lead_out(layers: &str) {
    // Whoever runs the tests may have left something under the number.
    descriptors::close_inherited(&[]).unwrap();
    let outside = std::env::temp_dir().join(format!("quantonium-landlock-{}", std::process::id()));
    let inside = outside.join("audit");
    std::fs::create_dir_all(&inside).unwrap();
    std::fs::write(outside.join("secret"), "not yours").unwrap();
    std::fs::write(inside.join("old"), "a line").unwrap();
    chown_to_ordinary(&outside);
    let directory = File::open(&inside).unwrap();
    let mut directory = descriptors::place(directory.into(), limits::FD_AUDIT_DIRECTORY_NUMBER, 15).unwrap();
    let apart = if layers == "held" { vec![&mut directory] } else { Vec::new() };
    lock_down(&Plan::new().unwrap(), Held { apart, ..Held::default() }).unwrap();
    assert!(File::open(outside.join("secret")).is_err() || !nix::unistd::geteuid().is_root());
    match layers {
        "nothing" | "held" => {}
        "landlock" => drop(confinement::confine(&Reach::Names(directory.as_fd())).unwrap()),
        role => enter(role_named(role)).unwrap(),
    }
    // Every role may write to standard error.
    // As the archivist reads a part: the one form of the call that any filter lets pass.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::LARGEFILE;
    let opened = rustix::fs::openat(&directory, "../secret", flags, rustix::fs::Mode::empty());
    let said = match &opened {
        Ok(_) => "opened",
        Err(Errno::ACCESS) => "refused",
        Err(_) => "failed",
    };
    let _ = rustix::io::write(rustix::stdio::stderr(), said.as_bytes());
    // Nothing is closed under a filter.
    core::mem::forget((opened, directory));
    calls::exit_at_once(SURVIVED)
}

fn is_open(number: i32) -> bool {
    std::fs::symlink_metadata(format!("/proc/self/fd/{number}")).is_ok()
}

fn check_descriptors() {
    rlimits::raise_descriptors().unwrap();
    // A band fills from its first number on, then is full.
    let placed: Vec<OwnedFd> = (0..3)
        .map(|_| descriptors::place(File::open("/dev/null").unwrap().into(), 20, 22).unwrap())
        .collect();
    assert_eq!(placed.iter().map(OwnedFd::as_raw_fd).collect::<Vec<_>>(), [20, 21, 22]);
    let refused = descriptors::place(File::open("/dev/null").unwrap().into(), 20, 22).unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::AddrInUse);
    let stays = descriptors::place(placed.into_iter().nth(1).unwrap(), 20, 22).unwrap();
    assert_eq!(stays.as_raw_fd(), 21);
    assert!(!is_open(20) && is_open(21) && !is_open(22) && !is_open(23));

    // An exact number, with free and taken ones below; nothing else stays open.
    let before = open_descriptors();
    let file = descriptors::create_at(300, || File::open("/dev/null")).unwrap();
    assert_eq!(file.as_raw_fd(), 300);
    assert_eq!(open_descriptors(), before + 1);
    let taken = descriptors::create_at(300, || File::open("/dev/null")).unwrap_err();
    assert_eq!(taken.kind(), io::ErrorKind::AddrInUse);
    assert!(descriptors::create_at(301, || Ok(())).is_err(), "nothing was opened");
    assert!(descriptors::create_at(301, || File::open("/nonexistent")).is_err());
    assert_eq!(open_descriptors(), before + 1);

    // What is known by its number alone becomes ours as a duplicate.
    let twin = descriptors::adopt(300).unwrap();
    assert!(twin.as_raw_fd() != 300 && open_descriptors() == before + 2);
    drop(twin);
    assert!(is_open(300) && descriptors::adopt(301).is_err());
    assert_eq!(open_descriptors(), before + 1);

    // Fillers leave no number free below.
    let fillers = descriptors::fill_below(limits::FD_CONNECTION_FIRST_NUMBER).unwrap();
    assert_eq!(fillers.count() + before + 1, 528);
    let next = File::open("/dev/null").unwrap();
    assert_eq!(next.as_raw_fd(), limits::FD_CONNECTION_FIRST_NUMBER);
    let kind = std::fs::read_link("/proc/self/fd/400").unwrap();
    assert!(kind.to_string_lossy().starts_with("pipe:"), "{kind:?}");
    drop(fillers);
    assert_eq!(open_descriptors(), before + 2);
}

/// How many descriptors are open, that of the listing not counted.
fn open_descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count() - 1
}

/// The files of threads find no place: to close one of the numbers would kill the process before it could say why it ends.
fn check_unkept() {
    let mut watch = Watch::open().unwrap();
    let status = OwnedFd::from(File::open("/proc/self/status").unwrap());
    // From here on no descriptor can be moved to those numbers.
    let most = u64::try_from(limits::FD_WATCH_FIRST_NUMBER).unwrap();
    setrlimit(Resource::Nofile, Rlimit { current: Some(most), maximum: Some(most) }).unwrap();
    let refused = watch.keep_threads(vec![status]).unwrap_err();
    assert!(refused.to_string().contains("files to watch"), "{refused}");
    for number in limits::FD_WATCH_FIRST_NUMBER..=limits::FD_WATCH_LAST_NUMBER {
        assert_ne!(kind_of(number), Kind::Unreadable, "{number} is closed");
    }
}

fn check_inherited() {
    let opened: Vec<i32> =
        (0..4).map(|_| io::pipe().unwrap()).flat_map(|(a, b)| [a.into_raw_fd(), b.into_raw_fd()]).collect();
    // Whoever runs the tests may have left some open as well.
    assert!(descriptors::close_inherited(&[opened[2]]).unwrap() >= opened.len() - 1);
    for number in &opened {
        assert_eq!(is_open(*number), *number == opened[2], "{number}");
    }
    assert!((0..3).all(is_open), "standard streams stay");
    io::stdout().write_all(b"still there\n").unwrap();
}
