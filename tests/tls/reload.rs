//! Certificates that change while the server runs.

use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixDatagram;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use nix::sys::signal::Signal;

use crate::secured::{Issued, Secured, ask};
use crate::server::Scratch;
use crate::server::client::{Request, SILENCE, comes_true};

/// Connects until the certificate is this one. Each connection is a full handshake, since each client is new.
fn await_certificate(of: &Secured, expected: &Issued) -> bool {
    // The files are looked at every ten seconds.
    comes_true(|| {
        let mut stream = of.connect(&of.client());
        assert!(ask(&mut stream, Request::get("/api/health")).starts_with("HTTP/1.1 200 "));
        stream.conn.peer_certificates().unwrap()[0] == expected.der
    })
}

#[test]
fn a_signal_and_a_changed_file_bring_new_certificates_into_force_under_load() {
    let Some(of) = Secured::start(&["--workers", "2", "--max-handshakes-per-address", "0"]) else { return };
    let (done, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let names = ["localhost", "127.0.0.1"];
    std::thread::scope(|scope| {
        for _ in 0..2 {
            let (of, done, asked) = (&of, Arc::clone(&done), Arc::clone(&asked));
            scope.spawn(move || {
                let config = of.client();
                while !done.load(Ordering::Relaxed) {
                    // It panics at the first request that fails.
                    let reply = ask(&mut of.connect(&config), Request::get("/api/health"));
                    assert!(reply.starts_with("HTTP/1.1 200 "), "{reply}");
                    asked.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let mut kept = of.connect(&of.client());
        let second = of.authority.server(&names);
        of.replace(&second);
        of.server.signal(Signal::SIGHUP);
        let by_signal = await_certificate(&of, &second);
        let third = of.authority.server(&names);
        of.replace(&third);
        let by_change = await_certificate(&of, &third);
        done.store(true, Ordering::Relaxed);
        assert!(by_signal && by_change);
        // A connection of the first certificate goes on.
        assert!(ask(&mut kept, Request::get("/api/health")).starts_with("HTTP/1.1 200 "));
    });
    assert!(asked.load(Ordering::Relaxed) > 0);
    let (key, data) = (fs::read_to_string(of.folder.join("cert.key")).unwrap(), of.server.data_dir());
    let secret: Vec<String> = key.lines().filter(|line| !line.starts_with('-')).map(str::to_owned).collect();
    // The folder goes with the last who has it.
    let _folder = Arc::clone(of.server.scratch());
    let told = of.server.stop();
    assert_eq!(told.code, Some(0), "{}", told.stderr);
    assert_eq!(told.stderr.matches("new certificates are in force").count(), 2, "{}", told.stderr);
    let audit = audit_lines(&data);
    assert_eq!(audit.matches(r#""event":"tls.reload","outcome":"success""#).count(), 2, "{audit}");
    for line in secret {
        assert!(!told.stderr.contains(&line) && !told.stdout.contains(&line) && !audit.contains(&line));
    }
}

#[test]
fn a_reload_is_told_to_be_over_once_the_certificate_is_in_force() {
    let scratch = Scratch::new();
    let path = scratch.path("notify");
    let told = UnixDatagram::bind(&path).unwrap();
    told.set_read_timeout(Some(SILENCE)).unwrap();
    let next = || {
        let mut message = [0; 1024];
        let length = told.recv(&mut message).unwrap();
        String::from_utf8_lossy(&message[..length]).into_owned()
    };
    let Some(of) = Secured::start_notifying(&path) else { return };
    assert!(next().starts_with("READY=1\n"));
    for _ in 0..5 {
        let newer = of.authority.server(&["localhost"]);
        of.replace(&newer);
        of.server.signal(Signal::SIGHUP);
        assert!(next().starts_with("RELOADING=1\n"));
        assert!(next().starts_with("READY=1\n"));
        assert_eq!(of.connect(&of.client()).conn.peer_certificates().unwrap()[0], newer.der);
    }
    // One that is refused is over too.
    fs::write(of.folder.join("cert.pem"), "no certificate").unwrap();
    of.server.signal(Signal::SIGHUP);
    assert!(next().starts_with("RELOADING=1\n"));
    assert!(next().starts_with("READY=1\n"));
    let told = of.server.stop();
    assert_eq!(told.stderr.matches("those in force stay").count(), 1, "{}", told.stderr);
}

#[test]
fn exchanged_links_are_seen_as_kubernetes_makes_them() {
    let linked = |of: &crate::secured::Authority, folder: &std::path::Path| {
        let _ = of;
        for name in ["..one", "..two", "..three"] {
            fs::create_dir(folder.join(name)).unwrap();
        }
        let first = of.server(&["linked.example"]);
        first.write(&folder.join("..one"), "tls");
        symlink("..one", folder.join("..data")).unwrap();
        let path = |name: &str| {
            symlink(format!("..data/{name}"), folder.join(name)).unwrap();
            folder.join(name).display().to_string()
        };
        vec!["--tls-cert".into(), path("tls.pem"), "--tls-key".into(), path("tls.key")]
    };
    let Some(of) = Secured::start_with(&["--workers", "1", "--max-handshakes-per-address", "0"], linked)
    else {
        return;
    };
    let second = of.authority.server(&["linked.example"]);
    second.write(&of.folder.join("..two"), "tls");
    symlink("..two", of.folder.join("..new")).unwrap();
    fs::rename(of.folder.join("..new"), of.folder.join("..data")).unwrap();
    of.server.signal(Signal::SIGHUP);
    let found = comes_true(|| {
        let stream = crate::secured::connect(of.server.address(), &of.client(), "linked.example").unwrap();
        stream.conn.peer_certificates().unwrap()[0] == second.der
    });
    assert!(found);
}

#[test]
fn bad_files_keep_what_is_in_force_and_are_told_once() {
    let Some(of) = Secured::start(&["--workers", "1", "--max-handshakes-per-address", "0"]) else { return };
    let first = fs::read_to_string(of.folder.join("cert.pem")).unwrap();
    let stranger = of.authority.server(&["localhost"]);
    // The key of another certificate, and then half of a file.
    fs::write(of.folder.join("new"), &stranger.key).unwrap();
    fs::rename(of.folder.join("new"), of.folder.join("cert.key")).unwrap();
    of.server.signal(Signal::SIGHUP);
    await_audit(&of, 1);
    fs::write(of.folder.join("cert.pem"), &first[..first.len() / 2]).unwrap();
    of.server.signal(Signal::SIGHUP);
    await_audit(&of, 2);
    let reply = of.ask(&of.client(), Request::get("/api/health"));
    assert!(reply.starts_with("HTTP/1.1 200 "), "{reply}");
    // Good ones are taken again.
    let good = of.authority.server(&["localhost"]);
    of.replace(&good);
    of.server.signal(Signal::SIGHUP);
    assert!(await_certificate(&of, &good));
    let told = of.server.stop();
    assert_eq!(told.stderr.matches("those in force stay").count(), 2, "{}", told.stderr);
    assert!(told.stderr.contains("belongs to another certificate"), "{}", told.stderr);
    assert!(told.stderr.contains("cert.pem"), "{}", told.stderr);
}

/// Waits until so many refused reloads are in the audit log: the keeper tells them with its next tick.
fn await_audit(of: &Secured, count: usize) {
    let told = comes_true(|| {
        let _ = of.ask(&of.client(), Request::get("/api/health"));
        let audit = audit_lines(&of.server.data_dir());
        audit.matches(r#""event":"tls.reload","outcome":"failure""#).count() >= count
    });
    assert!(told);
}

pub(crate) fn audit_lines(data_dir: &std::path::Path) -> String {
    let files = fs::read_dir(data_dir.join("audit")).unwrap();
    let read = |entry: std::io::Result<fs::DirEntry>| fs::read(entry.unwrap().path()).unwrap();
    files.map(|entry| String::from_utf8_lossy(&read(entry)).into_owned()).collect()
}
