//! `quantonium completions`: what a shell offers while a command is typed.
//!
//! Owns [`Shell`] and the scripts. Invariants: words, flags and their values come from the table alone; texts are quoted so that
//! none of them is run.

use core::fmt::Write as _;
use std::ffi::OsStr;

use super::table::{self, Flag, Spec, Value};
use crate::config::{Kind, Setting};

/// A shell that is helped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shell {
    Bash,
    Zsh,
    Fish,
}

/// What is offered behind a flag.
enum Offer {
    Nothing,
    Free,
    Files,
    Words(&'static [&'static str]),
}

impl Shell {
    pub(super) const NAMES: [&'static str; 3] = ["bash", "zsh", "fish"];

    /// The shell of this name.
    pub(super) fn named(word: &OsStr) -> Option<Self> {
        let found = Self::NAMES.into_iter().position(|name| word == name)?;
        [Self::Bash, Self::Zsh, Self::Fish].get(found).copied()
    }

    /// The script for it.
    pub(super) fn script(self) -> String {
        let mut out = String::from("# Completions of quantonium, made by `quantonium completions`.\n");
        match self {
            Self::Bash => bash(&mut out),
            Self::Zsh => zsh(&mut out),
            Self::Fish => fish(&mut out),
        }
        out
    }
}

/// Every flag of a command: its name, what it is for, what is offered behind it.
fn flags(spec: &'static Spec) -> impl Iterator<Item = (&'static str, &'static str, Offer)> {
    let own = spec.own().map(|flag| (flag.name, flag.help, of_flag(flag)));
    let settings = spec.settings().map(|setting| (setting.name, setting.help, of_setting(setting)));
    own.chain(settings).chain([("help", "more on the command", Offer::Nothing)])
}

fn of_flag(flag: &Flag) -> Offer {
    match flag.value {
        Value::Switch => Offer::Nothing,
        Value::Path(_) => Offer::Files,
        Value::Text(_) => Offer::Free,
        Value::Words(_, words) => Offer::Words(words),
    }
}

fn of_setting(setting: &Setting) -> Offer {
    match setting.kind {
        Kind::Switch => Offer::Nothing,
        Kind::Path | Kind::Paths => Offer::Files,
        Kind::Choice(words) => Offer::Words(words),
        _ => Offer::Free,
    }
}

/// What can follow a command's first word, or stand first if that is empty.
fn next_words(first: &str) -> Vec<&'static str> {
    if first.is_empty() {
        return table::first_words().chain(["help"]).collect();
    }
    table::all()
        .filter_map(|spec| spec.words.split_once(' '))
        .filter(|(one, _)| *one == first)
        .map(|(_, two)| two)
        .collect()
}

/// First words of several commands.
fn groups() -> impl Iterator<Item = &'static str> {
    table::first_words().filter(|word| table::row(word).is_none())
}

/// Words that stand in the place of a file.
fn operands(spec: &Spec) -> &'static [&'static str] {
    match spec.words {
        "completions" => &Shell::NAMES,
        "sandbox profile" => {
            &["docker", "oci", "apparmor", "selinux", "systemd", "systemd-socket", "kubernetes"]
        }
        _ => &[],
    }
}

fn bash(out: &mut String) {
    out.push_str(
        "_quantonium() {\n    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]}\n    \
         local first=${COMP_WORDS[1]} command=${COMP_WORDS[1]} flags= values= files=\n    COMPREPLY=()\n    \
         if ((COMP_CWORD == 1)); then\n        ",
    );
    let _ = writeln!(out, "mapfile -t COMPREPLY < <(compgen -W '{}' -- \"$cur\")", next_words("").join(" "));
    out.push_str("        return\n    fi\n    case $first in\n");
    for group in groups() {
        let names = next_words(group).join(" ");
        let _ = writeln!(out, "        {group}) command=\"$first ${{COMP_WORDS[2]}}\"; values='{names}' ;;");
    }
    out.push_str(
        "    esac\n    if [[ $command == *' '* ]] && ((COMP_CWORD == 2)); then\n        \
         mapfile -t COMPREPLY < <(compgen -W \"$values\" -- \"$cur\")\n        return\n    fi\n    \
         values=\n    case $command in\n",
    );
    for spec in table::all() {
        let names: Vec<String> = flags(spec).map(|(name, ..)| format!("--{name}")).collect();
        let _ = writeln!(out, "        '{}')\n            flags='{}'", spec.words, names.join(" "));
        let _ = writeln!(out, "            values='{}'", operands(spec).join(" "));
        if spec.takes_files() {
            out.push_str("            files=1\n");
        }
        out.push_str("            case $prev in\n");
        for (name, _, offer) in flags(spec) {
            let _ = match offer {
                Offer::Nothing => Ok(()),
                Offer::Free => writeln!(out, "                --{name}) return ;;"),
                Offer::Files => writeln!(out, "                --{name}) values= files=1 prev=file ;;"),
                Offer::Words(words) => {
                    writeln!(out, "                --{name}) flags= files= values='{}' ;;", words.join(" "))
                }
            };
        }
        out.push_str("            esac\n            ;;\n");
    }
    out.push_str(
        "    esac\n    if [[ $cur == -* && $prev != file ]]; then\n        \
         mapfile -t COMPREPLY < <(compgen -W \"$flags\" -- \"$cur\")\n    elif [[ -n $values ]]; then\n        \
         mapfile -t COMPREPLY < <(compgen -W \"$values\" -- \"$cur\")\n    elif [[ -n $files ]]; then\n        \
         compopt -o filenames 2>/dev/null\n        mapfile -t COMPREPLY < <(compgen -f -- \"$cur\")\n    fi\n}\n\
         complete -F _quantonium quantonium\n",
    );
}

