//! The archivist: the one thread that opens files. It keeps audit files: syncs them, makes their successors, compresses and removes
//! what is old, and looks at the room that is left; and it reads the certificates again when they have changed.
//!
//! Owns the audit directory ([`Archive`]) and the list of old parts. Invariants: the thread is confined to that directory, and to reading those of the
//! certificates, and locked in before it does anything; whoever waits for a sync waits for one piece of a compression, or the reading of one
//! part, at most; a part is removed once the store has noted it and before that is told, so that nothing looks cut off
//! and nothing is told that was not done; what fails is told once, and tried again.

use std::fs::File;
use std::io;
use std::sync::Arc;

use crate::audit::office::{Errand, Errands, Retired};
use crate::audit::retention::{Catalogue, Part, Policy};
use crate::audit::{Office, Stream};
use crate::clock::{Moment, WallTime};
use crate::keeper::{Keeper, Removal};
use crate::limits::{
    AUDIT_LOW_ROOM_BYTES, AUDIT_LOW_ROOM_PERCENT, AUDIT_ROUND_MILLIS, AUDIT_SETTLED_SECONDS,
};
use crate::log::{self, Module};
use crate::metrics::process::AUDIT_ROOM;
use crate::model::{Outcome, Posture, Step};
use crate::sandbox;
use crate::sandbox::confinement::{self, Reach};
use crate::sandbox::seccomp::Role;
use crate::server::certificates::{Certificates, prepare_thread};
use crate::server::shared::Shared;
use crate::store::{Archive, Compressing, Room, audit_file_name};

/// What is moved into the thread.
#[derive(Debug)]
pub(super) struct Archivist {
    pub(super) office: Arc<Office>,
    pub(super) archive: Archive,
    pub(super) streams: Vec<Files>,
    pub(super) catalogue: Catalogue,
    pub(super) policy: Policy,
    pub(super) certificates: Option<Certificates>,
}

/// The files of a stream that is being written.
#[derive(Debug)]
pub(super) struct Files {
    pub(super) stream: Stream,
    /// The part that is being written, and its file.
    pub(super) part: u32,
    pub(super) current: Arc<File>,
    /// The part after it; none while it could not be made.
    pub(super) next: Option<Arc<File>>,
    /// The file of a part that was left, whose number the next successor gets.
    pub(super) vacant: Option<File>,
}

/// What the thread is about.
struct Desk {
    archivist: Archivist,
    shared: Arc<Shared>,
    compressing: Option<Compressing>,
    keeper: Arc<Keeper>,
    /// The part that the keeper is noting.
    removing: Option<Part>,
    compress_not_before: Moment,
    round_not_before: Moment,
    low: bool,
    /// Whether a successor could not be made, and that was told.
    stuck: bool,
}

impl Archivist {
    /// The body of the thread.
    pub(super) fn run(mut self, shared: &Arc<Shared>, keeper: Arc<Keeper>, posture: &Posture) -> ! {
        let locked = self.lock_in(shared, posture);
        let ready = locked.is_ok();
        shared.arrive(locked);
        let mut desk = Desk {
            archivist: self,
            shared: Arc::clone(shared),
            compressing: None,
            keeper,
            removing: None,
            compress_not_before: Moment::default(),
            round_not_before: Moment::default(),
            low: false,
            stuck: false,
        };
        loop {
            if ready {
                desk.turn();
            } else {
                std::thread::park();
            }
        }
    }

    fn lock_in(&mut self, shared: &Shared, posture: &Posture) -> Result<(), String> {
        let certificates = self.certificates.as_ref();
        let prepared = certificates.map_or(Ok(()), |_| prepare_thread());
        let readable = certificates.map(Certificates::directories).unwrap_or_default();
        let reach = Reach::Files { directory: self.archive.directory(), readable: &readable };
        let confined = confinement::confine(&reach);
        shared.await_filter();
        prepared?;
        let confined = confined.and_then(|confined| sandbox::lock_in(posture, Role::Archivist, confined));
        let confined = confined.map_err(|failure| failure.to_string())?;
        let is_free = matches!(confined.outcome, Outcome::Skipped(_));
        let is_accepted = posture.allowed_missing.contains(&Step::Landlock);
        if is_free {
            log::warn(
                Module::Sandbox,
                format_args!(
                    "without Landlock nothing but its filter keeps the archivist to its directories: \
                     audit files are made and removed all the same"
                ),
            );
        }
        if let Some(certificates) = &mut self.certificates {
            certificates.begin(!is_free || is_accepted);
        }
        Ok(())
    }
}

