//! The opening of the audit log at the start.
//!
//! Owns the numbers of the archivist's descriptors until they are used, and the order in which the streams are opened. Invariants:
//! every stream writes under a name that no other start uses and to the number that its thread's filter knows; room
//! for what is written now comes before room for what follows.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;

use crate::audit::chain::{Root, Tip};
use crate::audit::replay::Unfinished;
use crate::audit::retention::{Catalogue, Policy};
use crate::audit::{
    Batch, Office, Outlets, Pipe, Piped, Recent, Sink, Start, Stream, Succession, Syncing, Who,
};
use crate::clock::{Moment, WallTime};
use crate::config::Config;
use crate::crypto;
use crate::crypto::mac::MacKey;
use crate::crypto::random::Generator;
use crate::keeper::Diary;
use crate::limits::{
    FD_ARCHIVE_SILENCE_NUMBER, FD_ARCHIVE_SOURCE_NUMBER, FD_ARCHIVE_TARGET_NUMBER, FD_AUDIT_DIRECTORY_NUMBER,
    FD_AUDIT_FIRST_NUMBER, FD_AUDIT_NEXT_FIRST_NUMBER,
};
use crate::sandbox::descriptors;
use crate::server::archivist::{Archivist, Files};
use crate::server::error::ServerError;
use crate::store::etcd::layout::ServerId;
use crate::store::{Archive, DataDir, Loaded, list_audit_files, open_audit_file, settle_audit_files};

const DAY_SECONDS: u64 = 86_400;

/// The numbers of the archivist, held until they are used.
#[derive(Debug)]
pub(super) struct ArchiveSlots {
    directory: OwnedFd,
    silence: OwnedFd,
    source: OwnedFd,
    target: OwnedFd,
}

impl ArchiveSlots {
    /// Takes the numbers before anything else can.
    pub(super) fn hold() -> Result<Self, ServerError> {
        let hold = |number| {
            descriptors::hold(number).map_err(|error| ServerError::io("reserving descriptor numbers", &error))
        };
        Ok(Self {
            directory: hold(FD_AUDIT_DIRECTORY_NUMBER)?,
            silence: hold(FD_ARCHIVE_SILENCE_NUMBER)?,
            source: hold(FD_ARCHIVE_SOURCE_NUMBER)?,
            target: hold(FD_ARCHIVE_TARGET_NUMBER)?,
        })
    }

    fn open(self, data_dir: &DataDir) -> io::Result<Archive> {
        let Self { mut directory, silence, source, target } = self;
        descriptors::replace(data_dir.audit_directory(), &mut directory)?;
        Ok(Archive::new(directory, silence, source, target))
    }
}

/// The audit streams of this start.
#[derive(Debug)]
pub(super) struct OpenedAudit {
    pub(super) workers: Vec<Outlets>,
    pub(super) diary: Diary,
    pub(super) archivist: Archivist,
    pub(super) start: Start,
    /// Where the last lines can be read again.
    pub(super) recent: Arc<Recent>,
    /// How far each stream has come that has a file.
    pub(super) tips: Vec<(Who, Arc<Tip>)>,
    /// What bodies of requests are told of by, if they are.
    pub(super) body_key: Option<Arc<MacKey>>,
}

impl OpenedAudit {
    /// Tells where the store stands, and what became of the changes that an earlier process left open.
    pub(super) fn catch_up(&mut self, loaded: &Loaded, unfinished: &[Unfinished]) -> Result<(), ServerError> {
        let now = WallTime::now();
        self.diary
            .stand_at(loaded.head, now)
            .and_then(|()| self.diary.reconcile(unfinished, &loaded.recent, now))
            .map_err(|_| ServerError::config("the audit log cannot be written: is the disk full?"))
    }
}

