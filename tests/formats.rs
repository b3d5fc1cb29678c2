//! The documents of formats and of the API are true to the code.
//!
//! Owns the reading of `example` blocks in `docs/FORMATS.md` and of the tables in `docs/API.md`. What the examples of
//! cryptography hold was made by other implementations, so that these tests compare two programs and not one with itself.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by a panic, its helping functions too")]

#[path = "formats/chain.rs"]
mod chain;
#[path = "formats/own.rs"]
mod own;
#[path = "formats/vault.rs"]
mod vault_paths;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use proc_macro2::{Delimiter, Group, TokenStream, TokenTree};
use quantonium::api::route::TABLE;
use quantonium::audit::StreamName;
use quantonium::audit::chain::Root;
use quantonium::audit::line::{self, Bytes, Detail, Event, Items, Outcome, Own, Request, StoreMark};
use quantonium::auth::api_key;
use quantonium::clock::WallTime;
use quantonium::crypto::aead::{self, Algorithm, TAG_BYTES};
use quantonium::crypto::envelope::{self, Form};
use quantonium::crypto::mac::MacKey;
use quantonium::crypto::stream::{self, Binding, Opener, Sealer};
use quantonium::crypto::{hash, kdf, keystream, signature};
use quantonium::encoding::base64_decode_to_vec;
use quantonium::keyring::{
    decode_key, decode_uses, encode_key, encode_uses, open_backup, read_plain_backup, seal_backup,
    write_plain_backup,
};
use quantonium::model::{KeyOptions, KeyType, Policy, RequestId, TraceParent, VersionState};
use quantonium::secret::Secret;

const FORMATS: &str = include_str!("../docs/FORMATS.md");
const API: &str = include_str!("../docs/API.md");

type Example = BTreeMap<&'static str, &'static str>;

/// The examples that have a line of this name.
fn examples(name: &str) -> Vec<Example> {
    let blocks = FORMATS.split("\n```example\n").skip(1);
    let inner = blocks.map(|rest| rest.split("\n```").next().unwrap());
    let read =
        inner.map(|block| block.lines().map(|line| line.split_once(": ").unwrap()).collect::<Example>());
    let found: Vec<Example> = read.filter(|example| example.contains_key(name)).collect();
    assert!(!found.is_empty(), "no example of {name}");
    found
}

fn hex(text: &str) -> Vec<u8> {
    assert!(text.len().is_multiple_of(2), "{text}");
    (0..text.len() / 2).map(|at| u8::from_str_radix(&text[2 * at..2 * at + 2], 16).unwrap()).collect()
}

fn algorithm(example: &Example) -> Algorithm {
    match example["algorithm"] {
        "xchacha20-poly1305" => Algorithm::XChaCha20Poly1305,
        "chacha20-poly1305" => Algorithm::ChaCha20Poly1305,
        other => panic!("{other}"),
    }
}

#[test]
fn the_example_ciphertexts_are_what_sealing_gives() {
    let examples = examples("ciphertext");
    for example in &examples {
        let [key, nonce, aad, mut data] =
            ["key", "nonce", "associated_data", "plaintext"].map(|name| hex(example[name]));
        let version: u32 = example["version"].parse().unwrap();
        let key: [u8; 32] = key.try_into().unwrap();
        let tag = aead::seal(algorithm(example), &key, &nonce, &aad, &mut data).unwrap();
        assert_eq!(data, hex(example["ciphertext"]));
        assert_eq!(tag.as_slice(), hex(example["tag"]));

        let mut text = vec![0; envelope::text_len(version, algorithm(example), data.len()).unwrap()];
        let prefix = envelope::write_text_prefix(&mut text, version).unwrap();
        let body = envelope::write_text_body(&mut text[prefix..], &nonce, &data, &tag).unwrap();
        assert_eq!(prefix + body, text.len());
        assert_eq!(str::from_utf8(&text).unwrap(), example["text"]);

        let mut binary = vec![0; envelope::BINARY_HEADER_BYTES];
        envelope::write_binary_header(&mut binary, version).unwrap();
        binary.extend([&nonce[..], &data, &tag].concat());
        assert_eq!(Some(binary.len()), envelope::binary_len(algorithm(example), data.len()));
        assert_eq!(binary, hex(example["binary"]));
    }
    let used: BTreeSet<&str> = examples.iter().map(|example| example["algorithm"]).collect();
    assert_eq!(used.len(), 2, "both algorithms have an example");
}

