//! What `quantonium version` shows. The first line is `quantonium <version>`, for scripts. With `--crates` it is the list
//! of what the binary is made of, as scanners find it there.

use std::fmt::Write as _;
use std::io::Read as _;

use flate2::read::ZlibDecoder;
use serde::Deserialize;

use crate::build_info;

/// The implementation of TLS that this build holds.
const TLS_PROVIDER: &str = if cfg!(feature = "tls") { "rustls with aws-lc-rs" } else { "none" };

/// The whole text, ending in a newline.
pub(super) fn text() -> String {
    format!(
        "quantonium {}\ncommit: {}\ntarget: {}\nfeatures: {}\ntls: {TLS_PROVIDER}\ncpu: {}\nflags: {}\n",
        build_info::VERSION,
        build_info::COMMIT,
        build_info::TARGET,
        build_info::FEATURES,
        build_info::CPU,
        build_info::FLAGS
    )
}

#[derive(Deserialize)]
struct List {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    version: String,
    #[serde(default)]
    kind: Kind,
}

/// When a crate's code runs.
#[derive(Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    /// In the program.
    #[default]
    Runtime,
    /// In the compiler, or in the build script: nothing of it is in the program.
    Build,
}

/// A line for each crate: name, version, `runtime` or `build`. Nothing if the list cannot be read.
pub(super) fn crates() -> Option<String> {
    let mut json = String::new();
    ZlibDecoder::new(build_info::crates()).read_to_string(&mut json).ok()?;
    let list: List = serde_json::from_str(&json).ok()?;
    let mut text = String::new();
    for Package { name, version, kind } in list.packages {
        let when = match kind {
            Kind::Runtime => "runtime",
            Kind::Build => "build",
        };
        writeln!(text, "{name} {version} {when}").ok()?;
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_crates_tell_what_runs_from_what_builds() {
        let text = crates().unwrap();
        let kind = |name: &str| {
            let line = text.lines().find(|line| line.split(' ').next() == Some(name));
            line.and_then(|line| line.rsplit(' ').next())
        };
        assert_eq!(kind("quantonium"), Some("runtime"));
        assert_eq!(kind("chacha20"), Some("runtime"));
        assert_eq!(kind("serde_derive"), Some("build"), "a procedural macro");
        assert_eq!(kind("syn"), Some("build"), "what only a procedural macro needs");
        assert_eq!(kind("proptest"), None, "what only tests need");
        assert_eq!(kind("windows-sys"), None, "what only another system needs");
    }
}
