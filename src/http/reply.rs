//! Writing the head of a reply, without heap and without formatting machinery.
//!
//! Owns [`ReplyHead`], the fields that every reply carries, those that tell a client of its limit, and the time stamp
//! that is filled in last. Invariants:
//! no value with a line end or another control character is ever written; a reply that has no body says no length;
//! the stamp has a fixed width, so writing it moves nothing; a head never exceeds `limits::REPLY_HEAD_MAX_BYTES`.

use super::date::{DATE_BYTES, Date};
use super::grammar::{is_token, is_value_byte};
use super::sharing::Sharing;
use super::status::Status;
use crate::cursor::Cursor;
use crate::limits::REPLY_HEAD_MAX_BYTES;
use crate::model::RequestId;
use crate::quota::Quota;

/// The interim reply that asks for the body (RFC 9110, section 15.2.1).
pub const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// What stands in every reply, with places for the date, the request's identifier and the stamp.
const FRAME: &[u8] = b"X-Content-Type-Options: nosniff\r\n\
    X-Frame-Options: DENY\r\n\
    Referrer-Policy: no-referrer\r\n\
    Permissions-Policy: camera=(), geolocation=(), microphone=(), payment=(), usb=()\r\n\
    Cross-Origin-Resource-Policy: same-origin\r\n\
    Date: ---, -- --- ---- --:--:-- GMT\r\n\
    X-Request-Id: --------------------------------\r\n\
    Server-Timing: app;dur=00000.000\r\n\
    X-Request-Time: 000.000000";
/// What a page may do: nothing, for what is no page.
const STRICT_POLICY: &str = "default-src 'none'; frame-ancestors 'none'";
/// That the host is only to be spoken to through TLS, for a year (RFC 6797, section 6.1).
const STRICT_TRANSPORT: &[u8] = b"\r\nStrict-Transport-Security: max-age=31536000; includeSubDomains";
// The places are counted from the end, where the widths are plain to see.
const STAMP_AT: usize = FRAME.len() - STAMP_BYTES;
const REQUEST_ID_AT: usize = STAMP_AT - "\r\nServer-Timing: app;dur=".len() - RequestId::LEN;
const DATE_AT: usize = REQUEST_ID_AT - "\r\nX-Request-Id: ".len() - DATE_BYTES;
/// The stamp: milliseconds for `Server-Timing`, then seconds for `X-Request-Time`.
const STAMP_BYTES: usize = "00000.000\r\nX-Request-Time: 000.000000".len();
const MILLIS_AT: usize = 0;
const MICROS_OF_MILLIS_AT: usize = "00000.".len();
const SECONDS_AT: usize = STAMP_BYTES - "000.000000".len();
const MICROS_OF_SECONDS_AT: usize = STAMP_BYTES - "000000".len();

/// The draft that says what `RateLimit-Policy` and `RateLimit` mean; the fields with `X-` are what clients know from
/// before it.
pub const RATE_LIMIT_DRAFT: &str = "draft-ietf-httpapi-ratelimit-headers-10";

/// Width of a length that is filled in: enough for whatever a lease holds.
const LENGTH_BYTES: usize = 10;

/// What a reply is to whoever keeps or shows it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Face {
    /// An answer for this once, which is kept nowhere and may do nothing.
    #[default]
    Answer,
    /// A document that is the same for everybody until the server is another one: kept, and asked for again by its tag.
    Document,
    /// Such a document that is a page, with its `Content-Security-Policy`.
    Page(&'static str),
}

impl Face {
    const fn cache(self) -> &'static str {
        match self {
            Self::Answer => "no-store",
            Self::Document | Self::Page(_) => "no-cache",
        }
    }

    const fn policy(self) -> &'static str {
        match self {
            Self::Answer | Self::Document => STRICT_POLICY,
            Self::Page(policy) => policy,
        }
    }
}

/// The framing of a reply's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyLength {
    /// That many bytes. Not written for a status that has no body; for `HEAD` it is what `GET` would get.
    Known(u64),
    /// Not known yet: blanks that [`fill_length`] fills in. They are white space before a value, which RFC 9112,
    /// section 5 allows.
    Later,
    /// Chunks; not for HTTP/1.0 clients.
    Chunked,
    /// It ends with the connection (RFC 9112, section 6.3).
    Unframed,
}