impl Desk {
    fn turn(&mut self) {
        let errands = match self.compressing {
            Some(_) => self.archivist.office.look().unwrap_or_default(),
            None => self.archivist.office.next(),
        };
        #[cfg(feature = "pentest")]
        crate::pentest::serve(Role::Archivist);
        let Errands { of, tick, noted, reload } = errands;
        of.into_iter().for_each(|errand| self.carry_out(errand));
        if tick || reload.is_some() {
            self.look_at_certificates(Moment::now(), reload.is_some());
        }
        if let Some(wish) = reload {
            self.shared.note_reloaded(wish);
        }
        if let Some((may, part)) = noted.and_then(|may| Some((may, self.removing.take()?))) {
            if may {
                self.remove(part);
                self.remove_old(WallTime::now());
            } else {
                log::warn(Module::Audit, format_args!("no file is removed, since the store cannot note it"));
            }
        }
        if tick {
            self.tick(Moment::now(), WallTime::now());
        }
        self.compress_piece();
    }

    fn look_at_certificates(&mut self, now: Moment, asked: bool) {
        let Archivist { office, certificates, .. } = &mut self.archivist;
        match certificates {
            Some(certificates) => {
                if let Some(replaced) = certificates.look(now, asked) {
                    office.note_reload(replaced);
                }
            }
            None if asked => log::info(Module::Server, format_args!("SIGHUP: there is nothing to reload")),
            None => {}
        }
    }

    fn carry_out(&mut self, errand: Errand) {
        let Errand { stream, retired, sync } = errand;
        let mut broken = None;
        if let Some(retired) = retired {
            let part = retired.part;
            if self.retire(stream, retired).is_err() {
                broken = Some(part);
            }
        }
        let Archivist { office, streams, .. } = &self.archivist;
        let Some((files, through)) = streams.get(stream).zip(sync) else { return };
        if let Err(error) = files.current.sync_data() {
            tell_unsynced(files, &error);
            broken = Some(files.part);
        }
        match broken {
            None => office.tell_synced(stream, through),
            Some(part) => office.tell_broken(stream, through, part),
        }
    }

    /// Takes a part that was left, and makes a successor in its place.
    fn retire(&mut self, stream: usize, retired: Retired) -> io::Result<()> {
        let Archivist { streams, catalogue, .. } = &mut self.archivist;
        let Some(files) = streams.get_mut(stream) else { return Ok(()) };
        let Retired { part, bytes, file } = retired;
        let synced = file.sync_data();
        if let Err(error) = &synced {
            tell_unsynced(files, error);
        }
        let (last, name) = (WallTime::now(), files.stream.part(part));
        catalogue.add(Part { last, name, bytes, compressed: false });
        files.part = part.saturating_add(1);
        if let Some(next) = files.next.take() {
            // Its owner has given its handle away, so that with this one it is the last but the one in hand.
            files.current = next;
        }
        files.vacant = Arc::into_inner(file);
        self.succeed(stream);
        synced
    }

    /// Makes the successor of a stream that has none.
    fn succeed(&mut self, stream: usize) {
        let Archivist { office, archive, streams, .. } = &mut self.archivist;
        let Some(files) = streams.get_mut(stream) else { return };
        let Some(place) = files.vacant.take() else { return };
        let name = files.stream.part(files.part.saturating_add(1));
        match archive.succeed(place, name) {
            Ok(file) => {
                let file = Arc::new(file);
                files.next = Some(Arc::clone(&file));
                office.tell_ready(stream, file);
                self.stuck = false;
            }
            Err((place, error)) => {
                files.vacant = Some(place);
                if !core::mem::replace(&mut self.stuck, true) {
                    log::warn(
                        Module::Audit,
                        format_args!(
                            "{} cannot be made ({error}): the file before it grows on",
                            audit_file_name(name, false)
                        ),
                    );
                }
            }
        }
    }

    fn tick(&mut self, now: Moment, wall: WallTime) {
        for stream in 0..self.archivist.streams.len() {
            self.succeed(stream);
        }
        if now < self.round_not_before {
            return;
        }
        self.round_not_before = now.plus_millis(AUDIT_ROUND_MILLIS);
        self.remove_old(wall);
        self.look_at_room();
        if self.compressing.is_none() && now >= self.compress_not_before {
            self.begin_compressing(wall);
        }
    }

