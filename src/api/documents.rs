//! What is the same for everybody: the description of the API (OpenAPI 3.1) and the page for people.
//!
//! Owns how the two are served; `build/documents.rs` makes them. Invariants: what is served says nothing of this server but its
//! version; they are kept compressed, and opened only for a client that does not read that; only the page has a
//! `Content-Security-Policy` of its own, which lets it run its own script and ask its own server.

use std::io::Read as _;

use flate2::read::GzDecoder;

use crate::api::{Answer, Call, NOT_FOUND, Verdict};
use crate::http::coding::{names_tag, takes_gzip};
use crate::http::reply::Face;
use crate::http::responder::Responder;
use crate::http::status::Status;

/// A document as it is kept.
#[derive(Debug)]
pub(super) struct Document {
    /// RFC 1952.
    gzip: &'static [u8],
    /// Its length when it is opened.
    len: usize,
    /// Its entity tag, which is weak: it is that of both forms.
    tag: &'static str,
}

include!(concat!(env!("OUT_DIR"), "/documents.rs"));

/// `GET /openapi.json`
///
/// # Errors
/// [`crate::api::Rejection`] for a query, and for want of memory.
pub fn description(call: &mut Call<'_>, responder: &mut Responder<'_>) -> Answer {
    serve(call, responder, &DESCRIPTION, "application/json", Face::Document)
}

/// `GET /docs`
///
/// # Errors
/// [`crate::api::Rejection`] for a query, where the page is left out, and for want of memory.
pub fn page(call: &mut Call<'_>, responder: &mut Responder<'_>) -> Answer {
    if !call.console {
        return Err(NOT_FOUND.into());
    }
    serve(call, responder, &PAGE, "text/html; charset=utf-8", Face::Page(PAGE_POLICY))
}

fn serve(
    call: &Call<'_>,
    responder: &mut Responder<'_>,
    document: &Document,
    content_type: &'static str,
    face: Face,
) -> Answer {
    call.query(&[])?;
    let (head, bytes) = (call.arrival.head, call.arrival.bytes);
    responder.show(face);
    let same: [(&str, &[u8]); 2] = [("ETag", document.tag.as_bytes()), ("Vary", b"Accept-Encoding")];
    if names_tag(head.values_from_last(bytes, "if-none-match"), document.tag) {
        responder.begin(Status::NotModified, None, 0, &same)?;
        return Ok(Verdict::Done);
    }
    if takes_gzip(head.values_from_last(bytes, "accept-encoding")) {
        let [tag, vary] = same;
        let fields = [tag, vary, ("Content-Encoding", b"gzip".as_slice())];
        responder.begin(Status::Ok, Some(content_type), document.gzip.len(), &fields)?;
        responder.append(document.gzip);
        return Ok(Verdict::Done);
    }
    responder.begin(Status::Ok, Some(content_type), document.len, &same)?;
    if let Some(room) = responder.body(document.len) {
        // What cannot be opened leaves zeros. The test below opens both.
        let _ = GzDecoder::new(document.gzip).read_exact(room);
    }
    Ok(Verdict::Done)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::{CONSOLE_MAX_BYTES, REPLY_BODY_MAX_BYTES};

    fn opened(document: &Document) -> String {
        let mut text = String::new();
        GzDecoder::new(document.gzip).read_to_string(&mut text).unwrap();
        assert_eq!(text.len(), document.len);
        text
    }

    #[test]
    fn both_documents_open_and_are_short_enough() {
        let described: serde_json::Value = serde_json::from_str(&opened(&DESCRIPTION)).unwrap();
        assert_eq!(described["info"]["version"], env!("CARGO_PKG_VERSION"));
        assert!(opened(&PAGE).starts_with("<!doctype html>"));
        assert!(PAGE.gzip.len() <= CONSOLE_MAX_BYTES, "{} bytes on the wire", PAGE.gzip.len());
        assert!(DESCRIPTION.len <= REPLY_BODY_MAX_BYTES && PAGE.len <= REPLY_BODY_MAX_BYTES);
        assert_ne!(DESCRIPTION.tag, PAGE.tag);
    }

    #[test]
    fn the_page_asks_nobody_but_its_server_and_runs_nothing_but_its_script() {
        let page = opened(&PAGE);
        for forbidden in
            ["http://", "https://", "<link rel=\"stylesheet", " src=", " style=", " onclick=", "eval("]
        {
            // The one address is a name of XML.
            let rest = page.replace("http://www.w3.org/2000/svg", "");
            assert!(!rest.contains(forbidden), "{forbidden}");
        }
        for word in ["default-src 'none'", "connect-src 'self'", "script-src 'sha256-", "style-src 'sha256-"]
        {
            assert!(PAGE_POLICY.contains(word), "{word}");
        }
        assert!(!PAGE_POLICY.contains("unsafe"));
    }
}
