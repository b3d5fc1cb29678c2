//! A way through which TCP connections go until it is cut: a network that fails as networks do, without a word.
//!
//! Owns the listener and its threads. Invariant: while it is cut nothing passes and nothing is refused; what waited passes afterwards.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};

/// One way to one port.
pub(crate) struct Proxy {
    address: SocketAddr,
    cut: Arc<(Mutex<bool>, Condvar)>,
}

impl Proxy {
    /// A way to `port` of this machine.
    pub(crate) fn to(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("its address");
        let cut = Arc::new((Mutex::new(false), Condvar::new()));
        let shared = Arc::clone(&cut);
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let shared = Arc::clone(&shared);
                std::thread::spawn(move || {
                    wait(&shared);
                    let Ok(server) = TcpStream::connect(("127.0.0.1", port)) else { return };
                    let (back, forth) = (client.try_clone(), server.try_clone());
                    let (Ok(to_client), Ok(to_server)) = (back, forth) else { return };
                    let other = Arc::clone(&shared);
                    std::thread::spawn(move || pass(server, to_client, &other));
                    pass(client, to_server, &shared);
                });
            }
        });
        Self { address, cut }
    }

    pub(crate) const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Cuts it, or mends it.
    pub(crate) fn cut(&self, is_cut: bool) {
        *self.cut.0.lock().expect("a lock") = is_cut;
        self.cut.1.notify_all();
    }
}

fn wait(cut: &(Mutex<bool>, Condvar)) {
    let mut held = cut.0.lock().expect("a lock");
    while *held {
        held = cut.1.wait(held).expect("a lock");
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream, cut: &(Mutex<bool>, Condvar)) {
    let mut piece = [0; 16 * 1024];
    while let Ok(read) = from.read(&mut piece) {
        wait(cut);
        if read == 0 || to.write_all(&piece[..read]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(std::net::Shutdown::Both);
    let _ = from.shutdown(std::net::Shutdown::Both);
}
