//! A server with TLS, certificates of our own for it and for clients, and a client of the same library.
//!
//! Owns nothing of the server. Invariant: every wait has a limit, so that a silent server fails a test and does not hang it.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking, and says where"
)]
#![allow(dead_code, reason = "included by several test files, none of which uses all of it")]

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    date_time_ymd,
};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned, SupportedProtocolVersion};

use crate::server::client::{Request, SILENCE};
use crate::server::{Scratch, Server};

/// Signs certificates.
pub(crate) struct Authority {
    pub(crate) pem: String,
    pub(crate) der: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate with its key.
pub(crate) struct Issued {
    pub(crate) certificate: String,
    pub(crate) key: String,
    pub(crate) der: CertificateDer<'static>,
    key_der: Vec<u8>,
}

impl Authority {
    /// One like no other.
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "authority");
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let (pem, der) = (certificate.pem(), certificate.der().clone());
        Self { pem, der, issuer: Issuer::new(params, key) }
    }

    /// A certificate of a server with these names.
    pub(crate) fn server(&self, names: &[&str]) -> Issued {
        self.issue(names, ExtendedKeyUsagePurpose::ServerAuth, false)
    }

    /// A certificate of a client.
    pub(crate) fn client(&self, name: &str) -> Issued {
        self.issue(&[name], ExtendedKeyUsagePurpose::ClientAuth, false)
    }

    /// A certificate of a client that has ended.
    pub(crate) fn expired_client(&self, name: &str) -> Issued {
        self.issue(&[name], ExtendedKeyUsagePurpose::ClientAuth, true)
    }

    /// A certificate of a server that has ended.
    pub(crate) fn expired_server(&self, name: &str) -> Issued {
        self.issue(&[name], ExtendedKeyUsagePurpose::ServerAuth, true)
    }

    fn issue(&self, names: &[&str], purpose: ExtendedKeyUsagePurpose, expired: bool) -> Issued {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.extended_key_usages = vec![purpose];
        // Not the authority's: a certificate whose subject is its issuer's is taken for one that signs itself.
        params.distinguished_name.push(DnType::CommonName, "end");
        if expired {
            (params.not_before, params.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2021, 1, 1));
        }
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Issued {
            certificate: certificate.pem(),
            der: certificate.der().clone(),
            key: key.serialize_pem(),
            key_der: key.serialize_der(),
        }
    }
}

impl Issued {
    /// One that was made elsewhere, in PEM.
    pub(crate) fn read(certificate: &str, key: &str) -> Self {
        let der = CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap();
        let key_der = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap().secret_der().to_vec();
        Self { certificate: certificate.to_owned(), key: key.to_owned(), der, key_der }
    }

    /// Writes both files; returns their paths.
    pub(crate) fn write(&self, folder: &Path, stem: &str) -> (PathBuf, PathBuf) {
        let (chain, key) = (folder.join(format!("{stem}.pem")), folder.join(format!("{stem}.key")));
        fs::write(&chain, &self.certificate).unwrap();
        fs::write(&key, &self.key).unwrap();
        (chain, key)
    }
}

/// A server that speaks TLS, and who signed its certificate.
pub(crate) struct Secured {
    pub(crate) server: Server,
    pub(crate) authority: Authority,
    /// Where the files are.
    pub(crate) folder: PathBuf,
}

impl Secured {
    /// One with a certificate for `localhost` in `cert.pem` and `cert.key`; nothing where no binary is given.
    pub(crate) fn start(flags: &[&str]) -> Option<Self> {
        Self::start_with(flags, |_, _| Vec::new())
    }

    /// The same with more flags that need files: `prepare` makes them in the folder that it is given.
    pub(crate) fn start_with(
        flags: &[&str],
        prepare: impl FnOnce(&Authority, &Path) -> Vec<String>,
    ) -> Option<Self> {
        crate::server::binary()?;
        let scratch = Scratch::new();
        let folder = scratch.path("tls");
        fs::create_dir(&folder).unwrap();
        let authority = Authority::new();
        let (chain, key) = authority.server(&["localhost", "127.0.0.1"]).write(&folder, "cert");
        make_readable(&folder);
        let more = prepare(&authority, &folder);
        let (chain, key) = (chain.display().to_string(), key.display().to_string());
        let mut all = vec!["--tls-cert", &chain, "--tls-key", &key];
        all.extend(flags);
        all.extend(more.iter().map(String::as_str));
        let server = Server::start_in(&scratch, &all)?;
        Some(Self { server, authority, folder })
    }

    /// One that tells the service manager whose socket has the path `notify`.
    pub(crate) fn start_notifying(notify: &Path) -> Option<Self> {
        let mut command = crate::server::program()?;
        let scratch = Scratch::new();
        let folder = scratch.path("tls");
        fs::create_dir(&folder).unwrap();
        let authority = Authority::new();
        let (chain, key) = authority.server(&["localhost"]).write(&folder, "cert");
        make_readable(&folder);
        command.args(["serve", "--dev", "--listen", "127.0.0.1:0", "--workers", "1", "--data-dir"]);
        command.arg(scratch.data_dir()).arg("--tls-cert").arg(chain).arg("--tls-key").arg(key);
        command.env_clear().env("NOTIFY_SOCKET", notify);
        let server = Server::spawn(command, &scratch, 1);
        Some(Self { server, authority, folder })
    }

