//! The form of one line.
//!
//! Owns [`Line`]. Invariants: it ends with the one newline that it holds; it is UTF-8, and in the JSON form an object, however much was cut off; control
//! characters, ends of lines and characters that turn the direction of text stand in it escaped.

use core::fmt::{self, Write as _};

use super::filter::{Level, Module};
use crate::clock::WallTime;
use crate::limits::{LOG_LINE_MAX_BYTES, LOG_TEXT_MAX_BYTES};

/// What stands behind a text that was cut off.
const CUT: &str = "...";

/// How lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Form {
    /// Time, level, module, text, fields: for people.
    Human = 0,
    /// The same behind the priority that the journal of systemd reads.
    Journal = 1,
    /// An object on each line (RFC 8259).
    Json = 2,
}

impl Form {
    pub(super) const fn from_number(number: u8) -> Self {
        match number {
            1 => Self::Journal,
            2 => Self::Json,
            _ => Self::Human,
        }
    }
}

/// A named value of a line.
pub type Field<'a> = (&'static str, Value<'a>);

/// What a field holds.
#[derive(Clone, Copy, Debug)]
pub enum Value<'a> {
    /// A text.
    Text(&'a str),
    /// A number.
    Number(u64),
}

/// A line that is formed in place.
pub(super) struct Line {
    bytes: [u8; LOG_LINE_MAX_BYTES],
    len: usize,
    limit: usize,
}

impl Line {
    /// The line that was told at `now`.
    pub(super) fn of(
        now: WallTime,
        form: Form,
        (level, module): (Level, Module),
        fields: &[Field<'_>],
        text: fmt::Arguments<'_>,
    ) -> Self {
        let mut line = Self::empty();
        let (time, name) = (now.civil(), module.name());
        // What stands in front is far shorter than the limit of the text.
        let _ = match form {
            Form::Human => write!(line, "{time} {} {name}: ", level.shout()),
            Form::Journal => write!(line, "{}{time} {} {name}: ", level.priority(), level.shout()),
            Form::Json => {
                write!(
                    line,
                    "{{\"ts\":\"{time}\",\"level\":\"{}\",\"module\":\"{name}\",\"msg\":\"",
                    level.name()
                )
            }
        };
        line.append_text(form, text);
        for (name, value) in fields {
            line.append_field(form, name, *value);
        }
        line.end(form);
        line
    }

    /// The last line of a process: in the forms for people, what a command says that fails.
    pub(super) fn last(now: WallTime, form: Form, module: Module, text: fmt::Arguments<'_>) -> Self {
        if form == Form::Json {
            return Self::of(now, form, (Level::Error, module), &[], text);
        }
        let mut line = Self::empty();
        if form == Form::Journal {
            let _ = line.write_str(Level::Error.priority());
        }
        let _ = line.write_str("quantonium: ");
        line.append_text(form, text);
        line.end(form);
        line
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }

    const fn empty() -> Self {
        Self { bytes: [0; LOG_LINE_MAX_BYTES], len: 0, limit: LOG_TEXT_MAX_BYTES }
    }

    /// Appends the message, cut off at its limit; in JSON, the mark behind it too.
    fn append_text(&mut self, form: Form, text: fmt::Arguments<'_>) {
        let told = write!(Escaped { line: self, is_quoted: form == Form::Json }, "{text}");
        self.limit = LOG_LINE_MAX_BYTES - ENDING_BYTES;
        if told.is_err() {
            let _ = self.write_str(CUT);
        }
        if form == Form::Json {
            let _ = self.write_str("\"");
        }
    }

    /// Appends a field, or nothing of it if it does not fit.
    fn append_field(&mut self, form: Form, name: &str, value: Value<'_>) {
        let before = self.len;
        let appended = match (form, value) {
            (Form::Json, Value::Number(number)) => write!(self, ",\"{name}\":{number}"),
            (Form::Json, Value::Text(text)) => write!(self, ",\"{name}\":").and_then(|()| self.quote(text)),
            (_, Value::Number(number)) => write!(self, " {name}={number}"),
            (_, Value::Text(text)) if is_plain(text) => write!(self, " {name}={text}"),
            (_, Value::Text(text)) => write!(self, " {name}=").and_then(|()| self.quote(text)),
        };
        if appended.is_err() {
            self.len = before;
        }
    }

    fn quote(&mut self, text: &str) -> fmt::Result {
        self.write_str("\"")?;
        Escaped { line: self, is_quoted: true }.write_str(text)?;
        self.write_str("\"")
    }

    fn end(&mut self, form: Form) {
        self.limit = LOG_LINE_MAX_BYTES;
        // The limit until now has left room for it.
        let _ = self.write_str(if form == Form::Json { "}\n" } else { "\n" });
    }
}

/// Room for what every line ends with.
const ENDING_BYTES: usize = "}\n".len();

impl fmt::Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let place = self.bytes.get_mut(self.len..self.limit).and_then(|free| free.get_mut(..text.len()));
        place.ok_or(fmt::Error)?.copy_from_slice(text.as_bytes());
        self.len += text.len();
        Ok(())
    }
}

/// Escapes what could forge a line, steer a terminal or end a JSON string.
struct Escaped<'a> {
    line: &'a mut Line,
    is_quoted: bool,
}

impl fmt::Write for Escaped<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        text.chars().try_for_each(|char| {
            let before = self.line.len;
            // Half of an escape would change the meaning of what comes behind it.
            self.append(char).inspect_err(|_| self.line.len = before)
        })
    }
}

