//! Journals: as bytes, as payloads, and as files with frames that are authentic and hostile all the same.
//!
//! Owns the data directory in which they are opened, one for each thread. Invariant: frames are sealed with the key that
//! the header holds, so that what stands behind the seal is reached too.

use std::cell::RefCell;
use std::fs;
use std::path::PathBuf;

use quantonium::clock::Moment;
use quantonium::crypto::random::{Generator, Kernel};
use quantonium::store::journal::format::{
    FRAME_HEADER_BYTES, FrameHeader, FrameKeys, FrameKind, HEADER_BYTES, Header, Place,
};
use quantonium::store::journal::payload::{Batch, Commit, End, Item, Items};
use quantonium::store::{DataDir, Head, Journal, MasterKey, Origin, Record, RootKey, Store as _, Witness};

use super::split_choice;

const MASTER: [u8; 32] = *b"the master key of the fuzz tests";

fn master_key() -> MasterKey {
    let mut bytes = MASTER;
    MasterKey::take(&mut bytes)
}

/// What stands in a file before its first frame, and what seals that.
struct Desk {
    path: PathBuf,
    data_dir: DataDir,
    header: Header,
    keys: FrameKeys,
}

impl Desk {
    fn open() -> Self {
        let memory = PathBuf::from("/dev/shm");
        let parent = if memory.is_dir() { memory } else { std::env::temp_dir() };
        let thread = format!("{:?}", std::thread::current().id());
        let number: String = thread.chars().filter(char::is_ascii_digit).collect();
        let path = parent.join(format!("quantonium-fuzz-{}-{number}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        let data_dir = DataDir::open(&path, None).unwrap();
        let mut random = Generator::new(Kernel, Moment::now()).unwrap();
        let master = master_key();
        Journal::create(&data_dir, &master, &mut random).unwrap();
        let root = RootKey::take(&mut [3; 32]);
        let header = Header::wrap(&master, &root, [1; 16], [2; 16], [4; 24]).unwrap();
        Self { path, data_dir, header, keys: FrameKeys::new(&root).unwrap() }
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}

thread_local! {
    static DESK: RefCell<Option<Desk>> = const { RefCell::new(None) };
}

/// A journal of hostile bytes: it opens or is refused, and what it says then it says again.
pub(super) fn journal(data: &[u8]) {
    let (choice, bytes) = split_choice(data);
    match choice % 4 {
        0 => payloads(bytes),
        1 => DESK.with_borrow_mut(|desk| load(desk.get_or_insert_with(Desk::open), bytes)),
        2 => DESK.with_borrow_mut(|desk| {
            let desk = desk.get_or_insert_with(Desk::open);
            load(desk, &[&desk.header.encode(), bytes].concat());
        }),
        _ => DESK.with_borrow_mut(|desk| {
            let desk = desk.get_or_insert_with(Desk::open);
            load(desk, &sealed(desk, bytes));
        }),
    }
}

/// A file with a frame for each piece: a byte for its kind, two for its length. What does not fit stands at the end as it
/// is.
fn sealed(desk: &Desk, mut plan: &[u8]) -> Vec<u8> {
    let mut file = desk.header.encode().to_vec();
    let mut place = Place::first(&desk.header);
    while let Some(([kind, high, low], rest)) = plan.split_first_chunk::<3>() {
        let kind = match kind {
            b'S' => FrameKind::Snapshot,
            b'E' => FrameKind::End,
            b'C' => FrameKind::Commit,
            _ => break,
        };
        let Some((payload, rest)) = rest.split_at_checked(usize::from(u16::from_be_bytes([*high, *low])))
        else {
            break;
        };
        let mut frame = [&[0; FRAME_HEADER_BYTES][..], payload].concat();
        place = desk.keys.seal(&mut frame, kind, &[6; 24], &place).unwrap();
        file.extend_from_slice(&frame);
        plan = rest;
    }
    file.extend_from_slice(plan);
    file
}

fn load(desk: &Desk, file: &[u8]) {
    let path = desk.path.join("journal");
    fs::write(&path, file).unwrap();
    let master = master_key();
    let report = Journal::verify(&desk.data_dir, &master);
    let first = records(desk, &master);
    let Ok((head, records_count, torn)) = first else {
        let left = fs::read(&path).unwrap();
        return assert!(left == file, "what is refused is not touched");
    };
    let report = report.expect("what opens can be verified");
    assert_eq!((report.head, report.damages_count), (head, 0));
    assert_eq!(report.torn.is_some(), torn);
    let kept = fs::read(&path).unwrap();
    assert!(file.starts_with(&kept) && (torn || kept == file), "nothing but the unfinished end is cut off");
    assert_eq!(
        records(desk, &master).ok(),
        Some((head, records_count, false)),
        "what opened once opens again"
    );
}

/// Where the journal stands, how many records it delivers, and whether an unfinished end was cut off.
fn records(desk: &Desk, master: &MasterKey) -> Result<(Head, usize, bool), ()> {
    let mut opened = Journal::open(&desk.data_dir, master, Witness::default()).map_err(drop)?;
    let mut count = 0;
    let mut take = |_: Record| {
        count += 1;
        Ok(())
    };
    let loaded = opened.journal.load(&mut take).map_err(drop)?;
    Ok((loaded.head, count, loaded.torn.is_some()))
}

/// Headers and payloads: what is read is written back as it was.
fn payloads(bytes: &[u8]) {
    if let Ok(header) = Header::parse(bytes) {
        assert_eq!(header.encode(), bytes[..HEADER_BYTES]);
    }
    if let Some(header) = bytes.first_chunk().and_then(FrameHeader::parse) {
        assert_eq!(bytes[9..17], header.seq.to_be_bytes());
    }
    if let Some(commit) = Commit::decode(bytes) {
        let items: Vec<Item<'_>> = commit.items.collect();
        let mut frame = Vec::new();
        Commit::encode(&mut frame, commit.revision, &origins(commit.origins), items.into_iter()).unwrap();
        assert_eq!(frame[FRAME_HEADER_BYTES..], *bytes);
    }
    if let Some(end) = End::decode(bytes) {
        let mut frame = Vec::new();
        End::encode(&mut frame, end.head, end.records, origins(end.origins).iter()).unwrap();
        assert_eq!(frame[FRAME_HEADER_BYTES..], *bytes);
    }
    if let Some(items) = Items::decode(bytes) {
        let mut batch = Batch::new(Vec::new());
        assert_eq!(items.count(), usize::try_from(items.left()).unwrap());
        items.for_each(|item| batch.push(item).unwrap());
        assert_eq!(batch.len(), bytes.len());
        assert_eq!(batch.finish()[FRAME_HEADER_BYTES..], *bytes);
    }
}

fn origins(bytes: &[u8]) -> Vec<Origin> {
    bytes.chunks(size_of::<Origin>()).map(|origin| origin.try_into().unwrap()).collect()
}
