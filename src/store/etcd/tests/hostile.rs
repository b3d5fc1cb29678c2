//! What a server makes of an etcd that lies.
//!
//! Owns [`Liar`] and the cases. Invariant: what was lied about is asked for again from the one that does not lie, and counts as read then.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use super::*;
use crate::limits::{ETCD_OPERATIONS_MAX_COUNT, ETCD_STRANGERS_MAX_COUNT};

type OfPages = Box<dyn FnMut(&Span, &mut Page) + Send>;
type OfNews = Box<dyn FnMut(&mut News) + Send>;

/// What it says instead of the truth.
#[derive(Clone, Default)]
struct Lies {
    pages: Arc<Mutex<Option<OfPages>>>,
    news: Arc<Mutex<Option<OfNews>>>,
    /// How often everything was read.
    loads: Arc<AtomicUsize>,
    pages_count: Arc<AtomicUsize>,
}

impl Lies {
    fn of_pages(&self, lie: impl FnMut(&Span, &mut Page) + Send + 'static) {
        *self.pages.lock().unwrap() = Some(Box::new(lie));
    }

    fn of_news(&self, lie: impl FnMut(&mut News) + Send + 'static) {
        *self.news.lock().unwrap() = Some(Box::new(lie));
    }

    fn end(&self) {
        (*self.pages.lock().unwrap(), *self.news.lock().unwrap()) = (None, None);
    }

    fn loads(&self) -> usize {
        self.loads.load(Ordering::Relaxed)
    }
}

/// An etcd that lies.
struct Liar {
    shelf: Shelf,
    lies: Lies,
}

impl Link for Liar {
    fn read(&mut self, span: &Span) -> Result<Page, LinkError> {
        self.lies.pages_count.fetch_add(1, Ordering::Relaxed);
        let mut page = self.shelf.read(span)?;
        if let Some(lie) = &mut *self.lies.pages.lock().unwrap() {
            lie(span, &mut page);
        }
        Ok(page)
    }

    fn swap(&mut self, swap: &Swap) -> Result<Swapped, LinkError> {
        self.shelf.swap(swap)
    }

    fn follow(&mut self, from: &[u8], to: &[u8], head: &[u8], at: u64) -> Result<(), LinkError> {
        self.lies.loads.fetch_add(1, Ordering::Relaxed);
        self.shelf.follow(from, to, head, at)
    }

    fn news(&mut self, until: u64) -> Result<News, LinkError> {
        let mut news = self.shelf.news(until)?;
        if let Some(lie) = &mut *self.lies.news.lock().unwrap() {
            lie(&mut news);
        }
        Ok(news)
    }

    fn join(&mut self, member: &Member) -> Result<(), LinkError> {
        self.shelf.join(member)
    }
}

fn try_open_lied_to(shelf: &Shelf, lies: &Lies) -> Result<Server, StoreError> {
    try_open_by(Box::new(Liar { shelf: shelf.another(), lies: lies.clone() }), Witness::default())
}

fn open_lied_to(shelf: &Shelf) -> (Server, Lies) {
    let lies = Lies::default();
    (try_open_lied_to(shelf, &lies).unwrap(), lies)
}

#[test]
fn a_removal_is_told_again_until_it_was_taken_in() {
    let shelf = made();
    let (mut one, mut two) = (open(&shelf), open(&shelf));
    one.put_all(&[("a", Some("1")), ("b", Some("2"))], &[[1; 16]]).unwrap();
    two.watch().unwrap();
    one.put_all(&[("a", None)], &[[2; 16]]).unwrap();
    // Delivered, and not taken in: once from the watch, and once more from what is read because of that.
    for _ in 0..2 {
        two.etcd.watch(two.at, &mut |_| Ok(())).unwrap();
    }
    assert_ne!(two.told, one.told);
    two.watch().unwrap();
    assert_eq!(two.told, one.told);
    // What was taken in is not told again.
    let mut told = 0;
    let count = &mut |_| {
        told += 1;
        Ok(())
    };
    two.etcd.watch(two.at, count).unwrap();
    assert_eq!(told, 0);
}

