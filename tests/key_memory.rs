//! Keys are where they belong and nowhere else: the whole memory of the running server is searched, as root.
//!
//! Every secret is known here: imported, exported, shown or read from its own file. It is searched for in pieces of 16 bytes and more, as it is, in
//! hexadecimal and in base64, so that what an allocator wrote over the front of a freed piece hides nothing.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by a panic, its functions too")]
#![expect(clippy::indexing_slicing, reason = "a member that is missing fails the test")]

#[path = "support/needles.rs"]
mod needles;
#[path = "key_memory/prepared.rs"]
mod prepared;
#[path = "support/server.rs"]
mod server;

use std::fs::{self, File};
use std::os::unix::fs::{FileExt as _, PermissionsExt as _};
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::sync::Arc;

use needles::{Needle, needles};
use quantonium::crypto::hash::sha256;
use quantonium::crypto::kdf::derive;
use quantonium::crypto::stream::HEADER_BYTES;
use serde_json::{Value, json};
use server::client::{Client, Reply, Request, comes_true};
use server::{Scratch, Server, binary, skip};

const IMPORTED: [u8; 32] = [
    0x9c, 0x21, 0xe7, 0x5a, 0x03, 0xb8, 0x6f, 0xd4, 0x11, 0xfa, 0x8e, 0x37, 0xc2, 0x59, 0x0d, 0xa6, 0x74,
    0xeb, 0x40, 0x95, 0x2e, 0xd8, 0x63, 0xbf, 0x1a, 0x86, 0xf1, 0x4d, 0xc9, 0x32, 0x7b, 0xe0,
];
/// What is in the server's memory for certain, and no secret: shows that the search sees what is there.
const PUBLIC: &str = "a-name-that-is-no-secret";
/// How the kernel names that memory.
const REGION: &str = "/secretmem";
const USER: u32 = 1001;
/// How much of the memory is read at once, and how much of it again with the next piece.
const PIECE: usize = 1024 * 1024;
const AGAIN: usize = 256;
const PAGE: u64 = 4096;

/// Where a needle was found.
type Found = (String, String);

/// What the search of a process's memory came to.
#[derive(Debug, Default)]
struct Search {
    found: Vec<Found>,
    /// Mappings that say they can be read, and of which nothing could.
    closed: Vec<String>,
    bytes: usize,
}

/// Needles cut in two, since half a secret is too much.
fn halves(needles: &[Needle]) -> Vec<Needle> {
    let halves = needles.iter().flat_map(|needle| {
        let (front, back) = needle.bytes.split_at(needle.bytes.len() / 2);
        [front, back].map(|half| Needle { name: needle.name.clone(), bytes: half.to_vec() })
    });
    let mut halves: Vec<Needle> = halves.filter(|half| half.bytes.len() >= 14).collect();
    halves.sort_by(|one, other| one.bytes.cmp(&other.bytes));
    halves.dedup_by(|one, other| one.bytes == other.bytes);
    halves
}

/// Whether any page that begins from `at` to `end` holds something, here or in swap (pagemap of proc(5)): the heap has reserved gigabytes
/// that it never touched. The page in which the last read ended does not count: that read has brought it here.
fn is_used(pagemap: &File, at: u64, end: u64) -> bool {
    let (first, last) = (at.div_ceil(PAGE), end.div_ceil(PAGE));
    let mut entries = vec![0; usize::try_from((last - first) * 8).unwrap()];
    pagemap.read_exact_at(&mut entries, first * 8).unwrap();
    // Bits 63 and 62 of each entry.
    entries.chunks_exact(8).any(|entry| entry[7] & 0xC0 != 0)
}

fn first_two(bytes: &[u8]) -> usize {
    usize::from(u16::from_ne_bytes([bytes[0], bytes[1]]))
}

