//! What other servers have written, taken in.
//!
//! Owns nothing but the way from events to a state. Invariants: a transaction is applied as a whole, when its head has come, and only if
//! it follows from what was applied before; what does not follow is read anew, and then it is the newer one or the store was set back; a
//! state counts as fresh only when a majority has said so of the very head that was applied.

use super::super::error::StoreError;
use super::super::record::{Condition, Deliver, Head, Record};
use super::head::decode_record;
use super::layout::{Place, ServerId};
use super::link::{Event, LinkError, News, Pulse};
use super::{Etcd, Made, State};
use crate::clock::WallTime;
use crate::limits::{ETCD_NEWS_ROUNDS_MAX_COUNT, FLEET_MEMBERS_MAX_COUNT};
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
        if since == stand.head.revision && !self.unread {
            // What was delivered, removals too, was taken in.
            self.doubtful.clear();
        }
        // Who asked has not taken in what was delivered.
        self.everything |= since != stand.head.revision;
        self.unread |= self.everything;
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
            self.unread |= news.gap;
            away = news.away;
            let more = news.more;
            self.take_all(news, each)?;
            if !more {
                break;
            }
        }
        if self.unread {
            self.read_anew(each)?;
        }
        self.condition = match self.condition {
            Condition::Away if !away => Condition::Good,
            Condition::Good if away => Condition::Away,
            other => other,
        };
        Ok(self.state.as_ref().map_or(stand.head, |state| state.stand.head))
    }

    fn take_all(&mut self, news: News, each: &mut Deliver<'_>) -> Result<(), StoreError> {
        for event in news.events {
            if !self.unread {
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
            Some(Place::Record(_) | Place::Origins(_)) => self.pending.push(event),
            Some(Place::Head) => {
                // A transaction has one revision; what is of another one came without a head.
                let whole = self.pending.iter().all(|pending| pending.revision == event.revision);
                self.unread |= !whole || !self.follow_head(&event, each)?;
                self.pending.clear();
            }
            Some(Place::Ring) | None => {}
        }
        Ok(())
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
        let Some(State { revision, cluster, .. }) = &self.state else { return };
        if pulse.cluster != *cluster || pulse.head < pulse.known {
            // Another cluster, or one that was set back.
            self.unread = true;
        } else if pulse.head == *revision {
            self.fresh_nanos = self.fresh_nanos.max(pulse.asked_nanos);
        } else if pulse.head > *revision {
            self.ahead = Some(pulse);
        }
    }

    /// What was known to be the newest has been reached.
    fn settle_pulse(&mut self) {
        let reached = self.state.as_ref().map_or(0, |state| state.revision);
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
