//! Streams that somebody has changed: none of them opens to its end, and the client can tell.

use crate::peer::{self, FRAMINGS};
use crate::{CHUNK, HEADER, TAG, audit_lines, plaintext, seal, start};

const SEALED: usize = CHUNK + TAG;

/// Changes of a stream of three chunks, with how many chunks may come out before the change is seen.
fn forgeries(sealed: &[u8], other: &[u8]) -> Vec<(&'static str, Vec<u8>, usize)> {
    let chunk = |index: usize| HEADER + index * SEALED..(HEADER + (index + 1) * SEALED).min(sealed.len());
    let of = |indexes: &[usize]| {
        let chunks = indexes.iter().flat_map(|index| sealed[chunk(*index)].to_vec());
        sealed[..HEADER].iter().copied().chain(chunks).collect::<Vec<u8>>()
    };
    let flipped = |at: usize| {
        let mut forged = sealed.to_vec();
        forged[at] ^= 0x10;
        forged
    };
    let mut all = vec![
        ("nothing", Vec::new(), 0),
        ("half a header", sealed[..HEADER / 2].to_vec(), 0),
        ("a header alone", sealed[..HEADER].to_vec(), 0),
        ("half a chunk", sealed[..HEADER + SEALED / 2].to_vec(), 0),
        ("one chunk", of(&[0]), 0),
        ("two chunks", of(&[0, 1]), 1),
        ("without its last byte", sealed[..sealed.len() - 1].to_vec(), 2),
        ("two chunks swapped", of(&[1, 0, 2]), 0),
        ("the later ones swapped", of(&[0, 2, 1]), 1),
        ("a chunk twice", of(&[0, 0, 1, 2]), 1),
        ("without its first chunk", of(&[1, 2]), 0),
        ("without its second chunk", of(&[0, 2]), 1),
        ("a byte more", [sealed, &[0]].concat(), 2),
        ("a chunk more", of(&[0, 1, 2, 2]), 2),
        ("another stream behind it", [sealed, other].concat(), 2),
        ("under another header", [&other[..HEADER], &sealed[HEADER..]].concat(), 0),
        (
            "with another's second chunk",
            [&sealed[..chunk(1).start], &other[chunk(1)], &sealed[chunk(2)]].concat(),
            1,
        ),
    ];
    for at in (0..HEADER).step_by(5) {
        all.push(("a bit of the header", flipped(at), 0));
    }
    for (index, opened) in [(0, 0), (1, 1), (2, 2)] {
        let range = chunk(index);
        all.push(("a bit of a ciphertext", flipped(range.start + 77), opened));
        all.push(("a bit of a tag", flipped(range.end - 1), opened));
    }
    all
}

#[test]
fn no_forged_stream_passes_for_a_whole_one() {
    let Some(server) = start(&[]) else { return };
    let plain = plaintext(2 * CHUNK + 500);
    let sealed = seal(&server, &plain, FRAMINGS[0]);
    let other = seal(&server, &plain, FRAMINGS[0]);
    assert!(sealed[HEADER..] != other[HEADER..], "each stream has a key of its own");
    let mut cut_short = 0;
    for (name, forged, chunks) in forgeries(&sealed, &other) {
        for framing in FRAMINGS {
            let reply = peer::stream(&server, "/api/stream/decrypt?key=k", &forged, framing);
            if reply.is_problem(400, "decryption_failed") {
                continue;
            }
            assert!(chunks > 0, "{name} {framing:?}: {reply:?}");
            assert!(reply.is_cut(), "{name} {framing:?}: {reply:?}");
            // The reset may overtake what was sent before.
            let right = plain[..chunks * CHUNK].starts_with(&reply.body);
            assert!(right, "{name} {framing:?}: {} bytes", reply.body.len());
            cut_short += 1;
        }
    }
    assert!(cut_short > 10, "{cut_short}");
    let mut failed = audit_lines(&server, "\"outcome\":\"failure\"");
    // What the system denies is told at the start, and that a tracer is there by the first look.
    failed.retain(|line| line["event"] != "sandbox.skipped" && line["event"] != "integrity.finding");
    assert!(failed.len() > cut_short);
    for line in &failed {
        assert!(line["code"] == "decryption_failed" && line["event"] == "stream.decrypt", "{line}");
    }
    let told = failed.iter().filter(|line| line["status"] == 200).count();
    assert_eq!(told, cut_short, "each that was cut short has its line");
}

#[test]
fn a_refusal_is_read_although_the_body_is_still_coming() {
    let Some(server) = start(&[]) else { return };
    let sealed = seal(&server, &plaintext(20 << 20), FRAMINGS[0]);
    for framing in FRAMINGS {
        let target = "/api/stream/decrypt?key=k&associated_data=YWJj";
        let reply = peer::stream(&server, target, &sealed, framing);
        assert!(reply.is_problem(400, "decryption_failed"), "{framing:?}: {reply:?}");
    }
}

#[test]
fn another_key_and_another_version_do_not_open() {
    let Some(server) = start(&[]) else { return };
    let made = server.ask(crate::Request::post("/api/keys", r#"{"name":"other"}"#));
    assert_eq!(made.status, 201);
    let plain = plaintext(CHUNK);
    let sealed = seal(&server, &plain, FRAMINGS[0]);
    let reply = peer::stream(&server, "/api/stream/decrypt?key=other", &sealed, FRAMINGS[0]);
    assert!(reply.is_problem(400, "decryption_failed"), "{reply:?}");
    assert_eq!(server.ask(crate::Request::post("/api/keys/k/rotate", "{}")).status, 200);
    let reply = peer::stream(&server, "/api/stream/decrypt?key=k", &sealed, FRAMINGS[0]);
    assert!(reply.complete && reply.body == plain, "an older version still opens: {reply:?}");
    let newer = peer::stream(&server, "/api/stream/encrypt?key=k", &plain, FRAMINGS[0]);
    assert_eq!(newer.field("X-Key-Version"), Some("2"));
    let older = peer::stream(&server, "/api/stream/encrypt?key=k&key_version=1", &plain, FRAMINGS[0]);
    assert_eq!(older.field("X-Key-Version"), Some("1"));
    let mut renamed = sealed;
    renamed[7] = 2;
    let reply = peer::stream(&server, "/api/stream/decrypt?key=k", &renamed, FRAMINGS[0]);
    assert!(reply.is_problem(400, "decryption_failed"), "{reply:?}");
}
