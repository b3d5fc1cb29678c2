//! Plain readers to hold the program's own against: slow, short, and written from the RFCs alone.
//!
//! Owns nothing. Invariant: nothing here calls the program.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What a chunked body says: its bytes and where it ends (RFC 9112, section 7.1). Nothing if it is not whole. Extensions
/// and trailers are passed over.
pub(super) fn chunked(mut raw: &[u8]) -> Option<(Vec<u8>, usize)> {
    let len = raw.len();
    let mut body = Vec::new();
    loop {
        let line = take_line(&mut raw)?;
        let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
        let size = usize::from_str_radix(str::from_utf8(&line[..digits]).ok()?, 16).ok()?;
        if size == 0 {
            break;
        }
        body.extend_from_slice(raw.get(..size)?);
        raw = raw.get(size..)?.strip_prefix(b"\r\n")?;
    }
    while !take_line(&mut raw)?.is_empty() {}
    Some((body, len - raw.len()))
}

/// Takes what stands before the next CR LF, and these.
pub(super) fn take_line<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let at = rest.windows(2).position(|pair| pair == b"\r\n")?;
    let line = &rest[..at];
    *rest = &rest[at + 2..];
    Some(line)
}

/// What a text in the form encoding stands for.
pub(super) fn form_decoded(text: &[u8]) -> Option<Vec<u8>> {
    let mut pieces = text.split(|byte| *byte == b'%');
    let spaces = |piece: &[u8]| piece.iter().map(|byte| if *byte == b'+' { b' ' } else { *byte }).collect();
    let mut decoded: Vec<u8> = spaces(pieces.next()?);
    for piece in pieces {
        let digits = str::from_utf8(piece.get(..2)?).ok().filter(|digits| !digits.starts_with('+'))?;
        decoded.push(u8::from_str_radix(digits, 16).ok()?);
        decoded.extend::<Vec<u8>>(spaces(&piece[2..]));
    }
    Some(decoded)
}

/// Who the client is by the lines of `X-Forwarded-For`, for a peer that is trusted.
pub(super) fn forwarded_client(
    peer: IpAddr,
    lines: &[&[u8]],
    most: usize,
    trusts: &dyn Fn(IpAddr) -> bool,
) -> IpAddr {
    let blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    let elements = lines.iter().flat_map(|line| line.split(|byte| *byte == b','));
    let mut elements: Vec<&[u8]> = elements
        .map(|text| {
            let start = text.iter().position(|byte| !blank(byte)).unwrap_or(text.len());
            let end = text.iter().rposition(|byte| !blank(byte)).map_or(start, |at| at + 1);
            &text[start..end]
        })
        .filter(|text| !text.is_empty())
        .collect();
    elements.reverse();
    let mut client = peer;
    for element in elements.into_iter().take(most) {
        let Some(address) = str::from_utf8(element).ok().and_then(node) else { return client };
        client = address;
        if !trusts(client) {
            return client;
        }
    }
    client
}

/// An address, perhaps with a port: RFC 7239, section 6, and IPv6 without brackets.
fn node(text: &str) -> Option<IpAddr> {
    let (address, port) = match text.rsplit_once(']') {
        Some((front, port)) => (
            IpAddr::V6(front.strip_prefix('[')?.parse::<Ipv6Addr>().ok()?),
            Some(port).filter(|port| !port.is_empty()),
        ),
        None if text.matches(':').count() >= 2 => (IpAddr::V6(text.parse::<Ipv6Addr>().ok()?), None),
        None => {
            let end = text.find(':').unwrap_or(text.len());
            let (address, port) = text.split_at(end);
            (IpAddr::V4(address.parse::<Ipv4Addr>().ok()?), Some(port).filter(|port| !port.is_empty()))
        }
    };
    if let Some(port) = port {
        let port = port.strip_prefix(':')?;
        let word = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        let digits = (1..=5).contains(&port.len()) && port.bytes().all(|byte| byte.is_ascii_digit());
        let hidden = port.len() > 1 && port.starts_with('_') && port.bytes().all(word);
        if !digits && !hidden {
            return None;
        }
    }
    Some(match address {
        IpAddr::V6(address) => address.to_ipv4_mapped().map_or(IpAddr::V6(address), IpAddr::V4),
        IpAddr::V4(_) => address,
    })
}

/// Whether `name` is of `glob`, whose stars stand for any run of characters.
pub(super) fn glob_matches(glob: &[u8], name: &[u8]) -> bool {
    // Row by row: whether the front of the glob takes the front of the name.
    let mut row: Vec<bool> = (0..=name.len()).map(|len| len == 0).collect();
    for wanted in glob {
        let mut next = vec![*wanted == b'*' && row[0]];
        for (at, byte) in name.iter().enumerate() {
            next.push(if *wanted == b'*' { row[at + 1] || next[at] } else { row[at] && wanted == byte });
        }
        row = next;
    }
    row[name.len()]
}

/// Base64url without padding (RFC 4648, section 5).
pub(super) fn base64url(bytes: &[u8]) -> Vec<u8> {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = Vec::new();
    for group in bytes.chunks(3) {
        let bits =
            group.iter().fold(0u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - group.len()));
        for digit in 0..=group.len() {
            text.push(DIGITS[(bits >> (18 - 6 * digit)) as usize % 64]);
        }
    }
    text
}
