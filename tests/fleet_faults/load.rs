//! What is asked of a server while things fail: of everything that changes keys and API keys something, and what uses them.
//!
//! Owns the order of it. Invariants: a name that one load makes is made by no other one, but for those that all share; what a name was given to is
//! never given it again.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::history::{History, What};
use crate::server::client::{Client, Reply, Request};

/// Keys that all servers rotate and seal with; the seals of the second are counted.
pub(crate) const SHARED: &str = "shared";
pub(crate) const COUNTED: &str = "counted";
/// "hello".
const PLAINTEXT: &str = "aGVsbG8=";
/// Between two requests: what is measured is not how much a server can do.
const PAUSE: Duration = Duration::from_millis(3);
/// After a refusal, which comes quickly.
const PAUSE_REFUSED: Duration = Duration::from_millis(25);
/// API keys that are knocked with in each round.
const KNOCKS: usize = 5;
/// How many of the newest ciphertexts others may open.
const RECENT: usize = 64;

/// What the loads of all servers share.
#[derive(Default)]
pub(crate) struct Common {
    /// API keys with what opens the door, in the order in which they were made.
    callers: Mutex<Vec<(String, String)>>,
    sealed: Mutex<VecDeque<(String, String)>>,
    pub(crate) stop: AtomicBool,
}

/// The load of one server.
pub(crate) struct Load<'a> {
    pub(crate) number: usize,
    pub(crate) address: std::net::SocketAddr,
    pub(crate) admin: &'a str,
    pub(crate) history: &'a History,
    pub(crate) common: &'a Common,
    /// The how manieth start of the server this is.
    pub(crate) life: &'a AtomicU64,
    client: Option<(Client, u64)>,
    knocked: usize,
}

impl<'a> Load<'a> {
    pub(crate) const fn of(
        number: usize,
        address: std::net::SocketAddr,
        admin: &'a str,
        history: &'a History,
        common: &'a Common,
        life: &'a AtomicU64,
    ) -> Self {
        Self { number, address, admin, history, common, life, client: None, knocked: 0 }
    }

    /// Asks until it is told to stop.
    pub(crate) fn run(mut self) {
        for round in 0.. {
            if self.is_over() {
                return;
            }
            self.round(round);
        }
    }

    fn is_over(&self) -> bool {
        self.common.stop.load(Ordering::Relaxed)
    }

    fn round(&mut self, round: usize) {
        let number = self.number;
        let own = format!("own-{number}-{round}");
        let counted = round % 4 == 1;
        self.create(&own, counted);
        self.seal(&own, counted);
        self.rotate(&own);
        self.seal(&own, counted);
        self.create(&format!("race-{round}"), false);
        if round % 5 == number {
            self.rotate(COUNTED);
        }
        self.seal(COUNTED, true);
        let admitted = self.admit(&format!("app-{number}-{round}"));
        self.knock();
        self.rotate(SHARED);
        self.seal(SHARED, false);
        self.open();
        if round % 3 == 2 {
            self.delete(&format!("race-{}", round - 2));
        }
        if let Some(id) = admitted.filter(|_| round % 4 != 3) {
            self.revoke(&id);
        }
        self.knock();
        if round % 3 == 1 {
            let key = format!("own-{number}-{}", round - 1);
            self.delete(&key);
            self.seal(&key, false);
        }
    }

    /// Asks once, where there is a server, and unless it is over.
    fn ask(&mut self, request: Request, what: What, said: impl FnOnce(&Reply, &mut What)) -> Option<Reply> {
        self.ask_as(&request.key(self.admin), what, said)
    }

    fn ask_as(
        &mut self,
        request: &Request,
        what: What,
        said: impl FnOnce(&Reply, &mut What),
    ) -> Option<Reply> {
        while self.client.is_none() {
            if self.is_over() {
                return None;
            }
            let connected = Client::try_connect(self.address).ok();
            // Looked at behind the connection: one that ended meanwhile answers nothing more.
            self.client = connected.map(|client| (client, self.life.load(Ordering::SeqCst)));
            if self.client.is_none() {
                pause(PAUSE_REFUSED);
            }
        }
        if self.is_over() {
            return None;
        }
        let (client, life) = self.client.as_mut()?;
        let reply = self.history.ask(client, (self.number, *life), request, what, said);
        if reply.as_ref().is_none_or(Reply::closes) {
            self.client = None;
        }
        let refused = reply.as_ref().is_none_or(|reply| reply.status == 503);
        pause(if refused { PAUSE_REFUSED } else { PAUSE });
        reply
    }

    fn create(&mut self, key: &str, counted: bool) {
        self.ask(create(key, counted), What::Create { key: key.to_owned() }, |_, _| {});
    }

