//! What `quantonium store` reports, for people and in JSON.
//!
//! Owns the members of the JSON reports and the words of the text ones; both say the same. Invariant: nothing of a
//! key but its name, type, versions and states is in them.

use core::fmt::{self, Write as _};
use std::path::Path;

use serde::Serialize;

use super::contents::Contents;
use crate::keyring::Key;
use crate::store::journal::{Inspected, Report};
use crate::store::quoted;

/// What the header says to everybody.
#[derive(Debug, Serialize)]
pub(super) struct Header {
    journal: String,
    format: u32,
    ring: String,
    file: String,
    master_key_id: String,
    size_bytes: u64,
}

/// What `inspect` found.
#[derive(Debug, Serialize)]
pub(super) struct Inspection {
    #[serde(flatten)]
    header: Header,
    #[serde(skip_serializing_if = "Option::is_none")]
    revision: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    api_keys: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    keys: Option<Vec<KeyLine>>,
}

/// What `verify` found.
#[derive(Debug, Serialize)]
pub(super) struct Verification {
    #[serde(flatten)]
    header: Header,
    revision: u64,
    tag: String,
    frames: u64,
    live_records: u64,
    keys: u64,
    api_keys: u64,
    torn_tail: Option<Stretch>,
    damaged: Vec<Stretch>,
    damaged_count: u64,
    unreadable: Vec<String>,
    unreadable_count: u64,
    sound: bool,
}

/// A stretch of the file.
#[derive(Clone, Copy, Debug, Serialize)]
struct Stretch {
    offset: u64,
    bytes: u64,
}

#[derive(Debug, Serialize)]
struct KeyLine {
    name: String,
    #[serde(rename = "type")]
    kind: &'static str,
    created_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    deleted_at: Option<String>,
    versions: Vec<VersionLine>,
}

#[derive(Debug, Serialize)]
struct VersionLine {
    version: u32,
    state: &'static str,
    created_at: String,
}

impl Header {
    pub(super) fn new(journal: &Path, inspected: &Inspected) -> Self {
        Self {
            journal: journal.to_string_lossy().into_owned(),
            format: inspected.format,
            ring: hex(&inspected.ring),
            file: hex(&inspected.file),
            master_key_id: hex(&inspected.master_key),
            size_bytes: inspected.bytes,
        }
    }
}

impl Inspection {
    /// Without the master key nothing but the header can be told.
    pub(super) const fn of_header(header: Header) -> Self {
        Self { header, revision: None, api_keys: None, keys: None }
    }

    pub(super) fn of_contents(header: Header, revision: u64, contents: &Contents) -> Self {
        Self {
            header,
            revision: Some(revision),
            api_keys: Some(contents.api_keys_count),
            keys: Some(contents.keys.values().map(KeyLine::new).collect()),
        }
    }
}

impl Verification {
    pub(super) fn new(header: Header, report: &Report, contents: &Contents) -> Self {
        let stretch = |offset, bytes| Stretch { offset, bytes };
        Self {
            header,
            revision: report.head.revision,
            tag: hex(&report.head.tag),
            frames: report.frames,
            live_records: report.live_records,
            keys: contents.keys.len() as u64,
            api_keys: contents.api_keys_count,
            torn_tail: report.torn.map(|torn| stretch(torn.offset, torn.bytes)),
            damaged: report.damages.iter().map(|damage| stretch(damage.offset, damage.bytes)).collect(),
            damaged_count: report.damages_count,
            unreadable: contents.unreadable.iter().map(ToString::to_string).collect(),
            unreadable_count: contents.unreadable_count,
            sound: report.damages_count == 0 && contents.unreadable_count == 0,
        }
    }

    /// Whether all is as it was written, apart from a torn end.
    pub(super) const fn is_sound(&self) -> bool {
        self.sound
    }
}

impl KeyLine {
    fn new(key: &Key) -> Self {
        let versions = key.versions().map(|version| VersionLine {
            version: version.number(),
            state: version.state().name(),
            created_at: version.created().civil().to_string(),
        });
        Self {
            name: key.name().as_str().to_owned(),
            kind: key.kind().name(),
            created_at: key.created().civil().to_string(),
            deleted_at: key.deletion().map(|deletion| deletion.at.civil().to_string()),
            versions: versions.collect(),
        }
    }
}

/// The JSON of a report, on one line.
pub(super) fn json(report: &impl Serialize) -> String {
    // Strings, numbers and lists of them: nothing that JSON cannot say.
    let mut text = serde_json::to_string(report).unwrap_or_default();
    text.push('\n');
    text
}

impl fmt::Display for Header {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "journal:       {}", quoted(Path::new(&self.journal)))?;
        writeln!(f, "format:        {}", self.format)?;
        writeln!(f, "size:          {} bytes", self.size_bytes)?;
        writeln!(f, "ring id:       {}", self.ring)?;
        writeln!(f, "file id:       {}", self.file)?;
        writeln!(f, "master key id: {}", self.master_key_id)
    }
}

impl fmt::Display for Inspection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.header)?;
        let (Some(revision), Some(api_keys), Some(keys)) = (self.revision, self.api_keys, &self.keys) else {
            return f.write_str("keys:          give --master-key-file to see them\n");
        };
        writeln!(f, "revision:      {revision}")?;
        writeln!(f, "API keys:      {api_keys}")?;
        writeln!(f, "keys:          {}", keys.len())?;
        keys.iter().try_for_each(|key| writeln!(f, "  {key}"))
    }
}

impl fmt::Display for KeyLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} ", self.name, self.kind)?;
        if self.deleted_at.is_some() {
            f.write_str("(deleted) ")?;
        }
        // Neighbours in the same state are told together: a key may have thousands of versions.
        let mut versions = self.versions.iter().peekable();
        let mut separator = "";
        while let Some(first) = versions.next() {
            let mut last = first;
            while let Some(next) = versions.next_if(|next| next.state == first.state) {
                last = next;
            }
            write!(f, "{separator}v{}", first.version)?;
            if last.version != first.version {
                write!(f, "-v{}", last.version)?;
            }
            write!(f, " {}", first.state)?;
            separator = ", ";
        }
        Ok(())
    }
}

impl fmt::Display for Verification {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.header)?;
        writeln!(f, "revision:      {}", self.revision)?;
        writeln!(f, "frames:        {}", self.frames)?;
        writeln!(f, "live records:  {} (keys {}, API keys {})", self.live_records, self.keys, self.api_keys)?;
        match self.torn_tail {
            None => f.write_str("torn tail:     none\n")?,
            Some(Stretch { offset, bytes }) => writeln!(
                f,
                "torn tail:     {bytes} bytes at offset {offset}: a change that was never finished nor answered; the \
                 next start cuts it off"
            )?,
        }
        for Stretch { offset, bytes } in &self.damaged {
            writeln!(f, "damaged:       {bytes} bytes at offset {offset}")?;
        }
        let more = self.damaged_count.saturating_sub(self.damaged.len() as u64);
        if more > 0 {
            writeln!(f, "damaged:       {more} places more")?;
        }
        for text in &self.unreadable {
            writeln!(f, "unreadable:    {text}")?;
        }
        let more = self.unreadable_count.saturating_sub(self.unreadable.len() as u64);
        if more > 0 {
            writeln!(f, "unreadable:    {more} records more")?;
        }
        writeln!(f, "result:        {}", if self.sound { "sound" } else { "damaged" })
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