/// Reads every mapping of the process that can be read.
fn search(server: &Server, wanted: &[Needle]) -> Search {
    // By their first two bytes: there are thousands, and each byte of the memory is looked at once.
    let mut begins: Vec<Vec<&Needle>> = vec![Vec::new(); 1 << 16];
    for needle in wanted {
        begins[first_two(&needle.bytes)].push(needle);
    }
    let maps = fs::read_to_string(server.proc().join("maps")).unwrap();
    let memory = File::open(server.proc().join("mem")).unwrap();
    let pagemap = File::open(server.proc().join("pagemap")).unwrap();
    let mut search = Search::default();
    let mut piece = vec![0; PIECE];
    for line in maps.lines().filter(|line| line.split(' ').nth(1).is_some_and(|may| may.starts_with('r'))) {
        let (from, to) = line.split(' ').next().unwrap().split_once('-').unwrap();
        let (mut at, end) = (u64::from_str_radix(from, 16).unwrap(), u64::from_str_radix(to, 16).unwrap());
        let before = search.bytes;
        let is_large = end - at > 64 * PIECE as u64;
        while at < end {
            let len = usize::try_from(end - at).unwrap().min(PIECE);
            let until = at + len as u64;
            if is_large && !is_used(&pagemap, at, until) {
                at = until / PAGE * PAGE;
                continue;
            }
            let Ok(read @ 1..) = memory.read_at(&mut piece[..len], at) else { break };
            search.bytes += read;
            for place in 0..read.saturating_sub(1) {
                let here = &piece[place..read];
                for needle in begins[first_two(here)].iter().filter(|needle| here.starts_with(&needle.bytes))
                {
                    search.found.push((needle.name.clone(), format!("{line} at {:x}", at + place as u64)));
                }
            }
            let last = at + read as u64 >= end;
            at += if last { read as u64 } else { (read.saturating_sub(AGAIN)).max(1) as u64 };
        }
        if search.bytes == before && !is_large {
            search.closed.push(line.to_owned());
        }
    }
    search
}

/// Asserts that none of the secrets is in the server's memory, and that what is no secret is.
fn assert_nowhere(server: &Server, secrets: &[Needle], when: &str) -> Search {
    let mut wanted = halves(secrets);
    let public = Needle { name: PUBLIC.to_owned(), bytes: PUBLIC.as_bytes().to_vec() };
    wanted.push(public);
    // A connection that has ended is put away in its own time, which a request behind it drives on.
    let mut last = Search::default();
    let is_free = comes_true(|| {
        last = search(server, &wanted);
        let (public, secret): (Vec<Found>, _) = last.found.drain(..).partition(|(name, _)| name == PUBLIC);
        assert!(!public.is_empty() && last.bytes > PIECE, "{when}: the search is blind: {last:?}");
        last.found = secret;
        last.found.is_empty() || server.call(&Request::get("/api/health")).status != 200
    });
    assert!(is_free && last.found.is_empty(), "{when}: {:#?}", last.found);
    last
}

/// Asks as the admin, on one connection.
struct Caller<'a> {
    client: Client,
    key: &'a str,
}

impl<'a> Caller<'a> {
    fn new(server: &'a Server) -> Self {
        Self { client: server.connect(), key: server.key() }
    }

    fn post(&mut self, target: &str, body: impl AsRef<[u8]>) -> Reply {
        let reply = self.client.call(&Request::post(target, body).key(self.key));
        assert!(reply.status < 300, "{target}: {reply:?}");
        reply
    }

    fn json(&mut self, target: &str, body: &Value) -> Reply {
        self.post(target, body.to_string())
    }

    fn destroy(&mut self, name: &str, version: u32) {
        let body =
            json!({ "deletion_allowed": true, "versions": [{ "version": version, "state": "destroyed" }] });
        let request = Request::patch(&format!("/api/keys/{name}"), body.to_string()).key(self.key);
        let reply = self.client.call(&request);
        assert_eq!(reply.status, 200, "{reply:?}");
    }
}

fn text(bytes: &[u8]) -> String {
    let mut digits = needles::base64(bytes, false);
    digits.resize(digits.len().next_multiple_of(4), b'=');
    String::from_utf8(digits).unwrap()
}

