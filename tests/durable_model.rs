//! Random lives of a server's keys against a plain model of them: the same answers, whatever restarts, kills,
//! compactions and new master keys come in between.

#![expect(clippy::unwrap_used, reason = "a test fails by a panic, its functions too")]
#![expect(clippy::indexing_slicing, reason = "a member that is missing fails the test")]

#[path = "durable_model/model.rs"]
mod model;
#[path = "simulation/random.rs"]
mod random;
#[path = "support/server.rs"]
mod server;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use model::{Answer, Key, Model, Patch};
use nix::sys::signal::Signal;
use random::Random;
use serde_json::{Value, json};
use server::client::{Client, Reply, Request};
use server::{Scratch, Server, binary, command};

const NAMES: [&str; 6] = ["a", "b", "c", "d", "e", "f"];
const KINDS: [&str; 4] = ["xchacha20-poly1305", "xchacha20-poly1305", "chacha20-poly1305", "hmac-sha256"];
const STATES: [&str; 4] = ["enabled", "decrypt-only", "disabled", "destroyed"];
const INPUT: &str = "aGVsbG8=";

/// Something that a version made, and that it must recognise for ever.
#[derive(Clone, Debug)]
struct Made {
    name: &'static str,
    version: u64,
    /// A ciphertext, or a signature.
    text: String,
    signed: bool,
}

/// A server and the model of it.
struct Life {
    scratch: Arc<Scratch>,
    server: Option<Server>,
    client: Client,
    model: Model,
    random: Random,
    made: Vec<Made>,
    /// Key material as it was seen first.
    seen: BTreeMap<(String, String), Value>,
    /// The file of the master key, once it is not that of `--dev`.
    master: Option<String>,
    masters: usize,
}

impl Life {
    fn begin(seed: u64) -> Option<Self> {
        let scratch = Scratch::in_memory();
        let server = Server::start_in(&scratch, &["--workers", "2"])?;
        let client = server.connect();
        let (model, random) = (Model::default(), Random::new(seed));
        let (made, seen) = (Vec::new(), BTreeMap::new());
        Some(Self {
            scratch,
            server: Some(server),
            client,
            model,
            random,
            made,
            seen,
            master: None,
            masters: 0,
        })
    }

    fn ask(&mut self, request: Request) -> Reply {
        let request = request.key(self.server.as_ref().unwrap().key());
        self.client.call(&request)
    }

    fn post(&mut self, target: &str, body: &Value) -> Reply {
        self.ask(Request::post(target, body.to_string()))
    }

    fn key(&mut self) -> Key {
        let kind = *self.random.pick(&KINDS);
        let derived = kind == "xchacha20-poly1305" && self.random.one_in(4);
        Key::new(kind, derived, self.random.coin())
    }

    /// A number that is a version's, or not far from it.
    fn number(&mut self, name: &str) -> u64 {
        let latest = self.model.keys.get(name).map_or(1, Key::latest);
        self.random.between(0, usize::try_from(latest).unwrap() + 1) as u64
    }

    fn step(&mut self) {
        let name = *self.random.pick(&NAMES);
        let path = |rest: &str| format!("/api/keys/{name}{rest}");
        match self.random.below(16) {
            0 | 1 => {
                let key = self.key();
                let body = json!({
                    "name": name, "type": key.kind, "derived": key.derived, "exportable": key.exportable
                });
                let reply = self.post("/api/keys", &body);
                assert_answer(&reply, self.model.create(name, key), &body);
            }
            2 => {
                let key = self.key();
                let material: String = (0..4).map(|_| format!("{:016x}", self.random.next())).collect();
                let body = json!({
                    "material": material, "format": "hex", "type": key.kind, "derived": key.derived,
                    "exportable": key.exportable,
                });
                let reply = self.post(&path("/import"), &body);
                assert_answer(&reply, self.model.import(name, key), &body);
            }
            3 | 4 => {
                let reply = self.ask(Request::post(&path("/rotate"), ""));
                assert_answer(&reply, self.model.rotate(name), &"rotate");
            }
            5..=7 => self.patch(name),
            8 => {
                let reply = self.ask(Request::with_body("DELETE", &path(""), ""));
                assert_answer(&reply, self.model.delete(name), &"delete");
            }
            9 | 10 => {
                let reply = self.ask(Request::post(&path("/undelete"), ""));
                assert_answer(&reply, self.model.undelete(name), &"undelete");
            }
            11 => self.export(name),
            12 | 13 => self.make(name),
            _ => self.recognise_one(),
        }
    }

