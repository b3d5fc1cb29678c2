//! What a client has and can read: content codings and entity tags (RFC 9110, sections 8.8.3 and 12.5.3).
//!
//! Owns two questions about fields of the request. Invariants: a part that is malformed counts as absent; a coding is used only
//! if the client names it, since its absence says nothing about a client that knows none.

use super::grammar::trim;
use super::media::parse_weight;

/// Whether the lines of `Accept-Encoding` take gzip.
pub fn takes_gzip<'a>(lines: impl Iterator<Item = &'a [u8]>) -> bool {
    let (mut named, mut any) = (None, None);
    for item in lines.flat_map(|line| line.split(|byte| *byte == b',')) {
        let mut parts = item.split(|byte| *byte == b';').map(trim);
        let coding = parts.next().unwrap_or_default();
        let weight = match parts.next() {
            None => Some(1_000),
            Some([b'q' | b'Q', b'=', weight @ ..]) => parse_weight(weight),
            Some(_) => None,
        };
        let Some(weight) = weight else { continue };
        if coding.eq_ignore_ascii_case(b"gzip") || coding.eq_ignore_ascii_case(b"x-gzip") {
            named = named.max(Some(weight));
        } else if coding == b"*" {
            any = any.max(Some(weight));
        }
    }
    named.or(any).is_some_and(|weight| weight > 0)
}

/// Whether the lines of `If-None-Match` name `tag`, or whatever there is. Compared weakly, as that field is.
pub fn names_tag<'a>(lines: impl Iterator<Item = &'a [u8]>, tag: &str) -> bool {
    let opaque = |tag: &'a [u8]| tag.strip_prefix(b"W/").unwrap_or(tag);
    let own = tag.as_bytes();
    let own = own.strip_prefix(b"W/").unwrap_or(own);
    // No tag of ours holds a comma, so that whatever one of another's is cut into is none of ours.
    lines
        .flat_map(|line| line.split(|byte| *byte == b','))
        .map(trim)
        .any(|named| named == b"*" || opaque(named) == own)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gzip_is_taken_only_where_it_is_named_with_a_weight() {
        let takes = |lines: &[&'static str]| takes_gzip(lines.iter().map(|line| line.as_bytes()));
        for lines in [
            &["gzip"][..],
            &["deflate, GZip;q=0.5"],
            &["br", "x-gzip"],
            &["*"],
            &["gzip ; q=0.001"],
            &["identity;q=0, *;q=0.1"],
        ] {
            assert!(takes(lines), "{lines:?}");
        }
        for lines in [
            &[][..],
            &[""],
            &["br"],
            &["gzip;q=0"],
            &["gzip;q=0.000, *"],
            &["*;q=0"],
            &["gzip;q=2"],
            &["gzip;level=1"],
            &["gzipped"],
        ] {
            assert!(!takes(lines), "{lines:?}");
        }
    }

    #[test]
    fn a_tag_is_known_again_whatever_its_strength() {
        let names = |line: &'static str| names_tag([line.as_bytes()].into_iter(), "W/\"abc\"");
        for line in ["W/\"abc\"", "\"abc\"", "*", "\"x\", W/\"abc\"", "\"a,b\",\"abc\""] {
            assert!(names(line), "{line}");
        }
        for line in ["", "abc", "\"ABC\"", "W/\"abcd\"", "w/\"abc\""] {
            assert!(!names(line), "{line}");
        }
    }
}