fn zsh(out: &mut String) {
    // The first line is what zsh looks for.
    out.insert_str(0, "#compdef quantonium\n");
    out.push_str("_quantonium() {\n    local command=$words[2]\n    if ((CURRENT == 2)); then\n");
    let _ = writeln!(
        out,
        "        compadd -- {}\n        return\n    fi\n    case $command in",
        next_words("").join(" ")
    );
    for group in groups() {
        let _ = writeln!(
            out,
            "        ({group})\n            if ((CURRENT == 3)); then compadd -- {}; return; fi\n            \
             command=\"$command $words[3]\"\n            ;;",
            next_words(group).join(" ")
        );
    }
    out.push_str("    esac\n    case $command in\n");
    for spec in table::all() {
        let _ = write!(out, "        ('{}')\n            _arguments", spec.words);
        for (name, help, offer) in flags(spec) {
            let behind = match offer {
                Offer::Nothing => String::new(),
                Offer::Free => format!(":{name}: "),
                Offer::Files => format!(":{name}:_files"),
                Offer::Words(words) => format!(":{name}:({})", words.join(" ")),
            };
            let help: String =
                help.chars().filter(|char| !matches!(char, '[' | ']' | ':' | '\'' | '\\')).collect();
            let _ = write!(out, " \\\n                '*--{name}[{help}]{behind}'");
        }
        let _ = match operands(spec) {
            [] if spec.takes_files() => write!(out, " \\\n                '*:file:_files'"),
            [] => Ok(()),
            words => write!(out, " \\\n                '*:name:({})'", words.join(" ")),
        };
        out.push_str("\n            ;;\n");
    }
    out.push_str("    esac\n}\nif [[ $funcstack[1] == _quantonium ]]; then _quantonium \"$@\"; else compdef _quantonium quantonium; fi\n");
}

fn fish(out: &mut String) {
    out.push_str(
        "function __quantonium_at\n    set -l given (commandline -opc)[2..-1]\n    set -l wanted (string split ' ' -- $argv[1])\n    \
         for at in (seq (count $wanted))\n        test \"$given[$at]\" = \"$wanted[$at]\"; or return 1\n    end\nend\n\
         function __quantonium_behind\n    test (count (commandline -opc)) -eq $argv[1]; or return 1\n    \
         test -z \"$argv[2]\"; or __quantonium_at $argv[2]\nend\ncomplete -c quantonium -f\n",
    );
    let _ =
        writeln!(out, "complete -c quantonium -n '__quantonium_behind 1' -a '{}'", next_words("").join(" "));
    for group in groups() {
        let names = next_words(group).join(" ");
        let _ = writeln!(out, "complete -c quantonium -n '__quantonium_behind 2 {group}' -a '{names}'");
    }
    for spec in table::all() {
        let at = format!("complete -c quantonium -n '__quantonium_at \"{}\"'", spec.words);
        for (name, help, offer) in flags(spec) {
            let behind = match offer {
                Offer::Nothing => String::new(),
                Offer::Free => " -x".to_owned(),
                Offer::Files => " -r -F".to_owned(),
                Offer::Words(words) => format!(" -x -a '{}'", words.join(" ")),
            };
            let help = help.replace('\\', "").replace('\'', "\\'");
            let _ = writeln!(out, "{at} -l {name}{behind} -d '{help}'");
        }
        if spec.takes_files() {
            let _ = writeln!(out, "{at} -F");
        }
        if !operands(spec).is_empty() {
            let _ = writeln!(out, "{at} -a '{}'", operands(spec).join(" "));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_and_flag_is_in_every_script() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let script = shell.script();
            for spec in table::all() {
                assert!(script.contains(spec.words), "{shell:?}: {}", spec.words);
                for (name, ..) in flags(spec) {
                    assert!(script.contains(name), "{shell:?}: {} --{name}", spec.words);
                }
            }
        }
    }

    #[test]
    fn shells_have_names() {
        assert_eq!(Shell::NAMES.map(|name| Shell::named(OsStr::new(name)).is_some()), [true; 3]);
        assert_eq!(Shell::named(OsStr::new("tcsh")), None);
    }
}
