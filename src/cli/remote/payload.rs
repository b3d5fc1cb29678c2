//! What goes through a key of the server: small things in one request, large ones as streams.
//!
//! Owns the choice of the form. Invariants: what is decrypted into a file has its name only after the last byte was verified; a
//! bounded part of a payload is held.

use std::path::Path;

use serde::Deserialize;
use serde_json::Value;
use zeroize::Zeroizing;

use super::arguments::{Form, Given, Show, Use, percent_encoded};
use super::input::{Reading, bytes_of};
use super::json::Members;
use super::output::Sink;
use super::progress::Progress;
use super::session::Sent;
use super::{Asking, JSON, OCTETS, TEXT, json_line, line, not_ours, secret_file};
use crate::cli::client::Reply;
use crate::cli::client::transfer::Source;
use crate::cli::failure::Failure;
use crate::cli::local::{self, LocalKey};
use crate::crypto::{envelope, stream};
use crate::encoding::{base64_decode_to_vec, base64_encode, base64url_encode, hex_encode};
use crate::exit::Exit;
use crate::limits::{
    ASSOCIATED_DATA_MAX_BYTES, BODY_PAYLOAD_MAX_BYTES, CLIENT_SIGNATURE_MAX_BYTES, CONTEXT_MAX_BYTES,
    PLAINTEXT_MAX_BYTES, RANDOM_SAMPLE_MAX_BYTES,
};

impl Asking {
    pub(super) fn encrypt(&mut self, usage: &Use, form: Form, input: Option<&Path>) -> Result<(), Failure> {
        let sink = self.sink()?;
        let mut reading = Reading::open(input)?;
        let first = match form {
            Form::Stream => Zeroizing::default(),
            _ => reading.read(PLAINTEXT_MAX_BYTES + 1)?,
        };
        let is_long = first.len() > PLAINTEXT_MAX_BYTES;
        if is_long && form != Form::Auto {
            let text = "the input has more than 1 MiB, which this form does not take: leave --form out";
            return Err(Failure::refused(text).with_exit(Exit::Usage));
        }
        let is_stream = is_long || form == Form::Stream;
        if sink.is_terminal() && (is_stream || form == Form::Binary) {
            let text =
                "the ciphertext is binary, and standard output a terminal: give --out FILE, or redirect it";
            return Err(Failure::refused(text).with_exit(Exit::Usage));
        }
        let query = usage.query(&[])?;
        if is_stream {
            let len = reading.len;
            let path = format!("/api/stream/encrypt?{query}");
            return self.pass(&path, reading.behind(first), len, stream::MAGIC, sink);
        }
        let kind = if form == Form::Binary { OCTETS } else { TEXT };
        let reply = self.raw(&format!("/api/encrypt?{query}"), kind, &first)?;
        sink.fill(&self.bare(&reply, Product::sealed(kind))?)
    }

    pub(super) fn decrypt(&mut self, usage: &Use, input: Option<&Path>) -> Result<(), Failure> {
        let sink = self.sink()?;
        let mut reading = Reading::open(input)?;
        let query = usage.query(&[])?;
        let first = reading.read(stream::MAGIC.len())?;
        if *first == stream::MAGIC {
            let len = reading.len;
            let path = format!("/api/stream/decrypt?{query}");
            return self.pass(&path, reading.behind(first), len, b"", sink);
        }
        let text = ciphertext(reading, first)?;
        let reply = self.raw(&format!("/api/decrypt?{query}"), OCTETS, &text)?;
        sink.fill(&self.bare(&reply, Product::Plaintext)?)
    }

    pub(super) fn rewrap(&mut self, usage: &Use, input: Option<&Path>) -> Result<(), Failure> {
        let sink = self.sink()?;
        let mut reading = Reading::open(input)?;
        let first = reading.read(stream::MAGIC.len())?;
        if *first == stream::MAGIC {
            return Err(Failure::refused(
                "this is a stream, which is not rewrapped: decrypt it and encrypt it again, as \
                 `quantonium decrypt --key NAME OLD | quantonium encrypt --key NAME --out NEW`",
            ));
        }
        let text = ciphertext(reading, first)?;
        // As it came, so it goes.
        let kind = if text.first().is_some_and(u8::is_ascii_lowercase) { TEXT } else { OCTETS };
        let reply = self.raw(&format!("/api/rewrap?{}", usage.query(&[])?), kind, &text)?;
        sink.fill(&self.bare(&reply, Product::sealed(kind))?)
    }

