//! The table of routes: every path, what it takes and what it demands.
//!
//! Owns [`TABLE`] and the search in it. Invariants: a route without a permission is one that everybody may call, and
//! a test names those; `HEAD` is served wherever `GET` is; what the table does not name does not exist.

use crate::api::auth::{keys as auth, profile, token};
use crate::api::keys::{backup, configure, create, lifecycle, material, read};
use crate::api::stream::Direction;
use crate::api::{
    Handler, audit, datakey, decrypt, documents, encrypt, entropy, hash, health, integrity, keystream,
    metrics, rewrap, security_txt, sign, verify,
};
use crate::http::service::Taking;
use crate::http::target::Method;
use crate::limits::{BODY_BUFFERED_MAX_BYTES, BODY_PAYLOAD_MAX_BYTES, BODY_SMALL_MAX_BYTES};
use crate::model::Permission;

/// One row.
#[derive(Debug)]
pub struct Route {
    /// The method; `GET` stands for `HEAD` too.
    pub method: Method,
    /// The path, with a name in braces for its one variable part.
    pub pattern: &'static str,
    /// What serves it.
    pub serving: Serving,
    /// Who is served.
    pub access: Access,
    /// What it takes of the rate of who asks, beside what depends on its body; nothing if it is not limited.
    pub cost: u32,
    /// The event in the audit log; a route without one leaves no line.
    pub event: Option<&'static str>,
}

/// Who is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Everybody.
    Public,
    /// Whoever is recognised.
    Recognised,
    /// Whoever brings a credential in the body, which the handler judges: a login.
    Presented,
    /// Whoever may do this.
    Permitted(Permission),
}

/// How a row is served.
#[derive(Clone, Copy, Debug)]
pub enum Serving {
    /// By a handler that gets the whole body, of at most so many bytes.
    Whole(Handler, usize),
    /// Piece by piece, whatever the length of the body.
    Streamed(Direction),
    /// By audit lines as they come.
    Events,
}

impl Route {
    /// What the caller must be allowed to do.
    #[must_use]
    pub const fn permission(&self) -> Option<Permission> {
        match self.access {
            Access::Public | Access::Recognised | Access::Presented => None,
            Access::Permitted(permission) => Some(permission),
        }
    }

    /// Its place in the table.
    #[must_use]
    pub fn place(&'static self) -> u16 {
        let from = core::ptr::from_ref(self).addr().saturating_sub(TABLE.as_ptr().addr());
        u16::try_from(from / size_of::<Self>()).unwrap_or(u16::MAX)
    }

    /// How the body is taken.
    #[must_use]
    pub const fn taking(&self) -> Taking {
        match self.serving {
            Serving::Whole(_, body_max_bytes) => Taking::Whole(body_max_bytes),
            Serving::Streamed(_) => Taking::Streamed,
            Serving::Events => Taking::Pushed,
        }
    }
}

/// What a route takes whose permission this is: more if it writes to the disk or reads many things.
#[must_use]
pub const fn cost_of(permission: Permission) -> u32 {
    match permission {
        Permission::KeysManage | Permission::AuthManage => 10,
        Permission::KeysRead | Permission::KeysExport | Permission::AuditRead | Permission::MetricsRead => 5,
        _ => 1,
    }
}

const fn row(
    method: Method,
    pattern: &'static str,
    handler: Handler,
    permission: Permission,
    event: &'static str,
    body_max_bytes: usize,
) -> Route {
    let serving = Serving::Whole(handler, body_max_bytes);
    Route {
        method,
        pattern,
        serving,
        access: Access::Permitted(permission),
        cost: cost_of(permission),
        event: Some(event),
    }
}

const fn stream(
    pattern: &'static str,
    direction: Direction,
    permission: Permission,
    event: &'static str,
) -> Route {
    let serving = Serving::Streamed(direction);
    Route {
        method: Method::Post,
        pattern,
        serving,
        access: Access::Permitted(permission),
        cost: cost_of(permission),
        event: Some(event),
    }
}

/// A route of the life of keys, whose bodies are small.
const fn key_row(
    method: Method,
    pattern: &'static str,
    handler: Handler,
    permission: Permission,
    event: &'static str,
) -> Route {
    row(method, pattern, handler, permission, event, BODY_SMALL_MAX_BYTES)
}

