//! What a server has acknowledged to one client, and what it may hold after a crash.
//!
//! Owns [`Promises`]: a client with keys of its own and one request at a time, so that at most one change of it is ever
//! without an answer. Invariants: what was acknowledged must be found as it was told; what was not answered must be
//! found whole or not at all; whatever was sealed opens as long as its version may open anything.

#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking, and says where")]
#![allow(clippy::indexing_slicing, reason = "a member that is missing fails the test")]
#![allow(dead_code, reason = "included by several test files, none of which uses all of it")]

use std::collections::VecDeque;
use std::hint::spin_loop;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::random::Random;
use super::server::client::{Client, Reply, Request};
use super::server::{Ended, Server};

/// Keys that a client works with at a time; one that has grown is put aside.
const KEYS: usize = 5;
/// Versions at which a key has grown.
const GROWN: usize = 24;
/// Ciphertexts that are kept of each key.
const SEALED: usize = 12;

/// A change of one key.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    /// Make it, of this type.
    Create(&'static str),
    /// Take bytes from outside.
    Import(Vec<u8>),
    /// Make a version.
    Rotate,
    /// Change states of versions, and the guard at once.
    States(Vec<(u64, &'static str)>),
    /// Delete it.
    Delete,
    /// Bring it back.
    Undelete,
}

/// Something that was sealed.
#[derive(Clone, Debug)]
struct Sealed {
    version: u64,
    plaintext: String,
    ciphertext: String,
}

/// A key as the server told it last.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    /// Its name.
    pub(crate) name: String,
    /// Its form without what counts on; null if there is none.
    view: Value,
    /// The change that was not answered.
    open: Option<Change>,
    sealed: VecDeque<Sealed>,
}

/// A client and what it was promised.
#[derive(Clone, Debug)]
pub(crate) struct Promises {
    prefix: String,
    named: usize,
    keys: Vec<Known>,
    aside: Vec<Known>,
    random: Random,
    counted: bool,
}

/// Without what goes on counting, and may be behind after a crash.
pub(crate) fn form(reply: &Value) -> Value {
    let mut form = reply.clone();
    for version in form["versions"].as_array_mut().into_iter().flatten() {
        if let Some(version) = version.as_object_mut() {
            version.retain(|name, _| !["uses", "last_used_at", "seals_reserved"].contains(&name.as_str()));
        }
    }
    form
}

/// Whether `found` is what was foretold; null stands for what could not be known.
fn agrees(foretold: &Value, found: &Value) -> bool {
    match (foretold, found) {
        (Value::Null, _) => true,
        (Value::Object(foretold), Value::Object(found)) => {
            foretold.keys().eq(found.keys())
                && foretold.iter().all(|(name, value)| agrees(value, &found[name.as_str()]))
        }
        (Value::Array(foretold), Value::Array(found)) => {
            foretold.len() == found.len() && foretold.iter().zip(found).all(|(one, other)| agrees(one, other))
        }
        _ => foretold == found,
    }
}

fn version_form(number: u64, imported: bool) -> Value {
    json!({ "version": number, "state": "enabled", "created_at": null, "imported": imported })
}

impl Known {
    fn new(name: String) -> Self {
        Self { name, view: Value::Null, open: None, sealed: VecDeque::new() }
    }

    fn versions(&self) -> &[Value] {
        self.view["versions"].as_array().map(Vec::as_slice).unwrap_or_default()
    }

    fn latest(&self) -> u64 {
        self.view["latest_version"].as_u64().unwrap_or_default()
    }

    fn is_deleted(&self) -> bool {
        self.view.get("deleted_at").is_some()
    }

    fn state(&self, number: u64) -> &str {
        let found = self.versions().iter().find(|version| version["version"] == number);
        found.and_then(|version| version["state"].as_str()).unwrap_or_else(|| panic!("{number}: {self:?}"))
    }

    fn request(&self, change: &Change) -> Request {
        let name = &self.name;
        let post = |route: &str, body: Value| Request::post(&format!("/api/keys{route}"), body.to_string());
        match change {
            Change::Create(kind) => post("", json!({ "name": name, "type": kind, "deletion_allowed": true })),
            Change::Import(bytes) => {
                let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
                let body = json!({ "material": hex, "format": "hex", "type": self.kind(), "deletion_allowed": true });
                post(&format!("/{name}/import"), body)
            }
            Change::Rotate => post(&format!("/{name}/rotate"), json!({})),
            Change::States(states) => {
                let states: Vec<Value> = states
                    .iter()
                    .map(|(version, state)| json!({ "version": version, "state": state }))
                    .collect();
                let body = json!({ "versions": states }).to_string();
                Request::with_body("PATCH", &format!("/api/keys/{name}"), body)
            }
            Change::Delete => Request::with_body("DELETE", &format!("/api/keys/{name}"), "{}"),
            Change::Undelete => post(&format!("/{name}/undelete"), json!({})),
        }
    }

    fn kind(&self) -> &str {
        self.view["type"].as_str().unwrap_or("xchacha20-poly1305")
    }

    /// The form after `change`.
    fn foretell(&self, change: &Change) -> Value {
        let mut after = self.view.clone();
        match change {
            Change::Create(kind) => after = self.foretell_new(kind, false),
            Change::Import(_) if self.view.is_null() => after = self.foretell_new("xchacha20-poly1305", true),
            Change::Import(_) | Change::Rotate => {
                let next = self.latest() + 1;
                after["latest_version"] = json!(next);
                let imported = matches!(change, Change::Import(_));
                let versions = after["versions"].as_array_mut().expect("versions");
                versions.push(version_form(next, imported));
            }
            Change::States(states) => {
                let versions = after["versions"].as_array_mut().expect("versions");
                for (number, state) in states {
                    let found = versions.iter_mut().find(|version| version["version"] == *number);
                    found.expect("the version")["state"] = json!(state);
                }
            }
            Change::Delete => {
                after["deleted_at"] = Value::Null;
                after["purge_at"] = Value::Null;
            }
            Change::Undelete => {
                let members = after.as_object_mut().expect("a key");
                members.remove("deleted_at");
                members.remove("purge_at");
            }
        }
        after
    }

    fn foretell_new(&self, kind: &str, imported: bool) -> Value {
        json!({
            "name": self.name, "type": kind, "latest_version": 1, "derived": false, "exportable": false,
            "plaintext_backup": false, "created_at": null, "min_decryption_version": 1,
            "min_encryption_version": 0, "keep_versions": 0, "auto_rotate_seconds": 0, "deletion_allowed": true,
            "versions": [version_form(1, imported)],
        })
    }

    /// Takes the answer to a change for a promise.
    fn promised(&mut self, change: &Change, reply: &Reply) {
        let (foretold, told) = (self.foretell(change), form(&reply.json()));
        assert!(agrees(&foretold, &told), "{change:?}\nforetold {foretold}\ntold     {told}");
        self.view = told;
        self.open = None;
    }

    /// Holds what is found against what was promised.
    fn settle(&mut self, reply: &Reply) {
        let found = if reply.status == 404 { Value::Null } else { form(&reply.json()) };
        assert!([200, 404].contains(&reply.status), "{reply:?}");
        if let Some(open) = self.open.take() {
            let whole = self.foretell(&open);
            let made = !found.is_null() && agrees(&whole, &found);
            assert!(
                made || found == self.view,
                "half of {open:?}\nbefore {}\nwhole  {whole}\nfound  {found}",
                self.view
            );
            self.view = found;
        }
        assert_eq!(
            found_text(&self.view),
            reply_text(reply),
            "an acknowledged change is not there: {}",
            self.name
        );
    }
}

fn found_text(view: &Value) -> String {
    view.to_string()
}

fn reply_text(reply: &Reply) -> String {
    if reply.status == 404 { Value::Null.to_string() } else { form(&reply.json()).to_string() }
}

impl Promises {
    /// A client that was promised nothing yet; its keys have names with this prefix.
    pub(crate) fn new(prefix: &str, seed: u64) -> Self {
        let mut made = Self {
            prefix: prefix.to_owned(),
            named: 0,
            keys: Vec::new(),
            aside: Vec::new(),
            random: Random::new(seed),
            counted: true,
        };
        made.fill_up();
        made
    }

    /// The same without keys whose seals are counted: those ask the store for a block of seals after each restart.
    pub(crate) fn uncounted(prefix: &str, seed: u64) -> Self {
        Self { counted: false, ..Self::new(prefix, seed) }
    }

    fn fill_up(&mut self) {
        while self.keys.len() < KEYS {
            self.named += 1;
            self.keys.push(Known::new(format!("{}-{}", self.prefix, self.named)));
        }
    }

    /// The change that is to be asked for next, and of which key.
    fn choose(&mut self) -> (usize, Change) {
        if let Some(grown) = self.keys.iter().position(|key| key.versions().len() >= GROWN) {
            let key = self.keys.remove(grown);
            self.aside.push(key);
            self.fill_up();
        }
        let at = self.random.below(self.keys.len());
        let key = &self.keys[at];
        let change = if key.view.is_null() {
            match self.random.below(3) {
                0 => Change::Import(self.material()),
                1 if self.counted => Change::Create("chacha20-poly1305"),
                _ => Change::Create("xchacha20-poly1305"),
            }
        } else if key.is_deleted() {
            Change::Undelete
        } else {
            self.choose_for(at)
        };
        (at, change)
    }

    fn choose_for(&mut self, at: usize) -> Change {
        match self.random.below(8) {
            0 => Change::Delete,
            1 | 2 if self.keys[at].kind() == "xchacha20-poly1305" => Change::Import(self.material()),
            3..=5 => {
                // The latest stays enabled, and what is destroyed stays so.
                let key = &self.keys[at];
                let open = (1..key.latest()).filter(|number| key.state(*number) != "destroyed");
                let open: Vec<u64> = open.collect();
                let mut states = Vec::new();
                for number in open {
                    if self.random.one_in(3) {
                        let state = *self.random.pick(&["enabled", "decrypt-only", "disabled", "destroyed"]);
                        states.extend((key.state(number) != state).then_some((number, state)));
                    }
                }
                if states.is_empty() { Change::Rotate } else { Change::States(states) }
            }
            _ => Change::Rotate,
        }
    }

    fn material(&mut self) -> Vec<u8> {
        (0..4).flat_map(|_| self.random.next().to_le_bytes()).collect()
    }

    /// Asks for one change. Nothing if it was not answered: then it is open.
    pub(crate) fn change(&mut self, client: &mut Client, credential: &str) -> Option<Reply> {
        let (at, change) = self.choose();
        let key = &mut self.keys[at];
        key.open = Some(change.clone());
        let reply = client.attempt(&key.request(&change).key(credential))?;
        if [200, 201].contains(&reply.status) {
            key.promised(&change, &reply);
        }
        Some(reply)
    }

    /// What was refused without doubt was not made, and must not be found.
    pub(crate) fn refused(&mut self) {
        self.keys.iter_mut().for_each(|key| key.open = None);
    }

    /// Whether a change waits for its answer.
    pub(crate) fn is_open(&self) -> bool {
        self.keys.iter().any(|key| key.open.is_some())
    }

    /// Seals something with one of the keys; whether it was answered.
    pub(crate) fn seal(&mut self, client: &mut Client, credential: &str) -> Option<()> {
        let usable = |key: &&mut Known| !key.view.is_null() && !key.is_deleted() && key.open.is_none();
        let plaintext = format!("{:016x}", self.random.next());
        let skipped = self.random.below(KEYS);
        let mut keys: Vec<&mut Known> = self.keys.iter_mut().filter(usable).collect();
        let count = keys.len();
        let Some(key) = keys.get_mut(skipped.checked_rem(count).unwrap_or(0)) else { return Some(()) };
        let body = json!({ "key": key.name, "plaintext": plaintext });
        let reply = client.attempt(&Request::post("/api/encrypt", body.to_string()).key(credential))?;
        assert_eq!(reply.status, 200, "{reply:?} {key:?}");
        let json = reply.json();
        let version = json["key_version"].as_u64().expect("a version");
        key.sealed.push_back(Sealed { version, plaintext, ciphertext: reply.member("ciphertext") });
        if key.sealed.len() > SEALED {
            // Not the oldest each time: some must stay of long ago.
            let _ = key.sealed.remove(self.random.below(SEALED));
        }
        Some(())
    }

    /// Holds everything that the server has against what was promised; with `all`, keys that were put aside too.
    pub(crate) fn assert_kept(&mut self, client: &mut Client, credential: &str, all: bool) {
        let aside = self.aside.iter_mut().filter(|_| all);
        for key in self.keys.iter_mut().chain(aside) {
            let target = format!("/api/keys/{}", key.name);
            key.settle(&client.call(&Request::get(&target).key(credential)));
            for sealed in &key.sealed {
                let body = json!({ "key": key.name, "ciphertext": sealed.ciphertext }).to_string();
                let reply = client.call(&Request::post("/api/decrypt", body).key(credential));
                let opens =
                    !key.is_deleted() && ["enabled", "decrypt-only"].contains(&key.state(sealed.version));
                if opens {
                    assert_eq!(reply.status, 200, "{reply:?} {sealed:?} {key:?}");
                    assert_eq!(reply.member("plaintext"), sealed.plaintext);
                } else {
                    assert!([400, 404, 409].contains(&reply.status), "{reply:?} {sealed:?} {key:?}");
                }
            }
        }
    }
}

/// One client: changes and seals until nobody answers any more.
fn work(promises: &mut Promises, mut client: Client, key: &str, answers: &AtomicUsize) {
    loop {
        let Some(reply) = promises.change(&mut client, key) else { return };
        assert!([200, 201].contains(&reply.status), "{reply:?}");
        answers.fetch_add(1, Ordering::Relaxed);
        if promises.seal(&mut client, key).is_none() {
            return;
        }
    }
}

/// Has the clients work, and kills the server under them.
pub(crate) fn kill_at_work(server: Server, clients: &mut [Promises], random: &mut Random) -> Ended {
    let answers = AtomicUsize::new(0);
    let (wanted, power) = (random.below(40), random.between(2, 14));
    let turns = random.below(1 << power);
    thread::scope(|scope| {
        let workers: Vec<_> = clients
            .iter_mut()
            .map(|promises| {
                let (client, key, answers) = (server.connect(), server.key(), &answers);
                scope.spawn(move || work(promises, client, key, answers))
            })
            .collect();
        while answers.load(Ordering::Relaxed) < wanted
            && !workers.iter().all(thread::ScopedJoinHandle::is_finished)
        {
            thread::yield_now();
        }
        (0..turns).for_each(|_| spin_loop());
        server.signal(Signal::SIGKILL);
        for worker in workers {
            worker.join().unwrap_or_else(|_| panic!("a client found something wrong"));
        }
    });
    server.wait()
}

/// Holds what the server has against what it promised to each client.
pub(crate) fn assert_kept(server: &Server, clients: &mut [Promises], all: bool) {
    let mut client = server.connect();
    for promises in clients {
        promises.assert_kept(&mut client, server.key(), all);
    }
}