    pub(super) fn sign(&mut self, usage: &Use, input: Option<&Path>) -> Result<(), Failure> {
        let sink = self.sink()?;
        let body = payload(input)?;
        let reply = self.raw(&format!("/api/sign?{}", usage.query(&[])?), OCTETS, &body)?;
        sink.fill(&self.bare(&reply, Product::Signature)?)
    }

    pub(super) fn verify(
        &mut self,
        usage: &Use,
        signature: &Given,
        input: Option<&Path>,
    ) -> Result<Exit, Failure> {
        #[derive(Deserialize)]
        struct Verdict {
            valid: bool,
        }
        let sink = self.verdict_sink()?;
        let signature = bytes_of(signature, CLIENT_SIGNATURE_MAX_BYTES)?;
        let signature = String::from_utf8_lossy(signature.trim_ascii_end()).into_owned();
        let body = payload(input)?;
        let reply =
            self.raw(&format!("/api/verify?{}", usage.query(&[("signature", &signature)])?), OCTETS, &body)?;
        let Verdict { valid } = serde_json::from_slice(&reply.body).map_err(|_| not_ours())?;
        match self.json {
            true => sink.fill(&json_line(&reply.body)?)?,
            false => sink.fill(if valid { b"valid\n" } else { b"invalid\n" })?,
        }
        Ok(if valid { Exit::Success } else { Exit::Failure })
    }

    pub(super) fn hash(&mut self, algorithm: &str, input: Option<&Path>) -> Result<(), Failure> {
        let sink = self.sink()?;
        let body = payload(input)?;
        let reply = self.raw(&format!("/api/hash?algorithm={algorithm}"), TEXT, &body)?;
        sink.fill(&self.bare(&reply, Product::Sum)?)
    }

    pub(super) fn random(&mut self, bytes: u64, form: Form) -> Result<(), Failure> {
        let mut sink = self.sink()?;
        let path = |bytes: u64| format!("/api/entropy/sample?bytes={bytes}");
        if self.json {
            let sent = Sent { content_type: None, accept: Some(JSON), body: Some(b"") };
            let body = self.session.get("POST", &path(bytes), sent)?.body;
            return sink.fill(&json_line(&body)?);
        }
        if form == Form::Raw && sink.is_terminal() {
            let text = "standard output is a terminal: leave --form raw out, or give --out FILE";
            return Err(Failure::refused(text).with_exit(Exit::Usage));
        }
        // A multiple of three, so that base64 goes on without padding.
        let most = RANDOM_SAMPLE_MAX_BYTES as u64 / 3 * 3;
        let mut progress = Progress::new(Some(bytes), sink.is_terminal());
        let mut left = bytes;
        while left > 0 {
            let count = left.min(most);
            let sent = Sent { content_type: None, accept: Some(OCTETS), body: Some(b"") };
            let body = self.session.get("POST", &path(count), sent)?.body;
            if body.len() as u64 != count {
                return Err(not_ours());
            }
            let written = match form {
                Form::Base64 => base64(&body),
                Form::Raw => body,
                _ => hexadecimal(&body),
            };
            sink.write(&written)?;
            left -= count;
            progress.at(bytes - left);
        }
        if form != Form::Raw {
            sink.write(b"\n")?;
        }
        sink.finish()
    }

