//! The recipes of `docs/CLIENTS.md` run as they stand there: against the real server, and against one that is busy, cuts its
//! reply off or says nothing.
//!
//! Owns how each recipe is started. Invariants: every recipe of the page is one of the table here, and no other; one whose
//! program is missing is skipped aloud.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by a panic, its helping functions too")]
#![allow(clippy::print_stdout, reason = "what is not run is named")]

#[path = "support/document.rs"]
mod document;
#[path = "support/server.rs"]
mod server;

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use document::{blocks, is_there};
use server::client::Request;
use server::{Scratch, Server, binary, skip};

const PAGE: &str = include_str!("../docs/CLIENTS.md");
/// The most lines that the page promises for C.
const C_LINES: usize = 60;

/// A recipe: its file, what is needed for it, what starts it, and what it can send.
#[derive(Debug)]
struct Recipe {
    file: &'static str,
    needs: &'static str,
    /// Words before the file; none for what is compiled.
    start: &'static [&'static str],
    octets: bool,
    /// Whether a server that says nothing ends it within about ten seconds.
    impatient: bool,
}

const RECIPES: [Recipe; 6] = [
    Recipe {
        file: "busybox.sh",
        needs: "busybox",
        start: &["busybox", "sh"],
        octets: false,
        impatient: true,
    },
    // It tries again after a time-out.
    Recipe { file: "curl.sh", needs: "curl", start: &["sh"], octets: true, impatient: false },
    Recipe { file: "client.py", needs: "python3", start: &["python3"], octets: true, impatient: true },
    Recipe { file: "board.py", needs: "python3", start: &["python3"], octets: true, impatient: true },
    Recipe { file: "client.lua", needs: "lua5.4", start: &["lua5.4"], octets: true, impatient: true },
    Recipe { file: "client.c", needs: "cc", start: &[], octets: true, impatient: true },
];
/// The one that no package brings the program for.
const UNTRIED: &str = "uclient.sh";
const MICROPYTHON: &str = "micropython";

/// What a program left.
#[derive(Debug)]
struct Left {
    code: Option<i32>,
    stdout: Vec<u8>,
    stderr: String,
}

/// The recipes of the page: name and text.
fn told() -> Vec<(&'static str, String)> {
    let name = |comment: &'static str| comment.strip_prefix("<!-- recipe: ")?.strip_suffix(" -->");
    blocks(PAGE).into_iter().filter_map(|block| Some((name(block.comment?)?, block.text))).collect()
}

impl Recipe {
    /// Writes it into the folder, and compiles it if it is to be; nothing, said aloud, where its program is missing.
    fn laid(&self, folder: &Path) -> Option<Vec<PathBuf>> {
        if !is_there(self.needs) {
            skip(&format!("{} needs {}", self.file, self.needs));
            return None;
        }
        if self.file == "client.lua"
            && !Command::new("lua5.4").args(["-l", "socket"]).stdin(Stdio::null()).status().unwrap().success()
        {
            skip("client.lua needs LuaSocket");
            return None;
        }
        let path = folder.join(self.file);
        let (_, text) = told().into_iter().find(|(name, _)| *name == self.file).unwrap();
        std::fs::write(&path, text).unwrap();
        if self.start.is_empty() {
            let program = folder.join("client");
            let mut compiler = Command::new(self.needs);
            compiler.args(["-std=c99", "-O2", "-Wall", "-Wextra", "-Werror", "-o"]).arg(&program).arg(&path);
            let output = compiler.output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            return Some(vec![program]);
        }
        let mut words: Vec<PathBuf> = self.start.iter().map(PathBuf::from).collect();
        if self.file == "board.py" && is_there(MICROPYTHON) {
            words = vec![MICROPYTHON.into()];
        }
        words.push(path);
        Some(words)
    }
}

/// The recipes that can be run here, each in the folder.
fn laid(folder: &Path) -> Vec<(&'static Recipe, Vec<PathBuf>)> {
    RECIPES.iter().filter_map(|recipe| Some((recipe, recipe.laid(folder)?))).collect()
}

/// Where a recipe asks, and as whom.
struct Place<'a> {
    url: String,
    key_file: &'a Path,
    authority: Option<&'a Path>,
}

/// Runs a recipe with this command and this on its standard input.
fn run(words: &[PathBuf], command: &str, place: &Place<'_>, input: &[u8]) -> Left {
    let (program, rest) = words.split_first().unwrap();
    let mut program = Command::new(program);
    program.args(rest).arg(command).env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
    program.env("QUANTONIUM_URL", &place.url).env("QUANTONIUM_API_KEY_FILE", place.key_file);
    program.env("KEY_NAME", "orders");
    if let Some(authority) = place.authority {
        program.env("CA_FILE", authority);
    }
    program.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = program.spawn().unwrap();
    // `health` reads nothing, and may have ended already.
    let _ = child.stdin.take().unwrap().write_all(input);
    let output = child.wait_with_output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    Left { code: output.status.code(), stdout: output.stdout, stderr }
}