    fn rotate(&mut self, key: &str) {
        let request = Request::post(&format!("/api/keys/{key}/rotate"), "{}");
        self.ask(request, What::Rotate { key: key.to_owned(), version: 0 }, |reply, what| {
            if let What::Rotate { version, .. } = what {
                *version = reply.json()["latest_version"].as_u64().expect("a version");
            }
        });
    }

    fn delete(&mut self, key: &str) {
        let request = Request::new("DELETE", &format!("/api/keys/{key}"));
        self.ask(request, What::Delete { key: key.to_owned() }, |_, _| {});
    }

    fn seal(&mut self, key: &str, counted: bool) {
        let body = format!(r#"{{"key":"{key}","plaintext":"{PLAINTEXT}"}}"#);
        let what = What::Seal { key: key.to_owned(), version: 0, ciphertext: String::new(), counted };
        let reply = self.ask(Request::post("/api/encrypt", body), what, |reply, what| {
            if let What::Seal { version, ciphertext, .. } = what {
                *version = reply.json()["key_version"].as_u64().expect("a version");
                *ciphertext = reply.member("ciphertext");
            }
        });
        if let Some(reply) = reply.filter(|reply| reply.status == 200) {
            let mut sealed = self.common.sealed.lock().expect("a lock");
            sealed.push_back((key.to_owned(), reply.member("ciphertext")));
            if sealed.len() > RECENT {
                sealed.pop_front();
            }
        }
    }

    /// Opens what any server has sealed a while ago.
    fn open(&mut self) {
        let found = self.common.sealed.lock().expect("a lock").front().cloned();
        if let Some((key, ciphertext)) = found {
            let (request, what) = open(&key, &ciphertext);
            self.ask(request, what, opened);
        }
    }

    fn admit(&mut self, name: &str) -> Option<String> {
        let body = format!(r#"{{"name":"{name}","scopes":["hash"]}}"#);
        let what = What::Admit { name: name.to_owned(), id: String::new() };
        let reply = self.ask(Request::post("/api/auth/keys", body), what, admitted)?;
        if reply.status != 201 {
            return None;
        }
        let id = reply.member("id");
        self.common.callers.lock().expect("a lock").push((id.clone(), reply.member("api_key")));
        Some(id)
    }

    fn revoke(&mut self, id: &str) {
        self.ask(revoke(id), What::Revoke { id: id.to_owned() }, |_, _| {});
    }

    /// Knocks with the newest API keys, and with some of those that were made before.
    fn knock(&mut self) {
        let chosen: Vec<(String, String)> = {
            let callers = self.common.callers.lock().expect("a lock");
            let newest = callers.iter().rev().take(KNOCKS / 2);
            let older =
                callers.iter().cycle().skip(self.knocked % callers.len().max(1)).take(KNOCKS - KNOCKS / 2);
            newest.chain(older).cloned().collect()
        };
        self.knocked += KNOCKS - KNOCKS / 2;
        for (id, secret) in chosen {
            self.ask_as(&knock(&secret), What::Knock { id }, |_, _| {});
        }
    }
}

/// Waits for time to pass, of which nothing else tells.
pub(crate) fn pause(time: Duration) {
    let begun = Instant::now();
    while begun.elapsed() < time {
        std::thread::park_timeout(time.saturating_sub(begun.elapsed()));
    }
}

/// Makes a key that may be deleted; with `counted`, one whose nonces have 96 bits.
pub(crate) fn create(key: &str, counted: bool) -> Request {
    let kind = if counted { "chacha20-poly1305" } else { "xchacha20-poly1305" };
    Request::post("/api/keys", format!(r#"{{"name":"{key}","type":"{kind}","deletion_allowed":true}}"#))
}

pub(crate) fn revoke(id: &str) -> Request {
    Request::post(&format!("/api/auth/keys/{id}/revoke"), "{}")
}

pub(crate) fn knock(secret: &str) -> Request {
    Request::post("/api/hash", r#"{"input":"aGVsbG8="}"#).key(secret)
}

pub(crate) fn admitted(reply: &Reply, what: &mut What) {
    if let What::Admit { id, .. } = what {
        *id = reply.member("id");
    }
}

pub(crate) fn open(key: &str, ciphertext: &str) -> (Request, What) {
    let body = format!(r#"{{"key":"{key}","ciphertext":"{ciphertext}"}}"#);
    let what = What::Open { key: key.to_owned(), ciphertext: ciphertext.to_owned(), same: false };
    (Request::post("/api/decrypt", body), what)
}

pub(crate) fn opened(reply: &Reply, what: &mut What) {
    if let What::Open { same, .. } = what {
        *same = reply.member("plaintext") == PLAINTEXT;
    }
}