#[test]
fn the_example_ciphertexts_open_from_either_form() {
    for example in examples("ciphertext") {
        let version: u32 = example["version"].parse().unwrap();
        let (text, binary) = (example["text"].as_bytes(), hex(example["binary"]));
        assert_eq!(envelope::recognise(text), Some(Form::Text));
        assert_eq!(envelope::recognise(&binary), Some(Form::Binary));
        let (read, body) = envelope::parse_text(text).unwrap();
        assert_eq!(read, version);
        opens(&example, &base64_decode_to_vec(body).unwrap());
        let (read, body) = envelope::parse_binary(&binary).unwrap();
        assert_eq!(read, version);
        opens(&example, body);
        let vault = example["text"].replace("quantonium:", "vault:");
        assert_eq!(envelope::parse_text(vault.as_bytes()), envelope::parse_text(text));
    }
}

fn opens(example: &Example, body: &[u8]) {
    let key: [u8; 32] = hex(example["key"]).try_into().unwrap();
    let aad = hex(example["associated_data"]);
    let mut body = body.to_vec();
    let mut forged = body.clone();
    let (nonce, data, tag) = envelope::split_body(algorithm(example), &mut body).unwrap();
    let tag: &[u8; TAG_BYTES] = tag;
    aead::open(algorithm(example), &key, nonce, &aad, data, tag).unwrap();
    assert_eq!(data, hex(example["plaintext"]));
    let (nonce, data, tag) = envelope::split_body(algorithm(example), &mut forged).unwrap();
    assert!(aead::open(algorithm(example), &key, nonce, b"another place", data, tag).is_err());
}

#[test]
fn the_example_ciphertexts_of_derived_keys_open_under_the_derived_key() {
    for mut example in examples("derived_key") {
        let enc: [u8; 32] = hex(example["key"]).try_into().unwrap();
        let derived = kdf::derived_key(&enc, &hex(example["context"])).unwrap();
        assert!(derived.matches(&hex(example["derived_key"]).try_into().unwrap()));
        example.insert("key", example["derived_key"]);
        let (version, body) = envelope::parse_text(example["text"].as_bytes()).unwrap();
        assert_eq!(version.to_string(), example["version"]);
        let body = base64_decode_to_vec(body).unwrap();
        opens(&example, &body);
        assert_eq!(envelope::parse_binary(&hex(example["binary"])), Some((version, body.as_slice())));
    }
}

/// A value in hexadecimal, empty if the example does not have it.
fn value(example: &Example, name: &str) -> Vec<u8> {
    example.get(name).map_or_else(Vec::new, |text| hex(text))
}

/// The plaintext of a stream: as it stands, or so many bytes 00 to fa over and over.
fn streamed(example: &Example) -> Vec<u8> {
    let counted = example.get("plaintext_bytes").map(|len| len.parse().unwrap());
    counted.map_or_else(|| value(example, "plaintext"), |len| (0..=250).cycle().take(len).collect())
}

#[test]
fn the_example_streams_are_what_sealing_gives_and_open() {
    for example in examples("file_key") {
        let [context, associated_data] = ["context", "associated_data"].map(|name| value(&example, name));
        let binding = Binding { context: &context, associated_data: &associated_data };
        let sub: [u8; 32] = hex(example["sub_key"]).try_into().unwrap();
        let salt = hex(example["salt"]).try_into().unwrap();
        let version: u32 = example["version"].parse().unwrap();
        let plaintext = streamed(&example);

        let (mut sealer, header) = Sealer::new(&sub, version, salt, binding).unwrap();
        assert_eq!(header.as_slice(), hex(example["header"]));
        let mut made = header.to_vec();
        let chunks: Vec<&[u8]> = plaintext.chunks(stream::CHUNK_BYTES).collect();
        for (at, chunk) in chunks.iter().enumerate() {
            let mut chunk = chunk.to_vec();
            let tag = sealer.seal(&mut chunk, at + 1 == chunks.len()).unwrap();
            made.extend(chunk.iter().chain(&tag));
        }
        assert_eq!(stream::sealed_len(plaintext.len() as u64), Some(made.len() as u64));
        match example.get("stream") {
            Some(stream) => assert_eq!(made, hex(stream)),
            None => {
                assert!(made.ends_with(&hex(example["last_chunk"])));
                assert_eq!(hash::sha256(&[&made]).as_slice(), hex(example["stream_sha256"]));
            }
        }

        assert_eq!(stream::header_version(&header), Some(version));
        let mut opener = Opener::new(&sub, &header, binding).unwrap();
        let mut opened = Vec::new();
        let sealed = &mut made[stream::HEADER_BYTES..];
        for (at, chunk) in sealed.chunks_mut(stream::SEALED_CHUNK_BYTES).enumerate() {
            opened.extend_from_slice(opener.open(chunk, at + 1 == chunks.len()).unwrap());
        }
        assert!(opener.is_finished());
        assert!(opened == plaintext);
    }
}

