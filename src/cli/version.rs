//! What `quantonium version` shows. The first line is `quantonium <version>`, for scripts.

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
