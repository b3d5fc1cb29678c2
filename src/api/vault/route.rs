//! The table of this face: every path, what it takes and what it demands.
//!
//! Owns [`TABLE`], [`Mount`] and the search. Invariants: each row names the permission and the audit event of what it does
//! natively; `PUT` is `POST`, and `LIST` is `GET` with `list=true`; what the table does not name does not exist.

use crate::api::Handler;
use crate::api::route::{Access, Found, Route, Serving, cost_of};
use crate::api::vault::{datakey, keys, material, payload, plain, system, token};
use crate::http::query::Query;
use crate::http::responder::Fault;
use crate::http::status::Status;
use crate::http::target::Method;
use crate::limits::{BODY_BUFFERED_MAX_BYTES, BODY_PAYLOAD_MAX_BYTES, BODY_SMALL_MAX_BYTES};
use crate::model::Permission;

/// There are no namespaces.
pub const NO_NAMESPACE: Fault<'static> =
    Fault::new(Status::NotFound, "namespace_not_found", "namespace not found");
/// There is no such path.
pub const NO_ROUTE: Fault<'static> =
    Fault::new(Status::NotFound, "not_found", "no handler for route: this server has no such path");
/// A reply is never wrapped: it must not be given in the open to who asked for it wrapped.
pub const NO_WRAPPING: Fault<'static> =
    Fault::new(Status::BadRequest, "wrapping_not_supported", "response wrapping is not supported here");

/// Where the engine is found: a segment of the path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount(Box<str>);

const fn of(
    method: Method,
    pattern: &'static str,
    handler: Handler,
    permission: Permission,
    event: &'static str,
    body_max_bytes: usize,
) -> Route {
    let serving = Serving::Whole(handler, body_max_bytes);
    let access = Access::Permitted(permission);
    Route { method, pattern, serving, access, cost: cost_of(permission), event: Some(event) }
}

const fn payload(
    pattern: &'static str,
    handler: Handler,
    permission: Permission,
    event: &'static str,
) -> Route {
    of(Method::Post, pattern, handler, permission, event, BODY_PAYLOAD_MAX_BYTES)
}

const fn small(
    method: Method,
    pattern: &'static str,
    handler: Handler,
    permission: Permission,
    event: &'static str,
) -> Route {
    of(method, pattern, handler, permission, event, BODY_SMALL_MAX_BYTES)
}

const fn public(pattern: &'static str, handler: Handler) -> Route {
    let serving = Serving::Whole(handler, 0);
    Route { method: Method::Get, pattern, serving, access: Access::Public, cost: 0, event: None }
}

const fn own(method: Method, pattern: &'static str, handler: Handler, event: &'static str) -> Route {
    let serving = Serving::Whole(handler, BODY_SMALL_MAX_BYTES);
    Route { method, pattern, serving, access: Access::Recognised, cost: 1, event: Some(event) }
}

