//! Media types: what a body is, and which form of reply the client wants.
//!
//! Owns [`ContentType`] and [`negotiate`]. Invariants: a type that is malformed is an unknown type, never a known
//! one; a malformed part of `Accept` counts as absent; the work is bounded by the limits on ranges and parameters.

use super::grammar::{is_quoted_string, is_token, split_unquoted, trim};
use crate::limits::{ACCEPT_RANGES_MAX_COUNT, MEDIA_PARAMETERS_MAX_COUNT};

/// What `Content-Type` says about a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContentType {
    /// Nothing.
    None,
    /// `application/json`.
    Json,
    /// `application/octet-stream`.
    Octets,
    /// `text/plain`.
    Text,
    /// `application/x-www-form-urlencoded`, which curl and `BusyBox` send by default.
    Form,
    /// Any other type, or a malformed one: 415.
    Other,
}

impl ContentType {
    /// Reads a `Content-Type`; its parameters are checked for their form and otherwise ignored.
    #[must_use]
    pub fn parse(value: Option<&[u8]>) -> Self {
        let Some(value) = value else { return Self::None };
        let Some(media) = MediaRange::parse(value) else { return Self::Other };
        let is = |kind: &[u8], subtype: &[u8]| {
            media.kind.eq_ignore_ascii_case(kind) && media.subtype.eq_ignore_ascii_case(subtype)
        };
        if is(b"application", b"json") {
            Self::Json
        } else if is(b"application", b"octet-stream") {
            Self::Octets
        } else if is(b"text", b"plain") {
            Self::Text
        } else if is(b"application", b"x-www-form-urlencoded") {
            Self::Form
        } else {
            Self::Other
        }
    }
}

/// Whether a `Content-Type` is `application/merge-patch+json` (RFC 7396), which only `PATCH` takes.
#[must_use]
pub fn is_merge_patch(value: Option<&[u8]>) -> bool {
    value.and_then(MediaRange::parse).is_some_and(|media| {
        media.kind.eq_ignore_ascii_case(b"application")
            && media.subtype.eq_ignore_ascii_case(b"merge-patch+json")
    })
}

/// A form in which a reply can be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplyForm {
    /// `application/json`.
    Json,
    /// `application/octet-stream`.
    Octets,
    /// `text/plain`.
    Text,
}

impl ReplyForm {
    /// The value of the reply's `Content-Type`.
    #[must_use]
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Octets => "application/octet-stream",
            Self::Text => "text/plain; charset=utf-8",
        }
    }

    const fn parts(self) -> (&'static [u8], &'static [u8]) {
        match self {
            Self::Json => (b"application", b"json"),
            Self::Octets => (b"application", b"octet-stream"),
            Self::Text => (b"text", b"plain"),
        }
    }
}

/// Chooses among `offers`, the preferred one first (RFC 9110, section 12.5.1).
///
/// Without `Accept`, or with one in which nothing can be read, it is the first offer. Among offers of equal
/// weight the earlier one wins. Nothing is returned if every offer is excluded; the caller may then answer 406.
#[must_use]
pub fn negotiate(accept: Option<&[u8]>, offers: &[ReplyForm]) -> Option<ReplyForm> {
    let accept = accept.unwrap_or_default();
    if ranges(accept).next().is_none() {
        return offers.first().copied();
    }
    let mut best: Option<(u16, ReplyForm)> = None;
    for offer in offers {
        let weight = weight_of(accept, *offer);
        if weight > best.map_or(0, |(weight, _)| weight) {
            best = Some((weight, *offer));
        }
    }
    best.map(|(_, offer)| offer)
}

/// The weight, in thousandths, that an `Accept` gives to a type in this version of it; 0 without `Accept`. A range that
/// names no version is of every one.
#[must_use]
pub fn weight(accept: Option<&[u8]>, (kind, subtype): (&str, &str), version: &str) -> u16 {
    let parts = (kind.as_bytes(), subtype.as_bytes());
    weight_in(accept.unwrap_or_default(), parts, |range| {
        range.version.is_none_or(|named| named == version.as_bytes())
    })
}

