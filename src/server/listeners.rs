//! The sockets on which the server is asked: bound here, or opened by another process and handed over.
//!
//! Owns every binding of the start. Invariants: a refusal names the address and says what to do; each descriptor lies in the
//! listeners' band, one for each worker; what another process has too is never shut down by this one; of the names in the
//! file system only a socket of ours is removed at which nobody listens.

use std::fs;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, FileType, Gid, Mode, OFlags, Uid, chownat, fstat, openat};
use rustix::io::fcntl_dupfd_cloexec;
use rustix::process::{geteuid, umask};
use socket2::{Domain, SockAddr, SockRef, Socket, Type};

use crate::config::{Config, ConfigError, Endpoint, Scheme};
use crate::http::peer::Way;
use crate::limits::{
    FD_LISTENER_FIRST_NUMBER, FD_LISTENER_LAST_NUMBER, LISTEN_BACKLOG_COUNT, SOMAXCONN_FILE_TEXT,
};
use crate::log::{self, Module};
use crate::reactor::defer::defer_accept;
use crate::reactor::socket::{self, Leaving, Listener};
use crate::sandbox::descriptors;
use crate::server::error::ServerError;
use crate::store::Owner;

/// A socket that was opened by another process.
#[derive(Debug)]
pub(super) struct Inherited {
    pub(super) fd: OwnedFd,
    /// What the other process calls it.
    pub(super) name: String,
}

/// One worker's end of a listening socket.
#[derive(Debug)]
pub(super) struct Entrance {
    pub(super) socket: Listener,
    pub(super) leaving: Leaving,
    /// How the bytes of its connections come.
    pub(super) way: Way,
}

/// All listening sockets.
#[derive(Debug)]
pub(super) struct Listeners {
    /// Where they are, in the order of the settings, what was handed over first.
    pub(super) endpoints: Vec<Endpoint>,
    /// For each worker, its ends.
    pub(super) of_worker: Vec<Vec<Entrance>>,
}

/// Moves what was handed over to the listeners' band, out of the way of everything that has a number of its own.
pub(super) fn place_inherited(sockets: Vec<Inherited>) -> Result<Vec<Inherited>, ServerError> {
    let placed = sockets.into_iter().map(|Inherited { fd, name }| {
        let fd = descriptors::place(fd, FD_LISTENER_FIRST_NUMBER, FD_LISTENER_LAST_NUMBER);
        fd.map(|fd| Inherited { fd, name })
    });
    placed.collect::<io::Result<_>>().map_err(|error| unplaced(&error))
}

/// Whether any socket is one of this host alone, whose clients the kernel names.
pub(super) fn names_peers(config: &Config, inherited: &[Inherited]) -> bool {
    config.listen.iter().any(|endpoint| matches!(endpoint, Endpoint::Unix(_)))
        || inherited
            .iter()
            .any(|socket| SockRef::from(&socket.fd).domain().is_ok_and(|of| of == Domain::UNIX))
}

/// Takes what was handed over, and binds every address.
pub(super) fn open(
    config: &Config,
    inherited: Vec<Inherited>,
    owner: Option<Owner>,
) -> Result<Listeners, ServerError> {
    warn_of_short_queue();
    let mut all = Listeners {
        endpoints: Vec::with_capacity(inherited.len() + config.listen.len()),
        of_worker: (0..config.workers).map(|_| Vec::new()).collect(),
    };
    for socket in inherited {
        let endpoint = judge(&socket, config)?;
        all.share(&socket.fd, endpoint, Leaving::HandOver)?;
    }
    for endpoint in &config.listen {
        match endpoint {
            Endpoint::Tcp(address, scheme) => all.bind_tcp(*address, *scheme, config.defer_accept_seconds)?,
            Endpoint::Unix(path) => {
                let bound = bind_unix(path, config.unix_mode, owner)?;
                all.share(&bound.into(), endpoint.clone(), Leaving::Refuse)?;
            }
        }
    }
    Ok(all)
}