    pub(super) fn data_key(
        &mut self,
        usage: &Use,
        bits: Option<&str>,
        plaintext_out: Option<&Path>,
    ) -> Result<(), Failure> {
        #[derive(Deserialize)]
        struct DataKey<'a> {
            ciphertext: &'a str,
            plaintext: Option<&'a str>,
        }
        let sink = self.sink()?;
        let file = secret_file(plaintext_out, "data key")?;
        let mut body = Members::default();
        body.text("key", &usage.key);
        for (name, value) in [("key_version", usage.version.as_deref()), ("bits", bits)] {
            if let Some(value) = value {
                body.literal(name, value);
            }
        }
        for (name, given, most) in usage.bindings() {
            let bytes = bytes_of(given, most)?;
            body.text(name, &String::from_utf8_lossy(&base64(&bytes)));
        }
        if file.is_none() && !self.json {
            body.literal("plaintext", false);
        }
        let body = self.json_of("POST", "/api/datakey", Some(body.finish().as_bytes()))?;
        let made: DataKey<'_> = serde_json::from_slice(&body).map_err(|_| not_ours())?;
        if let Some(file) = file {
            let decoded = made.plaintext.and_then(|text| base64_decode_to_vec(text.as_bytes()));
            let plaintext = Zeroizing::new(decoded.ok_or_else(not_ours)?);
            if envelope::parse_text(made.ciphertext.as_bytes()).is_none() {
                return Err(not_ours());
            }
            // The bare key last: without its sealed form it would be of no use, the other way round it is opened again.
            sink.fill(&line(made.ciphertext.as_bytes()))?;
            return file.fill(&plaintext);
        }
        self.show(sink, &body, Show::Member("ciphertext"))
    }

    /// One raw request; with `--json` the reply is in JSON.
    fn raw(&mut self, path: &str, kind: &'static str, body: &[u8]) -> Result<Reply, Failure> {
        let sent = Sent { content_type: Some(kind), accept: self.json.then_some(JSON), body: Some(body) };
        self.session.get("POST", path, sent)
    }

    /// The body of a raw reply as it is to be written.
    fn bare(&self, reply: &Reply, product: Product) -> Result<Zeroizing<Vec<u8>>, Failure> {
        if self.json {
            let told: Value = serde_json::from_slice(&reply.body).map_err(|_| not_ours())?;
            let has_it = told.get(product.member()).is_some_and(Value::is_string);
            return if has_it { json_line(&reply.body) } else { Err(not_ours()) };
        }
        if !product.is_in(reply) {
            return Err(not_ours());
        }
        let is_binary = matches!(product, Product::Envelope | Product::Plaintext);
        Ok(if is_binary { Zeroizing::new(reply.body.to_vec()) } else { line(&reply.body) })
    }

    /// Sends `source` through a stream route, whose answer begins with `magic`.
    fn pass(
        &mut self,
        path: &str,
        source: Source,
        len: Option<u64>,
        mut magic: &[u8],
        mut sink: Sink,
    ) -> Result<(), Failure> {
        if self.json && self.out.is_none() {
            let text = "--json and a result of this length need --out FILE";
            return Err(Failure::refused(text).with_exit(Exit::Usage));
        }
        let mut progress = Progress::new(len, sink.is_terminal());
        let mut transfer = self.session.transfer(path, source)?;
        let mut written_bytes = 0;
        loop {
            let piece = transfer.next().map_err(|broken| self.session.broken(&broken))?;
            let Some(piece) = piece else { break };
            let (due, later) = magic.split_at(magic.len().min(piece.len()));
            if !piece.starts_with(due) {
                return Err(not_ours());
            }
            magic = later;
            sink.write(piece)?;
            written_bytes += piece.len() as u64;
            progress.at(transfer.sent_bytes());
        }
        if !magic.is_empty() {
            return Err(not_ours());
        }
        sink.finish()?;
        drop(progress);
        if self.json {
            let mut told = Members::default();
            told.literal("bytes_in", transfer.sent_bytes());
            told.literal("bytes_out", written_bytes);
            if let Some(version) = transfer.key_version {
                told.literal("key_version", version);
            }
            return Sink::open(None, false)?.fill(&line(told.finish().as_bytes()));
        }
        Ok(())
    }
}

/// What is asked of a server with one raw request.
#[derive(Clone, Copy)]
enum Product {
    /// A ciphertext in its text form.
    Ciphertext,
    /// The same in its binary form.
    Envelope,
    Plaintext,
    Signature,
    Sum,
}

impl Product {
    /// The ciphertext that is asked for by a body of this type.
    fn sealed(kind: &str) -> Self {
        if kind == OCTETS { Self::Envelope } else { Self::Ciphertext }
    }

