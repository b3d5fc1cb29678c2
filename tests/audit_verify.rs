//! `quantonium audit` over what the real server wrote: a log that is as it was written passes, and whatever is done to it is
//! found where it was done.

#![expect(clippy::unwrap_used, reason = "a test fails by a panic, its helping functions too")]

#[path = "support/place.rs"]
mod place;

use std::fs;
use std::path::PathBuf;

use nix::sys::signal::Signal;
use place::server::client::Request;
use place::server::{Server, comes};
use place::{Place, Ran};

/// A place whose store an operator made, with the admin key of it.
struct Site {
    place: Place,
    key: String,
}

impl Site {
    fn new() -> Option<Self> {
        let place = Place::new()?;
        let made = place.run("init", &[]);
        let key = made.must_be(0).out().trim().to_owned();
        Some(Self { place, key })
    }

    fn serve(&self) -> Server {
        self.place.serve("master.key", &["--workers", "2"])
    }

    /// Makes a key of this name and uses it, from several connections so that each worker has something to tell.
    fn use_key(&self, server: &Server, name: &str, times: usize) {
        let make = Request::post("/api/keys", format!("{{\"name\":\"{name}\"}}")).key(&self.key);
        assert_eq!(server.call(&make).status, 201);
        let seal = format!("{{\"key\":\"{name}\",\"plaintext\":\"aGVsbG8=\"}}");
        for _ in 0..8 {
            let mut client = server.connect();
            for _ in 0..times {
                let reply = client.call(&Request::post("/api/encrypt", &seal).key(&self.key));
                assert_eq!(reply.status, 200, "{reply:?}");
            }
        }
    }

    fn verify(&self, flags: &[&str]) -> Ran {
        self.place.run("audit verify", flags)
    }

    fn files(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.place.path("data/audit")).unwrap();
        let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
        files.sort();
        files
    }

    /// The longest file of a worker.
    fn longest(&self) -> PathBuf {
        let workers = self.files().into_iter().filter(|path| path.to_string_lossy().contains("-w"));
        workers.max_by_key(|path| fs::metadata(path).unwrap().len()).unwrap()
    }
}

/// The lines of a file, each with its line feed.
fn lines(text: &[u8]) -> Vec<Vec<u8>> {
    text.split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect()
}

#[test]
fn what_was_removed_because_of_its_age_is_not_missed() {
    let Some(site) = Site::new() else { return };
    let server = site.serve();
    site.use_key(&server, "first", 10);
    assert_eq!(server.stop().code, Some(0));
    let old = site.files();
    for path in &old {
        let days = std::time::Duration::from_secs(3 * 86_400);
        let file = fs::File::options().write(true).open(path).unwrap();
        file.set_modified(std::time::SystemTime::now() - days).unwrap();
    }
    let server = site.place.serve("master.key", &["--workers", "2", "--audit-retention-days", "1"]);
    let mut client = server.connect();
    let gone = comes(|| {
        // What goes meanwhile is no theft.
        site.verify(&[]).must_be(0);
        if client.call(&Request::get("/api/health/live")).closes() {
            client = server.connect();
        }
        !site.files().iter().any(|path| old.contains(path))
    });
    assert!(gone, "they are old enough");
    assert_eq!(server.stop().code, Some(0));
    site.verify(&[]).must_be(0);
    let keepers = site.files().into_iter().filter(|path| path.to_string_lossy().contains("-k-"));
    // The successor too, which is empty.
    keepers.for_each(|path| fs::remove_file(path).unwrap());
    assert!(site.verify(&[]).must_be(1).out().contains("no file of it is there"), "but what is taken is");
}

#[test]
fn what_was_written_passes_over_kills_stops_and_new_roots() {
    let Some(site) = Site::new() else { return };
    let server = site.serve();
    site.use_key(&server, "first", 80);
    let running = site.verify(&[]);
    assert!(running.must_be(0).out().contains("cannot be proved"), "{}", running.out());
    // Until the store has noted how far the streams have come.
    let mut said = String::new();
    let noted = comes(|| {
        said = site.verify(&[]).must_be(0).out().to_owned();
        !said.contains("has noted nothing")
    });
    assert!(noted, "{said}");
    server.signal(Signal::SIGKILL);
    server.wait();
    site.verify(&[]).must_be(0);
    let server = site.serve();
    site.use_key(&server, "second", 10);
    assert_eq!(server.stop().code, Some(0));
    let said = site.verify(&[]).must_be(0).out().to_owned();
    assert_eq!(
        said.matches(", to its end").count(),
        4,
        "the streams of this start, and that of init: {said}"
    );
    site.place.run("store rotate-root", &["--admin-key-file", "new-admin.key"]).must_be(0);
    let rotated = site.verify(&[]).must_be(0).out().to_owned();
    assert_eq!(rotated, said, "what was written under the old root is verified as before");
}