impl Listeners {
    /// Binds an address once for each worker.
    fn bind_tcp(&mut self, wanted: SocketAddr, scheme: Scheme, seconds: u32) -> Result<(), ServerError> {
        let way = enter(&Endpoint::Tcp(wanted, scheme));
        let bound = socket::bind(wanted, self.of_worker.len()).map_err(|error| refused(wanted, &error))?;
        self.endpoints.push(Endpoint::Tcp(bound.0, scheme));
        for (own, listener) in self.of_worker.iter_mut().zip(bound.1) {
            defer_accept(&listener, seconds).map_err(|error| refused(wanted, &error))?;
            let socket = place(listener.into(), false)?;
            own.push(Entrance { socket, leaving: Leaving::Refuse, way });
        }
        Ok(())
    }

    /// Gives every worker a descriptor of the same socket. A connection wakes all of them, and one gets it.
    fn share(&mut self, fd: &OwnedFd, endpoint: Endpoint, leaving: Leaving) -> Result<(), ServerError> {
        let way = enter(&endpoint);
        for own in &mut self.of_worker {
            let copy =
                fcntl_dupfd_cloexec(fd, FD_LISTENER_FIRST_NUMBER).map_err(|error| unplaced(&error.into()))?;
            own.push(Entrance { socket: place(copy, matches!(endpoint, Endpoint::Unix(_)))?, leaving, way });
        }
        self.endpoints.push(endpoint);
        Ok(())
    }
}

/// How bytes come at `endpoint`; says so if others can read them.
fn enter(endpoint: &Endpoint) -> Way {
    match endpoint {
        Endpoint::Unix(_) => Way::Local,
        Endpoint::Tcp(address, Scheme::Http) => {
            if !address.ip().to_canonical().is_loopback() {
                log::warn(
                    Module::Network,
                    format_args!(
                        "{address}: credentials and plaintexts cross the network unencrypted (--insecure-http)"
                    ),
                );
            }
            Way::Plain
        }
        Endpoint::Tcp(_, Scheme::Redirect) => Way::Redirect,
        Endpoint::Tcp(_, Scheme::Https) => Way::Secure,
    }
}

pub(super) fn refused(wanted: SocketAddr, error: &io::Error) -> ServerError {
    let advice = match error.kind() {
        ErrorKind::AddrInUse => " (another program listens there: stop it or choose another --listen)",
        ErrorKind::AddrNotAvailable => " (no interface of this host has this address)",
        ErrorKind::PermissionDenied => " (ports below 1024 need privileges: choose another --listen)",
        _ => "",
    };
    ServerError::config(format!("cannot listen on {wanted}: {error}{advice}"))
}

fn unplaced(error: &io::Error) -> ServerError {
    ServerError::io("placing a listener", error)
}

fn place(fd: OwnedFd, is_unix: bool) -> Result<Listener, ServerError> {
    let placed = descriptors::place(fd, FD_LISTENER_FIRST_NUMBER, FD_LISTENER_LAST_NUMBER);
    let fd = placed.map_err(|error| unplaced(&error))?;
    Ok(if is_unix {
        Listener::Unix(mio::net::UnixListener::from_std(fd.into()))
    } else {
        Listener::Tcp(mio::net::TcpListener::from_std(fd.into()))
    })
}

