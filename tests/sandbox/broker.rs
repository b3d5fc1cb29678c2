//! What the process that speaks to etcd may do, and what not.

use std::io;
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use nix::libc;
use quantonium::sandbox::confinement::{Reach, confine};
use quantonium::sandbox::lock_broker;

use super::{ANONYMOUS, CLOSED_CONNECTION, Call, READ_WRITE, call, never, on};

/// What it calls and no role does: it starts threads and makes connections, and its heap is not closed.
const ITS_OWN: [libc::c_long; 7] = [
    libc::SYS_connect,
    libc::SYS_writev,
    libc::SYS_nanosleep,
    libc::SYS_clock_gettime,
    libc::SYS_rt_sigprocmask,
    libc::SYS_sigaltstack,
    libc::SYS_restart_syscall,
];
/// Whom it becomes where it is root.
const NOBODY: (u32, u32) = (65_534, 65_534);

/// What no role may do and it neither, and what of its own calls is too much.
pub(crate) fn forbidden_to_broker() -> Vec<Call> {
    let executable = i64::from(libc::PROT_EXEC);
    let mut all: Vec<Call> = never().into_iter().filter(|call| !ITS_OWN.contains(&call.number)).collect();
    all.extend([
        call("socket for datagrams", libc::SYS_socket, &[2, 2, 0]),
        call("socket of this machine", libc::SYS_socket, &[1, i64::from(1 | libc::SOCK_CLOEXEC), 0]),
        call("socket of the kernel", libc::SYS_socket, &[16, i64::from(3 | libc::SOCK_CLOEXEC), 0]),
        on("accept4", libc::SYS_accept4, CLOSED_CONNECTION, &[0, 0, 0]),
        on("sendto somebody", libc::SYS_sendto, CLOSED_CONNECTION, &[0, 0, 0, 1, 0]),
        on("recvfrom somebody", libc::SYS_recvfrom, CLOSED_CONNECTION, &[0, 0, 0, 1, 0]),
        on("writev", libc::SYS_writev, 2, &[0, 0]),
        on("close", libc::SYS_close, 0, &[]),
        call("mmap of a file", libc::SYS_mmap, &[0, 4_096, READ_WRITE, i64::from(libc::MAP_PRIVATE), 0, 0]),
        call("mmap executable", libc::SYS_mmap, &[0, 4_096, executable, ANONYMOUS, -1, 0]),
        call("mprotect to executable", libc::SYS_mprotect, &[0, 0, executable]),
    ]);
    all
}

/// Makes the call `name` under its filter.
pub(crate) fn break_out_of_broker(name: &str) {
    let calls = forbidden_to_broker();
    let call = calls.iter().find(|call| call.name == name).unwrap();
    lock_broker(NOBODY, &[]).unwrap();
    call.make();
}

/// Connects from under its filter, from a second thread, to a port that it was given and to another one.
pub(crate) fn connect_as_broker() {
    let ports = [listen(), listen()];
    // Confines the thread that asks, which ends with the answer.
    let abi = std::thread::spawn(|| confine(&Reach::Nothing).unwrap().abi).join().unwrap();
    lock_broker(NOBODY, &ports[..1]).unwrap();
    let connect = |port: u16| -> io::Result<()> {
        let stream = TcpStream::connect_timeout(&([127, 0, 0, 1], port).into(), Duration::from_secs(60));
        // With debug assertions closing asks first whether it is open, which a release does not and the filter forbids.
        stream.map(core::mem::forget)
    };
    let answers = std::thread::spawn(move || ports.map(connect)).join().unwrap();
    println!("landlock {abi}");
    for (what, answer) in ["its own port", "another port"].into_iter().zip(answers) {
        println!(
            "{what}: {}",
            answer.map_or_else(|error| format!("{:?}", error.kind()), |()| "done".to_owned())
        );
    }
}

/// The port of a listener that stays.
fn listen() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    core::mem::forget(listener);
    port
}