/// What the reply says about the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Persistence {
    /// It stays open, as an HTTP/1.1 client expects: nothing is written.
    Implied,
    /// It stays open, and an HTTP/1.0 client must be told.
    KeepAlive,
    /// It is closed after this reply.
    Close,
}

/// The head of a reply.
#[derive(Clone, Copy, Debug)]
pub struct ReplyHead<'a> {
    /// The status.
    pub status: Status,
    /// The current date.
    pub date: &'a Date,
    /// The identifier of the request.
    pub request_id: &'a RequestId,
    /// The media type of the body, if there is one.
    pub content_type: Option<&'static str>,
    /// The framing of the body.
    pub body: BodyLength,
    /// What happens to the connection.
    pub persistence: Persistence,
    /// Further fields of this reply: `Allow`, `WWW-Authenticate`, `Retry-After`.
    pub fields: &'a [(&'a str, &'a [u8])],
    /// What is left of the limit that the client is held to, if it is held to one.
    pub quota: Option<Quota>,
    /// Whether it leaves through TLS.
    pub secure: bool,
    /// With whose pages it is shared.
    pub sharing: Sharing<'a>,
    /// What it is to whoever keeps or shows it.
    pub face: Face,
}

/// A reply head that was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written {
    /// Its length in bytes.
    pub len: usize,
    /// Where its time stamp stands, for [`stamp`].
    pub stamp_at: usize,
    /// Where the blanks stand that [`fill_length`] fills in, if there are any.
    pub length_at: Option<usize>,
}

impl ReplyHead<'_> {
    /// Writes the head, with its empty line, to the front of `target`; its time stamp is still zero.
    ///
    /// Returns nothing if `target` or `limits::REPLY_HEAD_MAX_BYTES` is too short, or if one of `fields` has a
    /// name that is no token or a value with a control character.
    #[must_use]
    pub fn write(&self, target: &mut [u8]) -> Option<Written> {
        let mut cursor = Cursor::new(target);
        cursor.put(self.status.line())?;
        for piece in [
            "Cache-Control: ",
            self.face.cache(),
            "\r\nContent-Security-Policy: ",
            self.face.policy(),
            "\r\n",
        ] {
            cursor.put(piece.as_bytes())?;
        }
        let frame_at = cursor.position();
        cursor.put(FRAME)?;
        cursor.put_over(frame_at + DATE_AT, self.date)?;
        cursor.put_over(frame_at + REQUEST_ID_AT, self.request_id.as_bytes())?;
        if let Some(content_type) = self.content_type {
            cursor.put(b"\r\nContent-Type: ")?;
            cursor.put(content_type.as_bytes())?;
        }
        let mut length_at = None;
        match self.body {
            _ if self.status.is_bodiless() => {}
            BodyLength::Unframed => {}
            BodyLength::Later => {
                cursor.put(b"\r\nContent-Length: ")?;
                length_at = Some(cursor.position());
                cursor.put(&[b' '; LENGTH_BYTES])?;
            }
            BodyLength::Known(len) => {
                cursor.put(b"\r\nContent-Length: ")?;
                cursor.put_number(len, 0)?;
            }
            BodyLength::Chunked => cursor.put(b"\r\nTransfer-Encoding: chunked")?,
        }
        match self.persistence {
            Persistence::Implied => {}
            Persistence::KeepAlive => cursor.put(b"\r\nConnection: keep-alive")?,
            Persistence::Close => cursor.put(b"\r\nConnection: close")?,
        }
        for (name, value) in self.fields {
            if !is_token(name.as_bytes()) || !value.iter().all(|byte| is_value_byte(*byte)) {
                return None;
            }
            cursor.put(b"\r\n")?;
            cursor.put(name.as_bytes())?;
            cursor.put(b": ")?;
            cursor.put(value)?;
        }
        if let Some(quota) = &self.quota {
            put_quota(&mut cursor, quota)?;
        }
        if self.secure {
            cursor.put(STRICT_TRANSPORT)?;
        }
        self.sharing.put(&mut cursor)?;
        cursor.put(b"\r\n\r\n")?;
        (cursor.position() <= REPLY_HEAD_MAX_BYTES).then_some(Written {
            len: cursor.position(),
            stamp_at: frame_at + STAMP_AT,
            length_at,
        })
    }
}