/// What is spoken at a socket that was handed over; makes it one that never blocks.
fn judge(inherited: &Inherited, config: &Config) -> Result<Endpoint, ServerError> {
    let socket = SockRef::from(&inherited.fd);
    let name = &inherited.name;
    let unfit = |what: &str| ServerError::config(format!("the inherited socket \"{name}\" {what}"));
    let failed = |error: io::Error| unfit(&format!("cannot be used: {error}"));
    if !matches!(socket.r#type(), Ok(Type::STREAM)) || !socket.is_listener().unwrap_or(false) {
        return Err(unfit("is not a listening stream socket (systemd: ListenStream=)"));
    }
    let address = socket.local_addr().map_err(failed)?;
    socket.set_nonblocking(true).map_err(failed)?;
    let scheme = match name.as_str() {
        "http" => Scheme::Http,
        "https" => Scheme::Https,
        "redirect" => Scheme::Redirect,
        _ if config.tls.is_some() => Scheme::Https,
        _ => Scheme::Http,
    };
    let Some(internet) = address.as_socket() else {
        if !address.is_unix() || ["https", "redirect"].contains(&name.as_str()) {
            return Err(unfit("is of a family at which that is not spoken"));
        }
        return Ok(Endpoint::Unix(name_of(&address)));
    };
    socket::set_options(&socket).map_err(failed)?;
    defer_accept(&inherited.fd, config.defer_accept_seconds).map_err(failed)?;
    match scheme {
        Scheme::Http if !internet.ip().to_canonical().is_loopback() && !config.insecure_http => {
            Err(ServerError::config(ConfigError::PlainHttp { address: internet }.to_string()))
        }
        Scheme::Https | Scheme::Redirect if config.tls.is_none() => {
            Err(ServerError::config(ConfigError::CertificateMissing.to_string()))
        }
        scheme => Ok(Endpoint::Tcp(internet, scheme)),
    }
}

/// The path of a Unix socket, or its abstract name behind an `@`.
fn name_of(address: &SockAddr) -> std::path::PathBuf {
    let is_abstract = || {
        let name = address.as_abstract_namespace()?;
        Some(format!("@{}", String::from_utf8_lossy(name)).into())
    };
    address.as_pathname().map(Path::to_path_buf).or_else(is_abstract).unwrap_or_default()
}

/// Binds a name in the file system that those may use whom `mode` names, and that belongs to `owner`.
pub(super) fn bind_unix(path: &Path, mode: u32, owner: Option<Owner>) -> Result<Socket, ServerError> {
    let refused = |error: io::Error| {
        let advice = match error.kind() {
            ErrorKind::NotFound => " (its directory does not exist)",
            ErrorKind::PermissionDenied => " (the directory does not let this user make a file)",
            _ => "",
        };
        ServerError::config(format!("cannot listen on unix:{}: {error}{advice}", path.display()))
    };
    if let Some(owner) = owner {
        judge_directory(path, owner).map_err(refused)?;
    }
    let bound = match bind_at(path, mode) {
        Err(error) if error.kind() == ErrorKind::AddrInUse => {
            remove_stale(path, owner)?;
            bind_at(path, mode)
        }
        bound => bound,
    };
    let socket = bound.map_err(refused)?;
    if let Some(owner) = owner {
        give(path, owner).map_err(refused)?;
    }
    // Not before it has its owner: until here whoever connects is refused.
    socket.listen(LISTEN_BACKLOG_COUNT).map_err(refused)?;
    Ok(socket)
}

/// Refuses a directory in which somebody else could put another socket in the place of this one.
fn judge_directory(path: &Path, owner: Owner) -> io::Result<()> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let found = fs::metadata(parent)?;
    let is_sticky = found.mode() & 0o1000 != 0;
    let by_group = found.mode() & 0o020 != 0 && ![0, owner.gid].contains(&found.gid());
    if !is_sticky && (by_group || found.mode() & 0o002 != 0) {
        return Err(io::Error::other(
            "others may write in its directory, and put a socket of their own there (chmod go-w, or chmod +t)",
        ));
    }
    Ok(())
}

/// Gives the socket to `owner` that was bound here by this name, and nothing else that has it by now.
fn give(path: &Path, owner: Owner) -> io::Result<()> {
    // What is looked at is what is given, whatever becomes of the name.
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let found = openat(CWD, path, flags, Mode::empty())?;
    let facts = fstat(&found)?;
    let is_socket = FileType::from_raw_mode(facts.st_mode) == FileType::Socket;
    if !is_socket || facts.st_uid != geteuid().as_raw() || facts.st_nlink != 1 {
        return Err(io::Error::other("its name was given to something else meanwhile"));
    }
    let (uid, gid) = (Uid::from_raw(owner.uid), Gid::from_raw(owner.gid));
    Ok(chownat(found, "", Some(uid), Some(gid), AtFlags::EMPTY_PATH)?)
}