/// The key that the page gives beside the stream is the one that seals it.
#[test]
fn the_example_file_keys_open_their_last_chunks() {
    for example in examples("file_key") {
        let key: [u8; 32] = hex(example["file_key"]).try_into().unwrap();
        let plaintext = streamed(&example);
        let last_number = plaintext.len() / stream::CHUNK_BYTES;
        let mut nonce = [0; 12];
        nonce[10] = last_number.try_into().unwrap();
        nonce[11] = 1;
        let mut chunk = example
            .get("last_chunk")
            .map_or_else(|| hex(example["stream"])[stream::HEADER_BYTES..].to_vec(), |chunk| hex(chunk));
        let (data, tag) = chunk.split_last_chunk_mut::<TAG_BYTES>().unwrap();
        aead::open(Algorithm::ChaCha20Poly1305, &key, &nonce, &[], data, tag).unwrap();
        assert_eq!(data, &plaintext[last_number * stream::CHUNK_BYTES..]);
    }
}

#[test]
fn the_example_keystreams_are_what_is_drawn() {
    for example in examples("keystream") {
        let sub: [u8; 32] = hex(example["sub_key"]).try_into().unwrap();
        let nonce = hex(example["nonce"]).try_into().unwrap();
        let wanted = hex(example["keystream"]);
        let mut drawn = vec![0; wanted.len()];
        let version = example["version"].parse().unwrap();
        keystream::fill(&sub, version, &value(&example, "context"), &nonce, &mut drawn).unwrap();
        assert_eq!(drawn, wanted);
    }
}

#[test]
fn the_example_signatures_are_what_signing_gives() {
    let examples = examples("signature");
    for example in &examples {
        let algorithm = match example["hash"] {
            "sha256" => hash::Algorithm::Sha256,
            "sha384" => hash::Algorithm::Sha384,
            "sha512" => hash::Algorithm::Sha512,
            other => panic!("{other}"),
        };
        let version: u32 = example["version"].parse().unwrap();
        let tag = MacKey::new(algorithm, &hex(example["hmac_key"])).tag(&[&hex(example["input"])]);
        let mut text = vec![0; signature::text_len(version, algorithm).unwrap()];
        assert_eq!(signature::write_text(&mut text, version, &tag), Some(text.len()));
        assert_eq!(str::from_utf8(&text).unwrap(), example["signature"]);
        let (read, presented) = signature::parse_text(example["signature"].as_bytes()).unwrap();
        assert_eq!(read, version);
        assert!(tag.matches(presented.as_bytes()));
    }
    let used: BTreeSet<&str> = examples.iter().map(|example| example["hash"]).collect();
    assert_eq!(used.len(), 3, "every hash has an example");
}

#[test]
fn the_example_key_record_is_read_as_described_and_written_the_same() {
    for example in examples("key_record") {
        let record = hex(example["key_record"]);
        let key = decode_key(&record).unwrap();
        assert_eq!(*encode_key(&key), record);
        assert_eq!(key.name().as_str(), example["name"]);
        assert_eq!(key.created().as_millis().to_string(), example["created_millis"]);
        assert_eq!(key.created().civil().to_string(), "2026-11-22T17:05:11.715Z");
        let options = KeyOptions {
            exportable: true,
            plaintext_backup: true,
            ..KeyOptions::of(KeyType::XChaCha20Poly1305)
        };
        let policy = Policy {
            min_decryption_version: 2,
            auto_rotate_seconds: 30 * 86_400,
            deletion_allowed: true,
            ..Policy::default()
        };
        assert_eq!((key.options(), key.policy(), key.deletion()), (&options, &policy, None));
        let states: Vec<_> = key.versions().map(|version| (version.number(), version.state())).collect();
        assert_eq!(states, [(1, VersionState::Destroyed), (2, VersionState::Enabled)]);
        let second = key.version(2).unwrap();
        assert_eq!(second.created().as_millis() - key.created().as_millis(), 3_600_000);
        let of = |first: u8| core::array::from_fn(|index| first + u8::try_from(index).unwrap());
        assert_eq!(second.with_encryption_key(|key| *key), Some(of(0)));
        assert_eq!(second.with_sub_key(|key| *key), Some(of(64)));
        let mac = MacKey::new(hash::Algorithm::Sha256, &of(32)).tag(&[b"message"]);
        assert!(second.sign(key.kind(), b"message").unwrap().matches(mac.as_bytes()));
    }
}

