//! The journal of `docs/FORMATS.md`, which another implementation made, is what this one writes and reads.

use std::collections::BTreeMap;

use quantonium::limits::JOURNAL_PAYLOAD_MAX_BYTES;
use quantonium::store::journal::format::{
    FRAME_HEADER_BYTES, FrameKeys, FrameKind, HEADER_BYTES, Header, Place,
};
use quantonium::store::journal::payload::{Commit, End, Item};
use quantonium::store::{Head, Kind, MasterKey, Record, RootKey, Witness};

use crate::scene::Scene;

const FORMATS: &str = include_str!("../../docs/FORMATS.md");

struct Example(BTreeMap<&'static str, Vec<u8>>);

impl Example {
    fn read() -> Self {
        let section = FORMATS.split("\n## Journal\n").nth(1).unwrap().split("\n## ").next().unwrap();
        let block = section.split("```example\n").nth(1).unwrap().split("\n```").next().unwrap();
        let hex = |text: &str| -> Vec<u8> {
            let digits = (0..text.len()).step_by(2);
            digits.map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
        };
        let lines = block.lines().map(|line| line.split_once(": ").unwrap());
        Self(lines.map(|(name, value)| (name, hex(value))).collect())
    }

    fn bytes(&self, name: &str) -> &[u8] {
        self.0.get(name).unwrap_or_else(|| panic!("no {name}"))
    }

    fn array<const N: usize>(&self, name: &str) -> [u8; N] {
        self.bytes(name).try_into().unwrap()
    }

    fn journal(&self) -> Vec<u8> {
        ["journal_header", "end_frame", "commit_frame"].map(|name| self.bytes(name)).concat()
    }
}

#[test]
fn the_example_journal_is_what_is_written() {
    let example = Example::read();
    let master = MasterKey::take(&mut example.array("master_key"));
    let root = RootKey::take(&mut example.array("root_key"));
    let (ring, file) = (example.array("ring"), example.array("file"));
    let header = Header::wrap(&master, &root, ring, file, example.array("wrap_nonce")).unwrap();
    assert_eq!(header.encode(), example.bytes("journal_header"));

    let keys = FrameKeys::new(&root).unwrap();
    let mut frame = Vec::new();
    End::encode(&mut frame, Head::default(), 0, [].iter()).unwrap();
    assert_eq!(frame[FRAME_HEADER_BYTES..], *example.bytes("end_payload"));
    let first = Place::first(&header);
    let second = keys.seal(&mut frame, FrameKind::End, &example.array("end_nonce"), &first).unwrap();
    assert_eq!(frame, example.bytes("end_frame"));

    let sealer = root.sealer(ring).unwrap();
    let path = sealer.path(Kind::Key, "orders");
    assert_eq!(path.as_bytes(), example.bytes("path"));
    let plaintext = example.bytes("record_plaintext");
    let sealed = sealer.seal(path, 1, &example.array("record_nonce"), plaintext).unwrap();
    assert_eq!(sealed, example.bytes("sealed_record"));
    let gone = sealer.path(Kind::ApiKey, "0a1b2c3d");
    assert_eq!(gone.as_bytes(), example.bytes("removed_path"));
    let records = [
        Record { path, revision: 1, sealed: Some(sealed) },
        Record { path: gone, revision: 1, sealed: None },
    ];
    Commit::encode(&mut frame, 1, &[example.array("origin")], records.iter().map(Item::from)).unwrap();
    assert_eq!(frame[FRAME_HEADER_BYTES..], *example.bytes("commit_payload"));
    let third = keys.seal(&mut frame, FrameKind::Commit, &example.array("commit_nonce"), &second).unwrap();
    assert_eq!(frame, example.bytes("commit_frame"));
    assert_eq!(third.link, example.bytes("head_tag"));
}

#[test]
fn the_example_journal_is_read() {
    let example = Example::read();
    let scene = Scene::created();
    scene.put(&example.journal());
    let master = MasterKey::take(&mut example.array("master_key"));
    let head = Head { revision: 1, tag: example.array("head_tag") };
    let opened = quantonium::store::Journal::open(scene.data_dir(), &master, Witness::default()).unwrap();
    let (mut journal, sealer) = (opened.journal, opened.root.sealer(opened.ring).unwrap());
    let mut found = Vec::new();
    let loaded = quantonium::store::Store::load(&mut journal, &mut |record| {
        if record.sealed.is_some() {
            found.push(sealer.open(&record)?.to_vec());
        }
        Ok(())
    });
    let loaded = loaded.unwrap();
    assert_eq!((loaded.head, loaded.recent), (head, vec![example.array("origin")]));
    assert_eq!(found, [example.bytes("record_plaintext")]);
}

#[test]
fn the_figures_of_the_page_are_those_of_the_code() {
    let digits = JOURNAL_PAYLOAD_MAX_BYTES.to_string();
    let (millions, rest) = digits.split_at(digits.len() - 6);
    let written = format!("at most {millions},{},{} ", &rest[..3], &rest[3..]);
    assert!(FORMATS.contains(written.trim_end()), "{written}");
    assert!(FORMATS.contains(&format!("SHA-256 over bytes 0 to {} |", HEADER_BYTES - 17)));
    assert!(FORMATS.contains(&format!("the {FRAME_HEADER_BYTES} bytes of the frame's header")));
}