    fn patch(&mut self, name: &'static str) {
        let mut patch = Patch::default();
        match self.random.below(5) {
            0 => patch.min_decryption = Some(self.number(name)),
            1 => patch.min_encryption = Some(self.number(name)),
            2 => patch.keep = Some(*self.random.pick(&[0, 0, 2, 5])),
            3 => patch.deletion_allowed = Some(!self.random.one_in(3)),
            _ => {
                let state = *self.random.pick(&STATES);
                patch.version = Some((self.number(name), state));
                patch.deletion_allowed = self.random.one_in(4).then_some(true);
            }
        }
        let versions = patch.version.map(|(version, state)| json!([{ "version": version, "state": state }]));
        let mut body = json!({
            "min_decryption_version": patch.min_decryption, "min_encryption_version": patch.min_encryption,
            "keep_versions": patch.keep, "deletion_allowed": patch.deletion_allowed, "versions": versions,
        });
        body.as_object_mut().unwrap().retain(|_, value| !value.is_null());
        let reply = self.ask(Request::with_body("PATCH", &format!("/api/keys/{name}"), body.to_string()));
        let expected = self.model.patch(name, &patch);
        assert_answer(&reply, expected, &body);
    }

    /// Seals or signs with a key.
    fn make(&mut self, name: &'static str) {
        let Some((encrypts, derived)) = self.model.living(name).map(|key| (key.encrypts(), key.derived))
        else {
            return;
        };
        let signed = !encrypts || self.random.one_in(3);
        let version = self.random.one_in(3).then(|| self.number(name)).filter(|number| *number > 0);
        let mut body = if signed {
            json!({ "key": name, "input": INPUT })
        } else {
            json!({ "key": name, "plaintext": INPUT, "associated_data": "YWFk" })
        };
        if let Some(version) = version {
            body["key_version"] = json!(version);
        }
        if derived && !signed {
            body["context"] = json!("Y29udGV4dA==");
        }
        let reply = self.post(if signed { "/api/sign" } else { "/api/encrypt" }, &body);
        assert_answer(&reply, self.model.seal(name, version), &body);
        if reply.status == 200 {
            let version = reply.json()["key_version"].as_u64().unwrap();
            let text = reply.member(if signed { "signature" } else { "ciphertext" });
            self.made.push(Made { name, version, text, signed });
        }
    }

    fn recognise_one(&mut self) {
        if !self.made.is_empty() {
            let made = self.random.pick(&self.made).clone();
            self.recognise(&made);
        }
    }

    /// Opens or verifies what was made.
    fn recognise(&mut self, made: &Made) {
        let mut body = if made.signed {
            json!({ "key": made.name, "input": INPUT, "signature": made.text })
        } else {
            json!({ "key": made.name, "ciphertext": made.text, "associated_data": "YWFk" })
        };
        if !made.signed && self.model.living(made.name).is_some_and(|key| key.derived) {
            body["context"] = json!("Y29udGV4dA==");
        }
        let reply = self.post(if made.signed { "/api/verify" } else { "/api/decrypt" }, &body);
        let (answer, valid) = if made.signed {
            self.model.verify(made.name, made.version)
        } else {
            (self.model.open(made.name, made.version), true)
        };
        assert_answer(&reply, answer, &body);
        if reply.status == 200 {
            let json = reply.json();
            assert!(if made.signed { json["valid"] == valid } else { json["plaintext"] == INPUT }, "{json}");
        }
    }

    fn export(&mut self, name: &'static str) {
        let reply = self.ask(Request::post(&format!("/api/keys/{name}/export"), ""));
        assert_answer(&reply, self.model.export(name), &"export");
        if reply.status == 200 {
            let json = reply.json();
            let versions = &self.model.keys[name].versions;
            let there = versions.iter().filter(|(_, version)| version.state != "destroyed");
            let mut there: Vec<String> = there.map(|(number, _)| number.to_string()).collect();
            there.sort();
            let told = json["versions"].as_object().unwrap();
            assert!(told.keys().eq(there.iter()), "{there:?} {json}");
            for (number, material) in told {
                let place = (name.to_owned(), number.clone());
                let first = self.seen.entry(place).or_insert_with(|| material.clone());
                assert_eq!(first, material, "{name} {number}: another key than before");
            }
        }
    }

    /// Everything is as the model has it.
    fn assert_same(&mut self) {
        for name in NAMES {
            let reply = self.ask(Request::get(&format!("/api/keys/{name}")));
            let Some(key) = self.model.keys.get(name) else {
                assert_eq!(reply.status, 404);
                continue;
            };
            let mut json = reply.json();
            let members = json.as_object_mut().unwrap();
            assert_eq!(members.remove("deleted_at").is_some(), key.deleted);
            assert_eq!(members.remove("purge_at").is_some(), key.deleted);
            members.remove("created_at");
            for version in json["versions"].as_array_mut().unwrap() {
                let version = version.as_object_mut().unwrap();
                version.retain(|name, _| ["version", "state", "imported"].contains(&name.as_str()));
            }
            assert_eq!(json, key.form(name));
            self.export(name);
        }
        for made in self.made.clone() {
            self.recognise(&made);
        }
    }

