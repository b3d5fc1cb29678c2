//! Finding a member in a line without reading it as JSON.
//!
//! Owns nothing. Invariant: a line that [`super::line`] wrote holds no quotation mark within a text, so what stands
//! between the name of a member and the next mark is its whole value, and no value looks like a member.

use memchr::memmem;

/// The text behind `before` (a comma, the quoted name, a colon and the opening quotation mark), up to its closing one.
#[must_use]
pub fn text<'a>(line: &'a [u8], before: &[u8]) -> Option<&'a [u8]> {
    let rest = line.get(memmem::find(line, before)? + before.len()..)?;
    rest.get(..memchr::memchr(b'"', rest)?)
}

/// The number behind `before` (a comma, the quoted name and a colon), if it fits.
#[must_use]
pub fn number(line: &[u8], before: &[u8]) -> Option<u64> {
    let rest = line.get(memmem::find(line, before)? + before.len()..)?;
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    str::from_utf8(rest.get(..digits)?).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_told_from_those_whose_names_end_alike() {
        let line = br#"{"seq":7,"ts":"t","api_key":"a","key":"k","bytes_in":12,"in":99999999999999999999}"#;
        assert_eq!(text(line, b",\"key\":\""), Some(&b"k"[..]));
        assert_eq!(text(line, b",\"other\":\""), None);
        assert_eq!(text(b",\"key\":\"torn", b",\"key\":\""), None);
        assert_eq!(number(line, b",\"bytes_in\":"), Some(12));
        assert_eq!(number(line, b",\"in\":"), None, "no number has so many digits");
    }
}
