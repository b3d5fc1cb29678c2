//! `quantonium sandbox show`: the filters for people, for programs, and as the tables of `docs/SANDBOX.md`.
//!
//! Owns no rule. Invariant: every count is made from the rules that are shown.

use core::fmt::Write as _;
use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{Format, Scope};
use crate::sandbox::rules::{self, Rule};
use crate::sandbox::seccomp::Role;

/// The filters of `scope`, ending in a newline.
pub(super) fn text(scope: Scope, format: Format) -> String {
    let roles: &[Role] = match &scope {
        Scope::All => &Role::ALL,
        Scope::Of(role) => core::slice::from_ref(role),
        Scope::Union => &[],
    };
    let with_union = !matches!(scope, Scope::Of(_));
    match format {
        Format::Text => plain(roles, with_union),
        Format::Json => in_json(roles, with_union),
        Format::Markdown => markdown(roles, with_union),
    }
}

/// How many calls there are, and of how many every rule looks at arguments.
fn counts(calls: &BTreeMap<&str, bool>) -> (usize, usize) {
    (calls.len(), calls.values().filter(|checked| **checked).count())
}

fn share(calls: &BTreeMap<&str, bool>) -> String {
    let (all, checked) = counts(calls);
    format!(
        "{all} calls, {checked} with checked arguments ({} %)",
        (checked * 100).checked_div(all).unwrap_or(0)
    )
}

fn conditions(rule: &Rule) -> String {
    let shown: Vec<String> = rule.conditions.iter().map(ToString::to_string).collect();
    if shown.is_empty() { "any".to_owned() } else { shown.join(", ") }
}

/// Which roles may make a call.
fn callers(call: &str) -> Vec<&'static str> {
    let may = |role: &Role| rules::of(*role).iter().any(|rule| rule.call == call);
    Role::ALL.into_iter().filter(may).map(Role::name).collect()
}

fn plain(roles: &[Role], with_union: bool) -> String {
    let mut out = String::from("Every other call kills the process. Arguments are counted from 0.\n");
    for role in roles {
        let rules = rules::of(*role);
        let _ = writeln!(out, "\n{}: {}", role.name(), share(&rules::calls(&rules)));
        for rule in &rules {
            let _ = writeln!(out, "  {:<16} {}", rule.call, conditions(rule));
            let _ = writeln!(out, "  {:<16}   {}", "", rule.comment);
        }
    }
    if with_union {
        let union = rules::union();
        let _ = writeln!(out, "\nall threads: {}", share(&union));
        for call in union.keys() {
            let _ = writeln!(out, "  {call:<16} {}", callers(call).join(", "));
        }
    }
    out
}

fn in_json(roles: &[Role], with_union: bool) -> String {
    let summary = |calls: &BTreeMap<&str, bool>| {
        let (all, checked) = counts(calls);
        json!({"calls": all, "calls_with_checked_arguments": checked})
    };
    let rule_shown = |rule: &Rule| {
        let conditions: Vec<Value> = rule
            .conditions
            .iter()
            .map(|one| {
                json!({"argument": one.index, "operator": one.operator.sign(), "value": one.value, "meaning": one.meaning})
            })
            .collect();
        json!({"call": rule.call, "arguments": conditions, "needed_by": rule.comment})
    };
    let mut shown = serde_json::Map::new();
    for role in roles {
        let rules = rules::of(*role);
        let mut of_role = summary(&rules::calls(&rules));
        if let Some(members) = of_role.as_object_mut() {
            members.insert("rules".to_owned(), rules.iter().map(rule_shown).collect());
        }
        shown.insert(role.name().to_owned(), of_role);
    }
    if with_union {
        let union = rules::union();
        let mut all = summary(&union);
        if let Some(members) = all.as_object_mut() {
            let calls = union.keys().map(|call| ((*call).to_owned(), json!(callers(call)))).collect();
            members.insert("roles_by_call".to_owned(), Value::Object(calls));
        }
        shown.insert("union".to_owned(), all);
    }
    let shown = json!({"architecture": std::env::consts::ARCH, "default": "kill_process", "roles": shown});
    format!("{shown:#}\n")
}

fn markdown(roles: &[Role], with_union: bool) -> String {
    let mut out = String::new();
    if with_union {
        out.push_str("| thread | calls | with checked arguments | rules |\n|---|--:|--:|--:|\n");
        let all = roles.iter().map(|role| (role.name(), rules::of(*role)));
        for (name, rules) in all.chain([("all together", Role::ALL.map(rules::of).concat())]) {
            let (calls, checked) = counts(&rules::calls(&rules));
            let _ = writeln!(out, "| {name} | {calls} | {checked} | {} |", rules.len());
        }
        let _ = writeln!(out, "\nCalls with any arguments: {}.", any_arguments());
    }
    for role in roles {
        let heading = match role {
            Role::Worker => "Worker",
            Role::Keeper => "Keeper",
            Role::Archivist => "Archivist",
            Role::Main => "Main thread",
        };
        let _ = write!(out, "\n### {heading}\n\n| call | arguments | needed by |\n|---|---|---|\n");
        for rule in rules::of(*role) {
            let (arguments, comment) =
                (conditions(&rule).replace('|', "\\|"), rule.comment.replace('|', "\\|"));
            let _ = writeln!(out, "| `{}` | {arguments} | {comment} |", rule.call);
        }
    }
    out.trim_start_matches('\n').to_owned()
}

fn any_arguments() -> String {
    let union = rules::union();
    let calls: Vec<String> =
        union.iter().filter(|(_, checked)| !**checked).map(|(call, _)| format!("`{call}`")).collect();
    if calls.is_empty() { "none".to_owned() } else { calls.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_form_tells_the_same_counts() {
        let json: Value = serde_json::from_str(&text(Scope::All, Format::Json)).unwrap();
        let plain = text(Scope::All, Format::Text);
        let markdown = text(Scope::All, Format::Markdown);
        for role in Role::ALL {
            let of_role = &json["roles"][role.name()];
            let (calls, checked) = (&of_role["calls"], &of_role["calls_with_checked_arguments"]);
            let rules = of_role["rules"].as_array().unwrap().len();
            assert!(plain.contains(&format!("\n{}: {calls} calls, {checked} with", role.name())), "{plain}");
            assert!(
                markdown.contains(&format!("| {} | {calls} | {checked} | {rules} |", role.name())),
                "{markdown}"
            );
        }
        let union = json["roles"]["union"]["roles_by_call"].as_object().unwrap();
        assert_eq!(json["roles"]["union"]["calls"], union.len());
        assert_eq!(union["accept4"], json!(["worker"]));
    }

    #[test]
    fn one_role_is_shown_alone() {
        let keeper = text(Scope::Of(Role::Keeper), Format::Text);
        assert!(keeper.contains("\nkeeper: ") && !keeper.contains("\nworker: "), "{keeper}");
        assert!(!keeper.contains("\nall threads: "), "{keeper}");
        let union = text(Scope::Union, Format::Text);
        assert!(union.contains("\nall threads: ") && !union.contains("\nkeeper: "), "{union}");
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn the_tables_in_the_document_are_those_of_the_filters() {
        let document = include_str!("../../../docs/SANDBOX.md");
        let (_, rest) = document.split_once("<!-- sandbox show: begin -->\n").unwrap();
        let (tables, _) = rest.split_once("<!-- sandbox show: end -->").unwrap();
        let wanted = text(Scope::All, Format::Markdown);
        assert!(tables == wanted, "make sandbox-tables; docs/SANDBOX.md should hold:\n{wanted}");
    }
}
