//! `datakey/plaintext/{name}` and `datakey/wrapped/{name}`: a fresh key, sealed, and perhaps beside it in the open.
//!
//! Owns the forms of request and reply. Invariants are those of [`crate::api::datakey`], which makes the key.

use serde::Deserialize;

use crate::api::binding::Binding;
use crate::api::body::Text;
use crate::api::datakey::{Order, make, size};
use crate::api::form::{Encoding, Form, Sink};
use crate::api::product::Product;
use crate::api::vault::envelope::reply_data;
use crate::api::vault::errors::fault;
use crate::api::vault::members::{Lenient, read};
use crate::api::vault::payload::write_product;
use crate::api::{Answer, Call};
use crate::audit::line::Detail;
use crate::http::responder::{Fault, Responder};

const NO_ENCRYPTION: Fault<'static> =
    fault("key_type_not_allowed", "key type hmac does not support encryption");

#[derive(Deserialize)]
struct Body<'a> {
    #[serde(default)]
    bits: Option<Lenient<u32>>,
    #[serde(borrow, default)]
    associated_data: Option<Text<'a>>,
    #[serde(borrow, default)]
    context: Option<Text<'a>>,
    #[serde(default)]
    key_version: Option<Lenient<u32>>,
}

/// `POST datakey/plaintext/{name}`
///
/// # Errors
/// [`Rejection`](crate::api::Rejection)
pub fn plaintext(call: &mut Call<'_>, responder: &mut Responder<'_>) -> Answer {
    serve(call, true, responder)
}

/// `POST datakey/wrapped/{name}`
///
/// # Errors
/// [`Rejection`](crate::api::Rejection)
pub fn wrapped(call: &mut Call<'_>, responder: &mut Responder<'_>) -> Answer {
    serve(call, false, responder)
}

fn serve(call: &mut Call<'_>, shows: bool, responder: &mut Responder<'_>) -> Answer {
    if let Some(Err(error)) = call.committed.take() {
        return Err(error.into());
    }
    call.resolve_escapes();
    let body: Body<'_> = read(call.body)?;
    let key = call.sight().key(call.subject, call.param.unwrap_or_default())?;
    if !key.kind().encrypts() {
        return Err(NO_ENCRYPTION.into());
    }
    let text = |text: &Option<Text<'_>>| {
        text.as_ref().map(|text| text.as_str().as_bytes().to_vec()).filter(|text| !text.is_empty())
    };
    let (data, context) = (text(&body.associated_data), text(&body.context));
    let binding = Binding::read(call.tools, Encoding::Base64, data.as_deref(), context.as_deref())?;
    let version = body.key_version.map(|Lenient(number)| number).filter(|number| *number != 0);
    let bits = body.bits.map(|Lenient(bits)| bits).filter(|bits| *bits != 0);
    let order = Order { key, version, bytes: size(bits)?, binding };
    call.subject.detail = shows.then_some(Detail::Plaintext);
    let id = call.arrival.id;
    make(call, &order, |product, plaintext| {
        let plaintext = Some(plaintext).filter(|_| shows);
        reply_data(id, responder, Pair { product, plaintext })
    })
}

struct Pair<'a, 'b> {
    product: &'a Product<'b>,
    plaintext: Option<&'a [u8]>,
}

impl Form for Pair<'_, '_> {
    fn write(&self, sink: &mut impl Sink) {
        sink.put(b"{");
        write_product(self.product, sink);
        if let Some(plaintext) = self.plaintext {
            sink.put(b",\"plaintext\":\"");
            sink.put_encoded(plaintext, Encoding::Base64);
            sink.put(b"\"");
        }
        sink.put(b"}");
    }
}