const fn public(pattern: &'static str, handler: Handler) -> Route {
    let serving = Serving::Whole(handler, 0);
    Route { method: Method::Get, pattern, serving, access: Access::Public, cost: 0, event: None }
}

/// A document for everybody, which costs more than a probe and so is limited by the address.
const fn document(pattern: &'static str, handler: Handler) -> Route {
    Route { cost: 1, ..public(pattern, handler) }
}

/// A route for whoever is recognised.
const fn recognised(method: Method, pattern: &'static str, handler: Handler, event: &'static str) -> Route {
    let serving = Serving::Whole(handler, BODY_SMALL_MAX_BYTES);
    Route { method, pattern, serving, access: Access::Recognised, cost: 1, event: Some(event) }
}

/// A route of the life of API keys.
const fn auth_row(method: Method, pattern: &'static str, handler: Handler, event: &'static str) -> Route {
    row(method, pattern, handler, Permission::AuthManage, event, BODY_SMALL_MAX_BYTES)
}

/// Every route; those that are asked for most often stand first.
pub static TABLE: &[Route] = &[
    row(
        Method::Post,
        "/api/encrypt",
        encrypt::encrypt,
        Permission::Encrypt,
        "encrypt",
        BODY_PAYLOAD_MAX_BYTES,
    ),
    row(
        Method::Post,
        "/api/decrypt",
        decrypt::decrypt,
        Permission::Decrypt,
        "decrypt",
        BODY_PAYLOAD_MAX_BYTES,
    ),
    row(Method::Post, "/api/rewrap", rewrap::rewrap, Permission::Rewrap, "rewrap", BODY_PAYLOAD_MAX_BYTES),
    row(Method::Post, "/api/datakey", datakey::datakey, Permission::Datakey, "datakey", BODY_SMALL_MAX_BYTES),
    row(Method::Post, "/api/sign", sign::sign, Permission::Sign, "sign", BODY_PAYLOAD_MAX_BYTES),
    row(Method::Post, "/api/verify", verify::verify, Permission::Verify, "verify", BODY_PAYLOAD_MAX_BYTES),
    row(Method::Post, "/api/hash", hash::hash, Permission::Hash, "hash", BODY_PAYLOAD_MAX_BYTES),
    row(
        Method::Post,
        "/api/entropy/sample",
        entropy::sample,
        Permission::Entropy,
        "entropy.sample",
        BODY_SMALL_MAX_BYTES,
    ),
    row(
        Method::Post,
        "/api/keystream",
        keystream::keystream,
        Permission::Keystream,
        "keystream",
        BODY_SMALL_MAX_BYTES,
    ),
    public("/api/health", health::health),
    public("/api/health/live", health::live),
    public("/api/health/ready", health::ready),
    public("/.well-known/security.txt", security_txt::security_txt),
    key_row(Method::Get, "/api/keys", read::list, Permission::KeysRead, "key.list"),
    key_row(Method::Post, "/api/keys", create::create, Permission::KeysManage, "key.create"),
    key_row(Method::Get, "/api/keys/{name}", read::read_one, Permission::KeysRead, "key.read"),
    key_row(Method::Patch, "/api/keys/{name}", configure::configure, Permission::KeysManage, "key.configure"),
    key_row(Method::Delete, "/api/keys/{name}", lifecycle::delete, Permission::KeysManage, "key.delete"),
    key_row(
        Method::Post,
        "/api/keys/{name}/undelete",
        lifecycle::undelete,
        Permission::KeysManage,
        "key.undelete",
    ),
    key_row(Method::Post, "/api/keys/{name}/rotate", lifecycle::rotate, Permission::KeysManage, "key.rotate"),
    key_row(Method::Post, "/api/keys/{name}/import", material::import, Permission::KeysManage, "key.import"),
    key_row(Method::Post, "/api/keys/{name}/export", material::export, Permission::KeysExport, "key.export"),
    key_row(Method::Post, "/api/keys/{name}/backup", backup::backup, Permission::KeysExport, "key.backup"),
    // No key stands behind this path, whatever its name: keys take no POST.
    row(
        Method::Post,
        "/api/keys/restore",
        backup::restore,
        Permission::KeysManage,
        "key.restore",
        BODY_BUFFERED_MAX_BYTES,
    ),
    recognised(Method::Post, "/api/auth/token", token::token, "auth.token"),
    recognised(Method::Get, "/api/auth/profile", profile::profile, "auth.profile"),
    auth_row(Method::Get, "/api/auth/keys", auth::list, "auth.key.list"),
    auth_row(Method::Post, "/api/auth/keys", auth::create, "auth.key.create"),
    auth_row(Method::Get, "/api/auth/keys/{id}", auth::read_one, "auth.key.read"),
    auth_row(Method::Patch, "/api/auth/keys/{id}", auth::configure, "auth.key.configure"),
    auth_row(Method::Delete, "/api/auth/keys/{id}", auth::delete, "auth.key.delete"),
    auth_row(Method::Post, "/api/auth/keys/{id}/rotate", auth::rotate, "auth.key.rotate"),
    auth_row(Method::Post, "/api/auth/keys/{id}/revoke", auth::revoke, "auth.key.revoke"),
    stream("/api/stream/encrypt", Direction::Encrypt, Permission::Encrypt, "stream.encrypt"),
    stream("/api/stream/decrypt", Direction::Decrypt, Permission::Decrypt, "stream.decrypt"),
    row(Method::Get, "/api/audit", audit::page, Permission::AuditRead, "audit.read", 0),
    Route {
        method: Method::Get,
        pattern: "/api/audit/stream",
        serving: Serving::Events,
        access: Access::Permitted(Permission::AuditRead),
        cost: cost_of(Permission::AuditRead),
        event: Some("audit.stream"),
    },
    row(Method::Get, "/api/metrics", metrics::metrics, Permission::MetricsRead, "metrics.read", 0),
    row(Method::Get, "/api/integrity", integrity::integrity, Permission::MetricsRead, "integrity.read", 0),
    document("/openapi.json", documents::description),
    document("/docs", documents::page),
];