fn hex(digits: &str) -> Vec<u8> {
    let byte = |at: usize| u8::from_str_radix(&digits[at..at + 2], 16).unwrap();
    (0..digits.len()).step_by(2).map(byte).collect()
}

/// A key of its own for each form of an import: the same bytes reversed, or turned by one.
fn turned(by: u8) -> Vec<u8> {
    let mut bytes = IMPORTED.to_vec();
    bytes.rotate_left(by.into());
    bytes.iter().map(|byte| byte ^ by).collect()
}

/// The context of the key that derives one for each context.
const CONTEXT: &[u8] = b"a context that is no secret";

/// The keys that are made, by what turns their material; the last one derives.
const KEYS: [(&str, &str, u8); 5] = [
    ("base64", "xchacha20-poly1305", 0),
    ("hex", "chacha20-poly1305", 3),
    ("raw", "hmac-sha512", 5),
    ("base64", "hmac-sha256", 7),
    ("base64", "xchacha20-poly1305", 9),
];

fn name_of(by: u8) -> String {
    format!("key-{by}")
}

/// What requests with this key carry beside their own members.
fn with_context(mut body: Value, by: u8) -> Value {
    if by == 9 {
        body["context"] = json!(text(CONTEXT));
    }
    body
}

/// Has the server take keys in every form and use them in every way; returns what is secret of it.
fn take_and_use_keys(caller: &mut Caller<'_>) -> Vec<Needle> {
    let mut secrets = Vec::new();
    caller.json("/api/keys", &json!({ "name": PUBLIC }));
    for (form, kind, by) in KEYS {
        let material = turned(by);
        secrets.extend(needles(&format!("the {form} import of {kind}"), &material));
        let target = format!("/api/keys/{}/import", name_of(by));
        let digits: String = material.iter().map(|byte| format!("{byte:02x}")).collect();
        match form {
            "raw" => caller.post(&format!("{target}?type={kind}&exportable=true"), &material),
            "hex" => caller.json(
                &target,
                &json!({ "material": digits, "format": "hex", "type": kind, "exportable": true }),
            ),
            _ => caller.json(
                &target,
                &json!({ "material": text(&material), "type": kind, "exportable": true, "derived": by == 9 }),
            ),
        };
        secrets.extend(use_key(caller, kind, by));
        if by == 0 {
            // Its first version is then one of the past, and the second one is used as well.
            caller.post(&format!("/api/keys/{}/rotate", name_of(by)), "");
            secrets.extend(use_key(caller, kind, by));
        }
    }
    secrets
}