#[test]
fn a_page_that_holds_a_record_twice_or_out_of_order_or_of_elsewhere_is_refused() {
    let shelf = made();
    let mut one = open(&shelf);
    for number in 0..6 {
        one.put(&format!("k{number}"), "1").unwrap();
    }
    let is_record = |pair: &link::Pair| matches!(layout().place(&pair.key), Some(layout::Place::Record(_)));
    let refused = |what: &str, lie: fn(&mut Page, usize)| {
        let lies = Lies::default();
        lies.of_pages(move |span, page| {
            if let Some(at) = page.pairs.iter().position(is_record).filter(|_| span.at > 0) {
                lie(page, at);
            }
        });
        let opened = try_open_lied_to(&shelf, &lies).map(drop);
        assert!(matches!(opened, Err(StoreError::FleetDamaged { .. })), "{what}: {opened:?}");
    };
    refused("a record twice", |page, at| page.pairs.insert(at, page.pairs[at].clone()));
    // Each of two that cancel each other out in the digest.
    refused("two records that are not there, twice each", |page, at| {
        let mut pair = page.pairs[at].clone();
        *pair.key.last_mut().unwrap() ^= 1;
        page.pairs.insert(at, pair.clone());
        page.pairs.insert(at, pair);
    });
    refused("an earlier one behind a later one", |page, _| page.pairs.reverse());
    refused("one of another prefix", |page, at| page.pairs[at].key = b"r/elsewhere".to_vec());
    assert_eq!(try_open_lied_to(&shelf, &Lies::default()).unwrap().told, one.told);
}

#[test]
fn pages_without_an_end_are_given_up() {
    let shelf = made();
    let mut one = open(&shelf);
    one.put("a", "1").unwrap();
    let endless = |name: fn(usize) -> Vec<u8>, value: usize| {
        let lies = Lies::default();
        let mut number = 0;
        lies.of_pages(move |span, page| {
            if span.at > 0 {
                let pair = |number| link::Pair { key: name(number), value: vec![0; value], revision: 1 };
                page.pairs = (number..number + 100).map(pair).collect();
                page.more = true;
                number += 100;
            }
        });
        let opened = try_open_lied_to(&shelf, &lies).map(drop);
        assert!(matches!(opened, Err(StoreError::FleetDamaged { .. })), "{opened:?}");
        lies.pages_count.load(Ordering::Relaxed)
    };
    let records = endless(|number| format!("q/test/r/{number:032x}").into_bytes(), 40);
    assert!(records <= 5, "{records} pages of a store that has one record");
    let strangers = endless(|number| format!("q/test/x/{number:032x}").into_bytes(), 0);
    assert!(strangers <= ETCD_STRANGERS_MAX_COUNT / 100 + 5, "{strangers}");
    let origins = endless(|number| format!("q/test/o/{:04x}", number % 65_536).into_bytes(), 40);
    assert!(origins <= 5, "{origins} pages, none of which is authentic");
}

/// Two servers, one of which is lied to about a change of the other one: by that it is read instead, and is as it is.
fn lied_about(what: &str, lie: impl Fn(&mut Vec<Event>) + Send + 'static) {
    let shelf = made();
    let mut one = open(&shelf);
    let (mut two, lies) = open_lied_to(&shelf);
    one.put_all(&[("a", Some("1")), ("b", Some("2"))], &[[1; 16]]).unwrap();
    two.watch().unwrap();
    one.put_all(&[("b", Some("3"))], &[[2; 16]]).unwrap();
    lies.of_news(move |news| lie(&mut news.events));
    let loads = lies.loads();
    two.watch().unwrap();
    assert_eq!(lies.loads(), loads + 1, "{what}: it was not taken in as it came");
    assert_eq!(two.told, one.told, "{what}");
    lies.end();
    two.put("c", "4").unwrap();
    one.watch().unwrap();
    assert_eq!(two.told, one.told, "{what}");
}

