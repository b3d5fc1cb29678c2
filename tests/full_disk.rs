//! A disk that fills up under the store: changes are refused, keys go on being used, and with room they go through again.
//!
//! Room is reserved ahead for the journal and for each audit file. Here changes are large, so that the journal's is used
//! up long before that of the audit log; a server with small changes may find it the other way round, which is in
//! `tests/audit.rs`.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by a panic, its functions too")]

#[path = "support/promises.rs"]
mod promises;
#[path = "simulation/random.rs"]
mod random;
#[path = "support/server.rs"]
mod server;
#[path = "support/small_disk.rs"]
mod small_disk;

use nix::sys::signal::Signal;
use promises::{Promises, assert_kept};
use server::client::{Client, Request};
use server::{Server, assert_sound, binary, comes};
use small_disk::SmallDisk;

/// Makes a key of many versions, and gives out its backup.
fn large(client: &mut Client, key: &str) -> String {
    let import =
        format!("{{\"type\":\"hmac-sha512\",\"format\":\"hex\",\"material\":\"{}\"}}", "ab".repeat(512));
    for _ in 0..40 {
        let made = client.call(&Request::post("/api/keys/large/import", &import).key(key));
        assert!(made.status == 200 || made.status == 201, "{made:?}");
    }
    client.call(&Request::post("/api/keys/large/backup", "").key(key)).member("backup")
}

/// Restores the backup under one more name, so that nothing is superseded; returns the status.
fn grow(client: &mut Client, key: &str, backup: &str, number: &mut u32) -> u16 {
    let body = format!("{{\"backup\":\"{backup}\",\"name\":\"large-{number}\"}}");
    let reply = client.call(&Request::post("/api/keys/restore", &body).key(key));
    if reply.status == 201 {
        *number += 1;
    } else {
        reply.assert_problem(507, "store_full");
    }
    reply.status
}

/// Takes the room away and uses up what was reserved.
fn fill(disk: &SmallDisk, client: &mut Client, key: &str, backup: &str, number: &mut u32) {
    disk.fill();
    // A refusal may be followed by room: what is superseded is given back then.
    let mut refused = 0;
    for _ in 0..400 {
        refused = if grow(client, key, backup, number) == 201 { 0 } else { refused + 1 };
        if refused == 5 {
            return;
        }
    }
    panic!("the disk never became full");
}

fn store_health(client: &mut Client) -> (u16, String) {
    let reply = client.call(&Request::get("/api/health"));
    let json = reply.json();
    let status = json.pointer("/components/store/status").and_then(|status| status.as_str());
    (reply.status, status.unwrap_or_else(|| panic!("{json}")).to_owned())
}

/// Waits until health says this of the store.
fn assert_health(client: &mut Client, status: &str) {
    let said = comes(|| store_health(client) == (200, status.to_owned()));
    assert!(said, "the store is never {status}");
}

/// What needs no change goes on while changes find no room.
fn assert_used(client: &mut Client, key: &str) {
    for _ in 0..10 {
        let seal = Request::post("/api/encrypt", "{\"key\":\"big\",\"plaintext\":\"aGVsbG8=\"}").key(key);
        let ciphertext = client.call(&seal).member("ciphertext");
        let open = format!("{{\"key\":\"big\",\"ciphertext\":\"{ciphertext}\"}}");
        let opened = client.call(&Request::post("/api/decrypt", open).key(key));
        assert_eq!(opened.member("plaintext"), "aGVsbG8=");
        assert_eq!(client.call(&Request::get("/api/keys").key(key)).status, 200);
    }
}

#[test]
fn a_full_disk_refuses_changes_and_nothing_else_until_there_is_room_again() {
    if binary().is_none() {
        return;
    }
    let Some(disk) = SmallDisk::mount("3m") else { return };
    let flags = ["--workers", "1", "--max-requests-per-connection", "1000000000"];
    let Some(server) = Server::start_in(&disk.scratch, &flags) else { return };
    let mut client = server.connect();
    let key = server.key().to_owned();
    let mut clients = [Promises::uncounted("f", 1)];
    for _ in 0..20 {
        assert!(clients[0].change(&mut client, &key).unwrap().status < 300);
        clients[0].seal(&mut client, &key).unwrap();
    }
    assert_eq!(client.call(&Request::post("/api/keys", "{\"name\":\"big\"}").key(&key)).status, 201);
    let backup = large(&mut client, &key);
    let mut number = 0;
    for _ in 0..2 {
        fill(&disk, &mut client, &key, &backup, &mut number);
        assert_health(&mut client, "failing");
        let mut refused = 0;
        for _ in 0..40 {
            // What is small may still find room in what was reserved.
            let reply = clients[0].change(&mut client, &key).unwrap();
            if reply.status >= 300 {
                reply.assert_problem(507, "store_full");
                clients[0].refused();
                refused += 1;
            }
        }
        assert!(refused > 0, "there was room for 40 changes");
        assert_used(&mut client, &key);
        assert_kept(&server, &mut clients, true);
        disk.make_room();
        // Nobody restarts it.
        assert_eq!(grow(&mut client, &key, &backup, &mut number), 201);
        assert_health(&mut client, "ok");
        assert!(clients[0].change(&mut client, &key).unwrap().status < 300);
    }
    fill(&disk, &mut client, &key, &backup, &mut number);
    server.signal(Signal::SIGKILL);
    let _ = server.wait();
    // A start writes nothing that it could do without.
    let Some(server) = Server::start_in(&disk.scratch, &["--workers", "1"]) else { return };
    assert_used(&mut server.connect(), &key);
    server.signal(Signal::SIGKILL);
    let _ = server.wait();
    disk.make_room();
    let Some(server) = Server::start_in(&disk.scratch, &["--workers", "1"]) else { return };
    assert_kept(&server, &mut clients, true);
    let last = server.ask(Request::get(&format!("/api/keys/large-{}", number - 1)));
    assert_eq!(last.status, 200);
    let data_dir = server.data_dir();
    assert_eq!(server.stop().code, Some(0));
    assert_sound(&data_dir);
}