/// Uses a key in every way that it has; returns what is secret of it.
fn use_key(caller: &mut Caller<'_>, kind: &str, by: u8) -> Vec<Needle> {
    let mut secrets = Vec::new();
    let name = name_of(by);
    let signed = caller.json("/api/sign", &json!({ "key": name, "input": text(b"an input") }));
    let body = json!({ "key": name, "input": text(b"an input"), "signature": signed.member("signature") });
    assert_eq!(caller.json("/api/verify", &body).json()["valid"], true);
    match kind {
        "hmac-sha256" => return prepared::of_mac_256(&name, &turned(by)),
        "hmac-sha512" => return prepared::of_mac_512(&name, &turned(by)),
        _ => {}
    }
    let sealed =
        caller.json("/api/encrypt", &with_context(json!({ "key": name, "plaintext": text(&[7; 300]) }), by));
    let body = with_context(json!({ "key": name, "ciphertext": sealed.member("ciphertext") }), by);
    assert_eq!(caller.json("/api/decrypt", &body).member("plaintext"), text(&[7; 300]));
    let made = caller.json("/api/datakey", &with_context(json!({ "key": name, "bits": 512 }), by));
    secrets.extend(in_text("a data key", &made.member("plaintext")));
    let drawn = caller.json("/api/keystream", &with_context(json!({ "key": name, "bytes": 64 }), by));
    secrets.extend(in_text("a keystream", &drawn.member("keystream")));
    let context = if by == 9 { CONTEXT } else { &[] };
    let nonce = nonce_of(&sealed.member("ciphertext"), kind);
    let encoded = String::from_utf8(needles::base64(context, true)).unwrap();
    let of_stream = if by == 9 { format!("key={name}&context={encoded}") } else { format!("key={name}") };
    let stream = caller.post(&format!("/api/stream/encrypt?{of_stream}"), vec![7; 200_000]).body;
    let opened = caller.post(&format!("/api/stream/decrypt?{of_stream}"), &stream).body;
    assert!(opened == [7; 200_000]);
    let exported = caller.json(&format!("/api/keys/{name}/export"), &json!({ "format": "hex" })).json();
    for (number, parts) in exported["versions"].as_object().unwrap() {
        for (part, digits) in parts.as_object().unwrap() {
            secrets.extend(needles(&format!("{part} {number} of {name}"), &hex(digits.as_str().unwrap())));
        }
        let part = |part: &str| hex(parts[part].as_str().unwrap());
        let number: u32 = number.parse().unwrap();
        let (enc, mac, sub) = (part("encryption_key"), part("hmac_key"), part("sub_key"));
        secrets.extend(derived_keys(&enc, &sub, number, context, &stream));
        secrets.extend(prepared::of_mac_256(&format!("the HMAC key {number} of {name}"), &mac));
        secrets.extend(prepared::of_hkdf(&format!("the sub key {number} of {name}"), &[], &sub));
        secrets.extend(prepared::of_hkdf(&format!("the key {number} of {name}"), &[], &enc));
        let mut sealer = <[u8; 32]>::try_from(enc.as_slice()).unwrap();
        if !context.is_empty() {
            derive(&[], &enc, &[context], &mut sealer).unwrap();
        }
        secrets.extend(prepared::of_cipher(&name, &sealer, &nonce));
    }
    secrets
}

/// The nonce in front of a ciphertext's body.
fn nonce_of(ciphertext: &str, kind: &str) -> Vec<u8> {
    let digits = ciphertext.rsplit(':').next().unwrap().as_bytes();
    let body = quantonium::encoding::base64_decode_to_vec(digits).unwrap();
    body[..if kind.starts_with('x') { 24 } else { 12 }].to_vec()
}

/// A secret that never leaves the process: it has no other form.
fn as_it_is(name: &str, secret: &[u8]) -> Needle {
    Needle { name: name.to_owned(), bytes: secret.to_vec() }
}

/// What is derived from a version's keys while it is used: docs/FORMATS.md.
fn derived_keys(enc: &[u8], sub: &[u8], number: u32, context: &[u8], stream: &[u8]) -> Vec<Needle> {
    let mut found = Vec::new();
    let mut key = |name: &str, salt: &[u8], from: &[u8], info: &[&[u8]]| {
        let mut okm = [0; 32];
        derive(salt, from, info, &mut okm).unwrap();
        found.push(as_it_is(name, &okm));
    };
    let (number, len) = (number.to_be_bytes(), u32::try_from(context.len()).unwrap().to_be_bytes());
    if !context.is_empty() {
        key("the key of a context", &[], enc, &[context]);
    }
    key("a keystream key", &[], sub, &[b"quantonium/keystream/v1\0", &number, &len, context]);
    let (head, _) = stream.split_at(HEADER_BYTES);
    let magic = &head[..HEADER_BYTES - 4 - 16 - 32];
    if head[magic.len()..][..4] == number {
        let salt = &head[magic.len() + 4..][..16];
        let info: [&[u8]; 7] =
            [b"quantonium/stream/v1\0", magic, &number, &len, context, &[0; 8], &sha256(&[])];
        let mut okm = [0; 64];
        derive(salt, sub, &info, &mut okm).unwrap();
        // The second half of it stands in the header: this is the key of that very stream.
        assert_eq!(okm[32..], head[HEADER_BYTES - 32..]);
        found.push(as_it_is("the file key of a stream", &okm[..32]));
    }
    found
}

