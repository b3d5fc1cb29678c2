//! `/api/metrics`: what was counted, as Prometheus text or OpenMetrics.
//!
//! Owns the choice of the form and the order of the page. Invariants: it is written into the lease of its reply, piece by
//! piece, and its length is bounded by the route table and the closed sets of labels; it names no key; a client that
//! names neither form gets Prometheus text, as scrapers of all times expect.

mod edge;
mod inside;
mod keys;

use core::fmt;

use crate::api::{Answer, Call, Verdict};
use crate::http::media;
use crate::http::responder::Responder;
use crate::http::status::Status;
use crate::metrics::{Exposition, Format};

/// `GET /api/metrics`
///
/// # Errors
/// [`crate::api::Rejection`] for a query, and if the page finds no room.
pub fn metrics(call: &mut Call<'_>, responder: &mut Responder<'_>) -> Answer {
    call.query(&[])?;
    let format = wanted(call.arrival.head.accept(call.arrival.bytes));
    responder.begin_growing(Status::Ok, format.content_type())?;
    let mut page = Page(responder);
    write(call, &mut Exposition::new(&mut page, format))
        .map_err(|fmt::Error| crate::api::Rejection::Overloaded)?;
    Ok(Verdict::Done)
}

/// The form that the client prefers.
fn wanted(accept: Option<&[u8]>) -> Format {
    let weight = |kind: &str, subtype: &str, version| media::weight(accept, (kind, subtype), version);
    let open = weight("application", "openmetrics-text", "1.0.0");
    let plain = weight("text", "plain", "0.0.4");
    if open > plain { Format::OpenMetrics } else { Format::Prometheus }
}

fn write(call: &Call<'_>, page: &mut Exposition<'_>) -> fmt::Result {
    let (registry, observed) = (call.metrics.registry(), call.metrics.observe());
    edge::requests(page, registry)?;
    edge::connections(page, registry, &observed)?;
    edge::memory(page, &observed)?;
    edge::tls(page, registry, &observed)?;
    edge::refusals(page, registry)?;
    inside::audit(page, registry, call.health, &observed)?;
    inside::store(page, call.health)?;
    keys::keys(page, registry, call)?;
    inside::entropy(page, call.health)?;
    inside::integrity(page, call.board)?;
    inside::sandbox(page, call.posture)?;
    inside::log(page)?;
    inside::server(page, call.health, &observed)?;
    inside::process(page)?;
    page.end()
}

/// The body of a reply, as it grows.
struct Page<'a, 'b>(&'a mut Responder<'b>);

impl fmt::Write for Page<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.announce(text.len()).map_err(|_| fmt::Error)?;
        self.0.append(text.as_bytes());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn openmetrics_is_for_those_who_ask_for_it() {
        const PROMETHEUS_2: &str = "application/openmetrics-text;version=1.0.0;q=0.5,application/openmetrics-text;\
            version=0.0.1;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
        const PROMETHEUS_3: &str = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
            application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,\
            text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
        for open in [
            "application/openmetrics-text; version=1.0.0",
            "application/openmetrics-text",
            PROMETHEUS_2,
            PROMETHEUS_3,
        ] {
            assert_eq!(wanted(Some(open.as_bytes())), Format::OpenMetrics, "{open}");
        }
        for plain in [
            "*/*",
            "",
            "text/plain",
            "text/plain;version=0.0.4",
            "application/openmetrics-text;version=0.0.1",
            "application/openmetrics-text;version=2.0.0, text/plain",
            "application/openmetrics-text;version=1.0.0;q=0.1, text/plain;q=0.2",
            "application/json",
            "nonsense",
        ] {
            assert_eq!(wanted(Some(plain.as_bytes())), Format::Prometheus, "{plain}");
        }
        assert_eq!(wanted(None), Format::Prometheus);
    }
}
