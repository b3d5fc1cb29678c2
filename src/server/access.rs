//! A line of the log for each request that was answered, for those who ask for it.
//!
//! Owns nothing. Invariant: nothing of what a client wrote stands in it but the identifier of its trace, which is hexadecimal.

use crate::api::route;
use crate::http::service::Told;
use crate::log::{self, Level, Module};
use crate::model::TraceId;

/// Tells of it. To be asked for only if the log wants such lines.
#[inline(never)]
pub(super) fn tell(told: &Told<'_>) {
    let row = told.place.and_then(|place| route::TABLE.get(usize::from(place)));
    let (method, route) = row.map_or(("-", "-"), |row| (row.method.name(), row.pattern));
    let id = str::from_utf8(told.id.as_bytes()).unwrap_or_default();
    let fields = [
        ("method", log::Value::Text(method)),
        ("route", log::Value::Text(route)),
        ("status", log::Value::Number(told.status.code().into())),
        ("duration_us", log::Value::Number(told.elapsed_nanos / 1_000)),
        ("request_id", log::Value::Text(id)),
        ("trace_id", log::Value::Text(told.trace.as_ref().map_or("", TraceId::as_str))),
    ];
    let fields = fields.get(..fields.len() - usize::from(told.trace.is_none())).unwrap_or_default();
    log::event(Level::Debug, Module::Http, fields, format_args!("answered"));
}