/// What the table says of a request.
#[derive(Debug)]
pub enum Found<'a> {
    /// This row, with the variable part of the path.
    Route(&'static Route, Option<&'a str>),
    /// The path exists for other methods only, which are these.
    OtherMethods(&'static str),
    /// No such path.
    Nothing,
}

/// Finds the row of a request.
#[must_use]
pub fn find<'a>(method: Method, path: &'a [u8]) -> Found<'a> {
    let wanted = if method == Method::Head { Method::Get } else { method };
    let hit = TABLE.iter().find_map(|route| Some((route, fits(route, wanted, path)?)));
    match hit {
        Some((route, param)) => Found::Route(route, param),
        None => match allowed(path) {
            "" => Found::Nothing,
            methods => Found::OtherMethods(methods),
        },
    }
}

/// The methods that the path takes, as `Allow` lists them; empty if there is no such path. `*` takes all.
#[must_use]
pub fn allowed(path: &[u8]) -> &'static str {
    let takes = |method: Method| {
        let mut rows = TABLE.iter().filter(|route| route.method == method);
        rows.any(|route| path == b"*" || matched(route.pattern, path).is_some())
    };
    let methods = [Method::Get, Method::Post, Method::Patch, Method::Delete];
    let mask = methods.iter().rev().fold(0, |mask, method| mask << 1 | usize::from(takes(*method)));
    ALLOW.get(mask).copied().unwrap_or_default()
}

/// `Allow` for every set of methods: 1 stands for `GET`, 2 for `POST`, 4 for `PATCH`, 8 for `DELETE`.
const ALLOW: [&str; 16] = [
    "",
    "GET, HEAD, OPTIONS",
    "OPTIONS, POST",
    "GET, HEAD, OPTIONS, POST",
    "OPTIONS, PATCH",
    "GET, HEAD, OPTIONS, PATCH",
    "OPTIONS, PATCH, POST",
    "GET, HEAD, OPTIONS, PATCH, POST",
    "DELETE, OPTIONS",
    "DELETE, GET, HEAD, OPTIONS",
    "DELETE, OPTIONS, POST",
    "DELETE, GET, HEAD, OPTIONS, POST",
    "DELETE, OPTIONS, PATCH",
    "DELETE, GET, HEAD, OPTIONS, PATCH",
    "DELETE, OPTIONS, PATCH, POST",
    "DELETE, GET, HEAD, OPTIONS, PATCH, POST",
];

fn fits<'a>(route: &Route, method: Method, path: &'a [u8]) -> Option<Option<&'a str>> {
    if route.method == method { matched(route.pattern, path) } else { None }
}

