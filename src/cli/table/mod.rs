//! The commands and their flags: the one table that the parser, the help, the completions and the man pages are made from.
//!
//! - `standing`: commands that make, serve and look after a store.
//! - `asking`: commands that ask a running server.
//!
//! Owns [`Spec`] and [`Flag`]. Invariants: a command's words stand once; no two flags of a command have one name; texts end
//! without a full stop where a line is one of a list.

mod asking;
mod standing;

use std::ffi::{OsStr, OsString};

use crate::config::{Id, SETTINGS, Setting};

/// One command.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Spec {
    /// What it is called: one word, or two.
    pub(super) words: &'static str,
    /// The words behind it that are no flags, as the help shows them; `[FILE]` may be left out.
    pub(super) operands: &'static [&'static str],
    /// What it does, in a few words.
    pub(super) summary: &'static str,
    /// More of it, with examples, in lines.
    pub(super) text: &'static str,
    /// The settings of `serve` that it takes too.
    pub(super) settings: Taken,
    /// Flags of its own, those in groups that it shares with others.
    pub(super) flags: &'static [&'static [Flag]],
}

/// A flag that is no setting.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Flag {
    /// Without the hyphens.
    pub(super) name: &'static str,
    /// What stands behind it.
    pub(super) value: Value,
    /// What it does.
    pub(super) help: &'static str,
    /// Whether it may be given more than once.
    pub(super) repeats: bool,
}

/// Which settings of `serve` a command takes.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// All of them.
    All,
    /// These.
    These(&'static [Id]),
}

/// What stands behind a flag.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Value {
    /// Nothing.
    Switch,
    /// The name of a file or directory.
    Path(&'static str),
    /// Some other text, called so.
    Text(&'static str),
    /// One of these words.
    Words(&'static str, &'static [&'static str]),
}

impl Flag {
    const fn new(name: &'static str, value: Value, help: &'static str) -> Self {
        Self { name, value, help, repeats: false }
    }

    const fn repeated(name: &'static str, value: Value, help: &'static str) -> Self {
        Self { name, value, help, repeats: true }
    }

    /// What the value is called; nothing for a switch.
    pub(super) const fn placeholder(&self) -> &'static str {
        match self.value {
            Value::Switch => "",
            Value::Path(name) | Value::Text(name) | Value::Words(name, _) => name,
        }
    }
}

impl Spec {
    /// Its flags that are no settings, in the order of the help.
    pub(super) fn own(&self) -> impl Iterator<Item = &'static Flag> + use<> {
        self.flags.iter().flat_map(|group| group.iter())
    }

    /// The settings that it takes, in the order of their table.
    pub(super) fn settings(&self) -> impl Iterator<Item = &'static Setting> {
        SETTINGS.iter().filter(|setting| match self.settings {
            Taken::All => true,
            Taken::These(ids) => ids.contains(&setting.id),
        })
    }

    /// How many words that are no flags it takes.
    pub(super) fn operands_count(&self) -> usize {
        let is_open = self.operands.last().is_some_and(|last| last.ends_with("..."));
        if is_open { usize::MAX } else { self.operands.len() }
    }

    /// Whether what stands behind it is the name of a file.
    pub(super) fn takes_files(&self) -> bool {
        self.operands
            .iter()
            .any(|operand| operand.contains("FILE") || matches!(*operand, "CERTIFICATE" | "[KEY]"))
    }
}

/// Every command that is in the table, in the order of the help.
pub(super) fn all() -> impl Iterator<Item = &'static Spec> {
    standing::COMMANDS.iter().chain(&asking::COMMANDS)
}

/// The commands that ask a running server.
pub(super) fn asking() -> impl Iterator<Item = &'static Spec> {
    asking::COMMANDS.iter()
}

/// The command of these words.
pub(super) fn row(words: &str) -> Option<&'static Spec> {
    all().find(|spec| spec.words == words)
}

/// The command that asks a server and that `arguments` begin with, and how many words it has.
pub(super) fn find(arguments: &[OsString]) -> Option<(&'static Spec, usize)> {
    let matching = asking().filter_map(|spec| {
        let words = spec.words.split(' ');
        let count = words.clone().count();
        let begins = arguments.len() >= count && words.zip(arguments).all(|(word, given)| given == word);
        begins.then_some((spec, count))
    });
    matching.max_by_key(|(_, count)| *count)
}

/// The first word of several commands that ask a server, if `word` is that.
pub(super) fn group(word: &OsStr) -> Option<&'static str> {
    asking()
        .filter_map(|spec| spec.words.split_once(' '))
        .map(|(first, _)| first)
        .find(|first| word == *first)
}

/// The first words of all, each once.
pub(super) fn first_words() -> impl Iterator<Item = &'static str> {
    let mut before = "";
    let words = all().map(|spec| spec.words.split_once(' ').map_or(spec.words, |(first, _)| first));
    words.filter(move |word| core::mem::replace(&mut before, word) != *word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stand_once() {
        for (at, spec) in all().enumerate() {
            assert!(all().skip(at + 1).all(|other| other.words != spec.words), "{}", spec.words);
            let names: Vec<_> = spec.own().map(|flag| flag.name).collect();
            for (at, name) in names.iter().enumerate() {
                assert!(!names.iter().skip(at + 1).any(|other| other == name), "{} --{name}", spec.words);
            }
        }
    }

    #[test]
    fn the_longest_words_are_the_command() {
        let found = |line: &str| {
            let words: Vec<OsString> = line.split(' ').map(OsString::from).collect();
            find(&words).map(|(spec, count)| (spec.words, count))
        };
        assert_eq!(found("key rotate a"), Some(("key rotate", 2)));
        assert_eq!(found("encrypt --key a"), Some(("encrypt", 1)));
        assert_eq!(found("rotate"), None);
    }
}