/// The weight that the most specific range gives to a form, in thousandths.
fn weight_of(accept: &[u8], form: ReplyForm) -> u16 {
    weight_in(accept, form.parts(), |_| true)
}

fn weight_in(accept: &[u8], (kind, subtype): (&[u8], &[u8]), fits: impl Fn(&MediaRange<'_>) -> bool) -> u16 {
    let mut best = (0, 0);
    for range in ranges(accept).filter(fits) {
        let any = |text: &[u8]| text == b"*";
        let same_kind = range.kind.eq_ignore_ascii_case(kind);
        let specificity = match () {
            () if any(range.kind) && any(range.subtype) => 1,
            () if same_kind && any(range.subtype) => 2,
            () if same_kind && range.subtype.eq_ignore_ascii_case(subtype) => 3,
            () => continue,
        };
        best = best.max((specificity, range.weight));
    }
    best.1
}

/// The well-formed ranges of an `Accept`.
fn ranges(accept: &[u8]) -> impl Iterator<Item = MediaRange<'_>> {
    let mut rest = Some(accept);
    core::iter::from_fn(move || {
        let (range, after) = split_unquoted(rest?, b',');
        rest = after;
        Some(range)
    })
    .take(ACCEPT_RANGES_MAX_COUNT)
    .filter_map(MediaRange::parse)
}

/// A media type or range, with its weight.
struct MediaRange<'a> {
    kind: &'a [u8],
    subtype: &'a [u8],
    weight: u16,
    /// The value of its parameter `version`.
    version: Option<&'a [u8]>,
}

impl<'a> MediaRange<'a> {
    fn parse(text: &'a [u8]) -> Option<Self> {
        let (essence, mut rest) = split_unquoted(text, b';');
        let mut parts = trim(essence).splitn(2, |byte| *byte == b'/');
        let (kind, subtype) = (parts.next()?, parts.next()?);
        if !is_token(kind) || !is_token(subtype) {
            return None;
        }
        let mut range = Self { kind, subtype, weight: 1_000, version: None };
        let mut count = 0;
        while let Some(text) = rest {
            let (parameter, after) = split_unquoted(text, b';');
            rest = after;
            count += 1;
            if count > MEDIA_PARAMETERS_MAX_COUNT {
                return None;
            }
            range.take_parameter(trim(parameter))?;
        }
        Some(range)
    }

    /// Checks a parameter, and reads the weight if it is one. Empty ones are allowed (RFC 9110, section 5.6.6).
    fn take_parameter(&mut self, parameter: &'a [u8]) -> Option<()> {
        if parameter.is_empty() {
            return Some(());
        }
        let mut parts = parameter.splitn(2, |byte| *byte == b'=');
        let (name, value) = (parts.next()?, parts.next()?);
        if name.eq_ignore_ascii_case(b"q") {
            self.weight = parse_weight(value)?;
            return Some(());
        }
        if name.eq_ignore_ascii_case(b"version") {
            self.version = Some(unquoted(value));
        }
        (is_token(name) && (is_token(value) || is_quoted_string(value))).then_some(())
    }
}

/// What stands between quotation marks, or all of it.
fn unquoted(value: &[u8]) -> &[u8] {
    value.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\"")).unwrap_or(value)
}

