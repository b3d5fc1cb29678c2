//! The rules of the filters for people and for other programs: which call a role may make, with which arguments, and why.
//!
//! Owns the text that `build.rs` writes from `seccomp/<arch>.json`, the same file as the compiled filters come from, so that
//! a binary can show its filters where there is no source. Invariant: every rule of the file is here, in its order; a
//! test compares the two.

use core::fmt;
use std::collections::BTreeMap;

use super::seccomp::Role;

/// A line for each rule, as `listed` in `build.rs` documents.
const TEXT: &str = include_str!(concat!(env!("OUT_DIR"), "/rules.txt"));

/// A call that a role may make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// The call's name.
    pub call: &'static str,
    /// Who needs it and what for.
    pub comment: &'static str,
    /// What its arguments must be; all of these; nothing if any will do.
    pub conditions: Vec<Condition>,
}

/// What one argument must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Condition {
    /// The argument, counted from 0.
    pub index: u8,
    /// How it is compared.
    pub operator: Operator,
    /// What it is compared with.
    pub value: u64,
    /// What that number stands for.
    pub meaning: &'static str,
}

/// How an argument is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    /// It is the value.
    Equal,
    /// It is not the value.
    Unequal,
    /// It is the value or more.
    AtLeast,
    /// It is more.
    Above,
    /// It is the value or less.
    AtMost,
    /// It is less.
    Below,
}

impl Operator {
    /// The operator of this name in the file.
    fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "eq" => Self::Equal,
            "ne" => Self::Unequal,
            "ge" => Self::AtLeast,
            "gt" => Self::Above,
            "le" => Self::AtMost,
            "lt" => Self::Below,
            _ => return None,
        })
    }

    /// Its sign.
    #[must_use]
    pub const fn sign(self) -> &'static str {
        match self {
            Self::Equal => "=",
            Self::Unequal => "!=",
            Self::AtLeast => ">=",
            Self::Above => ">",
            Self::AtMost => "<=",
            Self::Below => "<",
        }
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {} ({})", self.index, self.operator.sign(), self.value, self.meaning)
    }
}

/// The rules of a role, in the order of the file.
#[must_use]
pub fn of(role: Role) -> Vec<Rule> {
    TEXT.lines().filter_map(|line| parse(line.strip_prefix(role.name())?.strip_prefix('\t')?)).collect()
}

/// The calls that any thread may make once it serves, in the order of their names, and whether each rule for it looks at
/// arguments.
#[must_use]
pub fn union() -> BTreeMap<&'static str, bool> {
    calls(&Role::ALL.map(of).concat())
}

/// The calls of these rules, in the order of their names, and whether each rule for it looks at arguments.
#[must_use]
pub fn calls(rules: &[Rule]) -> BTreeMap<&'static str, bool> {
    let mut calls = BTreeMap::new();
    for rule in rules {
        *calls.entry(rule.call).or_insert(true) &= !rule.conditions.is_empty();
    }
    calls
}

/// A line without its role. The build wrote it: nothing comes of a line that is malformed but a failing test.
fn parse(line: &'static str) -> Option<Rule> {
    let mut fields = line.split('\t');
    let (call, comment) = (fields.next()?, fields.next()?);
    let mut conditions = Vec::new();
    while let Some(index) = fields.next() {
        conditions.push(Condition {
            index: index.parse().ok()?,
            operator: Operator::from_name(fields.next()?)?,
            value: fields.next()?.parse().ok()?,
            meaning: fields.next()?,
        });
    }
    Some(Rule { call, comment, conditions })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[cfg(target_arch = "x86_64")]
    const JSON: &str = include_str!("../../seccomp/x86_64.json");
    #[cfg(target_arch = "aarch64")]
    const JSON: &str = include_str!("../../seccomp/aarch64.json");

    fn operator_name(operator: Operator) -> &'static str {
        ["eq", "ne", "ge", "gt", "le", "lt"]
            .into_iter()
            .find(|name| Operator::from_name(name) == Some(operator))
            .unwrap()
    }

    #[test]
    fn the_rules_are_those_of_the_file_in_its_order() {
        let file: Value = serde_json::from_str(JSON).unwrap();
        for role in Role::ALL {
            let mut wanted = file[role.name()]["filter"].as_array().unwrap().clone();
            // How wide an argument is compared is the compiler's business alone.
            for condition in
                wanted.iter_mut().filter_map(|rule| rule.get_mut("args")?.as_array_mut()).flatten()
            {
                condition.as_object_mut().unwrap().remove("type");
            }
            let shown = |rule: &Rule| {
                let conditions: Vec<Value> = rule
                    .conditions
                    .iter()
                    .map(|one| {
                        let op = operator_name(one.operator);
                        json!({"index": one.index, "op": op, "val": one.value, "comment": one.meaning})
                    })
                    .collect();
                let mut shown = json!({"syscall": rule.call, "comment": rule.comment});
                if !conditions.is_empty() {
                    shown["args"] = conditions.into();
                }
                shown
            };
            let found: Vec<Value> = of(role).iter().map(shown).collect();
            assert_eq!(found, wanted, "{}", role.name());
        }
    }

    #[test]
    fn a_call_counts_as_checked_only_if_every_rule_for_it_looks_at_arguments() {
        let line = |line| parse(line).unwrap();
        let rules = [line("a\twhy"), line("a\twhy\t0\teq\t1\tone"), line("b\twhy\t0\tge\t1\tone")];
        assert_eq!(calls(&rules), BTreeMap::from([("a", false), ("b", true)]));
        assert_eq!(rules[2].conditions[0].to_string(), "0 >= 1 (one)");
    }

    #[test]
    fn a_malformed_line_is_no_rule() {
        for line in
            ["", "a", "a\twhy\t0", "a\twhy\tx\teq\t1\tone", "a\twhy\t0\tlike\t1\tone", "a\twhy\t0\teq\t1"]
        {
            assert_eq!(parse(line), None, "{line}");
        }
    }

    #[test]
    fn what_the_rules_take_in_the_binary_is_small() {
        assert!(TEXT.len() < 40 * 1024, "{} bytes", TEXT.len());
    }
}