/// Writes the fields that tell of a limit: Structured Fields (RFC 9651), sections 3 and 4 of [`RATE_LIMIT_DRAFT`].
fn put_quota(cursor: &mut Cursor<'_>, quota: &Quota) -> Option<()> {
    let Quota { policy, limit, window_seconds, remaining, reset_seconds } = quota;
    // Nothing of a name that would end its string.
    if !is_token(policy.as_bytes()) {
        return None;
    }
    for (name, [first, second], [one, two]) in [
        (&b"\r\nRateLimit-Policy: \""[..], [&b"\";q="[..], b";w="], [limit, window_seconds]),
        (b"\r\nRateLimit: \"", [b"\";r=", b";t="], [remaining, reset_seconds]),
    ] {
        cursor.put(name)?;
        cursor.put(policy.as_bytes())?;
        cursor.put(first)?;
        cursor.put_number(u64::from(*one), 0)?;
        cursor.put(second)?;
        cursor.put_number(u64::from(*two), 0)?;
    }
    for (name, number) in [
        (&b"\r\nX-RateLimit-Limit: "[..], limit),
        (b"\r\nX-RateLimit-Remaining: ", remaining),
        (b"\r\nX-RateLimit-Reset: ", reset_seconds),
    ] {
        cursor.put(name)?;
        cursor.put_number(u64::from(*number), 0)?;
    }
    Some(())
}