    /// Ends the server, perhaps does something with the store, and starts another.
    fn interrupt(&mut self) {
        let server = self.server.take().unwrap();
        let kind = self.random.below(6);
        if kind < 3 {
            server.signal(Signal::SIGKILL);
            let _ = server.wait();
        } else {
            let ended = server.stop();
            assert_eq!(ended.code, Some(0), "{ended:?}");
        }
        let master = self.master.clone();
        let flags: Vec<&str> = master.iter().flat_map(|file| ["--master-key-file", file]).collect();
        let words: &[&str] = match kind {
            1 | 4 => &["store", "compact"],
            2 | 5 => &["store", "rekey"],
            _ => &[],
        };
        let mut words = [words, &flags].concat();
        let new = self.scratch.path(&format!("master-{}", self.masters));
        let new = new.to_str().unwrap();
        if words.contains(&"rekey") {
            fs::write(new, [u8::try_from(self.masters).unwrap() + 1; 32]).unwrap();
            fs::set_permissions(new, fs::Permissions::from_mode(0o600)).unwrap();
            words.extend(["--new-master-key-file", new]);
            (self.master, self.masters) = (Some(new.to_owned()), self.masters + 1);
        }
        if words.len() > flags.len() {
            let done = command(&words, &self.scratch.data_dir()).unwrap();
            assert_eq!(done.code, Some(0), "{done:?}");
        }
        let master = self.master.clone();
        let flags: Vec<&str> = master.iter().flat_map(|file| ["--master-key-file", file]).collect();
        let server = Server::start_in(&self.scratch, &[&["--workers", "2"], &flags[..]].concat()).unwrap();
        self.client = server.connect();
        self.server = Some(server);
        self.assert_same();
    }
}

fn assert_answer(reply: &Reply, (status, code): Answer, about: &dyn std::fmt::Debug) {
    let told = reply.json();
    let named = told["code"].as_str().unwrap_or_default();
    assert_eq!((reply.status, named), (status, code), "{about:?}: {told}");
}

#[test]
fn a_random_life_is_the_same_as_in_the_model_across_restarts_compactions_and_new_master_keys() {
    let seed = 0xd0_5e + u64::from(std::process::id());
    println!("seed {seed}");
    for number in 0..16 {
        let Some(mut life) = Life::begin(seed + number) else { return };
        for _ in 0..12 {
            for _ in 0..60 {
                life.step();
            }
            life.interrupt();
        }
        assert!(life.made.len() > 20, "hardly anything was made");
    }
}

#[test]
fn rotation_beside_encryption_fails_no_request_and_every_ciphertext_opens() {
    if binary().is_none() {
        return;
    }
    let scratch = Scratch::in_memory();
    let flags = ["--workers", "2", "--max-requests-per-connection", "1000000000"];
    let Some(server) = Server::start_in(&scratch, &flags) else { return };
    let made = server.ask(Request::post("/api/keys", "{\"name\":\"k\",\"type\":\"chacha20-poly1305\"}"));
    assert_eq!(made.status, 201);
    let rotated = AtomicBool::new(false);
    let seal = || {
        let mut client = server.connect();
        let body = json!({ "key": "k", "plaintext": INPUT }).to_string();
        let request = Request::post("/api/encrypt", body).key(server.key());
        let mut sealed = Vec::new();
        while !rotated.load(Ordering::Relaxed) || sealed.len() < 100 {
            let reply = client.call(&request);
            assert_eq!(reply.status, 200, "{reply:?}");
            if sealed.len() < 2_000 {
                sealed.push(reply.member("ciphertext"));
            }
        }
        sealed
    };
    let sealed: Vec<String> = thread::scope(|scope| {
        let sealers: Vec<_> = (0..3).map(|_| scope.spawn(seal)).collect();
        let mut client = server.connect();
        for _ in 0..300 {
            let reply = client.call(&Request::post("/api/keys/k/rotate", "").key(server.key()));
            assert_eq!(reply.status, 200, "{reply:?}");
        }
        rotated.store(true, Ordering::Relaxed);
        sealers.into_iter().flat_map(|sealer| sealer.join().unwrap()).collect()
    });
    server.signal(Signal::SIGKILL);
    let _ = server.wait();
    let Some(server) = Server::start_in(&scratch, &flags) else { return };
    let mut client = server.connect();
    for ciphertext in &sealed {
        let body = json!({ "key": "k", "ciphertext": ciphertext }).to_string();
        let reply = client.call(&Request::post("/api/decrypt", body).key(server.key()));
        assert_eq!(reply.member("plaintext"), INPUT);
    }
    println!("{} ciphertexts", sealed.len());
}