impl Escaped<'_> {
    fn append(&mut self, char: char) -> fmt::Result {
        match char {
            '"' | '\\' if self.is_quoted => write!(self.line, "\\{char}"),
            '\n' => self.line.write_str("\\n"),
            '\r' => self.line.write_str("\\r"),
            '\t' => self.line.write_str("\\t"),
            // All of them lie below U+10000, so that four digits name them (RFC 8259, section 7).
            char if is_steering(char) => write!(self.line, "\\u{:04x}", u32::from(char)),
            char => self.line.write_str(char.encode_utf8(&mut [0; 4])),
        }
    }
}

/// Whether a character does something instead of being shown: control characters, separators of lines, marks of direction.
#[must_use]
pub fn is_steering(char: char) -> bool {
    char.is_control()
        || matches!(char, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

/// Whether a value can stand in the human form without quotes.
fn is_plain(text: &str) -> bool {
    !text.is_empty()
        && text.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'=' | b'\\'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_795_362_166_123;

    fn shown(form: Form, fields: &[Field<'_>], text: &str) -> String {
        let told = (Level::Warn, Module::Store);
        let line = Line::of(WallTime::from_millis(NOW), form, told, fields, format_args!("{text}"));
        String::from_utf8(line.as_bytes().to_vec()).unwrap()
    }

    #[test]
    fn a_line_for_people_holds_time_level_module_text_and_fields() {
        let fields = [("free", Value::Number(7)), ("path", Value::Text("a b")), ("id", Value::Text("f0"))];
        let told = "2026-11-22T15:42:46.123Z WARN store: disk full free=7 path=\"a b\" id=f0\n";
        assert_eq!(shown(Form::Human, &fields, "disk full"), told);
        assert_eq!(shown(Form::Journal, &fields, "disk full"), format!("<4>{told}"));
    }

    #[test]
    fn a_json_line_is_an_object_with_the_same_members() {
        let fields = [("free", Value::Number(7)), ("path", Value::Text("a\"b\\"))];
        let read: serde_json::Value =
            serde_json::from_str(&shown(Form::Json, &fields, "disk\n\"full\"\u{1b}")).unwrap();
        let expected = serde_json::json!({
            "ts": "2026-11-22T15:42:46.123Z", "level": "warn", "module": "store", "msg": "disk\n\"full\"\u{1b}",
            "free": 7, "path": "a\"b\\",
        });
        assert_eq!(read, expected);
    }

    #[test]
    fn nothing_can_forge_a_line_or_steer_a_terminal() {
        let evil = "a\nb\r\t\u{1b}[2J\u{9b}\u{202e}\u{2028}\u{feff}\u{e9}\u{7f}";
        let line = shown(Form::Human, &[("name", Value::Text("x\ny"))], evil);
        assert!(
            line.ends_with(
                "store: a\\nb\\r\\t\\u001b[2J\\u009b\\u202e\\u2028\\ufeff\u{e9}\\u007f name=\"x\\ny\"\n"
            ),
            "{line}"
        );
        let json = shown(Form::Json, &[], evil);
        let read: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!((read["msg"].as_str(), json.matches('\n').count()), (Some(evil), 1));
        assert!(!json.trim_end().chars().any(is_steering));
    }

    #[test]
    fn an_endless_text_is_cut_and_the_line_stays_whole() {
        for text in
            ["x".repeat(100_000), "\u{1b}".repeat(100_000), "\u{1f600}".repeat(100_000), "\"".repeat(9_999)]
        {
            let fields = [
                ("short", Value::Number(1)),
                ("long", Value::Text(&text)),
                ("last", Value::Number(u64::MAX)),
            ];
            for form in [Form::Human, Form::Journal, Form::Json] {
                let line = shown(form, &fields, &text);
                assert!(line.len() <= LOG_LINE_MAX_BYTES && line.ends_with('\n'), "{}", line.len());
                assert!(line.contains("...") && line.contains("short") && line.contains("last"), "{line}");
                assert!(!line.contains("long"), "a field that does not fit is left out");
            }
            let read: serde_json::Value = serde_json::from_str(&shown(Form::Json, &fields, &text)).unwrap();
            assert_eq!(read["last"], u64::MAX);
        }
    }

    #[test]
    fn a_text_that_is_cut_within_an_escape_holds_nothing_of_it() {
        for escaped in ["\"", "\\", "\n", "\t", "\u{1b}", "\u{202e}"] {
            // One of them begins at each of the last places before the limit.
            for shift in 0..12 {
                let text = ["x".repeat(shift), escaped.repeat(LOG_TEXT_MAX_BYTES)].concat();
                let line = shown(Form::Json, &[("last", Value::Number(7))], &text);
                let read: serde_json::Value = serde_json::from_str(&line).unwrap();
                let told = read["msg"].as_str().unwrap().strip_suffix(CUT).unwrap();
                assert!(text.starts_with(told) && told.len() > shift, "{shift}: {line}");
                assert_eq!(read["last"], 7);
            }
        }
    }

    #[test]
    fn the_last_line_is_what_a_command_says_or_an_object() {
        let last = |form| {
            let line =
                Line::last(WallTime::from_millis(NOW), form, Module::Server, format_args!("no {}", "disk"));
            String::from_utf8(line.as_bytes().to_vec()).unwrap()
        };
        assert_eq!(last(Form::Human), "quantonium: no disk\n");
        assert_eq!(last(Form::Journal), "<3>quantonium: no disk\n");
        let read: serde_json::Value = serde_json::from_str(&last(Form::Json)).unwrap();
        assert_eq!((read["level"].as_str(), read["msg"].as_str()), (Some("error"), Some("no disk")));
    }
}
