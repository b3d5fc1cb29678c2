//! `quantonium man`: manual pages, in the macros of man(7).
//!
//! Owns the form of a page. Invariants: what it says comes from the table, the settings and the exit codes; no text of theirs is
//! taken for a macro.

use core::fmt::Write as _;

use super::help;
use super::table::{self, Spec};
use crate::build_info::VERSION;
use crate::exit::Exit;

/// The page of a command; of the program if none is named.
pub(super) fn page(of: Option<&Spec>) -> String {
    let mut out = String::new();
    match of {
        Some(spec) => command(&mut out, spec),
        None => program(&mut out),
    }
    out.push_str(".SH EXIT STATUS\n");
    for (exit, meaning) in Exit::MEANINGS {
        item(&mut out, &exit.code().to_string(), meaning);
    }
    if of.is_some() {
        out.push_str(".SH SEE ALSO\n.BR quantonium (1)\n");
    }
    out
}

fn head(out: &mut String, name: &str, summary: &str) {
    let _ = writeln!(
        out,
        ".TH {} 1 \"\" \"quantonium {VERSION}\" \"Quantonium\"\n.SH NAME\n{} \\- {}",
        escaped(&name.to_uppercase()),
        escaped(name),
        escaped(summary)
    );
}

fn command(out: &mut String, spec: &Spec) {
    head(out, &format!("quantonium-{}", spec.words.replace(' ', "-")), spec.summary);
    let operands = spec.operands.iter().fold(String::new(), |all, operand| format!("{all} {operand}"));
    let _ = writeln!(
        out,
        ".SH SYNOPSIS\n.B quantonium {}\n[\\fIflag\\fR ...]{}\n.SH DESCRIPTION",
        escaped(spec.words),
        escaped(&operands)
    );
    verbatim(out, if spec.text.is_empty() { spec.summary } else { spec.text });
    out.push_str(".SH OPTIONS\n");
    for flag in spec.own() {
        let repeats = if flag.repeats { "; may be given more than once" } else { "" };
        item(out, &format!("--{} {}", flag.name, flag.placeholder()), &format!("{}{repeats}", flag.help));
    }
    for setting in spec.settings() {
        let (flag, text) = help::setting(setting);
        item(out, &flag, &text);
    }
    item(out, "--help", "more on the command");
}

fn program(out: &mut String) {
    head(out, "quantonium", "cryptography as a service");
    out.push_str(".SH SYNOPSIS\n.B quantonium\n\\fIcommand\\fR [\\fIflag\\fR ...]\n.SH DESCRIPTION\n");
    out.push_str("Named keys that never leave the server, used over HTTP.\n.SH COMMANDS\n");
    for spec in table::all() {
        item(out, spec.words, spec.summary);
    }
}

/// A term and what it means.
fn item(out: &mut String, term: &str, text: &str) {
    let _ = writeln!(out, ".TP\n\\fB{}\\fR\n{}", escaped(term.trim_end()), escaped(text));
}

/// Lines as they are.
fn verbatim(out: &mut String, text: &str) {
    out.push_str(".nf\n");
    for line in text.lines() {
        // An empty line is one, too.
        let _ = writeln!(out, "{}", escaped(line));
    }
    out.push_str(".fi\n");
}

/// Text that is no macro and no escape (groff_char(7)).
fn escaped(text: &str) -> String {
    let mut out = String::new();
    if text.starts_with(['.', '\'']) {
        out.push_str("\\&");
    }
    for char in text.chars() {
        match char {
            '\\' => out.push_str("\\e"),
            '-' => out.push_str("\\-"),
            '\'' => out.push_str("\\(aq"),
            '`' => out.push_str("\\(ga"),
            '^' => out.push_str("\\(ha"),
            '~' => out.push_str("\\(ti"),
            char => out.push(char),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_is_taken_for_a_macro() {
        assert_eq!(escaped(".so /x"), "\\&.so /x");
        assert_eq!(escaped("a\\fB-'`"), "a\\efB\\-\\(aq\\(ga");
        for spec in table::all() {
            let page = page(Some(spec));
            for line in page.lines().filter(|line| line.starts_with('.')) {
                let name = line.split(' ').next().unwrap_or_default();
                assert!([".TH", ".SH", ".TP", ".nf", ".fi", ".B", ".BR"].contains(&name), "{line}");
            }
            for flag in spec.own() {
                assert!(page.contains(&escaped(&format!("--{}", flag.name))), "{} {}", spec.words, flag.name);
            }
        }
    }
}