/// Whether `path` is of the pattern, and its variable part.
fn matched<'a>(pattern: &str, path: &'a [u8]) -> Option<Option<&'a str>> {
    // Most requests are for a path without a variable part, and most rows are not theirs: both are told by a comparison,
    // and the pattern is taken apart only when what stands before its variable part fits.
    if !pattern.as_bytes().contains(&b'{') {
        return (pattern.as_bytes() == path).then_some(None);
    }
    let (before, rest) = pattern.split_once('{')?;
    let (_, after) = rest.split_once('}')?;
    let variable = path.strip_prefix(before.as_bytes())?.strip_suffix(after.as_bytes())?;
    if variable.is_empty() || variable.contains(&b'/') {
        return None;
    }
    str::from_utf8(variable).ok().map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(method: Method, path: &str) -> Option<(&'static str, Option<&str>)> {
        match find(method, path.as_bytes()) {
            Found::Route(route, param) => Some((route.pattern, param)),
            _ => None,
        }
    }

    #[test]
    fn health_and_documents_are_open_to_everybody_and_who_asks_for_himself_needs_no_permission() {
        let of = |access: Access| {
            let rows = TABLE.iter().filter(move |route| route.access == access);
            rows.map(|route| route.pattern).collect::<Vec<_>>()
        };
        let open = [
            "/api/health",
            "/api/health/live",
            "/api/health/ready",
            "/.well-known/security.txt",
            "/openapi.json",
            "/docs",
        ];
        assert_eq!(of(Access::Public), open);
        assert_eq!(of(Access::Recognised), ["/api/auth/token", "/api/auth/profile"]);
        for route in TABLE {
            assert_eq!(route.access != Access::Public, route.event.is_some(), "{}", route.pattern);
        }
    }

    #[test]
    fn every_row_knows_its_place() {
        for (place, route) in TABLE.iter().enumerate() {
            assert_eq!(usize::from(route.place()), place);
        }
    }

    #[test]
    fn every_method_of_the_table_is_one_that_allow_can_name() {
        for route in TABLE {
            assert!(allowed(route.pattern.as_bytes()).contains(route.method.name()), "{}", route.pattern);
        }
    }

    #[test]
    fn paths_are_matched_exactly() {
        assert_eq!(pattern(Method::Post, "/api/encrypt"), Some(("/api/encrypt", None)));
        assert_eq!(pattern(Method::Head, "/api/health"), Some(("/api/health", None)));
        assert_eq!(pattern(Method::Get, "/api/keys/a.b"), Some(("/api/keys/{name}", Some("a.b"))));
        assert_eq!(pattern(Method::Post, "/api/keys/a/rotate"), Some(("/api/keys/{name}/rotate", Some("a"))));
        for path in
            ["/api/encrypt/", "/api//encrypt", "/API/encrypt", "/api/keys/", "/api/keys/a/b", "/", "*"]
        {
            assert!(pattern(Method::Post, path).is_none(), "{path}");
            assert!(pattern(Method::Get, path).is_none(), "{path}");
        }
        assert_eq!(pattern(Method::Get, "/api/keys/a/rotate"), None);
    }

    #[test]
    fn a_wrong_method_is_told_from_a_wrong_path() {
        assert!(matches!(find(Method::Get, b"/api/encrypt"), Found::OtherMethods("OPTIONS, POST")));
        assert!(matches!(find(Method::Put, b"/api/keys"), Found::OtherMethods("GET, HEAD, OPTIONS, POST")));
        assert!(matches!(find(Method::Get, b"/api/nothing"), Found::Nothing));
        assert!(matches!(
            find(Method::Post, b"/api/keys/a"),
            Found::OtherMethods("DELETE, GET, HEAD, OPTIONS, PATCH")
        ));
        assert_eq!(allowed(b"*"), "DELETE, GET, HEAD, OPTIONS, PATCH, POST");
    }

    #[test]
    fn allow_names_each_set_of_methods_in_order() {
        for (mask, allow) in ALLOW.iter().enumerate().skip(1) {
            let mut wanted = vec!["OPTIONS"];
            for (bit, names) in [&["GET", "HEAD"][..], &["POST"], &["PATCH"], &["DELETE"]].iter().enumerate()
            {
                wanted.extend(names.iter().filter(|_| mask >> bit & 1 == 1));
            }
            wanted.sort_unstable();
            assert_eq!(*allow, wanted.join(", "));
        }
    }
}
