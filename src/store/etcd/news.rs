//! What other servers have written, taken in.
//!
//! Owns nothing but the way from events to a state. Invariants: a transaction is applied as a whole, when its head has come, and only if
//! it follows from what was applied before; what does not follow is read anew, and then it is the newer one or the store was set back; so is
//! what a majority says is there and the watch does not bring; a state counts as fresh only when a majority has said so of the very head
//! that was applied; what waits for its head is bounded.

use super::super::error::StoreError;
use super::super::record::{Condition, Deliver, Head, Record};
use super::head::decode_record;
use super::layout::{Place, ServerId};
use super::link::{Event, LinkError, News, Pulse};
use super::{Etcd, Made, State};
use crate::clock::{BootTime, Moment, WallTime};
use crate::limits::{
    BROKER_PAIR_OVERHEAD_BYTES, ETCD_BEHIND_MILLIS, ETCD_NEWS_ROUNDS_MAX_COUNT, ETCD_OPERATIONS_MAX_COUNT,
    ETCD_TRANSACTION_MAX_BYTES, FLEET_MEMBERS_MAX_COUNT,
};
use crate::log::{self, Module};
use crate::metrics::process::STORE;

impl Etcd {
    /// Delivers what there is since `since`.
    pub(super) fn take_news(&mut self, since: u64, each: &mut Deliver<'_>) -> Result<Head, StoreError> {
        let Some(stand) = self.state.as_ref().map(|state| state.stand) else {
            return Err(LinkError::Away("the store was never read".to_owned()).into());
        };
        if matches!(self.condition, Condition::Poisoned | Condition::SetBack) {
            return Ok(stand.head);
        }
        if since == stand.head.revision && !self.reload.is_wanted() {
            // What was delivered, removals too, was taken in.
            self.doubtful.clear();
        }
        // Who asked has not taken in what was delivered.
        self.everything |= since != stand.head.revision;
        if self.everything {
            self.reload.want();
        }
        let mut away = false;
        // Bounded by what the other side keeps, and by how fast others write.
        for _ in 0..ETCD_NEWS_ROUNDS_MAX_COUNT {
            let held = self.held.pop_front().map(|news| News { more: true, ..news });
            let news = match held.map_or_else(|| self.link.news(self.until), Ok) {
                Ok(news) => news,
                Err(error) => {
                    self.condition = Condition::Away;
                    return Err(error.into());
                }
            };
            self.until = 0;
            if news.gap {
                self.reload.distrust("a part of it is missing");
            }
            away = news.away;
            let more = news.more;
            self.take_all(news, each)?;
            if !more {
                break;
            }
        }
        if self.reload.is_due(Moment::now()) {
            self.read_anew(each)?;
        }
        away |= self.reload.is_wanted();
        self.condition = match self.condition {
            Condition::Away if !away => Condition::Good,
            Condition::Good if away => Condition::Away,
            other => other,
        };
        Ok(self.state.as_ref().map_or(stand.head, |state| state.stand.head))
    }

    fn take_all(&mut self, news: News, each: &mut Deliver<'_>) -> Result<(), StoreError> {
        for event in news.events {
            if !self.reload.is_wanted() {
                self.take_event(event, each)?;
            }
        }
        if let Some(pulse) = news.pulse {
            self.take_pulse(pulse);
        }
        Ok(())
    }

    fn take_event(&mut self, event: Event, each: &mut Deliver<'_>) -> Result<(), StoreError> {
        let applied = self.state.as_ref().map_or(0, |state| state.revision);
        match self.layout.place(&event.key) {
            Some(Place::Member(id)) => {
                self.look_for_twin(id, event.value.as_deref());
                let lives = event.value.is_some_and(|value| self.keys.open_member(id, &value).is_ok());
                self.members.retain(|member| *member != id);
                if lives && self.members.len() < FLEET_MEMBERS_MAX_COUNT {
                    self.members.push(id);
                }
            }
            // This server's own, or what was read.
            _ if event.revision <= applied => {}
            Some(Place::Record(_) | Place::Origins(_)) => self.hold(event),
            Some(Place::Head) => {
                // A transaction has one revision; what is of another one came without a head.
                let whole = self.pending.iter().all(|pending| pending.revision == event.revision);
                if !whole || !self.follow_head(&event, each)? {
                    self.reload.distrust("a head that is not made of what came with it");
                }
                self.pending.clear();
            }
            Some(Place::Ring) | None => {}
        }
        Ok(())
    }

    /// Keeps an event until its head comes, as long as all of them can be of one transaction of this program.
    fn hold(&mut self, event: Event) {
        let is_next = self.pending.first().is_none_or(|first| first.revision == event.revision);
        let bytes = weight(&event) + self.pending.iter().map(weight).sum::<usize>();
        if is_next && self.pending.len() < ETCD_OPERATIONS_MAX_COUNT && bytes <= ETCD_TRANSACTION_MAX_BYTES {
            self.pending.push(event);
        } else {
            self.pending.clear();
            self.reload.distrust("records without a head");
        }
    }

    /// Tells of another server that goes by the id of this one: a data directory was copied, or its server moved before this one ended.
    fn look_for_twin(&self, id: ServerId, value: Option<&[u8]>) {
        let Some((own, mine)) = &self.own else { return };
        if id == *own && value.is_some_and(|value| value != mine && self.keys.open_member(id, value).is_ok())
        {
            log::error(
                Module::Store,
                format_args!(
                    "another server goes by the id of this one, so that each may drop the other's audit checkpoints: a data directory was copied; stop one of the two, remove server.id from its directory and start it again"
                ),
            );
        }
    }

