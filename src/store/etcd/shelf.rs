//! An etcd in memory for tests: shared by as many servers as one likes, and as faulty as one likes.
//!
//! Owns [`Shelf`]. Invariant: it answers as etcd does, revisions and order of events too.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};

use super::link::{Event, Link, LinkError, Member, News, Page, Pair, Pulse, Span, Swap, Swapped};
use crate::clock::BootTime;

/// What the next swaps do instead of succeeding.
#[derive(Clone, Copy, Debug)]
pub(super) enum Fault {
    /// Nobody answers, and it was applied.
    Kept,
    /// Nobody answers, and it was not.
    Lost,
    /// Nobody could be reached.
    Away,
    /// The first answer is lost, and it is sent again.
    Twice,
    /// The first try does not arrive, and it is sent again.
    Missed,
}

type Values = BTreeMap<Vec<u8>, (Vec<u8>, u64)>;

#[derive(Clone, Debug, Default)]
pub(super) struct Inner {
    pub(super) values: Values,
    pub(super) revision: u64,
    pub(super) log: Vec<Event>,
    pub(super) cluster: u64,
    /// What was compacted: up to and without this revision.
    pub(super) compacted: u64,
    pub(super) faults: VecDeque<Fault>,
    pub(super) away: bool,
    pub(super) page: usize,
}

/// Done between two steps of somebody else.
type Interloper = Box<dyn FnOnce() + Send>;

/// One way to it.
#[derive(Default)]
pub(super) struct Shelf {
    inner: Arc<Mutex<Inner>>,
    /// From which event on this one has to be told.
    told: usize,
    head: Vec<u8>,
    gap: bool,
    pub(super) before_page: Arc<Mutex<Option<Interloper>>>,
    /// Between two tries of one transaction.
    pub(super) between: Arc<Mutex<Option<Interloper>>>,
}

impl Shelf {
    pub(super) fn another(&self) -> Self {
        Self { inner: Arc::clone(&self.inner), ..Self::default() }
    }

    pub(super) fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap()
    }
}

impl Inner {
    /// Puts an earlier state back, as a restored backup does.
    pub(super) fn restore(&mut self, earlier: &Self) {
        self.values = earlier.values.clone();
        self.log = earlier.log.clone();
        self.revision = earlier.revision;
    }

    fn page(&self, pairs: Vec<Pair>, more: bool) -> Page {
        Page { cluster: self.cluster, at: self.revision, pairs, more }
    }

    pub(super) fn write(&mut self, removals: &[Vec<u8>], puts: &[(Vec<u8>, Vec<u8>)]) -> u64 {
        self.revision += 1;
        let revision = self.revision;
        for key in removals {
            if self.values.remove(key).is_some() {
                self.log.push(Event { key: key.clone(), value: None, revision });
            }
        }
        for (key, value) in puts {
            self.values.insert(key.clone(), (value.clone(), revision));
            self.log.push(Event { key: key.clone(), value: Some(value.clone()), revision });
        }
        revision
    }

    fn swap(&mut self, swap: &Swap) -> Swapped {
        let stands = |key: &Vec<u8>| self.values.get(key).cloned();
        if swap.demands.iter().all(|demand| stands(&demand.key) == demand.is) {
            let revision = self.write(&swap.removals, &swap.puts);
            return Swapped::Done { cluster: self.cluster, revision };
        }
        let pairs = swap.demands.iter().filter_map(|demand| {
            let (value, revision) = stands(&demand.key)?;
            Some(Pair { key: demand.key.clone(), value, revision })
        });
        Swapped::Lost(self.page(pairs.collect(), false))
    }
}

impl Link for Shelf {
    fn read(&mut self, span: &Span) -> Result<Page, LinkError> {
        if span.at > 0 {
            let act = self.before_page.lock().unwrap().take();
            if let Some(act) = act {
                act();
            }
        }
        let inner = self.inner();
        if inner.away {
            return Err(LinkError::Away("nobody there".to_owned()));
        }
        if span.at > 0 && span.at < inner.compacted {
            return Err(LinkError::Compacted);
        }
        // What stood at an earlier revision follows from the log.
        let mut values = Values::new();
        let until = if span.at == 0 { u64::MAX } else { span.at };
        for event in inner.log.iter().filter(|event| event.revision <= until) {
            match &event.value {
                Some(value) => drop(values.insert(event.key.clone(), (value.clone(), event.revision))),
                None => drop(values.remove(&event.key)),
            }
        }
        let to = if span.to.is_empty() { [span.from.as_slice(), &[0]].concat() } else { span.to.clone() };
        let mut pairs: Vec<Pair> = values
            .range(span.from.clone()..to)
            .map(|(key, (value, revision))| Pair {
                key: key.clone(),
                value: value.clone(),
                revision: *revision,
            })
            .collect();
        let most = if inner.page == 0 { 3 } else { inner.page };
        let more = pairs.len() > most;
        pairs.truncate(most);
        Ok(inner.page(pairs, more))
    }

    fn swap(&mut self, swap: &Swap) -> Result<Swapped, LinkError> {
        let mut inner = self.inner();
        let nobody = || "nobody answered".to_owned();
        if inner.away {
            return Err(LinkError::Away(nobody()));
        }
        let swapped = match inner.faults.pop_front() {
            Some(Fault::Away) => return Err(LinkError::Away(nobody())),
            Some(Fault::Lost) => return Err(LinkError::Unknown(nobody())),
            Some(Fault::Kept) => {
                inner.swap(swap);
                return Err(LinkError::Unknown(nobody()));
            }
            Some(fault @ (Fault::Twice | Fault::Missed)) => {
                if matches!(fault, Fault::Twice) {
                    inner.swap(swap);
                }
                drop(inner);
                // Somebody else may be first when it is sent again.
                let act = self.between.lock().unwrap().take();
                if let Some(act) = act {
                    act();
                }
                match self.inner().swap(swap) {
                    Swapped::Lost(page) => Swapped::Doubtful(page),
                    swapped => swapped,
                }
            }
            None => {
                let swapped = inner.swap(swap);
                drop(inner);
                swapped
            }
        };
        Ok(swapped)
    }

    fn follow(&mut self, _from: &[u8], _to: &[u8], head: &[u8], at: u64) -> Result<(), LinkError> {
        let told = self.inner().log.iter().filter(|event| event.revision < at).count();
        (self.told, self.gap) = (told, false);
        self.head = head.to_vec();
        Ok(())
    }

    fn news(&mut self, _until: u64) -> Result<News, LinkError> {
        let inner = self.inner();
        let mut news = News { away: inner.away, ..News::default() };
        if !inner.away {
            news.events = inner.log.get(self.told..).unwrap_or_default().to_vec();
            let first = news.events.first().map_or(u64::MAX, |event| event.revision);
            news.gap = first < inner.compacted;
            let head = inner.values.get(&self.head).map_or(0, |(_, revision)| *revision);
            let (asked_nanos, cluster) = (BootTime::now().as_nanos(), inner.cluster);
            news.pulse = Some(Pulse { asked_nanos, head, cluster });
        }
        let told = inner.log.len();
        drop(inner);
        if !news.away {
            self.told = told;
        }
        Ok(news)
    }

    fn join(&mut self, member: &Member) -> Result<(), LinkError> {
        self.inner().write(&[], &[(member.key.clone(), member.value.clone())]);
        Ok(())
    }
}