/// Opens what the lines of each worker and, last, of the keeper go to, under names that no other start uses. Where that is a
/// file, its successor too. The root of their keys is wiped when this is done.
pub(super) fn open(
    data_dir: &DataDir,
    slots: ArchiveSlots,
    config: &Config,
    root: Root,
    id: Option<ServerId>,
    random: &mut Generator,
) -> Result<OpenedAudit, ServerError> {
    let failed = |error: io::Error| ServerError::io("opening the audit log", &error);
    let no_entropy = |error: crypto::Error| ServerError::config(error.to_string());
    let random_part = id.map_or_else(|| random.array::<4>(Moment::now()), Ok).map_err(no_entropy)?;
    let mut start = Start { seconds: WallTime::now().as_secs(), random: u32::from_be_bytes(random_part) };
    let earlier = settle_audit_files(data_dir).map_err(failed)?;
    while id.is_some()
        && list_audit_files(data_dir).map_err(failed)?.iter().any(|(name, _)| name.start == start)
    {
        // A server of a fleet has one number for all its starts.
        start.seconds += 1;
    }
    let office = Arc::new(Office::new(config.workers + 1));
    let pipe = open_pipe(config)?;
    let mut streams = Vec::with_capacity(config.workers + 1);
    let recent = Recent::new(&start.to_string());
    let mut tips = Vec::with_capacity(config.workers + 1);
    let chain = |stream: Stream| root.chain(&stream.to_string()).map_err(io::Error::other);
    let mut open_outlets = |index: usize, who: Who| {
        let stream = Stream { start, who };
        let file = config.audit_sink.has_file().then(|| open_stream(data_dir, index, stream)).transpose()?;
        let mut sink = None;
        if let Some(files) = &file {
            let rotate_bytes = config.audit_rotate_bytes;
            let succession = Succession { office: Arc::clone(&office), stream: index, rotate_bytes };
            let (name, chain) = (stream.to_string(), chain(stream)?);
            tips.push((who, chain.tip()));
            sink = Some(Sink::with_parts(Arc::clone(&files.current), &name, chain, succession));
        }
        streams.extend(file);
        let piped = pipe.clone().map(|pipe| {
            // A chain of its own: what one sink could not take the other may have taken.
            Ok::<_, io::Error>(Piped::new(pipe, Batch::new(&stream.to_string(), chain(stream)?)))
        });
        let piped = piped.transpose()?;
        let syncing = match who {
            _ if !config.audit_synced => Syncing::Written,
            Who::Worker(_) => Syncing::Asked(Arc::clone(&office), index),
            Who::Keeper => Syncing::Own,
        };
        Ok(Outlets::new(sink, piped, syncing).remembered_by(Arc::clone(&recent)))
    };
    let workers: io::Result<Vec<_>> = (0..config.workers)
        .zip(0..)
        .map(|(index, number)| open_outlets(index, Who::Worker(number)))
        .collect();
    let workers = workers.map_err(failed)?;
    let sink = open_outlets(config.workers, Who::Keeper).map_err(failed)?;
    let body_key = config.audit_body.then(|| root.body_key()).transpose().map_err(no_entropy)?.map(Arc::new);
    drop(root);
    // Room for what is written now comes before room for what follows.
    for (index, files) in streams.iter_mut().enumerate() {
        open_successor(data_dir, files).map_err(failed)?;
        if let Some(next) = &files.next {
            office.tell_ready(index, Arc::clone(next));
        }
    }
    let first_id = random.array::<8>(Moment::now()).map_err(no_entropy)?;
    let archivist = Archivist {
        office: Arc::clone(&office),
        archive: slots.open(data_dir).map_err(failed)?,
        streams,
        catalogue: Catalogue::new(start, earlier),
        policy: Policy {
            retention_seconds: config.audit_retention_days * DAY_SECONDS,
            max_bytes: config.audit_max_bytes,
            compress: config.audit_compress,
        },
        certificates: None,
    };
    let diary = Diary::new(sink, u64::from_be_bytes(first_id)).with_office(office);
    Ok(OpenedAudit { workers, diary, archivist, start, recent, tips, body_key })
}

/// Standard output, if audit lines go there.
fn open_pipe(config: &Config) -> Result<Option<Arc<Pipe>>, ServerError> {
    let pipe = config.audit_sink.has_stdout().then(Pipe::standard).transpose();
    pipe.map_err(|error| {
        ServerError::config(format!(
            "--audit-sink: standard output cannot take audit lines ({error}): give it a pipe or a file"
        ))
    })
}

/// Opens the first part of a stream and gives it its number; the number of its successor is held.
fn open_stream(data_dir: &DataDir, index: usize, stream: Stream) -> io::Result<Files> {
    let offset = i32::try_from(index).map_err(io::Error::other)?;
    let first = FD_AUDIT_FIRST_NUMBER + offset;
    let current = descriptors::place(open_audit_file(data_dir, stream.part(1))?, first, first)?;
    let vacant = descriptors::hold(FD_AUDIT_NEXT_FIRST_NUMBER + offset)?;
    let (current, vacant) = (Arc::new(File::from(current)), Some(File::from(vacant)));
    Ok(Files { stream, part: 1, current, next: None, vacant })
}

/// Opens the second part of a stream in its place. Where there is no room for it, the archivist makes it later.
fn open_successor(data_dir: &DataDir, files: &mut Files) -> io::Result<()> {
    let Some(vacant) = files.vacant.take() else { return Ok(()) };
    let mut place = OwnedFd::from(vacant);
    let made = open_audit_file(data_dir, files.stream.part(2));
    match made.and_then(|made| descriptors::replace(made.as_fd(), &mut place)) {
        Ok(()) => files.next = Some(Arc::new(File::from(place))),
        Err(error) if [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded].contains(&error.kind()) => {
            files.vacant = Some(File::from(place));
        }
        Err(error) => return Err(error),
    }
    Ok(())
}