    /// Applies what is pending, if `event` is a head that follows; returns whether it did.
    fn follow_head(&mut self, event: &Event, each: &mut Deliver<'_>) -> Result<bool, StoreError> {
        let Some(state) = &mut self.state else { return Ok(false) };
        let Some(stand) = event.value.as_deref().and_then(|value| self.keys.open_head(value).ok()) else {
            return Ok(false);
        };
        let mut records: Vec<Record> = Vec::with_capacity(self.pending.len());
        let mut has_origins = false;
        for pending in &self.pending {
            match (self.layout.place(&pending.key), &pending.value) {
                (Some(Place::Record(path)), None) => {
                    // Nobody removes what is not there: such an event was made up.
                    if !state.live.contains_key(&path) {
                        return Ok(false);
                    }
                    records.push(Record { path, revision: stand.head.revision, sealed: None });
                }
                (Some(Place::Record(path)), Some(value)) => match decode_record(path, value) {
                    Some(record) if record.revision == stand.head.revision => records.push(record),
                    _ => return Ok(false),
                },
                _ => has_origins = true,
            }
        }
        let mut paths: Vec<_> = records.iter().map(|record| record.path).collect();
        paths.sort_unstable_by_key(|path| *path.as_bytes());
        if paths.windows(2).any(|pair| pair.first() == pair.last()) {
            return Ok(false);
        }
        let (revision, at_millis) = (stand.head.revision, stand.at_millis);
        let made = Made { revision, has_origins, at_millis };
        let (expected, changes) = state.after(&self.keys, &records.iter().collect::<Vec<_>>(), made);
        if expected != stand || stand.head.revision <= state.stand.head.revision {
            return Ok(false);
        }
        state.apply(stand, changes);
        state.sealed = event.value.clone().unwrap_or_default();
        state.revision = event.revision;
        state.known_nanos = BootTime::now().as_nanos();
        STORE.lags.count(WallTime::now().as_millis().saturating_sub(at_millis).saturating_mul(1_000));
        self.settle_pulse();
        // Told again with everything, if who asked does not take it in.
        self.doubtful
            .extend(records.iter().filter(|record| record.sealed.is_none()).map(|record| record.path));
        for record in records {
            each(record)?;
        }
        Ok(true)
    }

    fn take_pulse(&mut self, pulse: Pulse) {
        let Some(State { revision, known_nanos, cluster, .. }) = &self.state else { return };
        if pulse.cluster != *cluster {
            self.reload.distrust("another cluster");
        } else if pulse.head < *revision {
            // Asked before that revision was known, it says nothing.
            if pulse.asked_nanos > *known_nanos {
                self.reload.distrust("an earlier head than the one that was applied");
            }
        } else if pulse.head == *revision {
            self.fresh_nanos = self.fresh_nanos.max(pulse.asked_nanos);
        } else {
            let first = self.behind.get_or_insert(pulse).asked_nanos;
            if pulse.asked_nanos.saturating_sub(first) > ETCD_BEHIND_MILLIS * 1_000_000 {
                self.behind = None;
                self.reload.distrust("a newer head that the watch does not bring");
            }
            self.ahead = Some(pulse);
        }
    }

    /// What was known to be the newest has been reached.
    fn settle_pulse(&mut self) {
        let reached = self.state.as_ref().map_or(0, |state| state.revision);
        self.behind.take_if(|pulse| pulse.head <= reached);
        if let Some(pulse) = self.ahead.take_if(|pulse| pulse.head <= reached) {
            self.fresh_nanos = self.fresh_nanos.max(pulse.asked_nanos);
        }
    }

    /// Reads everything, and delivers what differs from what was delivered.
    fn read_anew(&mut self, each: &mut Deliver<'_>) -> Result<(), StoreError> {
        let image = match self.read() {
            Ok(image) => image,
            Err(error) => {
                if self.condition == Condition::Good {
                    self.condition = Condition::Away;
                }
                let is_away = matches!(
                    error,
                    StoreError::Remote(LinkError::Away(_) | LinkError::Unknown(_) | LinkError::Compacted)
                );
                if !is_away {
                    self.reload.fail(Moment::now());
                }
                return Err(error);
            }
        };
        let Some(before) = self.state.take() else { return Ok(()) };
        let (stood, stands) = (before.stand.head, image.stand.head);
        let follows = stands.revision > stood.revision || stands == stood;
        if !follows {
            self.state = Some(before);
            self.condition = Condition::SetBack;
            return Err(StoreError::RolledBack { found: stands.revision, expected: stood.revision });
        }
        let known = before.live.keys().chain(&self.doubtful);
        let gone = known.filter(|path| !image.live.contains_key(path)).copied().collect::<Vec<_>>();
        let (mut records, _) = self.stand_on(image);
        self.doubtful.extend(&gone);
        records.extend(gone.into_iter().map(|path| Record { path, revision: stands.revision, sealed: None }));
        for record in records {
            each(record)?;
        }
        Ok(())
    }
}

/// What an event takes of room, about.
pub(super) fn weight(event: &Event) -> usize {
    event.key.len() + event.value.as_ref().map_or(0, Vec::len) + BROKER_PAIR_OVERHEAD_BYTES
}
