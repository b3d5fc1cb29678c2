//! What `quantonium store` reports, for people and in JSON.
//!
//! Owns the members of the JSON reports and the words of the text ones; both say the same. Invariants: nothing of a
//! key but its name, type, versions and states is in them; nothing of an API key that a secret could be tried with.

use core::fmt::{self, Write as _};
use std::path::Path;

use serde::Serialize;

use super::contents::Contents;
use crate::auth::ApiKey;
use crate::clock::WallTime;
use crate::keyring::Key;
use crate::store::journal::format::{FORMAT, Header as RingHeader};
use crate::store::journal::{Damage, Inspected, Report};
use crate::store::{Head, TornTail, Witness, quoted};

/// What the header says to everybody.
#[derive(Debug, Serialize)]
pub(super) struct Header {
    #[serde(skip_serializing_if = "Option::is_none")]
    journal: Option<String>,
    /// Where etcd keeps it, instead.
    #[serde(skip_serializing_if = "Option::is_none")]
    store: Option<String>,
    format: u32,
    ring: String,
    file: String,
    master_key_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    size_bytes: Option<u64>,
}

/// What `inspect` found.
#[derive(Debug, Serialize)]
pub(super) struct Inspection {
    #[serde(flatten)]
    header: Header,
    #[serde(skip_serializing_if = "Option::is_none")]
    revision: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    api_keys: Option<Vec<ApiKeyLine>>,
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
    #[serde(skip_serializing_if = "Option::is_none")]
    frames: Option<u64>,
    live_records: u64,
    keys: u64,
    api_keys: u64,
    torn_tail: Option<Stretch>,
    damaged: Vec<Stretch>,
    damaged_count: u64,
    unreadable: Vec<String>,
    unreadable_count: u64,
    rolled_back: bool,
    sound: bool,
}

/// A stretch of the file.
#[derive(Clone, Copy, Debug, Serialize)]
struct Stretch {
    offset: u64,
    bytes: u64,
}

#[derive(Debug, Serialize)]
struct ApiKeyLine {
    id: String,
    name: String,
    scopes: String,
    created_at: String,
    expires_at: Option<String>,
    revoked_at: Option<String>,
    uses: u64,
    last_used_at: Option<String>,
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
            journal: Some(journal.to_string_lossy().into_owned()),
            store: None,
            format: inspected.format,
            ring: hex(&inspected.ring),
            file: hex(&inspected.file),
            master_key_id: hex(&inspected.master_key),
            size_bytes: Some(inspected.bytes),
        }
    }

    /// Of a store that etcd keeps; what its records take is known to who has read them.
    pub(super) fn of_shared(place: &Path, header: &RingHeader, size_bytes: Option<u64>) -> Self {
        Self {
            journal: None,
            store: Some(place.to_string_lossy().into_owned()),
            format: FORMAT,
            ring: hex(&header.ring),
            file: hex(&header.file),
            master_key_id: hex(&header.master_key),
            size_bytes,
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
            api_keys: Some(contents.api_keys.values().map(ApiKeyLine::new).collect()),
            keys: Some(contents.keys.values().map(KeyLine::new).collect()),
        }
    }
}

impl Verification {
    /// What was found, judged by what is known from outside.
    pub(super) fn new(header: Header, report: &Report, contents: &Contents, witness: &Witness) -> Self {
        let rolled_back = witness.is_ahead(report.head);
        let mut torn_tail = report.torn.map(|TornTail { offset, bytes }| Stretch { offset, bytes });
        let damages = report.damages.iter();
        let mut damaged: Vec<Stretch> =
            damages.map(|&Damage { offset, bytes }| Stretch { offset, bytes }).collect();
        let mut damaged_count = report.damages_count;
        if rolled_back && let Some(tail) = torn_tail.take() {
            // What was acknowledged was finished once: its end is damaged, not torn.
            damaged.push(tail);
            damaged_count += 1;
        }
        Self {
            header,
            revision: report.head.revision,
            tag: hex(&report.head.tag),
            frames: Some(report.frames),
            live_records: report.live_records,
            keys: contents.keys.len() as u64,
            api_keys: contents.api_keys.len() as u64,
            torn_tail,
            damaged,
            damaged_count,
            unreadable: contents.unreadable.iter().map(ToString::to_string).collect(),
            unreadable_count: contents.unreadable_count,
            rolled_back,
            sound: damaged_count == 0 && contents.unreadable_count == 0 && !rolled_back,
        }
    }

    /// The same of a store that etcd keeps, which was proved when it was read: what is damaged there is not read at all.
    pub(super) fn of_shared(
        header: Header,
        head: Head,
        live_records: u64,
        contents: &Contents,
        witness: &Witness,
    ) -> Self {
        let rolled_back = witness.is_ahead(head);
        Self {
            header,
            revision: head.revision,
            tag: hex(&head.tag),
            frames: None,
            live_records,
            keys: contents.keys.len() as u64,
            api_keys: contents.api_keys.len() as u64,
            torn_tail: None,
            damaged: Vec::new(),
            damaged_count: 0,
            unreadable: contents.unreadable.iter().map(ToString::to_string).collect(),
            unreadable_count: contents.unreadable_count,
            rolled_back,
            sound: contents.unreadable_count == 0 && !rolled_back,
        }
    }

    /// Whether all is as it was written, apart from a torn end.
    pub(super) const fn is_sound(&self) -> bool {
        self.sound
    }

