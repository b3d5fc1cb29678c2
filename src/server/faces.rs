//! Which of the two faces a request is for.
//!
//! Owns the choice of the table in which a row is looked for. Invariant: a path is of one face
//! only, so that a field or a form that is only known to one of them never counts for the other.

use crate::api::NOT_FOUND;
use crate::api::route::{self, Found, Route, TABLE};
use crate::api::vault::route::{NO_NAMESPACE, NO_ROUTE, NO_WRAPPING};
use crate::http::responder::{Fault, Responder};
use crate::http::service::Arrival;
use crate::http::status::Status;
use crate::server::service::App;

const METHOD_NOT_ALLOWED: Fault<'static> = Fault::new(
    Status::MethodNotAllowed,
    "method_not_allowed",
    "The path exists for other methods: see Allow.",
);

impl App {
    /// Finds the row of a request, and has it counted there; nothing after refusing it.
    pub(super) fn row_for(
        &self,
        arrival: &Arrival<'_>,
        responder: &mut Responder<'_>,
    ) -> Option<&'static Route> {
        let of_vault = self.is_of_vault(arrival);
        if let Some(fault) = unsupported(arrival).filter(|_| of_vault) {
            self.turn_away(arrival, fault, &[], responder);
            return None;
        }
        match self.find(arrival) {
            Found::Route(route, _) => {
                if let Some(place) = self.place_of(arrival, route) {
                    responder.count_at(place);
                }
                Some(route)
            }
            Found::OtherMethods(allow) => {
                let allow: [(&str, &[u8]); 1] = [("Allow", allow.as_bytes())];
                self.turn_away(arrival, &METHOD_NOT_ALLOWED, &allow, responder);
                None
            }
            Found::Nothing => {
                let fault = if of_vault { &NO_ROUTE } else { &NOT_FOUND };
                self.turn_away(arrival, fault, &[], responder);
                None
            }
        }
    }

    /// Whether a request is one of a client of Vault, and these are served.
    pub(super) fn is_of_vault(&self, arrival: &Arrival<'_>) -> bool {
        self.vault.as_ref().is_some_and(|mount| mount.has(arrival.head.path(arrival.bytes)))
    }

    /// Finds the row of a request, in the table that it is for.
    pub(super) fn find<'a>(&self, arrival: &Arrival<'a>) -> Found<'a> {
        let Arrival { head, bytes, .. } = arrival;
        let path = head.path(bytes);
        match &self.vault {
            Some(mount) if mount.has(path) => mount.find(head.method, path, head.query(bytes)),
            _ => route::find(head.method, path),
        }
    }

    /// Under which number requests of this row are counted: a second face is counted with the row of the first whose event
    /// it has, and as what matches none if there is none.
    pub(super) fn place_of(&self, arrival: &Arrival<'_>, row: &'static Route) -> Option<u16> {
        if !self.is_of_vault(arrival) {
            return Some(row.place());
        }
        let native = TABLE.iter().find(|native| native.event.is_some() && native.event == row.event);
        native.map(Route::place)
    }
}

/// What a client of Vault asks for that must not be passed over.
fn unsupported(arrival: &Arrival<'_>) -> Option<&'static Fault<'static>> {
    let asks = |name| {
        let mut values = arrival.head.values_from_last(arrival.bytes, name);
        move |none: &[&[u8]]| values.any(|value| !none.contains(&value))
    };
    if asks("X-Vault-Namespace")(&[b"", b"/", b"root", b"root/"]) {
        return Some(&NO_NAMESPACE);
    }
    asks("X-Vault-Wrap-TTL")(&[b"", b"0", b"0s"]).then_some(&NO_WRAPPING)
}