fn destroy_keys(caller: &mut Caller<'_>) {
    for by in [0, 3, 5, 7, 9] {
        caller.destroy(&name_of(by), 1);
    }
    // What was made behind the import whose nonces are counted, and by the rotation.
    caller.destroy("key-3", 2);
    caller.destroy("key-0", 2);
}

/// A secret of which only a text is known.
fn in_text(name: &str, text: &str) -> Vec<Needle> {
    vec![Needle { name: name.to_owned(), bytes: text.trim_end_matches('=').as_bytes().to_vec() }]
}

/// Has the server make credentials, and uses them; returns them.
fn use_credentials(server: &Server, caller: &mut Caller<'_>) -> Vec<Needle> {
    let made = caller.json("/api/auth/keys", &json!({ "name": "other", "scopes": ["encrypt:*"] }));
    let key = made.member("api_key");
    let (_, secret) = key.split_once('.').unwrap();
    let mut secrets = in_text("the secret of an API key", secret);
    let request = Request::post("/api/encrypt", json!({ "key": PUBLIC, "plaintext": "" }).to_string());
    assert_eq!(server.call(&request.clone().key(&key)).status, 200);
    let token = server.call(&Request::post("/api/auth/token", "").key(&key)).member("access_token");
    let used = server.call(&request.clone().with("Authorization", &format!("Bearer {token}")));
    assert_eq!(used.status, 200, "{used:?}");
    let (_, signature) = token.rsplit_once('.').unwrap();
    secrets.extend(in_text("the signature of a token", signature));
    let rotate = format!("/api/auth/keys/{}/rotate", made.json()["id"].as_str().unwrap());
    let newer = caller.json(&rotate, &json!({ "overlap_seconds": 0 })).member("api_key");
    let (_, secret) = newer.split_once('.').unwrap();
    secrets.extend(in_text("the next secret of an API key", secret));
    for (key, status) in [(&newer, 200), (&key, 401)] {
        assert_eq!(server.call(&request.clone().key(key)).status, status);
    }
    assert_eq!(server.call(&request.with("Authorization", &format!("Bearer {token}"))).status, 401);
    secrets
}

/// The secrets of a data directory of `--dev`.
fn own_secrets(server: &Server) -> Vec<Needle> {
    let master = fs::read_to_string(server.data_dir().join("master.key")).unwrap();
    let master = hex(master.trim_end());
    let (_, secret) = server.key().split_once('.').unwrap();
    let journal = fs::read(server.data_dir().join("journal")).unwrap();
    [
        needles("the master key", &master),
        prepared::of_store(&journal, &master),
        in_text("the secret of the admin key", secret),
    ]
    .concat()
}

/// Whether the server has memory that not even root can read.
fn has_region(server: &Server) -> bool {
    fs::read_to_string(server.proc().join("maps")).unwrap().contains(REGION)
}

fn may_search() -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        skip("only root may read the memory of another process");
    }
    root
}

/// The outcome of the step `key-memory`, as the log told it.
fn outcome(log: &str) -> String {
    let line = log.lines().find(|line| line.contains("key-memory")).unwrap_or_else(|| panic!("{log}"));
    line.split("key-memory: ").nth(1).unwrap_or_default().to_owned()
}

/// A server of an ordinary user, who may lock no memory.
fn without_locked_memory(scratch: &Arc<Scratch>) -> Option<Server> {
    let program = scratch.path("quantonium");
    server::copy_program(&binary()?, &program);
    fs::create_dir(scratch.data_dir()).unwrap();
    std::os::unix::fs::chown(scratch.data_dir(), Some(USER), Some(USER)).unwrap();
    fs::set_permissions(scratch.data_dir(), fs::Permissions::from_mode(0o700)).unwrap();
    let mut start = Command::new("sh");
    start.arg("-c").arg("ulimit -l 0 && exec \"$0\" \"$@\"").arg(&program);
    start
        .args(["serve", "--dev", "--workers", "1", "--listen", "127.0.0.1:0", "--data-dir"])
        .arg(scratch.data_dir());
    start.env_clear().env("PATH", "/usr/bin:/bin").uid(USER).gid(USER);
    Some(Server::spawn(start, scratch, 1))
}

