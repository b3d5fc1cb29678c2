//! The store at the start of a server that shares it: the broker started, the store in etcd opened, or made where that was asked for.
//!
//! Owns the way from the settings to an open store. Invariants: nothing but the broker connects to etcd; a store that has fallen behind
//! what this server's audit log witnesses is refused; whoever makes the store first makes it, and the others find it.

use std::os::fd::{AsFd as _, OwnedFd};

use zeroize::Zeroizing;

use crate::auth::api_key;
use crate::broker::{Credentials, Remote as Link, process};
use crate::build_info;
use crate::clock::Moment;
use crate::config::{Config, Remote};
use crate::console::{self, Output};
use crate::crypto::random::Generator;
use crate::keeper::{self, Making, Opening, Telling};
use crate::log::{self, Module};
use crate::server::error::ServerError;
use crate::store::etcd::layout::ServerId;
use crate::store::{DataDir, Etcd, MasterKey, RootKey, Sealer, StoreError, Witness, server_id};

/// An open store and what goes with it.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) store: Etcd,
    pub(super) root: RootKey,
    pub(super) sealer: Sealer,
    pub(super) opening: Opening,
    pub(super) id: ServerId,
}

/// Reads what it takes to reach etcd, and starts the broker.
pub(super) fn start_broker(config: &Config, remote: &Remote) -> Result<process::Started, ServerError> {
    let endpoints = remote.place.resolve();
    let endpoints = endpoints.map_err(|error| ServerError::config(format!("--store: {error}")))?;
    let credentials = read_credentials(remote)?;
    // What is wrong with a certificate is the operator's mistake, and found here.
    crate::broker::Access::new(endpoints.clone(), &credentials).map_err(ServerError::config)?;
    let orders = process::Orders { endpoints, credentials, identity: (config.user_id, config.group_id) };
    process::start(&orders)
        .map_err(|error| ServerError::io("starting the process that speaks to etcd", &error))
}

/// What stands in the files that the settings name.
pub fn read_credentials(remote: &Remote) -> Result<Credentials, ServerError> {
    let read = |path: &std::path::Path| {
        let text = std::fs::read(path);
        text.map_err(|error| ServerError::io(&format!("reading {}", crate::store::quoted(path)), &error))
    };
    let authorities = remote.authorities.as_deref().map(read).transpose()?;
    let own = match &remote.own {
        None => None,
        Some((cert, key)) => Some((read(cert)?, Zeroizing::new(read(key)?))),
    };
    let user = match &remote.user {
        None => None,
        Some((user, file)) => {
            let text = Zeroizing::new(read(file)?);
            let line = text.strip_suffix(b"\n").unwrap_or(&text);
            let password = core::str::from_utf8(line).ok().filter(|line| !line.is_empty());
            let password = password.ok_or_else(|| {
                ServerError::config(format!("{} does not hold a password", crate::store::quoted(file)))
            })?;
            Some((user.clone(), Zeroizing::new(password.to_owned())))
        }
    };
    Ok(Credentials { authorities, own, user })
}

/// Opens the store through `socket`, or makes it.
pub(super) fn open(
    config: &Config,
    remote: &Remote,
    data_dir: &DataDir,
    socket: OwnedFd,
    (master, witness): (&MasterKey, Witness),
    random: &mut Generator,
) -> Result<Opened, ServerError> {
    // One request at a time: what is made through one of these is done before another one is used.
    let link = || {
        let socket = socket.as_fd().try_clone_to_owned();
        socket.map(Link::new).map_err(|error| ServerError::io("sharing a socket", &error))
    };
    let (place, layout) = (std::path::Path::new(remote.place.text()), remote.place.layout.clone());
    let id = server_id::load_or_create(data_dir, random)?;
    if config.init && !Etcd::exists(&mut link()?, &layout)? {
        match Etcd::create(&mut link()?, &layout, place, master, random) {
            // Another server of the fleet was first: it makes the admin key as well.
            Ok(()) => make(config, remote, data_dir, link()?, (master, witness), random)?,
            Err(StoreError::FleetExists { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    let link = Box::new(Link::new(socket));
    let opened = Etcd::open(link, layout, place.to_owned(), master, witness)?;
    let (mut store, root) = (opened.store, opened.root);
    let sealer = root.sealer(opened.ring).map_err(StoreError::from)?;
    let opening = keeper::load(&mut store, &sealer)?;
    if opening.state.callers.is_empty() {
        return Err(ServerError::config(
            "the store has no API key, its making was cut off: finish it with `quantonium init`, which makes an admin key and \
             shows it",
        ));
    }
    // What this version reads: a later one may ask before it writes something new.
    let words = format!("1 {}", build_info::VERSION);
    store.join(id, words.as_bytes())?;
    Ok(Opened { store, root, sealer, opening, id })
}

/// Makes the first admin key, and shows it.
fn make(
    config: &Config,
    remote: &Remote,
    data_dir: &DataDir,
    link: Link,
    (master, witness): (&MasterKey, Witness),
    random: &mut Generator,
) -> Result<(), ServerError> {
    let place = std::path::Path::new(remote.place.text());
    let now = Moment::now();
    let admin = api_key::generate(|bytes| random.fill(now, bytes)).map_err(StoreError::from)?;
    let shown = format!("admin API key (shown once, nothing else keeps it): {}\n", &*admin);
    let stream = if config.audit_sink.has_stdout() { Output::Err } else { Output::Out };
    console::deliver(stream, &Zeroizing::new(shown)).map_err(|error| {
        ServerError::config(format!(
            "the admin key could not be shown on {} ({error}): give it one, or run `quantonium init` with \
             --admin-key-file",
            stream.name()
        ))
    })?;
    let opened = Etcd::open(Box::new(link), remote.place.layout.clone(), place.to_owned(), master, witness)?;
    let making = Making { data_dir, store: Box::new(opened.store), root: opened.root, ring: opened.ring };
    keeper::initialise_in(making, random, &admin, Telling::AtTheStart)?;
    log::info(Module::Store, format_args!("the store was made in {}", crate::store::quoted(place)));
    Ok(())
}
