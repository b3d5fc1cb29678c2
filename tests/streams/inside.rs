//! Streams in the application itself, without a process around it: what must happen between two chunks.

#[path = "../support/in_process.rs"]
mod in_process;

use std::fs::{File, OpenOptions};
use std::io::{PipeReader, Read as _};
use std::os::fd::{AsFd as _, OwnedFd};

use in_process::{InProcess, KEY};
use quantonium::keyring::Change;
use quantonium::model::{KeyName, KeyOptions, KeyType, PolicyChange, VersionState};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::server::client::comes_true;
use crate::{CHUNK, plaintext, sealed_len};

const MOST: usize = 1 << 20;

fn nowhere() -> File {
    OpenOptions::new().write(true).open("/dev/null").unwrap()
}

/// An audit file whose lines can be read, and which fails once they cannot be any more.
fn pipe() -> (PipeReader, File) {
    let (reader, writer) = std::io::pipe().unwrap();
    (reader, File::from(OwnedFd::from(writer)))
}

/// Leaves a pipe without a reader. Another test may have forked a moment ago: its child has the end, too, until it is
/// another program.
fn stop_reading(lines: PipeReader, audit: &OwnedFd) {
    drop(lines);
    let is_broken = comes_true(|| {
        let mut polled = [PollFd::new(audit, PollFlags::empty())];
        poll(&mut polled, Some(&Timespec::default())).unwrap();
        polled[0].revents().contains(PollFlags::ERR)
    });
    assert!(is_broken, "somebody still reads");
}

fn head(worker: &InProcess, path: &str, query: &str, length: usize) -> Vec<u8> {
    let key = &worker.credential;
    format!(
        "POST /api/stream/{path}?key={KEY}{query} HTTP/1.1\r\nHost: a\r\nX-API-Key: {key}\r\nContent-Length: {length}\r\n\r\n"
    )
    .into_bytes()
}

fn body_of(reply: &[u8]) -> Vec<u8> {
    let end = reply.windows(4).position(|window| window == b"\r\n\r\n").expect("the end of the head");
    reply[end + 4..].to_vec()
}

fn configure(state: VersionState) -> Change {
    let name = KeyName::new(KEY).unwrap();
    let policy = PolicyChange { deletion_allowed: Some(true), ..PolicyChange::default() };
    Change::Configure { name, policy, versions: vec![(1, state)] }
}

fn is_problem(reply: &[u8], status: u16, code: &str) -> bool {
    let text = String::from_utf8_lossy(reply);
    text.starts_with(&format!("HTTP/1.1 {status} ")) && text.contains(&format!("\"code\":\"{code}\""))
}

/// A whole stream of `plain`, sealed.
fn sealed(worker: &mut InProcess, query: &str, plain: &[u8]) -> Vec<u8> {
    let request = [&head(worker, "encrypt", query, plain.len())[..], plain].concat();
    worker.exchange(&request, body_of)
}

#[test]
fn a_version_that_goes_out_of_use_ends_its_streams() {
    let plain = plaintext(4 * CHUNK);
    for (path, state, ends) in [
        ("encrypt", VersionState::Disabled, true),
        ("encrypt", VersionState::DecryptOnly, true),
        ("encrypt", VersionState::Destroyed, true),
        ("decrypt", VersionState::Disabled, true),
        ("decrypt", VersionState::Destroyed, true),
        ("decrypt", VersionState::DecryptOnly, false),
    ] {
        let (mut lines, audit) = pipe();
        let mut worker = InProcess::new(audit, MOST);
        let body = if path == "encrypt" { plain.clone() } else { sealed(&mut worker, "", &plain) };
        let first = worker.exchange(
            &[&head(&worker, path, "", body.len())[..], &body[..CHUNK + 100]].concat(),
            <[u8]>::len,
        );
        assert!(first > CHUNK, "the first chunk is out");
        worker.change(&configure(state));
        let rest = worker.more(&body[CHUNK + 100..], <[u8]>::len);
        assert_eq!(rest == 0, ends, "{path} {state:?}: {rest} bytes came after it");
        drop(worker);
        let mut text = String::new();
        lines.read_to_string(&mut text).unwrap();
        let last = text.lines().last().unwrap();
        let told = format!("\"event\":\"stream.{path}\",\"outcome\":\"failure\",\"code\":\"key_revoked\"");
        assert_eq!(last.contains(&told), ends, "{last}");
    }
}

