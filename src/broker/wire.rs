//! What passes between the keeper and the broker: frames of requests and of replies.
//!
//! Owns [`Request`], [`Answer`] and their bytes. A frame is its length (4, big-endian) and so many bytes. Invariants: a length that is not
//! checked is not believed; a frame that is longer than its bound ends the connection, and no answer becomes one; what passes is sealed, but for what reaches
//! etcd with.

use std::io::{self, ErrorKind, Read, Write};

use zeroize::Zeroizing;

use crate::limits::BROKER_FRAME_MAX_BYTES;
use crate::store::etcd::link::{
    Demand, Event, LinkError, Member, News, Page, Pair, Pulse, Span, Swap, Swapped,
};

/// What the keeper asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// A page.
    Read(Span),
    /// A transaction.
    Swap(Swap),
    /// What is to be told from now on.
    Follow {
        /// The first key.
        from: Vec<u8>,
        /// The first one that is not wanted.
        to: Vec<u8>,
        /// The head.
        head: Vec<u8>,
        /// From which revision on.
        at: u64,
    },
    /// What has come.
    News {
        /// The revision that is waited for.
        until: u64,
    },
    /// That this server lives.
    Join(Member),
}

/// What the broker answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// A page.
    Page(Page),
    /// What came of a transaction.
    Swapped(Swapped),
    /// It is so.
    Done,
    /// What has come.
    News(News),
    /// Why not.
    Failed(LinkError),
}

/// Writes a frame.
///
/// # Errors
/// What the writer says; `InvalidInput` for one that is too long.
pub fn send(to: &mut impl Write, bytes: &[u8]) -> io::Result<()> {
    let length = u32::try_from(bytes.len()).map_err(|_| ErrorKind::InvalidInput)?;
    if bytes.len() > BROKER_FRAME_MAX_BYTES {
        return Err(ErrorKind::InvalidInput.into());
    }
    to.write_all(&length.to_be_bytes())?;
    to.write_all(bytes)
}