#[test]
fn whatever_is_done_to_a_file_is_found_and_where() {
    let Some(site) = Site::new() else { return };
    let server = site.serve();
    site.use_key(&server, "orders", 40);
    assert_eq!(server.stop().code, Some(0));
    site.verify(&[]).must_be(0);
    let path = site.longest();
    let shown = path.file_name().unwrap().to_str().unwrap().to_owned();
    let whole = fs::read(&path).unwrap();
    let written = lines(&whole);
    assert!(written.len() > 40);
    let refuse = |altered: &[Vec<u8>], code: i32, words: &[&str]| {
        fs::write(&path, altered.concat()).unwrap();
        let ran = site.verify(&[]);
        ran.must_be(code);
        for word in words {
            assert!(ran.out().contains(word), "{word:?} is missing: {}", ran.out());
        }
    };
    let place = |index: usize| {
        let offset: usize = written[..index].iter().map(Vec::len).sum();
        format!("{shown}: line {} at byte {offset}", index + 1)
    };
    // The value of each member.
    let line = String::from_utf8(written[20].clone()).unwrap();
    let values: Vec<usize> = line.match_indices("\":").map(|(at, _)| at + 3).collect();
    assert!(values.len() > 12, "{line}");
    for at in values {
        let mut altered = written.clone();
        altered[20][at] ^= 1;
        refuse(&altered, 65, &[&place(20)]);
    }
    let mut gone = written.clone();
    gone.remove(20);
    refuse(&gone, 65, &[&place(20), "21 is missing before it"]);
    let mut twice = written.clone();
    twice.insert(20, written[20].clone());
    refuse(&twice, 65, &["line 22 at byte", "22 was to come"]);
    let mut swapped = written.clone();
    swapped.swap(20, 21);
    refuse(&swapped, 65, &[&place(20), "line 22 at byte"]);
    refuse(&written[..20], 1, &["the stream ends with 20", "it was cut off"]);
    let mut torn = written[..21].to_vec();
    torn[20].truncate(30);
    refuse(&torn, 1, &["the stream ends with 20", "it was cut off"]);
    // Its successor is there, and empty.
    refuse(&[], 1, &["the stream ends with 0", "it was cut off"]);
    fs::remove_file(&path).unwrap();
    assert!(site.verify(&[]).must_be(1).out().contains("the stream ends with 0"));
    let stream = shown.strip_suffix("-0001.jsonl").unwrap();
    let successor = path.with_file_name(format!("{stream}-0002.jsonl"));
    assert_eq!(fs::read(&successor).unwrap(), b"");
    fs::remove_file(&successor).unwrap();
    let missing = site.verify(&[]);
    assert!(
        missing.must_be(1).out().contains(&format!("{stream}: no file of it is there")),
        "{}",
        missing.out()
    );
    fs::write(&path, &whole).unwrap();
    site.verify(&[]).must_be(0);
}

#[test]
fn without_the_master_key_nothing_is_said_to_be_right_that_was_not_checked() {
    let Some(site) = Site::new() else { return };
    let server = site.serve();
    site.use_key(&server, "orders", 5);
    assert_eq!(server.stop().code, Some(0));
    let run = |flags: &[&str]| site.place.run_with("audit verify", flags, &[]);
    assert!(run(&["--data-dir", "data"]).must_be(1).out().contains("no mac was checked"));
    assert!(run(&["--data-dir", "data", "--without-key"]).must_be(0).out().contains("no mac was checked"));
    let path = site.longest();
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replacen("\"status\":200", "\"status\":201", 1)).unwrap();
    run(&["--data-dir", "data", "--without-key"]).must_be(0);
    site.verify(&[]).must_be(65);
    let kept: String =
        text.lines().enumerate().filter(|(at, _)| *at != 2).map(|(_, line)| format!("{line}\n")).collect();
    fs::write(&path, kept).unwrap();
    assert!(
        run(&["--data-dir", "data", "--without-key"]).must_be(65).out().contains("3 is missing before it")
    );
    site.verify(&["no-such-name.jsonl"]).must_refuse(78, &["has not the name of an audit file"]);
}

#[test]
fn people_find_what_they_look_for() {
    let Some(site) = Site::new() else { return };
    let server = site.serve();
    site.use_key(&server, "orders", 5);
    let none = Request::post("/api/encrypt", "{\"key\":\"none\",\"plaintext\":\"\"}").key(&site.key);
    let refused = server.call(&none);
    let id = refused.field("X-Request-Id").unwrap();
    let run = |words: &str, flags: &[&str]| {
        let ran = site.place.run_with(words, &[&["--data-dir", "data"], flags].concat(), &[]);
        ran.must_be(0).out().to_owned()
    };
    let found = run("audit search", &["--request-id", id]);
    assert!(found.contains(" failure ") && found.contains("code=unknown_key"), "{found}");
    assert_eq!(found.lines().count(), 1);
    let success = run("audit search", &["--key", "orders", "--event", "encrypt", "--outcome", "success"]);
    assert_eq!(success.lines().count(), 40, "{success}");
    assert_eq!(run("audit search", &["--until", "2020-01-01"]), "");
    assert_eq!(run("audit search", &["--since", "2020", "--key", "none"]).lines().count(), 1);
    let json = run("audit tail", &["--json", "--lines", "3"]);
    assert!(json.lines().count() == 3 && json.lines().all(|line| line.starts_with("{\"seq\":")), "{json}");
    assert_eq!(run("audit tail", &[]).lines().count(), 20);
    assert_eq!(server.stop().code, Some(0));
}