#[test]
fn news_that_nobody_made_are_not_taken_in() {
    let before_head = |events: &mut Vec<Event>, event: Event| {
        let at = events.iter().position(|event| event.key == layout().head()).unwrap();
        events.insert(at, event);
    };
    lied_about("a removal of what is not there", move |events| {
        let (key, revision) = (layout().record(Path::new([9; 16])), events[0].revision);
        before_head(events, Event { key, value: None, revision });
    });
    // What they add to the digest and take from it cancels out.
    lied_about("a record twice", move |events| {
        let (key, revision) = (layout().record(Path::new([9; 16])), events[0].revision);
        let value = Some(encode_record(2, b"made up"));
        for _ in 0..2 {
            before_head(events, Event { key: key.clone(), value: value.clone(), revision });
        }
    });
    lied_about("a record less", |events| {
        events.remove(0);
    });
}

#[test]
fn records_without_a_head_are_not_kept_for_ever() {
    let shelf = made();
    let mut one = open(&shelf);
    let (mut two, lies) = open_lied_to(&shelf);
    one.put("a", "1").unwrap();
    two.watch().unwrap();
    let loads = lies.loads();
    lies.of_news(|news| {
        let event = |number: usize| {
            let key = layout().record(Path::new(u128::try_from(number).unwrap().to_be_bytes()));
            Event { key, value: Some(vec![0; 100]), revision: 1_000 }
        };
        news.events = (0..=ETCD_OPERATIONS_MAX_COUNT).map(event).collect();
    });
    two.watch().unwrap();
    assert_eq!((lies.loads(), two.etcd.pending.len()), (loads + 1, 0));
    lies.end();
    two.watch().unwrap();
    two.put("b", "2").unwrap();
}

#[test]
fn a_revision_that_is_not_so_is_made_good_by_reading_everything_once() {
    let shelf = made();
    let mut one = open(&shelf);
    let (mut two, lies) = open_lied_to(&shelf);
    one.put("a", "1").unwrap();
    lies.of_news(|news| news.events.iter_mut().for_each(|event| event.revision += 1 << 40));
    let loads = lies.loads();
    two.watch().unwrap();
    lies.end();
    // The change is authentic; of a majority one hears that it is of another revision.
    two.watch().unwrap();
    assert_eq!((two.told.len(), lies.loads()), (1, loads + 1));
    one.put("b", "2").unwrap();
    two.watch().unwrap();
    assert_eq!((&two.told, lies.loads()), (&one.told, loads + 1), "the watch goes on");
    two.put("c", "3").unwrap();
}

#[test]
fn who_says_again_and_again_that_the_state_is_another_one_does_not_keep_a_server_reading() {
    let shelf = made();
    let (mut two, lies) = open_lied_to(&shelf);
    two.put("a", "1").unwrap();
    lies.of_news(|news| {
        if let Some(pulse) = &mut news.pulse {
            pulse.head = 0;
        }
    });
    let first = lies.loads();
    for _ in 0..100 {
        let loads = lies.loads();
        two.watch().unwrap();
        if lies.loads() == loads {
            assert_eq!(two.condition(), Condition::Away, "it is told");
            assert_eq!(two.put("b", "2"), Err(AppendError::Away));
        }
    }
    // At once, and then after pauses that double: on the slowest machine a few.
    assert!(lies.loads() <= first + 10, "{} readings", lies.loads() - first);
}

#[test]
fn what_a_majority_says_is_there_and_the_watch_does_not_bring_is_read() {
    let shelf = made();
    let mut one = open(&shelf);
    let (mut two, lies) = open_lied_to(&shelf);
    let later = Arc::new(AtomicU64::new(0));
    let seconds = Arc::clone(&later);
    lies.of_news(move |news| {
        news.events.clear();
        if let Some(pulse) = &mut news.pulse {
            pulse.asked_nanos += seconds.load(Ordering::Relaxed) * 1_000_000_000;
        }
    });
    one.put("a", "1").unwrap();
    let loads = lies.loads();
    two.watch().unwrap();
    assert_eq!((two.told.len(), lies.loads()), (0, loads), "it may be on its way");
    later.store(6, Ordering::Relaxed);
    two.watch().unwrap();
    assert_eq!((&two.told, lies.loads()), (&one.told, loads + 1));
}