    /// The member of the answer in JSON.
    const fn member(self) -> &'static str {
        match self {
            Self::Ciphertext | Self::Envelope => "ciphertext",
            Self::Plaintext => "plaintext",
            Self::Signature => "signature",
            Self::Sum => "sum",
        }
    }

    /// Whether the reply can be that. Others answer with 200 too: pages that ask for a name, programs of another kind.
    fn is_in(self, reply: &Reply) -> bool {
        let text = reply.body.trim_ascii_end();
        let (kind, is_formed) = match self {
            Self::Ciphertext | Self::Signature => {
                let is_shown = text.iter().all(u8::is_ascii_graphic);
                (TEXT, is_shown && envelope::parse_text(text).is_some_and(|(_, rest)| !rest.is_empty()))
            }
            Self::Envelope => (OCTETS, envelope::parse_binary(&reply.body).is_some()),
            Self::Plaintext => (OCTETS, true),
            Self::Sum => {
                (TEXT, matches!(text.len(), 64 | 96 | 128) && text.iter().all(u8::is_ascii_hexdigit))
            }
        };
        is_formed && reply.content_type == kind
    }
}

/// Seals, in this form, or opens without a server.
pub(super) fn local(
    key_file: &Path,
    usage: &Use,
    form: Option<Form>,
    input: Option<&Path>,
    sink: Sink,
) -> Result<(), Failure> {
    let key = LocalKey::read(key_file)?;
    let given = |given: &Option<Given>, most| given.as_ref().map(|given| bytes_of(given, most)).transpose();
    let associated_data = given(&usage.associated_data, ASSOCIATED_DATA_MAX_BYTES)?.unwrap_or_default();
    let context = given(&usage.context, CONTEXT_MAX_BYTES)?.unwrap_or_default();
    let binding = stream::Binding { context: &context, associated_data: &associated_data };
    let reading = Reading::open(input)?;
    let Some(form) = form else { return local::decrypt(&key, binding, reading, sink) };
    let version = usage.version.as_deref().map(str::parse::<u32>);
    let version =
        version.transpose().map_err(|_| Failure::config("--key-version: there is no such version"))?;
    local::encrypt(&key, version, form, binding, reading, sink)
}

impl Use {
    /// What a request says of it.
    fn query(&self, more: &[(&str, &str)]) -> Result<String, Failure> {
        let mut query = format!("key={}", percent_encoded(&self.key));
        let version = self.version.as_deref().map(|version| ("key_version", version));
        for (name, value) in version.iter().chain(more) {
            query.push_str(&format!("&{name}={}", percent_encoded(value)));
        }
        for (name, given, most) in self.bindings() {
            let bytes = bytes_of(given, most)?;
            let mut text = vec![0; bytes.len().div_ceil(3) * 4];
            let len = base64url_encode(&bytes, &mut text).unwrap_or(0);
            query.push_str(&format!(
                "&{name}={}",
                String::from_utf8_lossy(text.get(..len).unwrap_or_default())
            ));
        }
        Ok(query)
    }

    /// What a ciphertext is bound to: the member's name, its bytes, and how many there may be.
    fn bindings(&self) -> impl Iterator<Item = (&'static str, &Given, usize)> {
        let associated = self.associated_data.iter();
        let context = self.context.iter();
        associated
            .map(|given| ("associated_data", given, ASSOCIATED_DATA_MAX_BYTES))
            .chain(context.map(|given| ("context", given, CONTEXT_MAX_BYTES)))
    }
}

/// An input for one request.
fn payload(input: Option<&Path>) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let advice = "one request takes no more; hash it yourself and give the sum";
    Reading::open(input)?.read_whole(PLAINTEXT_MAX_BYTES, advice)
}

/// A ciphertext that is no stream, whose first bytes are read.
fn ciphertext(reading: Reading, mut first: Zeroizing<Vec<u8>>) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let rest = reading.read_whole(BODY_PAYLOAD_MAX_BYTES, "that is no ciphertext of this program")?;
    first.extend_from_slice(&rest);
    Ok(first)
}

fn base64(bytes: &[u8]) -> Zeroizing<Vec<u8>> {
    let mut text = Zeroizing::new(vec![0; bytes.len().div_ceil(3) * 4]);
    let len = base64_encode(bytes, &mut text).unwrap_or(0);
    text.truncate(len);
    text
}

fn hexadecimal(bytes: &[u8]) -> Zeroizing<Vec<u8>> {
    let mut text = Zeroizing::new(vec![0; bytes.len() * 2]);
    let len = hex_encode(bytes, &mut text).unwrap_or(0);
    text.truncate(len);
    text
}