#[test]
fn the_example_use_figures_belong_to_the_example_key() {
    let key = decode_key(&hex(examples("key_record")[0]["key_record"])).unwrap();
    for example in examples("use_figures") {
        let record = hex(example["use_figures"]);
        let key = key.with_uses(&decode_uses(&record).unwrap());
        let uses = key.version(example["version"].parse().unwrap()).unwrap().uses();
        assert_eq!(uses.reserved().to_string(), example["reserved"]);
        assert_eq!(uses.operations().to_string(), example["operations"]);
        assert_eq!(uses.last().unwrap().as_secs().to_string(), example["last_second"]);
        assert_eq!(encode_uses(&key), record);
    }
}

#[test]
fn the_example_backups_hold_the_example_key() {
    let record = hex(examples("key_record")[0]["key_record"]);
    for example in examples("sealed_backup") {
        let [backup_key, id, nonce] = ["backup_key", "backup_key_id", "nonce"].map(|name| hex(example[name]));
        let backup_key: [u8; 32] = backup_key.try_into().unwrap();
        let key = open_backup(example["sealed_backup"], &backup_key).unwrap();
        assert_eq!(*encode_key(&key), record);
        let sealed = seal_backup(&key, &backup_key, &nonce.try_into().unwrap()).unwrap();
        assert_eq!(sealed, example["sealed_backup"]);
        let bytes = base64_decode_to_vec(sealed.split(':').nth(2).unwrap().as_bytes()).unwrap();
        assert_eq!(bytes[4..12], id);
        assert_eq!(write_plain_backup(&key).unwrap().as_str(), example["plain_backup"]);
        assert_eq!(*encode_key(&read_plain_backup(example["plain_backup"]).unwrap()), record);
    }
}

#[test]
fn the_example_api_key_is_of_the_form() {
    for example in examples("api_key") {
        let text = example["api_key"];
        let presented = api_key::parse(text.as_bytes()).unwrap();
        assert_eq!(presented.id, example["id"].as_bytes());
        assert_eq!(presented.secret.as_slice(), hex(example["secret"]));
        let mut draws = vec![hex(example["secret"]), hex(example["id"])];
        let made = api_key::generate(|target| {
            target.copy_from_slice(&draws.pop().ok_or("a third draw")?);
            Ok::<(), &str>(())
        });
        assert_eq!(made.unwrap().as_str(), text);
        assert!(FORMATS.contains(&format!("{} characters in all", text.len())));
        // The last character carries four bits: another one with the same four would be a second spelling.
        let respelt = format!("{}9", text.trim_end_matches('8'));
        assert!(api_key::parse(respelt.as_bytes()).is_none());
    }
}

/// The members of a line, in their order.
fn members(line: &str) -> Vec<String> {
    // No value of the examples holds a quotation mark.
    let quoted = line.split('"').skip(1).step_by(2);
    let rest: Vec<&str> = line.split('"').skip(2).step_by(2).collect();
    quoted.zip(rest).filter(|(_, after)| after.starts_with(':')).map(|(name, _)| name.to_owned()).collect()
}

fn documented_members() -> Vec<&'static str> {
    let section = FORMATS.split("## Audit line").nth(1).unwrap().split("\n## ").next().unwrap();
    let rows = section.lines().filter(|line| line.starts_with("| `"));
    rows.flat_map(|row| row.split('|').nth(1).unwrap().split('`').skip(1).step_by(2)).collect()
}