    /// What a client trusts that knows the authority.
    pub(crate) fn client(&self) -> Arc<ClientConfig> {
        config(&self.authority, None, aws_lc_rs::default_provider())
    }

    /// The same of a client with a certificate.
    pub(crate) fn client_with(&self, own: &Issued) -> Arc<ClientConfig> {
        config(&self.authority, Some(own), aws_lc_rs::default_provider())
    }

    /// A connection whose handshake is done.
    pub(crate) fn connect(&self, config: &Arc<ClientConfig>) -> Stream {
        connect(self.server.address(), config, "localhost").unwrap_or_else(|error| panic!("{error}"))
    }

    /// Sends a request with the admin key on a connection of its own and returns the whole reply.
    pub(crate) fn ask(&self, config: &Arc<ClientConfig>, request: Request) -> String {
        ask(&mut self.connect(config), request.key(self.server.key()))
    }

    /// Replaces the certificate by another one; whole or not at all.
    pub(crate) fn replace(&self, issued: &Issued) {
        let (chain, key) = issued.write(&self.folder, "new");
        fs::rename(key, self.folder.join("cert.key")).unwrap();
        fs::rename(chain, self.folder.join("cert.pem")).unwrap();
    }
}

/// A start as root gives its privileges up, and reads the files again as somebody else.
pub(crate) fn make_readable(folder: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    // The file modes of tests are those of the system; the folder of a test is made for its owner only.
    let open = fs::Permissions::from_mode(0o755);
    let parent = folder.parent().expect("a parent");
    fs::set_permissions(folder, open.clone()).and_then(|()| fs::set_permissions(parent, open)).unwrap();
}

/// A connection through TLS.
pub(crate) type Stream = StreamOwned<ClientConnection, TcpStream>;

/// A client that speaks these versions only, and shows nothing.
pub(crate) fn config_of(
    trusted: &Authority,
    provider: CryptoProvider,
    versions: &[&'static SupportedProtocolVersion],
) -> Arc<ClientConfig> {
    let builder = ClientConfig::builder_with_provider(Arc::new(provider));
    let builder = builder.with_protocol_versions(versions).unwrap();
    Arc::new(builder.with_root_certificates(roots(trusted)).with_no_client_auth())
}

fn roots(trusted: &Authority) -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add(trusted.der.clone()).unwrap();
    roots
}

/// What a client trusts and shows.
pub(crate) fn config(
    trusted: &Authority,
    own: Option<&Issued>,
    provider: CryptoProvider,
) -> Arc<ClientConfig> {
    let builder = ClientConfig::builder_with_provider(Arc::new(provider));
    let builder = builder.with_safe_default_protocol_versions().unwrap();
    let builder = builder.with_root_certificates(roots(trusted));
    Arc::new(match own {
        None => builder.with_no_client_auth(),
        Some(own) => {
            let key = PrivateKeyDer::try_from(own.key_der.clone()).unwrap();
            builder.with_client_auth_cert(vec![own.der.clone()], key).unwrap()
        }
    })
}

/// Connects and shakes hands.
pub(crate) fn connect(
    address: SocketAddr,
    config: &Arc<ClientConfig>,
    name: &str,
) -> std::io::Result<Stream> {
    let socket = TcpStream::connect(address)?;
    socket.set_read_timeout(Some(SILENCE))?;
    socket.set_write_timeout(Some(SILENCE))?;
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let tls = ClientConnection::new(Arc::clone(config), name).map_err(std::io::Error::other)?;
    let mut stream = StreamOwned::new(tls, socket);
    while stream.conn.is_handshaking() {
        stream.conn.complete_io(&mut stream.sock)?;
    }
    Ok(stream)
}

/// Sends a request that closes, and reads to the end, which must be announced.
pub(crate) fn ask(stream: &mut Stream, request: Request) -> String {
    stream.write_all(&request.with("Connection", "close").bytes()).expect("a request sent");
    let mut reply = Vec::new();
    // A stream that ends without `close_notify` is an error here.
    stream.read_to_end(&mut reply).expect("a reply that ends in order");
    String::from_utf8_lossy(&reply).into_owned()
}

/// Reads the head of a reply and as many bytes behind it as it says.
pub(crate) fn read_reply(stream: &mut Stream) -> (String, Vec<u8>) {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).expect("the head of a reply");
        head.extend(byte);
    }
    let head = String::from_utf8(head).expect("text");
    let length = head.lines().filter_map(|line| line.split_once(": "));
    let length = length.clone().find(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    let mut body = vec![0; length.map_or(0, |(_, value)| value.parse().expect("a length"))];
    stream.read_exact(&mut body).expect("the body of a reply");
    (head, body)
}