#[test]
fn a_stream_that_waits_is_looked_at_every_second() {
    let plain = plaintext(3 * CHUNK);
    for (path, state, ends) in [
        ("encrypt", VersionState::Disabled, true),
        ("encrypt", VersionState::Enabled, false),
        ("decrypt", VersionState::Disabled, true),
    ] {
        let (mut lines, audit) = pipe();
        let mut worker = InProcess::new(audit, MOST);
        let body = if path == "encrypt" { plain.clone() } else { sealed(&mut worker, "", &plain) };
        let request = [&head(&worker, path, "", body.len())[..], &body[..CHUNK + 100]].concat();
        assert!(worker.exchange(&request, <[u8]>::len) > CHUNK);
        worker.change(&configure(state));
        assert_eq!(worker.wait(500, <[u8]>::len), 0);
        assert_eq!(worker.wait(700, <[u8]>::len), 0);
        drop(worker);
        let mut text = String::new();
        lines.read_to_string(&mut text).unwrap();
        let last = text.lines().last().unwrap();
        assert_eq!(last.contains("\"code\":\"key_revoked\""), ends, "{path} {state:?}: {last}");
    }
}

#[test]
fn a_key_that_is_deleted_and_made_anew_is_not_the_same_key() {
    let plain = plaintext(3 * CHUNK);
    let mut worker = InProcess::new(nowhere(), MOST);
    let request = [&head(&worker, "encrypt", "", plain.len())[..], &plain[..CHUNK + 1]].concat();
    assert!(worker.exchange(&request, <[u8]>::len) > CHUNK);
    let name = KeyName::new(KEY).unwrap();
    worker.change(&configure(VersionState::Enabled));
    worker.change(&Change::Delete { name: name.clone() });
    // Until the end of its restore window it is only hidden; the test does not wait for that.
    worker.remove(KEY);
    let options = KeyOptions::of(KeyType::XChaCha20Poly1305);
    worker.change(&Change::Create { name, options, policy: PolicyChange::default() });
    assert_eq!(worker.more(&plain[CHUNK + 1..], <[u8]>::len), 0);
}

#[test]
fn a_version_that_goes_out_of_use_before_the_reply_is_a_refusal() {
    let plain = plaintext(2 * CHUNK);
    let mut worker = InProcess::new(nowhere(), MOST);
    let request = [&head(&worker, "encrypt", "", plain.len())[..], &plain[..100]].concat();
    assert_eq!(worker.exchange(&request, <[u8]>::len), 0);
    worker.change(&configure(VersionState::Disabled));
    assert!(worker.more(&plain[100..], |reply| is_problem(reply, 409, "key_revoked")));
}

#[test]
fn nothing_leaves_before_the_beginning_is_told() {
    let (lines, audit) = pipe();
    let own = audit.as_fd().try_clone_to_owned().unwrap();
    let mut worker = InProcess::new(audit, MOST);
    let plain = plaintext(2 * CHUNK);
    stop_reading(lines, &own);
    let request = [&head(&worker, "encrypt", "", plain.len())[..], &plain].concat();
    assert!(worker.exchange(&request, |reply| is_problem(reply, 503, "audit_unavailable")));
}

#[test]
fn a_stream_whose_end_cannot_be_told_stays_cut() {
    let (lines, audit) = pipe();
    let own = audit.as_fd().try_clone_to_owned().unwrap();
    let mut worker = InProcess::new(audit, MOST);
    let plain = plaintext(2 * CHUNK);
    let request = [&head(&worker, "encrypt", "", plain.len())[..], &plain[..CHUNK + 1]].concat();
    let first = worker.exchange(&request, body_of);
    stop_reading(lines, &own);
    let rest = worker.more(&plain[CHUNK + 1..], <[u8]>::len);
    assert!(first.len() + rest < sealed_len(plain.len()), "the last chunk must not leave");
    assert_eq!(rest, 0);
}

#[test]
fn a_derived_key_binds_its_context() {
    let mut options = KeyOptions::of(KeyType::ChaCha20Poly1305);
    options.derived = true;
    let mut worker = InProcess::with_key(nowhere(), MOST, options);
    let plain = plaintext(1_000);
    let none = [&head(&worker, "encrypt", "", 3)[..], b"abc"].concat();
    assert!(worker.exchange(&none, |reply| is_problem(reply, 400, "context_required")));
    let mut worker = InProcess::with_key(nowhere(), MOST, options);
    let body = sealed(&mut worker, "&context=dGVuYW50", &plain);
    assert_eq!(body.len(), sealed_len(plain.len()));
    let open =
        |worker: &InProcess, query: &str| [&head(worker, "decrypt", query, body.len())[..], &body].concat();
    let request = open(&worker, "&context=dGVuYW50");
    assert!(worker.exchange(&request, body_of) == plain);
    let request = open(&worker, "&context=dGVuYW51");
    assert!(worker.exchange(&request, |reply| is_problem(reply, 400, "decryption_failed")));
}

#[test]
fn a_key_that_only_signs_has_no_streams() {
    for path in ["encrypt", "decrypt"] {
        let mut worker = InProcess::with_key(nowhere(), MOST, KeyOptions::of(KeyType::HmacSha256));
        let request = [&head(&worker, path, "", 100)[..], &[0; 100]].concat();
        assert!(worker.exchange(&request, |reply| is_problem(reply, 400, "key_type_not_allowed")), "{path}");
    }
}