#[test]
fn no_key_can_be_read_while_it_lives_and_none_is_left_when_it_is_destroyed() {
    if !may_search() {
        return;
    }
    let scratch = Scratch::in_memory();
    let start = || Server::start_in(&scratch, &["--workers", "1"]);
    let Some(server) = start() else { return };
    let mut secrets = own_secrets(&server);
    let mut caller = Caller::new(&server);
    secrets.extend(take_and_use_keys(&mut caller));
    secrets.extend(use_credentials(&server, &mut caller));
    drop(caller);
    let region = has_region(&server);
    if region {
        let search = assert_nowhere(&server, &secrets, "while the keys live");
        assert!(search.closed.iter().any(|line| line.contains(REGION)), "{search:?}");
    }
    let ended = server.stop();
    assert_eq!(outcome(&ended.stderr) == "done", region, "{}", ended.stderr);
    let Some(server) = start() else { return };
    if region {
        assert_nowhere(&server, &secrets, "when the keys were read from the store");
    }
    let mut caller = Caller::new(&server);
    // What was read from the store is used here, too, before it goes.
    KEYS.iter().for_each(|(_, kind, by)| secrets.extend(use_key(&mut caller, kind, *by)));
    destroy_keys(&mut caller);
    drop(caller);
    assert_nowhere(&server, &secrets, "after the keys were destroyed");
    assert_eq!(server.stop().code, Some(0));
}

#[test]
fn without_locked_memory_keys_are_masked_and_the_start_says_so() {
    if !may_search() {
        return;
    }
    let scratch = Scratch::new();
    fs::set_permissions(scratch.path(""), fs::Permissions::from_mode(0o755)).unwrap();
    let Some(server) = without_locked_memory(&scratch) else { return };
    let mut secrets = own_secrets(&server);
    // What the process needs for itself at any time lies there as it is, where nothing can be locked: docs/SANDBOX.md.
    secrets.retain(|needle| !(needle.name.starts_with("quantonium/") && needle.name.contains(", prepared")));
    let mut caller = Caller::new(&server);
    secrets.extend(take_and_use_keys(&mut caller));
    secrets.extend(use_credentials(&server, &mut caller));
    drop(caller);
    assert_nowhere(&server, &secrets, "while the keys live");
    let mut caller = Caller::new(&server);
    destroy_keys(&mut caller);
    drop(caller);
    assert_nowhere(&server, &secrets, "after the keys were destroyed");
    let ended = server.stop();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(outcome(&ended.stderr).starts_with("skipped (no memory can be locked"), "{}", ended.stderr);
}

#[test]
fn nobody_but_root_opens_the_memory_of_the_server() {
    if !may_search() {
        return;
    }
    let Some(server) = Server::start(&["--workers", "1"]) else { return };
    let status = fs::read_to_string(server.proc().join("status")).unwrap();
    let of_server = format!("Uid:\t{USER}\t{USER}\t{USER}\t{USER}");
    assert!(status.contains(&of_server), "{status}");
    // To open it is to pass the check of an attaching debugger. Its own user is refused too, since it is not dumpable.
    for user in [USER, 65_534] {
        for file in ["mem", "maps", "environ"] {
            let path = server.proc().join(file);
            let mut look = Command::new("head");
            let looked = look.args(["-c", "1"]).arg(&path).uid(user).gid(user).output().unwrap();
            let said = String::from_utf8_lossy(&looked.stderr).into_owned();
            assert!(
                !looked.status.success() && said.contains("Permission denied"),
                "{user} {file}: {looked:?}"
            );
            assert!(looked.stdout.is_empty());
        }
    }
}
