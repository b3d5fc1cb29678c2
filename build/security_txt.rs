//! `security.txt` (RFC 9116), taken out of `SECURITY.md`.
//!
//! It is the block that stands below the heading `## security.txt`, so that page and server never tell two things.
//! Whether the date has passed is not asked here: the same sources give the same binary at any time. What publishes a
//! release asks it (`scripts/check-security`).

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use super::Outcome;

/// The fields that may stand there, and how often at most (RFC 9116, section 2.5).
const FIELDS: [(&str, usize); 6] = [
    ("Contact", 8),
    ("Expires", 1),
    ("Encryption", 1),
    ("Preferred-Languages", 1),
    ("Policy", 1),
    ("Acknowledgments", 1),
];

/// Writes the file into `OUT_DIR`.
///
/// # Errors
/// `SECURITY.md` has no such block, or what stands there is against RFC 9116.
pub(crate) fn write(root: &Path) -> Outcome<()> {
    let page = fs::read_to_string(root.join("SECURITY.md"))
        .map_err(|error| format!("SECURITY.md, which security.txt is made from: {error}"))?;
    let text = taken_from(&page).map_err(|error| format!("SECURITY.md, security.txt: {error}"))?;
    Ok(fs::write(PathBuf::from(env::var("OUT_DIR")?).join("security.txt"), text)?)
}

/// The block, checked.
fn taken_from(page: &str) -> Outcome<String> {
    let (_, section) = page.split_once("\n## security.txt\n").ok_or("no heading of that name")?;
    let (_, block) = section.split_once("\n```text\n").ok_or("no block of text below its heading")?;
    let (block, _) = block.split_once("\n```\n").ok_or("its block does not end")?;
    let mut seen = [0; FIELDS.len()];
    for line in block.lines().filter(|line| !line.starts_with('#')) {
        let (name, value) = line.split_once(": ").ok_or_else(|| format!("{line:?} is no field"))?;
        let place = FIELDS.iter().position(|(field, _)| *field == name);
        let (times, (_, most)) = place
            .and_then(|place| Some((seen.get_mut(place)?, FIELDS.get(place)?)))
            .ok_or_else(|| format!("{name:?} is no field of it"))?;
        *times += 1;
        if *times > *most {
            return Err(format!("{name} stands there too often").into());
        }
        let address = value.starts_with("https://")
            || name == "Contact" && value.starts_with("mailto:")
            || name == "Encryption" && value.starts_with("openpgp4fpr:");
        let fits = match name {
            "Expires" => is_utc_midnight(value),
            "Preferred-Languages" => {
                value.bytes().all(|byte| byte.is_ascii_lowercase() || b", -".contains(&byte))
            }
            _ => address && value.bytes().all(|byte| byte.is_ascii_graphic()),
        };
        if !fits {
            return Err(format!("{name}: {value:?} is not allowed").into());
        }
    }
    if !matches!(seen, [contacts, 1, ..] if contacts > 0) {
        return Err("it needs a Contact and one Expires".into());
    }
    Ok(format!("{block}\n"))
}

/// `2027-11-01T00:00:00Z`: RFC 3339 in the one form that is used here.
fn is_utc_midnight(value: &str) -> bool {
    let digits = |text: &str, count| text.len() == count && text.bytes().all(|byte| byte.is_ascii_digit());
    let parts: Vec<&str> = value.strip_suffix("T00:00:00Z").unwrap_or_default().split('-').collect();
    matches!(*parts, [year, month, day] if digits(year, 4) && digits(month, 2) && digits(day, 2))
}
