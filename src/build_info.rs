//! What was built: version, commit, target, features, CPU flavour and flags.
//!
//! Owns no behaviour. Invariant: everything here is known at compile time, so that `quantonium version` needs
//! no file and no environment.

/// The package's version.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
/// The git commit that was built.
pub const COMMIT: &str = "unknown";
/// The target triple.
pub const TARGET: &str = "unknown";
/// The cargo features that are on.
pub const FEATURES: &str = "unknown";
/// The CPU flavour: `portable` or `v3`.
pub const CPU: &str = "unknown";
/// The compiler flags that matter for speed.
pub const FLAGS: &str = "unknown";
