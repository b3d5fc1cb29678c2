//! What a server says once it is up: where it is, and how to use it.
//!
//! Owns that text. Invariants: the admin key of a development store is shown once, on the start that made it; whoever does not read keeps no
//! start waiting: where that cannot be shown, the log tells the addresses and the file that keeps the key.

use zeroize::Zeroizing;

use crate::config::{Config, Endpoint, Scheme};
use crate::log::{self, Module};
use crate::server::startup::Prepared;
use crate::store::{AdminKey, quoted};

/// Says where the server is, and how to use it.
pub(super) fn announce(config: &Config, prepared: &Prepared, admin: Option<&AdminKey>) {
    let Prepared { endpoints, stage, .. } = prepared;
    let addresses: String = endpoints.iter().map(|endpoint| format!("listening on {endpoint}\n")).collect();
    let mut is_read = stage.show(&addresses);
    if !is_read {
        for endpoint in endpoints {
            log::info(Module::Server, format_args!("listening on {endpoint}"));
        }
    }
    let plain = endpoints.iter().find_map(|endpoint| match endpoint {
        Endpoint::Tcp(address, Scheme::Http) => Some(*address),
        _ => None,
    });
    let Some(address) = plain.filter(|_| config.dev) else { return };
    let path = quoted(&config.data_dir.join("admin.key"));
    if let Some(admin) = admin.filter(|admin| admin.created) {
        let shown = Zeroizing::new(format!("admin API key (shown once, kept in {path}): {}\n", &*admin.text));
        is_read = is_read && stage.show(&shown);
        if !is_read {
            let stream = stage.name();
            log::warn(Module::Server, format_args!("nobody reads {stream}: the admin API key is in {path}"));
        }
    }
    let usage = format!(
        "try:\n  K=$(cat {path})\n  \
         curl -sX POST http://{address}/api/keys -H \"X-API-Key: $K\" -d '{{\"name\":\"orders\"}}'\n  \
         curl -sX POST http://{address}/api/encrypt -H \"X-API-Key: $K\" -d '{{\"key\":\"orders\",\"plaintext\":\"aGVsbG8=\"}}'\n  \
         curl -s http://{address}/api/health\n"
    );
    // Of use to people alone, who are not there.
    let _ = is_read && stage.show(&usage);
}
