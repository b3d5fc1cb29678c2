//! API keys as the API shows them, read back, and told to people.
//!
//! Owns the members that are read and the words of the texts. Invariants: a new secret is borrowed from the reply, so that
//! no copy of it outlives that; what a server sends steers no terminal.

use core::fmt::Write as _;

use serde::{Deserialize, Serialize};

use crate::cli::failure::Failure;
use crate::limits::CLIENT_REFUSAL_MAX_BYTES;
use crate::log::is_steering;

/// An API key.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct View<'a> {
    pub(super) id: String,
    /// The whole API key, in the one reply that shows it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) api_key: Option<&'a str>,
    pub(super) name: String,
    description: String,
    state: String,
    scopes: Vec<String>,
    created_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    created_by: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    revoked_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rate_limit: Option<RateView>,
    allowed_networks: Vec<String>,
    /// A server of an earlier version has none.
    #[serde(default)]
    identities: Vec<String>,
    generation: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) overlap_until: Option<String>,
    uses: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_used_at: Option<String>,
}

#[derive(Debug, Deserialize, Serialize)]
struct RateView {
    per_second: u32,
    burst: u32,
}

/// Some API keys.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct Page<'a> {
    #[serde(borrow)]
    pub(super) keys: Vec<View<'a>>,
    /// Behind which the next ones come, if there are any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) next: Option<String>,
}

/// The API keys of a body, if it is of this API.
pub(super) fn page(body: &[u8]) -> Result<Page<'_>, Failure> {
    serde_json::from_slice(body).map_err(|_| not_ours())
}

/// The API key of a body, if it is of this API.
pub(super) fn key(body: &[u8]) -> Result<View<'_>, Failure> {
    serde_json::from_slice(body).map_err(|_| not_ours())
}

pub(super) fn not_ours() -> Failure {
    Failure::refused("the answer is not of this API: is it quantonium?")
}

impl View<'_> {
    /// Everything, a line for each member.
    pub(super) fn text(&self) -> String {
        let mut out = String::new();
        let mut line = |name: &str, value: &str| {
            let _ = writeln!(out, "{name}:{:>1$}{2}", "", 12 - name.len(), plain(value));
        };
        let by = self.created_by.as_ref().map(|by| format!(" by {by}")).unwrap_or_default();
        line("id", &self.id);
        line("name", &self.name);
        if !self.description.is_empty() {
            line("description", &self.description);
        }
        line("state", &self.state);
        line("scopes", &self.scopes.join(" "));
        line("created", &format!("{}{by}", self.created_at));
        line("expires", self.expires_at.as_deref().unwrap_or("never"));
        if let Some(revoked) = &self.revoked_at {
            line("revoked", revoked);
        }
        match &self.rate_limit {
            Some(RateView { per_second, burst }) => {
                line("rate", &format!("{per_second} in a second, {burst} at once"));
            }
            None => line("rate", "the server's default"),
        }
        let networks = self.allowed_networks.join(" ");
        line("networks", if networks.is_empty() { "any" } else { &networks });
        if !self.identities.is_empty() {
            line("identities", &self.identities.join(" "));
        }
        let overlap = self.overlap_until.as_ref();
        let before =
            overlap.map(|until| format!(", the secret before works until {until}")).unwrap_or_default();
        line("secret", &format!("number {}{before}", self.generation));
        let last = self.last_used_at.as_ref().map(|last| format!(", last {last}")).unwrap_or_default();
        line("uses", &format!("{}{last}", self.uses));
        out
    }

    /// The cells of a line of the list.
    fn cells(&self) -> [String; 7] {
        let or = |text: &Option<String>, else_: &str| text.as_deref().map_or(else_.to_owned(), day);
        [
            plain(&self.id),
            plain(&self.state),
            or(&self.expires_at, "never"),
            or(&self.last_used_at, "never"),
            plain(&self.name),
            plain(&self.scopes.join(" ")),
            plain(&self.identities.join(" ")),
        ]
    }
}

/// The API keys, a line for each below a heading.
pub(super) fn list(keys: &[View<'_>]) -> String {
    let heading = ["ID", "STATE", "EXPIRES", "LAST USED", "NAME", "SCOPES", "IDENTITIES"].map(str::to_owned);
    let lines: Vec<[String; 7]> = [heading].into_iter().chain(keys.iter().map(View::cells)).collect();
    let mut widths = [0; 7];
    for line in &lines {
        for (width, cell) in widths.iter_mut().zip(line) {
            *width = cell.chars().count().max(*width);
        }
    }
    let mut out = String::new();
    for line in &lines {
        let mut text = String::new();
        for (width, cell) in widths.iter().zip(line) {
            let _ = write!(text, "{cell:<width$}  ");
        }
        out.push_str(text.trim_end());
        out.push('\n');
    }
    out
}

/// Of a time only the day and the minute.
fn day(time: &str) -> String {
    let minute = time.get(..16).map(|front| format!("{}Z", front.replace('T', " ")));
    plain(minute.as_deref().unwrap_or(time))
}

/// Text without characters that steer a terminal.
pub(in crate::cli) fn plain(text: &str) -> String {
    text.chars().map(|char| if is_steering(char) { '?' } else { char }).collect()
}

/// The same of a text in a refusal, of which a bounded part is told.
pub(in crate::cli) fn told(text: &str) -> String {
    let mut end = CLIENT_REFUSAL_MAX_BYTES.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let (told, rest) = text.split_at(end);
    plain(told) + if rest.is_empty() { "" } else { "..." }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = r#"{"id":"1a2b3c4d","name":"a\u001b[2Jé","description":"","state":"active","scopes":["encrypt:a-*",
        "hash"],"created_at":"2026-11-22T10:00:00.000Z","created_by":"00000001","expires_at":"2026-12-22T10:00:00.000Z",
        "rate_limit":{"per_second":5,"burst":9},"allowed_networks":["10.0.0.0/8"],"identities":["unix-user:7"],"generation":2,
        "overlap_until":"2026-11-23T10:00:00.000Z","uses":7,"later":"member"}"#;

    #[test]
    fn a_key_is_told_to_people_without_control_characters() {
        let view: View<'_> = serde_json::from_str(KEY).unwrap();
        assert_eq!(
            view.text(),
            "id:          1a2b3c4d\n\
             name:        a?[2Jé\n\
             state:       active\n\
             scopes:      encrypt:a-* hash\n\
             created:     2026-11-22T10:00:00.000Z by 00000001\n\
             expires:     2026-12-22T10:00:00.000Z\n\
             rate:        5 in a second, 9 at once\n\
             networks:    10.0.0.0/8\n\
             identities:  unix-user:7\n\
             secret:      number 2, the secret before works until 2026-11-23T10:00:00.000Z\n\
             uses:        7\n"
        );
    }

    #[test]
    fn a_list_is_aligned() {
        let text = KEY.replace("\\u001b[2Jé", "").replace("\"identities\":[\"unix-user:7\"],", "");
        let keys: Vec<View<'_>> = [KEY, &text].map(|key| serde_json::from_str(key).unwrap()).into();
        assert_eq!(
            list(&keys),
            "ID        STATE   EXPIRES            LAST USED  NAME    SCOPES            IDENTITIES\n\
             1a2b3c4d  active  2026-12-22 10:00Z  never      a?[2Jé  encrypt:a-* hash  unix-user:7\n\
             1a2b3c4d  active  2026-12-22 10:00Z  never      a       encrypt:a-* hash\n"
        );
        assert_eq!(list(&[]), "ID  STATE  EXPIRES  LAST USED  NAME  SCOPES  IDENTITIES\n");
    }
}
