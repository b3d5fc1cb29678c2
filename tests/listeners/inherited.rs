//! Sockets that another process has opened and hands over.

use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd as _};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::process::Command;

use rustix::io::{FdFlags, fcntl_setfd};

use crate::server::client::Request;
use crate::server::{Scratch, Server, binary};
use crate::{SILENCE, ask, ask_unix, with_key};

/// `serve` with these sockets as descriptors 3 and 4, as a service manager starts it.
fn activated(scratch: &Scratch, first: &impl AsFd, second: &impl AsFd, names: &str) -> Option<Command> {
    let binary = binary()?;
    for fd in [first.as_fd(), second.as_fd()] {
        fcntl_setfd(fd, FdFlags::empty()).unwrap();
    }
    let (first, second) = (first.as_fd().as_raw_fd(), second.as_fd().as_raw_fd());
    // Out of the way first, to numbers that nothing has: any of them may be 3 or 4.
    let script = format!(
        "exec {{a}}<&{first} {{b}}<&{second}; exec 3<&$a 4<&$b {{a}}<&- {{b}}<&-; \
         LISTEN_PID=$$; export LISTEN_PID; exec \"$0\" \"$@\""
    );
    let mut command = Command::new("/bin/bash");
    command.args(["-c", &script]).arg(binary).args(["serve", "--dev", "--data-dir"]).arg(scratch.data_dir());
    command.env_clear().env("LISTEN_FDS", "2").env("LISTEN_FDNAMES", names);
    Some(command)
}

#[test]
fn inherited_sockets_are_served_and_what_is_queued_at_the_end_is_for_the_next_one() {
    let scratch = Scratch::new();
    let path = scratch.path("held.sock");
    let (tcp, unix) = (TcpListener::bind("127.0.0.1:0").unwrap(), UnixListener::bind(&path).unwrap());
    let address = tcp.local_addr().unwrap();
    let start = || Some(Server::spawn(activated(&scratch, &tcp, &unix, "http:local")?, &scratch, 1));
    let Some(server) = start() else { return };
    assert_eq!(server.addresses(), [address], "the default address is not served beside them");
    assert_eq!(server.ask(Request::get("/api/keys")).status, 200);
    assert!(ask_unix(&path, &with_key(&server)).starts_with("HTTP/1.1 200 "));
    let key = with_key(&server);
    let ended = server.stop();
    assert_eq!(ended.code, Some(0), "{ended:?}");

    // Nobody accepts now: the kernel keeps both, with their requests.
    let queued = TcpStream::connect(address).unwrap();
    queued.set_read_timeout(Some(SILENCE)).unwrap();
    let local = UnixStream::connect(&path).unwrap();
    let waiting = [
        std::thread::spawn({
            let key = key.clone();
            move || ask(queued, &key)
        }),
        std::thread::spawn(move || ask(local, &key)),
    ];
    let server = start().unwrap();
    for reply in waiting {
        assert!(reply.join().unwrap().starts_with("HTTP/1.1 200 "));
    }
    assert_eq!(server.stop().code, Some(0));
}

#[test]
fn an_inherited_socket_that_does_not_listen_stops_the_start() {
    let scratch = Scratch::new();
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let datagrams = UnixDatagram::unbound().unwrap();
    let Some(command) = activated(&scratch, &tcp, &datagrams, "http:wrong") else { return };
    let ended = Server::try_spawn(command, &scratch, 1).unwrap_err();
    assert_eq!(ended.code, Some(78), "{ended:?}");
    assert!(ended.stderr.contains("\"wrong\" is not a listening stream socket"), "{ended:?}");
}

#[test]
fn tls_that_is_asked_for_by_name_needs_a_certificate() {
    let scratch = Scratch::new();
    let (one, two) = (TcpListener::bind("127.0.0.1:0").unwrap(), TcpListener::bind("127.0.0.1:0").unwrap());
    let Some(command) = activated(&scratch, &one, &two, "http:https") else { return };
    let ended = Server::try_spawn(command, &scratch, 1).unwrap_err();
    assert_eq!(ended.code, Some(78), "{ended:?}");
    assert!(ended.stderr.contains("--tls-cert"), "{ended:?}");
}