/// Reads a frame; nothing if the other side has ended before it.
///
/// # Errors
/// What the reader says; `InvalidData` for a frame that would be too long, `UnexpectedEof` for one that was cut off.
pub fn receive(from: &mut impl Read) -> io::Result<Option<Zeroizing<Vec<u8>>>> {
    let mut length = [0; 4];
    let mut filled = 0;
    while filled < length.len() {
        match from.read(length.get_mut(filled..).unwrap_or_default()) {
            Ok(0) if filled == 0 => return Ok(None),
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(read) => filled += read,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
    if length > BROKER_FRAME_MAX_BYTES {
        return Err(ErrorKind::InvalidData.into());
    }
    let mut bytes = Zeroizing::new(vec![0; length]);
    from.read_exact(&mut bytes)?;
    Ok(Some(bytes))
}

/// Bytes that are being written.
#[derive(Default)]
pub(super) struct Writer(pub(super) Zeroizing<Vec<u8>>);

impl Writer {
    pub(super) fn byte(&mut self, byte: u8) -> &mut Self {
        self.0.push(byte);
        self
    }

    pub(super) fn number(&mut self, number: u64) -> &mut Self {
        self.0.extend_from_slice(&number.to_be_bytes());
        self
    }

    pub(super) fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.number(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
        self
    }

    fn list<T>(&mut self, of: &[T], mut each: impl FnMut(&mut Self, &T)) -> &mut Self {
        self.number(of.len() as u64);
        of.iter().for_each(|one| each(self, one));
        self
    }
}

/// Bytes that are being read.
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn byte(&mut self) -> Option<u8> {
        let (byte, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*byte)
    }

    pub(super) fn number(&mut self) -> Option<u64> {
        let (number, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u64::from_be_bytes(*number))
    }

    pub(super) fn bytes(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(self.number()?).ok()?;
        let (bytes, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(bytes)
    }

    pub(super) fn text(&mut self) -> Option<String> {
        core::str::from_utf8(self.bytes()?).ok().map(str::to_owned)
    }

    pub(super) fn list<T>(&mut self, mut each: impl FnMut(&mut Self) -> Option<T>) -> Option<Vec<T>> {
        let count = usize::try_from(self.number()?).ok()?;
        // Each has at least a byte, so that nobody has room made for more than there is.
        if count > self.0.len() {
            return None;
        }
        let mut list = Vec::with_capacity(count.min(1024));
        for _ in 0..count {
            list.push(each(self)?);
        }
        Some(list)
    }

    pub(super) const fn is_done(&self) -> bool {
        self.0.is_empty()
    }
}

impl Request {
    /// Its bytes.
    #[must_use]
    pub fn encode(&self) -> Zeroizing<Vec<u8>> {
        let mut to = Writer::default();
        match self {
            Self::Read(Span { from, to: until, at }) => to.byte(1).bytes(from).bytes(until).number(*at),
            Self::Swap(Swap { demands, removals, puts }) => to
                .byte(2)
                .list(demands, |to, Demand { key, is }| {
                    to.bytes(key);
                    match is {
                        None => to.byte(0),
                        Some((value, revision)) => to.byte(1).bytes(value).number(*revision),
                    };
                })
                .list(removals, |to, key| {
                    to.bytes(key);
                })
                .list(puts, |to, (key, value)| {
                    to.bytes(key).bytes(value);
                }),
            Self::Follow { from, to: until, head, at } => {
                to.byte(3).bytes(from).bytes(until).bytes(head).number(*at)
            }
            Self::News { until } => to.byte(4).number(*until),
            Self::Join(Member { key, value, id }) => to.byte(5).bytes(key).bytes(value).bytes(id),
        };
        to.0
    }

    /// Reads them.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let mut from = Reader(bytes);
        let request = match from.byte()? {
            1 => Self::Read(Span { from: vec(&mut from)?, to: vec(&mut from)?, at: from.number()? }),
            2 => Self::Swap(Swap {
                demands: from.list(|from| {
                    let key = vec(from)?;
                    let is = match from.byte()? {
                        0 => None,
                        1 => Some((vec(from)?, from.number()?)),
                        _ => return None,
                    };
                    Some(Demand { key, is })
                })?,
                removals: from.list(vec)?,
                puts: from.list(|from| Some((vec(from)?, vec(from)?)))?,
            }),
            3 => Self::Follow {
                from: vec(&mut from)?,
                to: vec(&mut from)?,
                head: vec(&mut from)?,
                at: from.number()?,
            },
            4 => Self::News { until: from.number()? },
            5 => Self::Join(Member {
                key: vec(&mut from)?,
                value: vec(&mut from)?,
                id: from.bytes()?.try_into().ok()?,
            }),
            _ => return None,
        };
        from.is_done().then_some(request)
    }
}

impl Answer {
    /// Its bytes, or if these were too many those of an answer that says so.
    #[must_use]
    pub fn into_frame(self) -> Zeroizing<Vec<u8>> {
        let bytes = self.encode();
        if bytes.len() <= BROKER_FRAME_MAX_BYTES {
            return bytes;
        }
        let why = || "its reply is too long".to_owned();
        let shorter = match self {
            Self::Page(_) | Self::Done | Self::Failed(_) => Self::Failed(LinkError::Refused(why())),
            // It may have been carried out.
            Self::Swapped(_) => Self::Failed(LinkError::Unknown(why())),
            Self::News(news) => Self::News(News { events: Vec::new(), more: false, gap: true, ..news }),
        };
        shorter.encode()
    }

    /// Its bytes.
    #[must_use]
    pub fn encode(&self) -> Zeroizing<Vec<u8>> {
        let mut to = Writer::default();
        match self {
            Self::Page(page) => put_page(to.byte(1), page),
            Self::Swapped(Swapped::Done { cluster, revision }) => {
                to.byte(2).number(*cluster).number(*revision)
            }
            Self::Swapped(Swapped::Lost(page)) => put_page(to.byte(3), page),
            Self::Swapped(Swapped::Doubtful(page)) => put_page(to.byte(7), page),
            Self::Done => to.byte(4),
            Self::News(News { events, more, gap, pulse, away }) => {
                to.byte(5).byte(u8::from(*more)).byte(u8::from(*gap)).byte(u8::from(*away));
                match pulse {
                    None => to.byte(0),
                    Some(Pulse { asked_nanos, head, cluster }) => {
                        to.byte(1).number(*asked_nanos).number(*head).number(*cluster)
                    }
                };
                to.list(events, |to, Event { key, value, revision }| {
                    to.bytes(key).number(*revision);
                    match value {
                        None => to.byte(0),
                        Some(value) => to.byte(1).bytes(value),
                    };
                })
            }
            Self::Failed(error) => {
                let (number, why) = match error {
                    LinkError::Away(why) => (0, why.as_str()),
                    LinkError::Unknown(why) => (1, why.as_str()),
                    LinkError::Full => (2, ""),
                    LinkError::Compacted => (3, ""),
                    LinkError::Refused(why) => (4, why.as_str()),
                };
                to.byte(6).byte(number).bytes(why.as_bytes())
            }
        };
        to.0
    }

    /// Reads them.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let mut from = Reader(bytes);
        let answer = match from.byte()? {
            1 => Self::Page(page(&mut from)?),
            2 => Self::Swapped(Swapped::Done { cluster: from.number()?, revision: from.number()? }),
            3 => Self::Swapped(Swapped::Lost(page(&mut from)?)),
            4 => Self::Done,
            7 => Self::Swapped(Swapped::Doubtful(page(&mut from)?)),
            5 => {
                let (more, gap, away) = (flag(&mut from)?, flag(&mut from)?, flag(&mut from)?);
                let pulse = if flag(&mut from)? {
                    let asked_nanos = from.number()?;
                    let (head, cluster) = (from.number()?, from.number()?);
                    Some(Pulse { asked_nanos, head, cluster })
                } else {
                    None
                };
                let events = from.list(|from| {
                    let (key, revision) = (vec(from)?, from.number()?);
                    let value = if flag(from)? { Some(vec(from)?) } else { None };
                    Some(Event { key, value, revision })
                })?;
                Self::News(News { events, more, gap, pulse, away })
            }
            6 => {
                let (number, why) = (from.byte()?, from.text()?);
                Self::Failed(match number {
                    0 => LinkError::Away(why),
                    1 => LinkError::Unknown(why),
                    2 if why.is_empty() => LinkError::Full,
                    3 if why.is_empty() => LinkError::Compacted,
                    4 => LinkError::Refused(why),
                    _ => return None,
                })
            }
            _ => return None,
        };
        from.is_done().then_some(answer)
    }
}