/// Every row; those that are asked for most often stand first.
pub static TABLE: &[Route] = &[
    payload("/v1/{mount}/encrypt/{name}", payload::encrypt, Permission::Encrypt, "encrypt"),
    payload("/v1/{mount}/decrypt/{name}", payload::decrypt, Permission::Decrypt, "decrypt"),
    payload("/v1/{mount}/rewrap/{name}", payload::rewrap, Permission::Rewrap, "rewrap"),
    payload("/v1/{mount}/hmac/{name}", payload::hmac, Permission::Sign, "sign"),
    payload("/v1/{mount}/hmac/{name}/{algorithm}", payload::hmac, Permission::Sign, "sign"),
    payload("/v1/{mount}/verify/{name}", payload::verify, Permission::Verify, "verify"),
    payload("/v1/{mount}/verify/{name}/{algorithm}", payload::verify, Permission::Verify, "verify"),
    payload("/v1/{mount}/sign/{name}", system::sign, Permission::Sign, "sign"),
    payload("/v1/{mount}/sign/{name}/{algorithm}", system::sign, Permission::Sign, "sign"),
    small(
        Method::Post,
        "/v1/{mount}/datakey/plaintext/{name}",
        datakey::plaintext,
        Permission::Datakey,
        "datakey",
    ),
    small(
        Method::Post,
        "/v1/{mount}/datakey/wrapped/{name}",
        datakey::wrapped,
        Permission::Datakey,
        "datakey",
    ),
    small(Method::Post, "/v1/{mount}/random", plain::random, Permission::Entropy, "entropy.sample"),
    small(Method::Post, "/v1/{mount}/random/{source}", plain::random, Permission::Entropy, "entropy.sample"),
    small(
        Method::Post,
        "/v1/{mount}/random/{source}/{bytes}",
        plain::random,
        Permission::Entropy,
        "entropy.sample",
    ),
    payload("/v1/{mount}/hash", plain::hash, Permission::Hash, "hash"),
    payload("/v1/{mount}/hash/{algorithm}", plain::hash, Permission::Hash, "hash"),
    public("/v1/sys/health", system::health),
    public("/v1/sys/seal-status", system::seal_status),
    public("/v1/sys/init", system::init),
    public("/v1/sys/leader", system::leader),
    own(Method::Get, "/v1/sys/mounts", system::mounts, "auth.profile"),
    own(Method::Get, "/v1/sys/internal/ui/mounts/{mounted}", system::ui_mount, "auth.profile"),
    own(Method::Get, "/v1/auth/token/lookup-self", token::lookup_self, "auth.profile"),
    own(Method::Post, "/v1/auth/token/lookup-self", token::lookup_self, "auth.profile"),
    own(Method::Post, "/v1/auth/token/renew-self", token::renew_self, "auth.profile"),
    own(Method::Post, "/v1/auth/token/revoke-self", token::revoke_self, "auth.token.revoke"),
    Route {
        method: Method::Post,
        pattern: "/v1/auth/approle/login",
        serving: Serving::Whole(token::login, BODY_SMALL_MAX_BYTES),
        access: Access::Presented,
        cost: 1,
        event: Some("auth.token"),
    },
    small(Method::List, "/v1/{mount}/keys", keys::list, Permission::KeysRead, "key.list"),
    small(Method::List, "/v1/{mount}/keys/", keys::list, Permission::KeysRead, "key.list"),
    small(Method::Get, "/v1/{mount}/keys/{name}", keys::read_one, Permission::KeysRead, "key.read"),
    small(Method::Post, "/v1/{mount}/keys/{name}", keys::create, Permission::KeysManage, "key.create"),
    small(Method::Delete, "/v1/{mount}/keys/{name}", keys::delete, Permission::KeysManage, "key.destroy"),
    small(Method::Post, "/v1/{mount}/keys/{name}/rotate", keys::rotate, Permission::KeysManage, "key.rotate"),
    small(
        Method::Post,
        "/v1/{mount}/keys/{name}/config",
        keys::configure,
        Permission::KeysManage,
        "key.configure",
    ),
    small(Method::Post, "/v1/{mount}/keys/{name}/trim", keys::trim, Permission::KeysManage, "key.trim"),
    small(
        Method::Delete,
        "/v1/{mount}/keys/{name}/soft-delete",
        keys::soft_delete,
        Permission::KeysManage,
        "key.delete",
    ),
    small(
        Method::Post,
        "/v1/{mount}/keys/{name}/soft-delete-restore",
        keys::soft_delete_restore,
        Permission::KeysManage,
        "key.undelete",
    ),
    of(
        Method::Post,
        "/v1/{mount}/keys/{name}/import",
        material::import,
        Permission::KeysManage,
        "key.restore",
        BODY_BUFFERED_MAX_BYTES,
    ),
    small(
        Method::Get,
        "/v1/{mount}/export/{kind}/{name}",
        material::export,
        Permission::KeysExport,
        "key.export",
    ),
    small(
        Method::Get,
        "/v1/{mount}/export/{kind}/{name}/{version}",
        material::export,
        Permission::KeysExport,
        "key.export",
    ),
    small(Method::Get, "/v1/{mount}/backup/{name}", material::backup, Permission::KeysExport, "key.backup"),
    of(
        Method::Post,
        "/v1/{mount}/restore",
        material::restore,
        Permission::KeysManage,
        "key.restore",
        BODY_BUFFERED_MAX_BYTES,
    ),
    of(
        Method::Post,
        "/v1/{mount}/restore/{name}",
        material::restore,
        Permission::KeysManage,
        "key.restore",
        BODY_BUFFERED_MAX_BYTES,
    ),
    small(Method::Get, "/v1/{mount}/cache-config", system::cache_config, Permission::KeysRead, "key.list"),
    small(Method::Post, "/v1/{mount}/cache-config", system::cache_config, Permission::KeysManage, "key.list"),
    small(Method::Get, "/v1/{mount}/config/keys", system::keys_config, Permission::KeysRead, "key.list"),
    small(Method::Post, "/v1/{mount}/config/keys", system::keys_config, Permission::KeysManage, "key.list"),
];

/// What every path of this face begins with.
const PREFIX: &[u8] = b"/v1/";