/// A server with the key `orders`, and the file of its admin key.
fn started(scratch: &Arc<Scratch>, flags: &[&str]) -> Option<(Server, PathBuf)> {
    let server = Server::start_in(scratch, flags)?;
    let key = scratch.path("key");
    std::fs::write(&key, format!("{}\n", server.key())).unwrap();
    Some((server, key))
}

fn make_orders(server: &Server) {
    let made = server.ask(Request::post("/api/keys", r#"{"name":"orders"}"#));
    assert_eq!(made.status, 201, "{}", made.text());
}

#[test]
fn every_recipe_of_the_page_is_run_here_or_named_as_untried() {
    let mut here: Vec<&str> = RECIPES.iter().map(|recipe| recipe.file).collect();
    here.insert(2, UNTRIED);
    let told = told();
    assert_eq!(told.iter().map(|(name, _)| *name).collect::<Vec<_>>(), here);
    let (_, c) = told.iter().find(|(name, _)| *name == "client.c").unwrap();
    assert!(c.lines().count() <= C_LINES, "{} lines of C", c.lines().count());
}

#[test]
fn the_recipe_that_no_package_can_run_is_a_script_at_least() {
    let (_, text) = told().into_iter().find(|(name, _)| *name == UNTRIED).unwrap();
    println!("not run: {UNTRIED}, because no Debian package has uclient-fetch");
    let mut child = Command::new("sh").arg("-n").stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success());
    assert!(PAGE.contains("**Not run by the test**"));
}

#[test]
fn recipes_encrypt_and_decrypt_and_tell_what_is_refused() {
    let scratch = Scratch::new();
    let Some((server, key)) = started(&scratch, &[]) else { return };
    make_orders(&server);
    let place = Place { url: format!("http://{}", server.address()), key_file: &key, authority: None };
    let wrong = scratch.path("wrong");
    std::fs::write(&wrong, "qk_00000000").unwrap();
    let stranger = Place { url: place.url.clone(), key_file: &wrong, authority: None };
    for (recipe, words) in laid(&scratch.path("")) {
        let health = run(&words, "health", &place, b"");
        assert_eq!(
            (health.code, health.stdout.as_slice()),
            (Some(0), &br#"{"status":"ok"}"#[..]),
            "{health:?}"
        );
        let plaintext: &[u8] = if recipe.octets { b"21.5 degrees\0\xff\r\n\r\n" } else { b"21.5 degrees" };
        let sealed = run(&words, "encrypt", &place, plaintext);
        assert_eq!(sealed.code, Some(0), "{}: {sealed:?}", recipe.file);
        assert_ne!(sealed.stdout, plaintext, "{}", recipe.file);
        let opened = run(&words, "decrypt", &place, &sealed.stdout);
        assert_eq!(
            (opened.code, opened.stdout.as_slice()),
            (Some(0), plaintext),
            "{}: {opened:?}",
            recipe.file
        );
        let refused = run(&words, "decrypt", &place, b"no ciphertext");
        assert_eq!((refused.code, refused.stdout.as_slice()), (Some(1), &b""[..]), "{}", recipe.file);
        let reason = if recipe.octets { "decryption_failed" } else { " 400 " };
        assert!(refused.stderr.contains(reason), "{}: {refused:?}", recipe.file);
        let refused = run(&words, "encrypt", &stranger, plaintext);
        assert_eq!((refused.code, refused.stdout.as_slice()), (Some(1), &b""[..]), "{}", recipe.file);
    }
    assert_eq!(server.stop().code, Some(0));
}

#[test]
fn recipes_with_tls_trust_the_authority_that_is_named_and_no_other() {
    let scratch = Scratch::new();
    let Some(binary) = binary() else { return };
    let mut make = Command::new(binary);
    make.args(["tls", "self-signed", "--name", "localhost", "--out-dir"]).arg(scratch.path("")).env_clear();
    assert!(make.output().unwrap().status.success());
    let [certificate, key] = ["cert.pem", "key.pem"].map(|name| scratch.path(name));
    let flags = ["--tls-cert", certificate.to_str().unwrap(), "--tls-key", key.to_str().unwrap()];
    let Some((server, key)) = started(&scratch, &flags) else { return };
    let url = format!("https://localhost:{}", server.address().port());
    let trusted = Place { url: url.clone(), key_file: &key, authority: Some(&certificate) };
    let unknown = Place { url, key_file: &key, authority: None };
    for (recipe, words) in laid(&scratch.path("")) {
        if !PAGE.lines().any(|line| line.contains("yes, tried") && links_to(line, recipe)) {
            continue;
        }
        let health = run(&words, "health", &trusted, b"");
        assert_eq!(health.code, Some(0), "{}: {health:?}", recipe.file);
        let refused = run(&words, "health", &unknown, b"");
        assert_eq!((refused.code, refused.stdout.len()), (Some(75), 0), "{}: {refused:?}", recipe.file);
    }
    assert_eq!(server.stop().code, Some(0));
}

/// Whether a row of the page's table is that of the recipe.
fn links_to(row: &str, recipe: &Recipe) -> bool {
    let section = match recipe.file {
        "curl.sh" => "[curl]",
        "client.py" => "[Python]",
        _ => return false,
    };
    row.contains(section)
}

/// A server of the test: answers each connection with the next of these, whatever it is asked, and says how many came.
/// Where nothing is to be answered, it waits until the client leaves.
fn answering(listener: &TcpListener, answers: &[Option<&str>]) {
    for answer in answers {
        let (mut stream, _) = listener.accept().unwrap();
        read_head(&mut stream);
        match answer {
            Some(answer) => {
                stream.write_all(answer.as_bytes()).unwrap();
                stream.shutdown(Shutdown::Write).unwrap();
                // Until the client closes, so that what it has not read is not reset away.
                let _ = stream.read_to_end(&mut Vec::new());
            }
            None => drop(stream.read_to_end(&mut Vec::new())),
        }
    }
}

/// Reads up to the end of a head; requests of these tests have no body.
fn read_head(stream: &mut TcpStream) {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read(&mut byte) {
            Ok(1) => head.extend(byte),
            _ => panic!("half a request: {}", String::from_utf8_lossy(&head)),
        }
    }
}

/// What each recipe that `of` takes leaves after `health`, asked of a server of its own that answers so.
fn against(answers: &[Option<&str>], of: impl Fn(&Recipe) -> bool) -> Vec<(&'static str, Left)> {
    let scratch = Scratch::new();
    let key = scratch.path("key");
    std::fs::write(&key, "qk_0").unwrap();
    let chosen: Vec<_> = laid(&scratch.path("")).into_iter().filter(|(recipe, _)| of(recipe)).collect();
    std::thread::scope(|scope| {
        let running: Vec<_> = chosen
            .iter()
            .map(|(recipe, words)| {
                let listener = TcpListener::bind("127.0.0.1:0").unwrap();
                let address = listener.local_addr().unwrap();
                let url = format!("http://{address}");
                let key = &key;
                let answered = scope.spawn(move || answering(&listener, answers));
                let left = scope
                    .spawn(move || run(words, "health", &Place { url, key_file: key, authority: None }, b""));
                (recipe.file, address, answered, left)
            })
            .collect();
        let ends = running.into_iter().map(|(file, address, answered, left)| {
            let left = left.join().unwrap();
            if !answered.is_finished() {
                // A client that asked too seldom: what still waits for it fails instead of waiting on.
                drop(TcpStream::connect(address));
            }
            answered.join().unwrap();
            (file, left)
        });
        ends.collect()
    })
}

const GOOD: &str = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\ngood";

#[test]
fn recipes_ask_again_when_the_server_is_busy() {
    let limited = "HTTP/1.1 429 Too Many Requests\r\nRetry-After: 1\r\nContent-Length: 3\r\nConnection: close\r\n\r\nbad";
    let busy = "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 3\r\nConnection: close\r\n\r\nbad";
    // The thread that answers ends only when all three were asked.
    for (file, left) in against(&[Some(limited), Some(busy), Some(GOOD)], |_| true) {
        assert_eq!((left.code, left.stdout.as_slice()), (Some(0), &b"good"[..]), "{file}: {left:?}");
    }
}

#[test]
fn recipes_take_half_a_reply_for_none() {
    let half = "HTTP/1.1 200 OK\r\nContent-Length: 8\r\nConnection: close\r\n\r\nhalf";
    for answer in [half, ""] {
        for (file, left) in against(&[Some(answer)], |_| true) {
            assert_eq!((left.code, left.stdout.as_slice()), (Some(75), &b""[..]), "{file}: {left:?}");
        }
    }
}

#[test]
fn recipes_leave_a_server_that_says_nothing() {
    for (file, left) in against(&[None], |recipe| recipe.impatient) {
        assert_eq!((left.code, left.stdout.as_slice()), (Some(75), &b""[..]), "{file}: {left:?}");
    }
}
