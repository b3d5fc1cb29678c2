//! The page `/docs`, used in a browser as a person would.
//!
//! Owns the list of what must have been done. Invariant: what was not done is a failure, not a silence.

#[path = "support/packages.rs"]
mod packages;
#[path = "support/server.rs"]
mod server;

use std::path::Path;
use std::process::Command;

use packages::{browser_folder, root};
use server::{Server, skip};

/// Debian's.
const BROWSER: &str = "/usr/bin/chromium";

const DONE: [&str; 20] = [
    "the reference shows every operation",
    "try it",
    "create a key",
    "encrypt",
    "decrypt",
    "rotate",
    "disable a version",
    "destroy a version",
    "make an API key",
    "what a credential may not do is not offered",
    "revoke an API key",
    "follow the audit log",
    "the plots move",
    "the state of integrity",
    "by the keyboard alone",
    "a credential is kept in memory alone, and a wrong one is told",
    "every part at 1280 pixels, dark: fits, and axe finds nothing",
    "every part at 1280 pixels, light: fits, and axe finds nothing",
    "every part at 360 pixels, dark: fits, and axe finds nothing",
    "every part at 360 pixels, light: fits, and axe finds nothing",
];

#[test]
fn people_can_do_everything_on_the_page() {
    if !Path::new(BROWSER).exists() {
        skip("no /usr/bin/chromium");
        return;
    }
    let Some(folder) = browser_folder() else { return };
    let limits = ["--workers", "1", "--rate-limit", "0", "--address-rate-limit", "0"];
    let Some(server) = Server::start(&limits) else { return };
    let output = Command::new("node")
        .arg(root().join("tests/console/console.mjs"))
        .arg(format!("http://{}", server.address()))
        .arg(server.data_dir().join("admin.key"))
        .env("CHROMIUM", BROWSER)
        .current_dir(folder)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    for done in DONE {
        assert!(said.lines().any(|line| line == format!("did: {done}")), "not done: {done}\n{said}");
    }
    assert_eq!(server.stop().code, Some(0));
}