fn put_page<'a>(to: &'a mut Writer, page: &Page) -> &'a mut Writer {
    let Page { cluster, at, pairs, more } = page;
    to.number(*cluster).number(*at).byte(u8::from(*more)).list(pairs, |to, pair| {
        to.bytes(&pair.key).bytes(&pair.value).number(pair.revision);
    })
}

fn page(from: &mut Reader<'_>) -> Option<Page> {
    let (cluster, at, more) = (from.number()?, from.number()?, flag(from)?);
    let pairs = from.list(|from| {
        let (key, value) = (vec(from)?, vec(from)?);
        Some(Pair { key, value, revision: from.number()? })
    })?;
    Some(Page { cluster, at, pairs, more })
}

fn vec(from: &mut Reader<'_>) -> Option<Vec<u8>> {
    from.bytes().map(<[u8]>::to_vec)
}

fn flag(from: &mut Reader<'_>) -> Option<bool> {
    match from.byte()? {
        0 => Some(false),
        1 => Some(true),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn requests() -> Vec<Request> {
        let key = || b"k".to_vec();
        vec![
            Request::Read(Span { from: key(), to: Vec::new(), at: 7 }),
            Request::Swap(Swap {
                demands: vec![Demand { key: key(), is: None }, Demand { key: key(), is: Some((key(), 9)) }],
                removals: vec![key()],
                puts: vec![(key(), vec![0; 300])],
            }),
            Request::Follow { from: key(), to: key(), head: key(), at: u64::MAX },
            Request::News { until: 3 },
            Request::Join(Member { key: key(), value: key(), id: [1; 4] }),
        ]
    }

    fn answers() -> Vec<Answer> {
        let pair = Pair { key: b"k".to_vec(), value: b"v".to_vec(), revision: 2 };
        let page = Page { cluster: 1, at: 2, pairs: vec![pair], more: true };
        let event = |value| Event { key: b"k".to_vec(), value, revision: 2 };
        let events = vec![event(None), event(Some(b"v".to_vec()))];
        let pulse = Some(Pulse { asked_nanos: 1, head: 2, cluster: 4 });
        let text = || "why".to_owned();
        let errors = [
            LinkError::Away(text()),
            LinkError::Unknown(text()),
            LinkError::Full,
            LinkError::Compacted,
            LinkError::Refused(text()),
        ];
        let mut all = vec![
            Answer::Page(page.clone()),
            Answer::Swapped(Swapped::Done { cluster: 1, revision: 2 }),
            Answer::Swapped(Swapped::Lost(page.clone())),
            Answer::Swapped(Swapped::Doubtful(page)),
            Answer::Done,
            Answer::News(News { events, more: true, gap: true, pulse, away: true }),
            Answer::News(News::default()),
        ];
        all.extend(errors.map(Answer::Failed));
        all
    }

    #[test]
    fn what_is_sent_is_what_is_received_and_a_cut_or_longer_frame_is_none() {
        for request in requests() {
            let bytes = request.encode();
            assert_eq!(Request::decode(&bytes), Some(request));
            for end in 0..bytes.len() {
                assert_eq!(Request::decode(&bytes[..end]), None);
            }
            assert_eq!(Request::decode(&[bytes.as_slice(), &[0]].concat()), None);
        }
        for answer in answers() {
            let bytes = answer.encode();
            assert_eq!(Answer::decode(&bytes), Some(answer));
            for end in 0..bytes.len() {
                assert_eq!(Answer::decode(&bytes[..end]), None);
            }
            assert_eq!(Answer::decode(&[bytes.as_slice(), &[0]].concat()), None);
        }
    }

    #[test]
    fn an_answer_that_is_longer_than_a_frame_becomes_one_that_says_so() {
        let pair = Pair { key: vec![1; 64], value: vec![2; BROKER_FRAME_MAX_BYTES], revision: 3 };
        let page = Page { pairs: vec![pair], ..Page::default() };
        let event = Event { key: vec![1], value: Some(vec![2; BROKER_FRAME_MAX_BYTES]), revision: 3 };
        let pulse = Some(Pulse { head: 9, ..Pulse::default() });
        let news = News { events: vec![event], more: true, pulse, ..News::default() };
        let sent = |answer: Answer| {
            let mut frames = Vec::new();
            send(&mut frames, &answer.into_frame()).unwrap();
            Answer::decode(&receive(&mut frames.as_slice()).unwrap().unwrap()).unwrap()
        };
        assert!(matches!(sent(Answer::Page(page.clone())), Answer::Failed(LinkError::Refused(_))));
        let lost = Answer::Swapped(Swapped::Lost(page));
        assert!(matches!(sent(lost), Answer::Failed(LinkError::Unknown(_))), "it may have been carried out");
        assert_eq!(sent(Answer::News(news)), Answer::News(News { gap: true, pulse, ..News::default() }));
        assert_eq!(sent(Answer::Done), Answer::Done);
    }

    #[test]
    fn a_length_is_not_believed() {
        let huge = [&[2][..], &u64::MAX.to_be_bytes()].concat();
        assert_eq!(Request::decode(&huge), None);
        let mut frames = Vec::new();
        send(&mut frames, b"one").unwrap();
        frames.extend_from_slice(&u32::MAX.to_be_bytes());
        let mut rest = frames.as_slice();
        assert_eq!(receive(&mut rest).unwrap().unwrap().as_slice(), b"one");
        assert_eq!(receive(&mut rest).unwrap_err().kind(), ErrorKind::InvalidData);
        assert!(receive(&mut [].as_slice()).unwrap().is_none());
        assert!(receive(&mut [0, 0].as_slice()).is_err());
        assert!(receive(&mut [0, 0, 0, 2, 1].as_slice()).is_err());
    }
}