impl Mount {
    /// The mount of this name.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self(name.into())
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0
    }

    /// Whether a path is of this face.
    #[must_use]
    pub fn has(&self, path: &[u8]) -> bool {
        path.starts_with(PREFIX)
    }

    /// Finds the row of a request.
    #[must_use]
    pub fn find<'a>(&self, method: Method, path: &'a [u8], query: Option<&[u8]>) -> Found<'a> {
        let lists = || {
            let query = Query::parse(query?).ok()?;
            query.find_unique("list").ok()?.map(|text| text.is(b"true"))
        };
        let wanted = match method {
            Method::Get if lists() == Some(true) => Method::List,
            Method::Head => Method::Get,
            Method::Put => Method::Post,
            other => other,
        };
        let mut others = 0;
        for (index, route) in TABLE.iter().enumerate() {
            let Some(param) = self.matched(route.pattern, path) else { continue };
            if route.method == wanted {
                return Found::Route(TABLE.get(index).unwrap_or(route), param);
            }
            others |= bit(route.method);
        }
        if others == 0 { Found::Nothing } else { Found::OtherMethods(allow(others)) }
    }

    /// Whether `path` is of the pattern, and the part of it that names a key.
    fn matched<'a>(&self, pattern: &str, path: &'a [u8]) -> Option<Option<&'a str>> {
        let mut segments = path.split(|byte| *byte == b'/');
        let mut param = None;
        for wanted in pattern.split('/') {
            let segment = segments.next()?;
            match wanted {
                "{mount}" if segment == self.0.as_bytes() => {}
                "{mount}" => return None,
                _ if wanted.starts_with('{') => {
                    let text = str::from_utf8(segment).ok().filter(|text| !text.is_empty())?;
                    // The key, or, on a path without one, the only variable part.
                    if wanted == "{name}" || param.is_none() {
                        param = Some(text);
                    }
                }
                _ if segment == wanted.as_bytes() => {}
                _ => return None,
            }
        }
        segments.next().is_none().then_some(param)
    }
}

const fn bit(method: Method) -> usize {
    match method {
        Method::Get => 1,
        Method::Post => 2,
        Method::Delete => 4,
        Method::List => 8,
        _ => 0,
    }
}

/// The methods of a path, as `Allow` lists them.
fn allow(mask: usize) -> &'static str {
    const ALLOW: [&str; 16] = [
        "",
        "GET, HEAD",
        "POST, PUT",
        "GET, HEAD, POST, PUT",
        "DELETE",
        "DELETE, GET, HEAD",
        "DELETE, POST, PUT",
        "DELETE, GET, HEAD, POST, PUT",
        "LIST",
        "GET, HEAD, LIST",
        "LIST, POST, PUT",
        "GET, HEAD, LIST, POST, PUT",
        "DELETE, LIST",
        "DELETE, GET, HEAD, LIST",
        "DELETE, LIST, POST, PUT",
        "DELETE, GET, HEAD, LIST, POST, PUT",
    ];
    ALLOW.get(mask).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found<'a>(
        method: Method,
        path: &'a str,
        query: Option<&str>,
    ) -> Option<(&'static str, Method, Option<&'a str>)> {
        match Mount::new("transit").find(method, path.as_bytes(), query.map(str::as_bytes)) {
            Found::Route(route, param) => Some((route.pattern, route.method, param)),
            _ => None,
        }
    }

    #[test]
    fn put_is_post_and_list_has_two_forms() {
        let encrypt = Some(("/v1/{mount}/encrypt/{name}", Method::Post, Some("k")));
        assert_eq!(found(Method::Post, "/v1/transit/encrypt/k", None), encrypt);
        assert_eq!(found(Method::Put, "/v1/transit/encrypt/k", None), encrypt);
        let list = Some(("/v1/{mount}/keys", Method::List, None));
        assert_eq!(found(Method::List, "/v1/transit/keys", None), list);
        assert_eq!(found(Method::Get, "/v1/transit/keys", Some("list=true")), list);
        assert_eq!(found(Method::Get, "/v1/transit/keys", None), None);
        assert!(found(Method::List, "/v1/transit/keys/", None).is_some());
        assert!(found(Method::Head, "/v1/sys/health", Some("standbyok=true")).is_some());
    }

    #[test]
    fn the_key_is_found_wherever_it_stands() {
        let param = |path| found(Method::Post, path, None).unwrap().2;
        assert_eq!(param("/v1/transit/hmac/k/sha2-512"), Some("k"));
        assert_eq!(param("/v1/transit/datakey/wrapped/k"), Some("k"));
        assert_eq!(param("/v1/transit/keys/k/rotate"), Some("k"));
        assert_eq!(param("/v1/transit/random/platform/7"), Some("platform"));
        let export = found(Method::Get, "/v1/transit/export/hmac-key/k/2", None).unwrap();
        assert_eq!(export.2, Some("k"));
    }

    #[test]
    fn paths_are_matched_exactly() {
        for path in [
            "/v1/transit/encrypt/",
            "/v1/transit/encrypt/k/",
            "/v1/other/encrypt/k",
            "/v1//encrypt/k",
            "/v1/transit/nothing",
            "/v1/sys",
            "/v1/",
            "/v2/transit/encrypt/k",
        ] {
            assert!(found(Method::Post, path, None).is_none(), "{path}");
        }
        let other = Mount::new("keys-of-ours");
        assert!(matches!(other.find(Method::Post, b"/v1/keys-of-ours/encrypt/k", None), Found::Route(..)));
        assert!(matches!(
            other.find(Method::Get, b"/v1/keys-of-ours/encrypt/k", None),
            Found::OtherMethods("POST, PUT")
        ));
    }

    #[test]
    fn only_what_says_how_the_server_is_is_open_to_everybody() {
        for route in TABLE {
            assert_eq!(route.access == Access::Public, route.event.is_none(), "{}", route.pattern);
            assert!(bit(route.method) != 0, "{}", route.pattern);
        }
    }
}