/// Fills in the length of a body that was [`BodyLength::Later`]; `length_at` is that of the same bytes' [`Written`].
pub fn fill_length(target: &mut [u8], length_at: usize, length: usize) {
    let Some(blanks) = target.get_mut(length_at..).and_then(<[u8]>::first_chunk_mut::<LENGTH_BYTES>) else {
        return;
    };
    let mut rest = length as u64;
    for place in blanks.iter_mut().rev() {
        *place = digit(rest);
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
}

/// Fills in how long the request took; `stamp_at` is that of the same bytes' [`Written`].
///
/// Times beyond what fits are shown as the longest that does: 99,999.999 ms and 999.999999 s.
pub fn stamp(target: &mut [u8], stamp_at: usize, elapsed_nanos: u64) {
    let Some((stamp, _)) = target.get_mut(stamp_at..).and_then(<[u8]>::split_first_chunk_mut::<STAMP_BYTES>)
    else {
        return;
    };
    let micros = elapsed_nanos / 1_000;
    let of_millis = micros.min(99_999_999);
    put_digits::<5>(stamp, MILLIS_AT, of_millis / 1_000);
    put_digits::<3>(stamp, MICROS_OF_MILLIS_AT, of_millis % 1_000);
    let of_seconds = micros.min(999_999_999);
    put_digits::<3>(stamp, SECONDS_AT, of_seconds / 1_000_000);
    put_digits::<6>(stamp, MICROS_OF_SECONDS_AT, of_seconds % 1_000_000);
}

fn put_digits<const WIDTH: usize>(target: &mut [u8; STAMP_BYTES], at: usize, number: u64) {
    let mut rest = number;
    for place in target.iter_mut().skip(at).take(WIDTH).rev() {
        *place = digit(rest);
        rest /= 10;
    }
}

fn digit(number: u64) -> u8 {
    b'0' + u8::try_from(number % 10).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::WallTime;
    use crate::http::date::imf_fixdate;
    use crate::limits::{ORIGIN_MAX_BYTES, REDIRECT_LOCATION_MAX_BYTES};

    fn write_fields(
        fields: &[(&str, &[u8])],
        change: impl FnOnce(&mut ReplyHead<'_>),
    ) -> Option<(String, Written)> {
        let (date, id) = (imf_fixdate(WallTime::from_millis(784_111_777_000)), RequestId::new(1, 2));
        let mut head = ReplyHead {
            status: Status::Ok,
            date: &date,
            request_id: &id,
            content_type: Some("application/json"),
            body: BodyLength::Known(1_204),
            persistence: Persistence::Implied,
            fields,
            quota: None,
            secure: false,
            sharing: Sharing::Closed,
            face: Face::Answer,
        };
        change(&mut head);
        let mut target = [0u8; REPLY_HEAD_MAX_BYTES + 64];
        let written = head.write(&mut target)?;
        for len in 0..written.len {
            assert_eq!(head.write(&mut target[..len]), None, "a target of {len} bytes is too short");
        }
        assert_eq!(head.write(&mut target[..written.len]), Some(written));
        Some((String::from_utf8(target[..written.len].to_vec()).unwrap(), written))
    }

    fn write(change: impl FnOnce(&mut ReplyHead<'_>)) -> Option<(String, Written)> {
        write_fields(&[], change)
    }

    #[test]
    fn a_reply_head_carries_its_fields() {
        let (text, _) = write(|_| {}).unwrap();
        assert!(text.starts_with("HTTP/1.1 200 OK\r\n"));
        assert!(text.ends_with("\r\n\r\n"));
        for field in [
            "Cache-Control: no-store",
            "X-Content-Type-Options: nosniff",
            "Content-Security-Policy: default-src 'none'; frame-ancestors 'none'",
            "X-Frame-Options: DENY",
            "Referrer-Policy: no-referrer",
            "Permissions-Policy: camera=(), geolocation=(), microphone=(), payment=(), usb=()",
            "Cross-Origin-Resource-Policy: same-origin",
            "Date: Sun, 06 Nov 1994 08:49:37 GMT",
            "X-Request-Id: 00000000000000010000000000000002",
            "Server-Timing: app;dur=00000.000",
            "X-Request-Time: 000.000000",
            "Content-Type: application/json",
            "Content-Length: 1204",
        ] {
            assert_eq!(text.matches(&format!("\r\n{field}\r\n")).count(), 1, "{field}\n{text}");
        }
        assert!(!text.contains("\r\nConnection:") && !text.contains("\r\nServer:"));
    }

    #[test]
    fn what_depends_on_the_way_and_the_origin_is_said_only_then() {
        let (plain, _) = write(|_| {}).unwrap();
        for field in ["Strict-Transport-Security", "Vary", "Access-Control"] {
            assert!(!plain.contains(field), "{field}");
        }
        let (text, _) = write(|head| {
            head.secure = true;
            head.sharing = Sharing::With("https://a.example");
        })
        .unwrap();
        for field in [
            "Strict-Transport-Security: max-age=31536000; includeSubDomains",
            "Vary: Origin",
            "Access-Control-Allow-Origin: https://a.example",
        ] {
            assert_eq!(text.matches(&format!("\r\n{field}\r\n")).count(), 1, "{field}\n{text}");
        }
        assert_eq!(text.matches("Access-Control-Expose-Headers: ").count(), 1);
    }

    #[test]
    fn replies_without_body_say_no_length() {
        let (text, _) = write(|head| head.status = Status::NoContent).unwrap();
        assert!(!text.contains("Content-Length"));
        let (text, _) = write(|head| head.body = BodyLength::Chunked).unwrap();
        assert!(!text.contains("Content-Length") && text.contains("\r\nTransfer-Encoding: chunked\r\n"));
        let (text, _) = write(|head| head.body = BodyLength::Unframed).unwrap();
        assert!(!text.contains("Content-Length") && !text.contains("Transfer-Encoding"));
        for len in [0, 9, 10, u64::MAX] {
            let (text, _) = write(|head| head.body = BodyLength::Known(len)).unwrap();
            assert!(text.contains(&format!("\r\nContent-Length: {len}\r\n")));
        }
    }

    #[test]
    fn a_length_is_filled_in_later() {
        let (text, written) = write(|head| head.body = BodyLength::Later).unwrap();
        for (length, shown) in [(0, "         0"), (1_204, "      1204"), (9_999_999_999, "9999999999")] {
            let mut bytes = text.clone().into_bytes();
            fill_length(&mut bytes, written.length_at.unwrap(), length);
            let filled = String::from_utf8(bytes).unwrap();
            assert!(filled.contains(&format!("\r\nContent-Length: {shown}\r\n")), "{filled}");
            assert_eq!(filled.len(), text.len());
        }
        assert_eq!(write(|_| {}).unwrap().1.length_at, None);
        fill_length(&mut [0; 8], 4, 1);
    }

    #[test]
    fn the_connection_is_named_where_it_must_be() {
        let (text, _) = write(|head| head.persistence = Persistence::Close).unwrap();
        assert!(text.contains("\r\nConnection: close\r\n"));
        let (text, _) = write(|head| head.persistence = Persistence::KeepAlive).unwrap();
        assert!(text.contains("\r\nConnection: keep-alive\r\n"));
    }

    #[test]
    fn further_fields_are_written_or_refused() {
        let (text, _) = write_fields(&[("Allow", b"GET, HEAD"), ("Retry-After", b"1")], |_| {}).unwrap();
        assert!(text.contains("\r\nAllow: GET, HEAD\r\nRetry-After: 1\r\n"));
        let values: [&[u8]; 4] = [b"a\r\nb: c", b"\n", b"\0", b"\x7f"];
        for value in values {
            assert!(write_fields(&[("Allow", value)], |_| {}).is_none(), "{value:?}");
        }
        for name in ["", "A B", "A:", "A\r\n"] {
            assert!(write_fields(&[(name, b"")], |_| {}).is_none(), "{name:?}");
        }
    }

    #[test]
    fn a_limit_is_told_in_the_words_of_the_draft() {
        assert!(RATE_LIMIT_DRAFT.ends_with("-10"), "read the new one before its number is changed");
        let quota = Quota { policy: "key", limit: 1_000, window_seconds: 10, remaining: 7, reset_seconds: 9 };
        let (text, _) = write_fields(&[("Allow", b"GET")], |head| head.quota = Some(quota)).unwrap();
        assert!(text.ends_with(
            "\r\nAllow: GET\r\nRateLimit-Policy: \"key\";q=1000;w=10\r\nRateLimit: \"key\";r=7;t=9\r\n\
             X-RateLimit-Limit: 1000\r\nX-RateLimit-Remaining: 7\r\nX-RateLimit-Reset: 9\r\n\r\n"
        ));
        assert!(!write(|_| {}).unwrap().0.contains("RateLimit"));
        for policy in ["", "a\"b", "a\r\nb", "a b"] {
            assert!(write(|head| head.quota = Some(Quota { policy, ..quota })).is_none(), "{policy:?}");
        }
    }

    #[test]
    fn the_longest_limit_leaves_room_for_other_fields() {
        let most = u32::MAX;
        let quota = Quota {
            policy: "address",
            limit: most,
            window_seconds: most,
            remaining: most,
            reset_seconds: most,
        };
        const LONGEST: &[u8] = &[b'o'; ORIGIN_MAX_BYTES];
        let longest = str::from_utf8(LONGEST).unwrap();
        let (_, written) = write(|head| {
            head.quota = Some(quota);
            head.persistence = Persistence::KeepAlive;
            head.body = BodyLength::Known(u64::MAX);
            head.content_type = Some("application/problem+json");
            head.secure = true;
            head.sharing = Sharing::With(longest).asked();
        })
        .unwrap();
        assert!(written.len + 500 <= REPLY_HEAD_MAX_BYTES, "{}", written.len);
    }

    #[test]
    fn the_longest_redirect_finds_room_whoever_asks_for_it() {
        const LONGEST: &[u8] = &[b'o'; ORIGIN_MAX_BYTES];
        let origin = str::from_utf8(LONGEST).unwrap();
        let location = [b'l'; REDIRECT_LOCATION_MAX_BYTES];
        let written = write_fields(&[("Location", &location)], |head| {
            head.status = Status::PermanentRedirect;
            head.content_type = None;
            head.body = BodyLength::Known(0);
            head.persistence = Persistence::Close;
            head.sharing = Sharing::With(origin);
        });
        assert!(written.is_some());
    }

    #[test]
    fn a_stamp_changes_only_its_digits() {
        for (nanos, millis, seconds) in [
            (0, "00000.000", "000.000000"),
            (1_234_567_890, "01234.567", "001.234567"),
            (123_456_789_000, "99999.999", "123.456789"),
            (u64::MAX, "99999.999", "999.999999"),
        ] {
            let (text, written) = write(|_| {}).unwrap();
            let mut bytes = text.clone().into_bytes();
            stamp(&mut bytes, written.stamp_at, nanos);
            let expected = text
                .replace("dur=00000.000", &format!("dur={millis}"))
                .replace("Time: 000.000000", &format!("Time: {seconds}"));
            assert_eq!(String::from_utf8(bytes).unwrap(), expected);
        }
        stamp(&mut [0; 8], 4, 1);
        stamp(&mut [0; 8], 40, 1);
    }

    #[test]
    fn a_head_beyond_the_limit_is_refused() {
        let long = [b'a'; REPLY_HEAD_MAX_BYTES];
        let frame = write_fields(&[("Allow", b"")], |_| {}).unwrap().1.len;
        let room = REPLY_HEAD_MAX_BYTES - frame;
        assert!(write_fields(&[("Allow", &long[..room])], |_| {}).is_some());
        assert!(write_fields(&[("Allow", &long[..=room])], |_| {}).is_none());
    }
}
