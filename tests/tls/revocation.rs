//! Client certificates that their authority has revoked: the authority, its certificates and its lists are made with OpenSSL.

use std::fs;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use nix::sys::signal::Signal;
use rustls::ClientConfig;

use crate::secured::{Issued, Secured, connect};
use crate::server::client::{Request, comes_true};
use crate::server::{Scratch, skip};

/// An authority made with OpenSSL.
struct Clients(PathBuf);

const CONFIG: &str = "[ca]\ndefault_ca = x\n[x]\ndatabase = index.txt\ncrlnumber = crlnumber\ndefault_md = sha256\n\
    default_crl_days = 30\ncertificate = ca.pem\nprivate_key = ca.key\n";

impl Clients {
    /// One in this folder; nothing where OpenSSL is missing.
    fn new(folder: &Path) -> Option<Self> {
        fs::create_dir(folder).unwrap();
        let own = Self(folder.to_owned());
        if !Command::new("openssl").arg("version").output().is_ok_and(|output| output.status.success()) {
            return None;
        }
        own.write("openssl.cnf", CONFIG);
        own.write("crlnumber", "01\n");
        own.write("index.txt", "");
        let usage = "-addext keyUsage=critical,keyCertSign,cRLSign";
        own.run(&format!(
            "req -x509 {} -subj /CN=clients -days 30 {usage} -keyout ca.key -out ca.pem",
            Self::KEY
        ));
        Some(own)
    }

    const KEY: &str = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";

    fn run(&self, words: &str) {
        let mut command = Command::new("openssl");
        let output = command.args(words.split(' ')).current_dir(&self.0).output().unwrap();
        assert!(output.status.success(), "{words}: {}", String::from_utf8_lossy(&output.stderr));
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.0.join(name), text).unwrap();
    }

    fn text(&self, name: &str) -> String {
        fs::read_to_string(self.0.join(name)).unwrap()
    }

    /// A certificate of a client with this serial number.
    fn issue(&self, serial: u32) -> Issued {
        self.write("client.ext", "extendedKeyUsage=clientAuth\nsubjectAltName=DNS:svc.example\n");
        self.run(&format!("req {} -subj /CN=client -keyout client.key -out client.csr", Self::KEY));
        let signs = "-CA ca.pem -CAkey ca.key -days 30 -extfile client.ext";
        self.run(&format!("x509 -req -in client.csr {signs} -set_serial {serial} -out client.pem"));
        Issued::read(&self.text("client.pem"), &self.text("client.key"))
    }

    /// The list of these serial numbers, to stand at `path`, whole or not at all.
    fn revoke(&self, serials: &[u32], more: &str, path: &Path) {
        let line =
            |serial: &u32| format!("R\t301231000000Z\t260101000000Z\t{serial:04X}\tunknown\t/CN=client\n");
        self.write("index.txt", &serials.iter().map(line).collect::<String>());
        self.run(&format!("ca -config openssl.cnf -gencrl{more} -out list.pem"));
        let new = path.with_extension("new");
        fs::copy(self.0.join("list.pem"), &new).unwrap();
        fs::rename(new, path).unwrap();
    }
}

/// Whether such a client is answered; with TLS 1.3 it learns only after its own handshake that it is not.
fn is_answered(of: &Secured, config: &Arc<ClientConfig>) -> bool {
    let Ok(mut stream) = connect(of.server.address(), config, "localhost") else { return false };
    let request = Request::get("/api/health").with("Connection", "close").bytes();
    let mut reply = Vec::new();
    let asked = stream.write_all(&request).and_then(|()| stream.read_to_end(&mut reply));
    asked.is_ok() && reply.starts_with(b"HTTP/1.1 200 ")
}

/// The same of one that has never been here.
fn served(of: &Secured, own: &Issued) -> bool {
    is_answered(of, &of.client_with(own))
}

/// Waits until they are served or not, as expected; each is a full handshake.
fn await_served(of: &Secured, expected: &[(&Issued, bool)]) -> bool {
    comes_true(|| expected.iter().all(|(own, expected)| served(of, own) == *expected))
}

#[test]
fn a_revoked_client_certificate_is_refused_and_a_bad_list_never_replaces_a_good_one() {
    let scratch = Scratch::new();
    let Some(clients) = Clients::new(&scratch.path("clients")) else { return skip("it needs openssl") };
    let (first, second) = (clients.issue(0x1001), clients.issue(0x1002));
    let mut list = PathBuf::new();
    let started = Secured::start_with(&["--workers", "1", "--tls-client-auth", "required"], |_, folder| {
        let authority = folder.join("clients.pem");
        fs::copy(clients.0.join("ca.pem"), &authority).unwrap();
        list = folder.join("revoked.pem");
        clients.revoke(&[0x1001], "", &list);
        let path = |path: &Path| path.display().to_string();
        ["--tls-client-ca".to_owned(), path(&authority), "--tls-client-crl".to_owned(), path(&list)].to_vec()
    });
    let Some(of) = started else { return };
    assert!(!served(&of, &first) && served(&of, &second));
    // What a session was resumed from is a proof under the old list: none of it is left.
    let config = of.client_with(&second);
    assert!(is_answered(&of, &config) && is_answered(&of, &config));
    clients.revoke(&[0x1002], "", &list);
    of.server.signal(Signal::SIGHUP);
    assert!(await_served(&of, &[(&first, true), (&second, false)]), "the new list is in force");
    assert!(!is_answered(&of, &config), "a ticket of before lets a revoked client in");
    let old = " -crl_lastupdate 20200101000000Z -crl_nextupdate 20200201000000Z";
    let bad: [&dyn Fn(); 2] = [&|| clients.revoke(&[], old, &list), &|| fs::write(&list, "no list").unwrap()];
    for (number, bad) in bad.into_iter().enumerate() {
        bad();
        of.server.signal(Signal::SIGHUP);
        let failures = || {
            let lines = crate::reload::audit_lines(&of.server.data_dir());
            lines.matches(r#""event":"tls.reload","outcome":"failure""#).count()
        };
        let told = comes_true(|| {
            assert!(served(&of, &first) && !served(&of, &second), "the list in force stays");
            failures() > number
        });
        assert!(told, "nothing is told of a list that was not taken");
    }
    clients.revoke(&[0x1001, 0x1002], "", &list);
    of.server.signal(Signal::SIGHUP);
    assert!(await_served(&of, &[(&first, false), (&second, false)]), "a good list is taken again");
    let ended = of.server.stop();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    for said in ["the list of revoked certificates has ended", "is not PEM", "the next one is due at"] {
        assert!(ended.stderr.contains(said), "{said}: {}", ended.stderr);
    }
}