#[test]
fn the_example_audit_line_is_what_is_written() {
    for example in examples("audit") {
        let start = u64::from_str_radix(example["worker_start"], 16).unwrap();
        let id = RequestId::new(start, example["worker_count"].parse().unwrap());
        let at = WallTime::from_millis(example["at_millis"].parse().unwrap());
        let request = Request {
            id: &id,
            principal: Some("cd5d575f"),
            token: None,
            identity: None,
            remote: Some("::ffff:127.0.0.1".parse().unwrap()),
            trace: None,
            route: Some("/api/decrypt"),
            status: 400,
            elapsed_micros: 31,
            key: Some("orders"),
            api_key: None,
            key_version: None,
            detail: None,
            items: None,
            bytes: None,
            body: None,
        };
        let name = "decrypt";
        let code = Some("decryption_failed");
        let event = Event {
            at,
            name,
            outcome: Outcome::Failure,
            code,
            count: None,
            own: None,
            store: None,
            request: Some(request),
        };
        let stream = example["stream_name"];
        let mut chain = chain::audit_root(&example).chain(stream).unwrap();
        let written = text(|target| line::write(target, stream, 1, &event, &mut chain));
        assert_eq!(written, format!("{}\n", example["audit"]));
        let written = text(|target| line::write_gap(target, stream, 300, at, (2, 299), &mut chain));
        assert_eq!(written, format!("{}\n", example["gap"]));
    }
}

/// What `write` puts at the front of a line's room.
fn text(write: impl FnOnce(&mut [u8]) -> Option<usize>) -> String {
    let mut target = [0; 1024];
    let len = write(&mut target).unwrap();
    String::from_utf8(target.iter().take(len).copied().collect()).unwrap()
}

#[test]
fn every_member_of_an_audit_line_is_documented_in_its_order() {
    let id = RequestId::new(1, 1);
    let remote = Some("2001:db8::1".parse().unwrap());
    let request = Request {
        id: &id,
        principal: Some("0a1b2c3d"),
        token: Some("t"),
        identity: Some("unix-user:7"),
        remote,
        trace: TraceParent::parse(b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
        route: Some("/api/keys"),
        status: 409,
        elapsed_micros: 1,
        key: Some("orders"),
        api_key: Some("0a1b2c3e"),
        key_version: Some(1),
        detail: Some(Detail::Invalid),
        items: Some(Items { count: 2, failed: 1, invalid: 1 }),
        bytes: Some(Bytes { read: 1, written: 1 }),
        body: Some([1; 16]),
    };
    let at = WallTime::from_millis(0);
    let code = Some("key_exists");
    let event = Event {
        at,
        name: "key.create",
        outcome: Outcome::Failure,
        code,
        count: Some(2),
        own: Some(Own::Removed(StreamName::parse("6b0320c6-32268f1d-w0-0001").unwrap())),
        store: Some(StoreMark { revision: 1, tag: [0; 16] }),
        request: Some(request),
    };
    let mut chain = Root::new(Secret::take(&mut [7; 32])).chain("s").unwrap();
    let mut wanted = members(&text(|target| line::write(target, "s", 1, &event, &mut chain)));
    // What is told of the server itself is not told of a request, and each line tells one of these.
    let place = wanted.iter().position(|name| name == "file").unwrap() + 1;
    wanted.splice(place..place, own::told());
    let chained = wanted.split_off(wanted.len() - 2);
    wanted.extend(["first".to_owned(), "last".to_owned()]);
    wanted.extend(chained);
    assert_eq!(documented_members(), wanted);
}

#[test]
fn every_route_is_documented_and_no_other() {
    let told: BTreeSet<&str> = headings().collect();
    let served: BTreeSet<String> =
        TABLE.iter().map(|route| format!("{} {}", route.method.name(), route.pattern)).collect();
    assert_eq!(told, served.iter().map(String::as_str).collect());
    for route in TABLE.iter().filter(|route| route.permission().is_some()) {
        let heading = format!("`{} {}`", route.method.name(), route.pattern);
        let section = API.split(&heading).nth(1).unwrap().split("\n### ").next().unwrap();
        let permission = route.permission().unwrap().name();
        assert!(section.contains(&format!("`{permission}`")), "{heading}: needs `{permission}`");
    }
}

/// The routes that have a heading: `### `POST /api/encrypt``.
fn headings() -> impl Iterator<Item = &'static str> {
    API.lines().filter_map(|line| line.strip_prefix("### `")?.strip_suffix('`'))
}