/// A weight in thousandths (RFC 9110, section 12.4.2).
pub(super) fn parse_weight(text: &[u8]) -> Option<u16> {
    let (whole, fraction) = match text {
        [whole] => (whole, &[][..]),
        [whole, b'.', fraction @ ..] if fraction.len() <= 3 => (whole, fraction),
        _ => return None,
    };
    let digit = |digit: &u8| digit.is_ascii_digit().then(|| u16::from(digit - b'0'));
    let mut weight = digit(whole)?;
    for place in 0..3 {
        weight = weight * 10 + fraction.get(place).map_or(Some(0), digit)?;
    }
    (weight <= 1_000).then_some(weight)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ReplyForm::{Json, Octets, Text};

    #[test]
    fn content_types_are_known_by_their_essence() {
        for (value, known) in [
            ("application/json", ContentType::Json),
            ("Application/JSON ; charset=\"utf-8\"", ContentType::Json),
            ("application/octet-stream", ContentType::Octets),
            ("text/plain;charset=us-ascii;", ContentType::Text),
            ("application/x-www-form-urlencoded", ContentType::Form),
            ("application/problem+json", ContentType::Other),
            ("application/json, text/plain", ContentType::Other),
            ("application/json; charset", ContentType::Other),
            ("application/json; a=\"b", ContentType::Other),
            ("application/json; a=b c", ContentType::Other),
            ("application /json", ContentType::Other),
            ("application", ContentType::Other),
            ("*/*", ContentType::Other),
            ("", ContentType::Other),
        ] {
            assert_eq!(ContentType::parse(Some(value.as_bytes())), known, "{value}");
        }
        assert_eq!(ContentType::parse(None), ContentType::None);
        let many = format!("application/json{}", ";a=b".repeat(MEDIA_PARAMETERS_MAX_COUNT));
        assert_eq!(ContentType::parse(Some(many.as_bytes())), ContentType::Json);
        assert_eq!(ContentType::parse(Some(format!("{many};a=b").as_bytes())), ContentType::Other);
    }

    #[test]
    fn a_merge_patch_is_told_from_other_json() {
        assert!(is_merge_patch(Some(b"Application/Merge-Patch+JSON; charset=utf-8")));
        for other in
            [&b"application/json"[..], b"application/json-patch+json", b"merge-patch+json", b"", b"a/b, c/d"]
        {
            assert!(!is_merge_patch(Some(other)), "{other:?}");
        }
        assert!(!is_merge_patch(None));
    }

    #[test]
    fn accept_chooses_by_weight_then_by_offer() {
        for (accept, chosen) in [
            ("", Some(Json)),
            ("*/*", Some(Json)),
            ("text/plain", Some(Text)),
            ("application/octet-stream", Some(Octets)),
            ("APPLICATION/*", Some(Json)),
            ("text/*, application/json;q=0.5", Some(Text)),
            ("application/json;q=0, */*", Some(Octets)),
            ("application/json;q=0.1, application/*;q=0.9", Some(Octets)),
            ("application/json;q=0.001, text/plain;q=0.002", Some(Text)),
            ("text/plain;charset=\"a,b;q=0\";q=1, */*;q=0.9", Some(Text)),
            ("text/html, application/xhtml+xml, */*;q=0.8", Some(Json)),
            ("text/html", None),
            ("*/*;q=0", None),
            ("text/html, text/plain;q=2", None),
            ("nonsense", Some(Json)),
            ("text/plain;q=0.0000", Some(Json)),
        ] {
            let offers = [Json, Octets, Text];
            assert_eq!(negotiate(Some(accept.as_bytes()), &offers), chosen, "{accept}");
        }
        assert_eq!(negotiate(None, &[Text, Json]), Some(Text));
        assert_eq!(negotiate(None, &[]), None);
    }

    #[test]
    fn ranges_beyond_the_limit_are_not_looked_at() {
        let accept = format!("{}text/plain", "text/html, ".repeat(ACCEPT_RANGES_MAX_COUNT));
        assert_eq!(negotiate(Some(accept.as_bytes()), &[Json, Text]), None);
    }

    #[test]
    fn weights_have_at_most_three_digits() {
        for (text, weight) in [
            ("0", Some(0)),
            ("1.", Some(1_000)),
            ("0.5", Some(500)),
            ("1.000", Some(1_000)),
            ("0.123", Some(123)),
        ] {
            assert_eq!(parse_weight(text.as_bytes()), weight, "{text}");
        }
        for text in ["", "1.001", "2", ".5", "0.1234", "-1", "0,5", "1e0"] {
            assert_eq!(parse_weight(text.as_bytes()), None, "{text}");
        }
    }
}
