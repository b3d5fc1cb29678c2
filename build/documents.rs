//! Makes what browsers and client generators are served: the description of the API and the page for people.
//!
//! Owns the joining of `src/console/page.{html,css,js}` to one page, and the taking away of what only readers of the
//! sources need. It writes each document compressed into `OUT_DIR`, and `documents.rs` with their lengths, tags and the
//! page's `Content-Security-Policy`, which names its script and its style by their hashes. Invariant: the same sources
//! give the same bytes.

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;
use sha2::{Digest as _, Sha256};

use crate::Outcome;

/// Bytes of a hash that make a tag.
const TAG_BYTES: usize = 12;

/// Writes everything.
pub(crate) fn write(root: &Path, out: &Path) -> Outcome<()> {
    let read = |name: &str| {
        let path = root.join(name);
        fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))
    };
    let description = compact(&read("docs/openapi.json")?);
    let [frame, style, script] = ["html", "css", "js"].map(|kind| read(&format!("src/console/page.{kind}")));
    let (style, script) = (bare(&style?), bare(&script?));
    let page = bare(&frame?);
    let page = filled(&filled(&page, "<style></style>", &style)?, "<script></script>", &script)?;
    let policy = format!(
        "default-src 'none'; script-src '{}'; style-src '{}'; connect-src 'self'; img-src data:; base-uri 'none'; \
         form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'",
        named(&script),
        named(&style)
    );
    let mut source = String::new();
    for (name, file, text) in
        [("DESCRIPTION", "openapi.json.gz", &description), ("PAGE", "docs.html.gz", &page)]
    {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(text.as_bytes())?;
        fs::write(out.join(file), encoder.finish()?)?;
        let tag = base64_simd::URL_SAFE_NO_PAD
            .encode_to_string(Sha256::digest(text.as_bytes()).get(..TAG_BYTES).unwrap_or_default());
        writeln!(source, "/// As it is served.")?;
        writeln!(source, "pub(super) static {name}: Document = Document {{")?;
        writeln!(source, "    gzip: include_bytes!(concat!(env!(\"OUT_DIR\"), \"/{file}\")),")?;
        writeln!(source, "    len: {},", text.len())?;
        writeln!(source, "    tag: \"W/\\\"{tag}\\\"\",")?;
        writeln!(source, "}};")?;
    }
    writeln!(source, "/// What the page may do.")?;
    writeln!(source, "pub(super) const PAGE_POLICY: &str = {policy:?};")?;
    Ok(fs::write(out.join("documents.rs"), source)?)
}

/// JSON without the blanks between its tokens.
fn compact(json: &str) -> String {
    let (mut inside, mut escaped) = (false, false);
    let keep = |character: &char| {
        if inside {
            let ends = *character == '"' && !escaped;
            escaped = *character == '\\' && !escaped;
            inside = !ends;
            return true;
        }
        inside = *character == '"';
        !character.is_ascii_whitespace()
    };
    json.chars().filter(keep).collect()
}

/// A source without indentation, empty lines, and lines that are comments and nothing else.
fn bare(source: &str) -> String {
    let comment = |line: &str| line.starts_with("//") || line.starts_with("/*") && line.ends_with("*/");
    let lines = source.lines().map(str::trim).filter(|line| !line.is_empty() && !comment(line));
    lines.collect::<Vec<_>>().join("\n")
}

/// Puts `content` into the empty element `place`, which stands once.
fn filled(frame: &str, place: &str, content: &str) -> Outcome<String> {
    let (before, after) = frame.split_once(place).ok_or_else(|| format!("no {place} in the page"))?;
    let (open, close) = place.split_at(place.find("</").ok_or("no end")?);
    if content.contains(close) || after.contains(place) {
        return Err(format!("{close} in what stands in {place}").into());
    }
    Ok(format!("{before}{open}{content}{close}{after}"))
}

/// The name of a script or style in a policy (CSP3, section 2.3.1).
fn named(content: &str) -> String {
    format!("sha256-{}", base64_simd::STANDARD.encode_to_string(Sha256::digest(content.as_bytes())))
}