/// The codes of the tables of errors of both faces, with their statuses.
fn documented_codes() -> BTreeMap<&'static str, &'static str> {
    let tables =
        [API, vault_paths::VAULT].map(|page| page.split("\n| code | status | when |\n").nth(1).unwrap());
    let sections = tables.map(|rest| rest.split("\n\n").next().unwrap());
    let rows = sections.into_iter().flat_map(str::lines).filter_map(|line| line.strip_prefix("| `"));
    let mut codes = BTreeMap::new();
    for row in rows {
        let (code, rest) = row.split_once("` | ").unwrap();
        assert!(codes.insert(code, rest.split(" |").next().unwrap()).is_none(), "{code} stands twice");
    }
    codes
}

#[test]
fn every_code_of_an_error_is_documented_and_no_other() {
    let mut codes = BTreeSet::new();
    for folder in ["src/api", "src/http"] {
        codes_under(&Path::new(env!("CARGO_MANIFEST_DIR")).join(folder), &mut codes);
    }
    for file in [
        "src/server/door.rs",
        "src/server/service.rs",
        "src/server/faces.rs",
        "src/server/streaming.rs",
        "src/server/following.rs",
        "src/server/front.rs",
        "src/server/worker.rs",
    ] {
        codes_of(&Path::new(env!("CARGO_MANIFEST_DIR")).join(file), &mut codes);
    }
    for known in ["decryption_failed", "key_exists", "malformed_json", "head_too_large", "body_timeout"] {
        assert!(codes.contains(known), "the sources were not read: no {known}");
    }
    assert_eq!(
        documented_codes().into_keys().collect::<BTreeSet<_>>(),
        codes.iter().map(String::as_str).collect()
    );
}

/// Collects the codes of every source in a folder and in those within it.
fn codes_under(folder: &Path, codes: &mut BTreeSet<String>) {
    for entry in folder.read_dir().unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            codes_under(&path, codes);
        } else if !path.ends_with("tests.rs") {
            codes_of(&path, codes);
        }
    }
}

/// Collects the codes of a source: what stands second in `Fault::new(…)` or between a status and a text, behind `code:`, and first in a pair of
/// texts, as the table of `refusal.rs` has them.
fn codes_of(path: &Path, codes: &mut BTreeSet<String>) {
    let text = std::fs::read_to_string(path).unwrap();
    // Tests stand last, and may invent codes.
    let live = text.split("#[cfg(test)]\n").next().unwrap();
    let refusals = path.ends_with("refusal.rs");
    collect(&live.parse::<TokenStream>().unwrap(), refusals, codes);
}

fn collect(stream: &TokenStream, refusals: bool, codes: &mut BTreeSet<String>) {
    let trees: Vec<TokenTree> = stream.clone().into_iter().collect();
    let word = |at: usize| trees.get(at).map(ToString::to_string).unwrap_or_default();
    for (at, tree) in trees.iter().enumerate() {
        if let TokenTree::Group(group) = tree {
            let is_new =
                at >= 4 && word(at - 1) == "new" && matches!(word(at - 4).as_str(), "Fault" | "Self");
            let texts = texts(group);
            let pair = refusals && texts.iter().all(Option::is_some) && texts.len() == 2;
            // `(Status::Conflict, "key_exists", "…")`
            let of_status =
                group.stream().into_iter().next().is_some_and(|tree| tree.to_string() == "Status");
            let triple = of_status && texts.len() == 3;
            // The words of the face for clients of Vault: `fault("unknown_source", "…")`.
            let of_face = at >= 1 && matches!(word(at - 1).as_str(), "fault" | "bad");
            if group.delimiter() == Delimiter::Parenthesis && (is_new || triple || pair || of_face) {
                codes.extend(texts.get(usize::from(is_new || triple)).cloned().flatten());
            }
            collect(&group.stream(), refusals, codes);
        }
        if word(at) == "code" && word(at + 1) == ":" && word(at + 2).starts_with('"') {
            codes.insert(word(at + 2).trim_matches('"').to_owned());
        }
    }
}

/// The parts of a list between commas: the text of each that is one literal text.
fn texts(group: &Group) -> Vec<Option<String>> {
    let trees: Vec<TokenTree> = group.stream().into_iter().collect();
    let parts = trees.split(|tree| tree.to_string() == ",").filter(|part| !part.is_empty());
    let text = |part: &[TokenTree]| match part {
        [TokenTree::Literal(literal)] => {
            Some(literal.to_string().strip_prefix('"')?.strip_suffix('"')?.to_owned())
        }
        _ => None,
    };
    parts.map(text).collect()
}