fn bind_at(path: &Path, mode: u32) -> io::Result<Socket> {
    let address = SockAddr::unix(path)?;
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    // The mode is there with the name: no moment in which somebody else may connect.
    let before = umask(Mode::from_raw_mode(!mode & 0o777));
    let bound = socket.bind(&address);
    umask(before);
    bound.map(|()| socket)
}

/// Removes the name that a server has left which has ended: it could not do so itself, since it opens no directory.
fn remove_stale(path: &Path, owner: Option<Owner>) -> Result<(), ServerError> {
    let shown = path.display();
    let refused = |what: &str| ServerError::config(format!("cannot listen on unix:{shown}: {what}"));
    let found = fs::symlink_metadata(path).map_err(|error| refused(&error.to_string()))?;
    if !found.file_type().is_socket() {
        return Err(refused("there is a file that is no socket: remove it or choose another path"));
    }
    let own = [owner.map(|owner| owner.uid), Some(geteuid().as_raw())];
    if !own.contains(&Some(found.uid())) {
        return Err(refused("there is a socket of another user: remove it or choose another path"));
    }
    let in_use = || refused("another program listens there: stop it or choose another path");
    let asked = Socket::new(Domain::UNIX, Type::STREAM, None).and_then(|socket| {
        socket.set_nonblocking(true)?;
        socket.connect(&SockAddr::unix(path)?)
    });
    match asked {
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => {}
        _ => return Err(in_use()),
    }
    log::info(Module::Network, format_args!("unix:{shown}: removed the name that an earlier server left"));
    fs::remove_file(path).map_err(|error| refused(&error.to_string()))
}

/// Says so if the kernel shortens the queues of connections that were not yet accepted.
fn warn_of_short_queue() {
    let read = fs::read_to_string(SOMAXCONN_FILE_TEXT).ok();
    let most = read.and_then(|text| text.trim().parse::<i32>().ok());
    if let Some(most) = most.filter(|most| *most < LISTEN_BACKLOG_COUNT) {
        log::warn(
            Module::Network,
            format_args!(
                "the kernel queues {most} connections at a time, {LISTEN_BACKLOG_COUNT} were asked for: raise net.core.somaxconn"
            ),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt as _, symlink};
    use std::path::PathBuf;

    /// A folder of a test, removed at its end.
    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("quantonium-{name}-{}", std::process::id()));
            let _ = fs::remove_dir_all(&path);
            fs::create_dir(&path).unwrap();
            Self(path)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn own() -> Owner {
        Owner { uid: geteuid().as_raw(), gid: rustix::process::getegid().as_raw() }
    }

    #[test]
    fn nothing_but_the_socket_that_was_bound_is_given_away() {
        let folder = Folder::new("given");
        let path = |name: &str| folder.0.join(name);
        let _bound = bind_at(&path("socket"), 0o600).unwrap();
        give(&path("socket"), own()).unwrap();
        symlink(path("socket"), path("link")).unwrap();
        fs::write(path("file"), "").unwrap();
        for name in ["link", "file"] {
            let refused = give(&path(name), own()).unwrap_err();
            assert!(refused.to_string().contains("something else"), "{name}: {refused}");
        }
        assert_eq!(give(&path("none"), own()).unwrap_err().kind(), ErrorKind::NotFound);
        fs::hard_link(path("socket"), path("second")).unwrap();
        give(&path("socket"), own()).unwrap_err();
        give(&path("second"), own()).unwrap_err();
    }

    #[test]
    fn a_directory_in_which_others_may_replace_the_socket_is_refused() {
        let folder = Folder::new("shared");
        let path = folder.0.join("socket");
        for (mode, good) in [(0o755, true), (0o777, false), (0o1777, true), (0o700, true), (0o757, false)] {
            fs::set_permissions(&folder.0, fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(judge_directory(&path, own()).is_ok(), good, "{mode:o}");
        }
        fs::set_permissions(&folder.0, fs::Permissions::from_mode(0o775)).unwrap();
        judge_directory(&path, own()).unwrap();
    }
}