    /// Removes what is to be removed, or asks the keeper to note the first of it.
    fn remove_old(&mut self, now: WallTime) {
        // What is compressed is read through the same number: then it is the turn of this afterwards.
        while self.removing.is_none() && self.compressing.is_none() {
            let Archivist { office, archive, catalogue, policy, .. } = &mut self.archivist;
            catalogue.need_from(office.standing_part());
            let Some(part) = catalogue.to_remove(*policy, office.length(), now) else { return };
            // What cannot be read tells nothing, and need not be kept for that.
            let through = archive.last_mark(part.name, part.compressed).ok().flatten();
            let is_all = catalogue.is_last(part.name);
            if through.is_none() && !is_all {
                self.remove(part);
                continue;
            }
            self.removing = Some(part);
            let removal =
                Removal { stream: part.name.stream(), through: through.unwrap_or_default(), is_all };
            let office = Arc::clone(office);
            self.keeper.note_removed(vec![removal], Box::new(move |may| office.tell_noted(may)));
        }
    }

    fn remove(&mut self, part: Part) {
        let Archivist { office, archive, catalogue, .. } = &mut self.archivist;
        catalogue.forget(part.name);
        let file = audit_file_name(part.name, part.compressed);
        match archive.remove(part.name, part.compressed) {
            Ok(()) => {
                office.note_removed(part.name);
                log::info(
                    Module::Audit,
                    format_args!("{file} was removed (--audit-retention-days, --audit-max-bytes)"),
                );
            }
            // The next start tries again.
            Err(error) => {
                log::warn(Module::Audit, format_args!("{file} cannot be removed: {error}"));
            }
        }
    }

    fn look_at_room(&mut self) {
        let Ok(room) = self.archivist.archive.room() else { return };
        AUDIT_ROOM.set(room.free);
        let low = is_low(room);
        if low == self.low {
            return;
        }
        self.low = low;
        let free = room.free / (1024 * 1024);
        if low {
            log::warn(Module::Audit, format_args!("its file system is low on space: {free} MiB are left"));
        } else {
            log::info(Module::Audit, format_args!("there is room again: {free} MiB"));
        }
        // Whoever reads it in the health finds it in the log.
        self.shared.set_audit_low(low);
    }

    fn begin_compressing(&mut self, now: WallTime) {
        let Archivist { office, archive, catalogue, policy, .. } = &mut self.archivist;
        catalogue.need_from(office.standing_part());
        let removing = self.removing.map(|part| part.name);
        let wanted = catalogue.to_compress(*policy, now).filter(|part| removing != Some(part.name));
        let Some(part) = wanted else { return };
        match archive.begin(part.name) {
            Ok(begun) => self.compressing = Some(begun),
            Err(error) => self.compress_later(&audit_file_name(part.name, false), &error),
        }
    }

    /// One piece of what is being compressed, and the next part after the last one.
    fn compress_piece(&mut self) {
        let Some(of) = self.compressing.take() else { return };
        let part = of.part;
        match self.archivist.archive.go_on(of) {
            Ok(Ok(more)) => self.compressing = Some(more),
            Ok(Err(bytes)) => {
                self.archivist.catalogue.compressed(part, bytes);
                let now = WallTime::now();
                self.remove_old(now);
                self.begin_compressing(now);
            }
            Err(error) => self.compress_later(&audit_file_name(part, false), &error),
        }
    }

    fn compress_later(&mut self, file: &str, error: &io::Error) {
        self.compress_not_before = Moment::now().plus_millis(AUDIT_SETTLED_SECONDS * 1_000);
        log::warn(Module::Audit, format_args!("{file} cannot be compressed: {error}"));
    }
}

fn tell_unsynced(files: &Files, error: &io::Error) {
    let file = audit_file_name(files.stream.part(files.part), false);
    log::error(
        Module::Audit,
        format_args!("{file} cannot be synced ({error}): lines of it may be lost by a power failure"),
    );
}

const fn is_low(room: Room) -> bool {
    room.free < AUDIT_LOW_ROOM_BYTES || room.free < room.total.saturating_mul(AUDIT_LOW_ROOM_PERCENT) / 100
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_low_by_its_size_or_by_its_share() {
        const MIB: u64 = 1024 * 1024;
        for (free, total, low) in [
            (63 * MIB, 100 * MIB, true),
            (64 * MIB, 100 * MIB, false),
            (999 * MIB, 10_000 * MIB, true),
            (1_000 * MIB, 10_000 * MIB, false),
        ] {
            assert_eq!(is_low(Room { free, total }), low, "{free} of {total}");
        }
    }
}