    /// Whether something is not as it was written.
    pub(super) const fn is_damaged(&self) -> bool {
        self.damaged_count > 0 || self.unreadable_count > 0
    }
}

impl ApiKeyLine {
    fn new(key: &ApiKey) -> Self {
        let time = |time: WallTime| time.civil().to_string();
        Self {
            id: format!("qk_{}", key.id),
            created_at: time(key.created),
            name: key.terms.name.to_string(),
            scopes: key.terms.grants.to_string(),
            expires_at: key.terms.expires.map(time),
            revoked_at: key.revoked.map(time),
            uses: key.usage.count(),
            last_used_at: key.usage.last().map(time),
        }
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
        if let Some(journal) = &self.journal {
            writeln!(f, "journal:       {}", quoted(Path::new(journal)))?;
        }
        if let Some(store) = &self.store {
            writeln!(f, "store:         {}", quoted(Path::new(store)))?;
        }
        writeln!(f, "format:        {}", self.format)?;
        if let Some(size_bytes) = self.size_bytes {
            writeln!(f, "size:          {size_bytes} bytes")?;
        }
        writeln!(f, "ring id:       {}", self.ring)?;
        writeln!(f, "file id:       {}", self.file)?;
        writeln!(f, "master key id: {}", self.master_key_id)
    }
}

impl fmt::Display for ApiKeyLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { id, name, scopes, created_at, .. } = self;
        // Names hold nothing that controls a terminal, and are quoted all the same: they may hold blanks.
        write!(f, "{id} made {created_at}, {}, may {scopes}", quoted(Path::new(name)))?;
        let dates =
            [("expires", &self.expires_at), ("revoked", &self.revoked_at), ("used", &self.last_used_at)];
        dates
            .iter()
            .filter_map(|(what, date)| date.as_ref().map(|date| (what, date)))
            .try_for_each(|(what, date)| write!(f, ", {what} {date}"))
    }
}

impl fmt::Display for Inspection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.header)?;
        let (Some(revision), Some(api_keys), Some(keys)) = (self.revision, &self.api_keys, &self.keys) else {
            return f.write_str("keys:          give --master-key-file to see them\n");
        };
        writeln!(f, "revision:      {revision}")?;
        writeln!(f, "API keys:      {}", api_keys.len())?;
        api_keys.iter().try_for_each(|key| writeln!(f, "  {key}"))?;
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
        if let Some(frames) = self.frames {
            writeln!(f, "frames:        {frames}")?;
        }
        writeln!(f, "live records:  {} (keys {}, API keys {})", self.live_records, self.keys, self.api_keys)?;
        match self.torn_tail {
            None if self.frames.is_none() => {}
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
        let result = match (self.is_damaged(), self.rolled_back) {
            (true, _) => "damaged",
            (false, true) => "rolled back",
            (false, false) => "sound",
        };
        writeln!(f, "result:        {result}")
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(states: &[&'static str], deleted: bool) -> String {
        let versions = (1..).zip(states).map(|(version, state)| VersionLine {
            version,
            state,
            created_at: String::new(),
        });
        let deleted_at = deleted.then(String::new);
        let (name, kind, created_at) = ("orders".to_owned(), "hmac-sha256", String::new());
        KeyLine { name, kind, created_at, deleted_at, versions: versions.collect() }.to_string()
    }

    #[test]
    fn neighbours_in_the_same_state_are_told_together() {
        assert_eq!(line(&["enabled"], false), "orders hmac-sha256 v1 enabled");
        assert_eq!(
            line(&["destroyed", "destroyed", "decrypt-only", "enabled", "enabled", "enabled"], false),
            "orders hmac-sha256 v1-v2 destroyed, v3 decrypt-only, v4-v6 enabled"
        );
        assert_eq!(line(&["disabled"], true), "orders hmac-sha256 (deleted) v1 disabled");
    }

    #[test]
    fn a_torn_end_behind_a_witness_is_damage() {
        let inspected =
            Inspected { format: 1, ring: [0; 16], file: [0; 16], master_key: [0; 16], bytes: 500 };
        let report = Report {
            inspected,
            frames: 3,
            live_records: 0,
            head: Head { revision: 4, tag: [0; 16] },
            torn: Some(TornTail { offset: 400, bytes: 100 }),
            damages: Vec::new(),
            damages_count: 0,
        };
        let judge = |min_revision| {
            let header = Header::new(Path::new("journal"), &inspected);
            let witness = Witness { min_revision, ..Witness::default() };
            Verification::new(header, &report, &Contents::default(), &witness)
        };
        let unknown = judge(4);
        assert!(unknown.is_sound() && !unknown.is_damaged());
        assert!(unknown.to_string().contains("torn tail:     100 bytes at offset 400"), "{unknown}");
        let known = judge(5);
        assert!(!known.is_sound() && known.is_damaged());
        assert!(known.to_string().contains("damaged:       100 bytes at offset 400"), "{known}");
        let sound = Report { torn: None, ..report.clone() };
        let witness = Witness { min_revision: 5, ..Witness::default() };
        let header = Header::new(Path::new("journal"), &inspected);
        let behind = Verification::new(header, &sound, &Contents::default(), &witness);
        assert!(!behind.is_sound() && !behind.is_damaged());
        assert!(behind.to_string().ends_with("result:        rolled back\n"), "{behind}");
    }
}
