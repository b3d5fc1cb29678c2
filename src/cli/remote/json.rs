//! JSON as it is sent, and as it is told to people.
//!
//! Owns [`Members`] and the lines of an answer. Invariants: what is sent is well formed whatever the texts hold; what a server
//! sends steers no terminal.

use core::fmt::{Display, Write as _};

use serde::de::IgnoredAny;
use serde_json::Value;
use zeroize::Zeroizing;

use crate::cli::apikey::plain;
use crate::log::is_steering;

/// The members of an object that is being written.
#[derive(Debug, Default)]
pub(super) struct Members(String);

impl Members {
    /// Whether there are none.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds a number, a boolean, or what is JSON already.
    pub(super) fn literal(&mut self, name: &str, value: impl Display) {
        let _ = write!(self.0, "{}\"{name}\":{value}", if self.0.is_empty() { "" } else { "," });
    }

    /// Adds a text.
    pub(super) fn text(&mut self, name: &str, value: &str) {
        self.literal(name, quoted(value));
    }

    /// Adds a list of texts.
    pub(super) fn texts(&mut self, name: &str, values: &[String]) {
        let all: Vec<String> = values.iter().map(|value| quoted(value)).collect();
        self.literal(name, format_args!("[{}]", all.join(",")));
    }

    /// The whole object.
    pub(super) fn finish(self) -> String {
        format!("{{{}}}", self.0)
    }
}

fn quoted(text: &str) -> String {
    // A text has always a form in JSON.
    serde_json::to_string(text).unwrap_or_default()
}

/// JSON of a server as it is told: as it came, but that nothing in it steers a terminal. Nothing if it is no JSON.
pub(super) fn shown(text: &[u8]) -> Option<Zeroizing<String>> {
    serde_json::from_slice::<IgnoredAny>(text).ok()?;
    let text = str::from_utf8(text).ok()?;
    let mut shown = Zeroizing::new(String::with_capacity(text.len() + 1));
    for char in text.chars() {
        match char {
            // Outside of texts these are spaces, and inside there are none (RFC 8259, sections 2 and 7).
            '\n' | '\t' => shown.push(char),
            '\r' => shown.push(' '),
            // All of them lie below U+10000, so that four digits name them.
            char if is_steering(char) => {
                let _ = write!(shown, "\\u{:04x}", u32::from(char));
            }
            char => shown.push(char),
        }
    }
    Some(shown)
}

/// An answer for people: a line for each member of an object, the name first.
pub(super) fn lines(value: &Value) -> String {
    let mut out = String::new();
    let Value::Object(members) = value else { return out };
    let is_first = |name: &str| matches!(name, "name" | "status");
    let first = members.iter().filter(|(name, _)| is_first(name));
    for (name, value) in first.chain(members.iter().filter(|(name, _)| !is_first(name))) {
        match value {
            Value::Array(items) if items.iter().any(Value::is_object) => {
                let _ = writeln!(out, "{}:", plain(name));
                for item in items {
                    let _ = writeln!(out, "  {}", one_line(item));
                }
            }
            _ => {
                let _ = writeln!(out, "{}: {}", plain(name), one_line(value));
            }
        }
    }
    out
}

/// A value in one line.
pub(super) fn one_line(value: &Value) -> String {
    match value {
        Value::String(text) => plain(text),
        Value::Array(items) => items.iter().map(one_line).collect::<Vec<_>>().join(" "),
        Value::Object(members) => {
            let told = members.iter().map(|(name, value)| match value {
                Value::Object(_) => format!("{}: {}", plain(name), one_line(value)),
                value => format!("{} {}", plain(name), one_line(value)),
            });
            told.collect::<Vec<_>>().join(", ")
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_as_json_is_json_and_steers_nothing() {
        let told = |text: &str| shown(text.as_bytes()).map(|shown| shown.to_string());
        let steering = "{\"a\":\"\u{9b}2J\u{202e}\u{7f}\",\r\n\t\"b\":1e400}";
        let plain = "{\"a\":\"\\u009b2J\\u202e\\u007f\", \n\t\"b\":1e400}";
        assert_eq!(told(steering).unwrap(), plain);
        for text in ["", "\u{1b}[31m", "{\"a\":\"\u{1b}\"}", "{} {}", "<html>"] {
            assert_eq!(told(text), None, "{text:?}");
        }
    }

    #[test]
    fn what_is_sent_is_well_formed() {
        let mut members = Members::default();
        assert!(members.is_empty());
        members.text("name", "a\"b\n");
        members.literal("n", 7);
        members.texts("scopes", &["a".to_owned(), "b\\".to_owned()]);
        assert_eq!(members.finish(), r#"{"name":"a\"b\n","n":7,"scopes":["a","b\\"]}"#);
        assert_eq!(Members::default().finish(), "{}");
    }

    #[test]
    fn answers_are_told_in_lines_that_steer_no_terminal() {
        let text = r#"{"derived":false,"name":"a\u001b[2J","latest_version":2,
            "versions":[{"version":1,"state":"enabled"},{"version":2,"state":"x\ny"}],"scopes":["hash","admin"]}"#;
        let value: Value = serde_json::from_str(text).unwrap();
        assert_eq!(
            lines(&value),
            "name: a?[2J\nderived: false\nlatest_version: 2\nscopes: hash admin\nversions:\n  \
             state enabled, version 1\n  state x?y, version 2\n"
        );
        assert_eq!(lines(&Value::Null), "");
    }
}
