//! The tree of sources: files, their tokens, and the paths that stand in them.
//!
//! Owns reading and the separation of program from tests. Works on tokens, not on syntax, so that it also sees
//! into macros. Invariant: `Source::live` holds no token of an item that is compiled for tests only.

use std::collections::BTreeSet;
use std::{fmt, fs, io, path};

use proc_macro2::{Delimiter, Group, Ident, TokenStream, TokenTree};

/// One broken rule.
#[derive(Debug)]
pub(crate) struct Finding {
    path: String,
    line: usize,
    advice: String,
}

impl Finding {
    pub(crate) fn new(path: &str, line: usize, advice: impl Into<String>) -> Self {
        Self { path: path.to_owned(), line, advice: advice.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path, self.line, self.advice)
    }
}

/// One file of Rust.
pub(crate) struct Source {
    /// Relative to the root of the tree, with `/`.
    pub(crate) path: String,
    pub(crate) text: String,
    /// Every token.
    pub(crate) all: TokenStream,
    /// The tokens without what is compiled for tests only.
    pub(crate) live: TokenStream,
}

impl Source {
    /// Reads tokens from `text`.
    pub(crate) fn parse(path: &str, text: &str) -> Result<Self, Finding> {
        let tokens: Result<TokenStream, _> = text.parse();
        let all = tokens.map_err(|error| Finding::new(path, 1, error.to_string()))?;
        let live = without_tests(&all);
        Ok(Self { path: path.to_owned(), text: text.to_owned(), all, live })
    }

    /// Where it is not Rust, as far as a parser can tell: rules read tokens, and believe that they stand in order.
    pub(crate) fn broken_syntax(&self) -> Vec<Finding> {
        let error = syn::parse_file(&self.text).err();
        error
            .iter()
            .map(|error| Finding::new(&self.path, error.span().start().line, error.to_string()))
            .collect()
    }

    /// Whether the file belongs to the library or the binary, not to tests, benches or the build script.
    pub(crate) fn is_program(&self) -> bool {
        self.path.starts_with("src/")
    }

    /// Whether the file is compiled for tests, benches and fuzzing only.
    pub(crate) fn is_test(&self) -> bool {
        ["tests/", "benches/", "fuzz/"].iter().any(|folder| self.path.starts_with(folder))
    }

    /// The module path of the file: `src/http/head.rs` is `http`, `head`; the roots are empty.
    pub(crate) fn module(&self) -> Vec<String> {
        let inner = self.path.strip_prefix("src/").unwrap_or(&self.path);
        let inner = inner.strip_suffix(".rs").unwrap_or(inner);
        let mut parts: Vec<String> = inner.split('/').map(str::to_owned).collect();
        if matches!(parts.last().map(String::as_str), Some("mod" | "lib" | "main")) {
            parts.pop();
        }
        parts
    }

    /// The paths of the program in this file.
    pub(crate) fn live_paths(&self) -> Vec<Written> {
        let mut found = Vec::new();
        collect_paths(&self.live, &self.module(), &mut found);
        found
    }

    /// The paths of the program and of its tests.
    pub(crate) fn all_paths(&self) -> Vec<Written> {
        let mut found = Vec::new();
        collect_paths(&self.all, &self.module(), &mut found);
        found
    }

    /// The files that this one declares as modules for tests only.
    fn test_files(&self) -> Vec<String> {
        let Some((folder, name)) = self.path.rsplit_once('/') else { return Vec::new() };
        let folder = match name {
            "mod.rs" | "lib.rs" | "main.rs" => folder.to_owned(),
            _ => format!("{folder}/{}", name.trim_end_matches(".rs")),
        };
        let live = declared_modules(&self.live);
        let declared = declared_modules(&self.all);
        declared.difference(&live).map(|module| format!("{folder}/{module}")).collect()
    }
}

/// Every source of the project.
pub(crate) struct Tree {
    sources: Vec<Source>,
    unread: Vec<Finding>,
}

impl Tree {
    /// Reads the tree of this package.
    pub(crate) fn load() -> io::Result<Self> {
        let mut paths = vec!["build.rs".to_owned()];
        for folder in ["src", "tests", "benches", "fuzz"] {
            rust_files(folder, &mut paths)?;
        }
        paths.sort();
        let mut tree = Self { sources: Vec::new(), unread: Vec::new() };
        for path in paths {
            match Source::parse(&path, &read(&path)?) {
                Ok(source) => tree.sources.push(source),
                Err(finding) => tree.unread.push(finding),
            }
        }
        tree.drop_test_files();
        Ok(tree)
    }

    /// A tree that could not be read, so that the failure is shown like any finding.
    pub(crate) fn unreadable(error: &io::Error) -> Self {
        Self { sources: Vec::new(), unread: vec![Finding::new("Cargo.toml", 0, error.to_string())] }
    }

    pub(crate) fn sources(&self) -> &[Source] {
        &self.sources
    }

    /// Files that have no tokens.
    pub(crate) fn unread(&self) -> &[Finding] {
        &self.unread
    }

    /// Empties the program part of every file that is a module for tests only.
    fn drop_test_files(&mut self) {
        let roots: Vec<String> = self.sources.iter().flat_map(Source::test_files).collect();
        for source in &mut self.sources {
            let stem = source.path.trim_end_matches(".rs");
            if roots.iter().any(|root| stem == root || stem.starts_with(&format!("{root}/"))) {
                source.live = TokenStream::new();
            }
        }
    }
}

/// Reads a file of the tree.
pub(crate) fn read(path: &str) -> io::Result<String> {
    fs::read_to_string(rooted(path)).map_err(|error| io::Error::other(format!("{path}: {error}")))
}

/// Where a file of the tree lies.
pub(crate) fn rooted(path: &str) -> path::PathBuf {
    path::Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn rust_files(folder: &str, found: &mut Vec<String>) -> io::Result<()> {
    let entries = match fs::read_dir(rooted(folder)) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = format!("{folder}/{name}");
        if entry.file_type()?.is_dir() {
            if name != "target" {
                rust_files(&path, found)?;
            }
        } else if name.ends_with(".rs") {
            found.push(path);
        }
    }
    Ok(())
}

/// A path as it is written in a source, with what resolves it.
pub(crate) struct Written {
    pub(crate) segments: Vec<String>,
    pub(crate) line: usize,
    /// The module in which it is written.
    pub(crate) module: Vec<String>,
    /// Whether it stands in a `use`.
    pub(crate) imported: bool,
    /// Whether it begins with `::`.
    pub(crate) absolute: bool,
    /// What stands in parentheses right after it.
    pub(crate) arguments: Option<TokenStream>,
    /// Whether `!` follows: a macro call.
    pub(crate) called_as_macro: bool,
}

impl Written {
    /// Whether `first` is directly followed by `second`.
    pub(crate) fn has_pair(&self, first: &str, second: &str) -> bool {
        self.segments.windows(2).any(|pair| pair == [first, second])
    }

    pub(crate) fn shown(&self) -> String {
        self.segments.join("::")
    }
}

/// The 1-based line on which a token begins.
pub(crate) fn line_of(tree: &TokenTree) -> usize {
    tree.span().start().line
}

/// The tokens of a stream, for looking ahead.
pub(crate) fn trees(stream: &TokenStream) -> Vec<TokenTree> {
    stream.clone().into_iter().collect()
}

pub(crate) fn ident_at(trees: &[TokenTree], at: usize) -> Option<&Ident> {
    match trees.get(at) {
        Some(TokenTree::Ident(ident)) => Some(ident),
        _ => None,
    }
}

pub(crate) fn is_punct(tree: Option<&TokenTree>, wanted: char) -> bool {
    matches!(tree, Some(TokenTree::Punct(punct)) if punct.as_char() == wanted)
}

pub(crate) fn group_at(trees: &[TokenTree], at: usize, delimiter: Delimiter) -> Option<&Group> {
    match trees.get(at) {
        Some(TokenTree::Group(group)) if group.delimiter() == delimiter => Some(group),
        _ => None,
    }
}

fn is_path_separator(trees: &[TokenTree], at: usize) -> bool {
    is_punct(trees.get(at), ':') && is_punct(trees.get(at + 1), ':')
}

/// Collects every path in `stream`, inside macros too.
fn collect_paths(stream: &TokenStream, module: &[String], found: &mut Vec<Written>) {
    let trees = trees(stream);
    let mut at = 0;
    while let Some(tree) = trees.get(at) {
        at = match tree {
            TokenTree::Group(group) => {
                collect_paths(&group.stream(), module, found);
                at + 1
            }
            TokenTree::Ident(ident) if ident == "use" && !is_punct(trees.get(at + 1), '<') => {
                collect_import(&trees, at + 1, module, found)
            }
            TokenTree::Ident(ident) if ident == "mod" => {
                match (ident_at(&trees, at + 1), group_at(&trees, at + 2, Delimiter::Brace)) {
                    (Some(name), Some(body)) => {
                        let inner = [module, &[name.to_string()]].concat();
                        collect_paths(&body.stream(), &inner, found);
                        at + 3
                    }
                    _ => at + 1,
                }
            }
            TokenTree::Ident(_) => collect_path(&trees, at, module, found),
            _ => at + 1,
        };
    }
}

/// Reads one path that begins at `at`; returns where it ends.
fn collect_path(trees: &[TokenTree], begin: usize, module: &[String], found: &mut Vec<Written>) -> usize {
    let mut segments = Vec::new();
    let mut at = begin;
    while let Some(ident) = ident_at(trees, at) {
        segments.push(ident.to_string());
        at += 1;
        if !is_path_separator(trees, at) || ident_at(trees, at + 2).is_none() {
            break;
        }
        at += 2;
    }
    let absolute = begin >= 2
        && is_path_separator(trees, begin - 2)
        && begin.checked_sub(3).is_none_or(|before| !is_punct(trees.get(before), '>'));
    found.push(Written {
        segments,
        line: trees.get(begin).map_or(0, line_of),
        module: module.to_vec(),
        imported: false,
        absolute,
        arguments: group_at(trees, at, Delimiter::Parenthesis).map(Group::stream),
        called_as_macro: is_punct(trees.get(at), '!') && !is_punct(trees.get(at + 1), '='),
    });
    at
}

/// Reads one `use` whose tree begins at `begin`; returns the place after its semicolon.
fn collect_import(trees: &[TokenTree], begin: usize, module: &[String], found: &mut Vec<Written>) -> usize {
    let len = trees.iter().skip(begin).take_while(|tree| !is_punct(Some(tree), ';')).count();
    let tree: Vec<TokenTree> = trees.iter().skip(begin).take(len).cloned().collect();
    let absolute = is_path_separator(&tree, 0);
    let mut leaves = Vec::new();
    flatten_import(&tree, &[], &mut leaves);
    found.extend(leaves.into_iter().map(|(segments, line)| Written {
        segments,
        line,
        module: module.to_vec(),
        imported: true,
        absolute,
        arguments: None,
        called_as_macro: false,
    }));
    begin + len + 1
}

/// Unfolds `a::{b, c::d}` into `a::b` and `a::c::d`.
fn flatten_import(trees: &[TokenTree], prefix: &[String], leaves: &mut Vec<(Vec<String>, usize)>) {
    for branch in trees.split(|tree| is_punct(Some(tree), ',')) {
        let Some(first) = branch.first() else { continue };
        let mut segments = prefix.to_vec();
        let mut folded = false;
        for tree in branch {
            match tree {
                TokenTree::Ident(ident) if ident == "as" => break,
                TokenTree::Ident(ident) => segments.push(ident.to_string()),
                TokenTree::Punct(punct) if punct.as_char() == '*' => segments.push("*".to_owned()),
                TokenTree::Group(group) => {
                    flatten_import(&self::trees(&group.stream()), &segments, leaves);
                    folded = true;
                }
                _ => {}
            }
        }
        if !folded {
            leaves.push((segments, line_of(first)));
        }
    }
}

/// Modules declared in files of their own, `mod name;`, at the top of a file.
fn declared_modules(stream: &TokenStream) -> BTreeSet<String> {
    let trees = trees(stream);
    let mut names = BTreeSet::new();
    for at in 0..trees.len() {
        if ident_at(&trees, at).is_some_and(|word| word == "mod")
            && is_punct(trees.get(at + 2), ';')
            && let Some(name) = ident_at(&trees, at + 1)
        {
            names.insert(name.to_string());
        }
    }
    names
}

/// Drops every item under `#[cfg(test)]` or `#[test]`.
fn without_tests(stream: &TokenStream) -> TokenStream {
    let trees = trees(stream);
    let mut kept = Vec::new();
    let mut at = 0;
    while let Some(tree) = trees.get(at) {
        if is_punct(Some(tree), '#')
            && let Some(attribute) = group_at(&trees, at + 1, Delimiter::Bracket)
            && is_test_attribute(&attribute.stream())
        {
            at = end_of_item(&trees, at + 2);
            continue;
        }
        kept.push(match tree {
            TokenTree::Group(group) => {
                let mut inner = Group::new(group.delimiter(), without_tests(&group.stream()));
                inner.set_span(group.span());
                TokenTree::Group(inner)
            }
            other => other.clone(),
        });
        at += 1;
    }
    kept.into_iter().collect()
}

/// The place after the item that begins at `begin`, attributes included.
fn end_of_item(trees: &[TokenTree], begin: usize) -> usize {
    let mut at = begin;
    while is_punct(trees.get(at), '#') {
        at += 2;
    }
    if ident_at(trees, at).is_some_and(|word| word == "pub") {
        at += 1;
        at += usize::from(group_at(trees, at, Delimiter::Parenthesis).is_some());
    }
    // A brace ends an item, save for those that go on to a semicolon.
    let word = ident_at(trees, at).map(Ident::to_string);
    let braces_end = match word.as_deref() {
        Some("use" | "static") => false,
        Some("const") => ident_at(trees, at + 1)
            .is_some_and(|next| ["fn", "unsafe", "async", "extern"].iter().any(|word| next == word)),
        _ => true,
    };
    let rest = trees.iter().enumerate().skip(at);
    let mut ends = rest.filter(|(place, tree)| {
        is_punct(Some(tree), ';') || (braces_end && group_at(trees, *place, Delimiter::Brace).is_some())
    });
    ends.next().map_or(trees.len(), |(place, _)| place + 1)
}

fn is_test_attribute(attribute: &TokenStream) -> bool {
    let trees = trees(attribute);
    match (ident_at(&trees, 0).map(Ident::to_string).as_deref(), trees.get(1)) {
        (Some("test"), None) => true,
        (Some("cfg"), Some(TokenTree::Group(group))) => holds_only_in_tests(&self::trees(&group.stream())),
        _ => false,
    }
}

/// Whether a `cfg` predicate is false in every build that is not for tests.
fn holds_only_in_tests(predicate: &[TokenTree]) -> bool {
    let inner = match predicate.get(1) {
        Some(TokenTree::Group(group)) => trees(&group.stream()),
        _ => Vec::new(),
    };
    let mut parts = inner
        .split(|tree| is_punct(Some(tree), ','))
        .filter(|part| !part.is_empty())
        .map(holds_only_in_tests);
    match ident_at(predicate, 0).map(Ident::to_string).as_deref() {
        Some("test") => predicate.len() == 1,
        Some("all") => parts.any(|only| only),
        Some("any") => !inner.is_empty() && parts.all(|only| only),
        _ => false,
    }
}

#[test]
fn tests_are_taken_out_of_the_program() {
    let text = "//! Head.\nfn keep() {}\n#[cfg(test)]\nuse a::{b, c};\n#[cfg(all(test, unix))]\nmod tests { fn gone() {} }\n\
                #[cfg(test)]\nconst fn lost() -> u8 { 1 }\n#[cfg(test)]\nconst NONE: [u8; 1] = { [0] };\n#[cfg(test)]\nmod apart;\n\
                #[cfg(not(test))]\nfn stays() {}\n#[test]\nfn drops() {}\nuse f::g;\nmod kept;\n";
    let source = Source::parse("src/a.rs", text).unwrap();
    let live = source.live.to_string();
    for word in ["keep", "stays", "kept", "f :: g"] {
        assert!(live.contains(word), "{word} is missing in {live}");
    }
    for word in ["gone", "lost", "NONE", "apart", "drops", "b , c"] {
        assert!(!live.contains(word), "{word} is left in {live}");
    }
    assert_eq!(source.test_files(), ["src/a/apart"]);
}

#[test]
fn paths_are_found_in_imports_types_and_macros() {
    let text = "use crate::{a::{b as c, d}, e::*};\nfn f(x: super::g::H) { vec![::i::j(1), crate::k!()]; }";
    let source = Source::parse("src/http/head.rs", text).unwrap();
    let shown: Vec<String> = source.live_paths().iter().map(Written::shown).collect();
    for path in ["crate::a::b", "crate::a::d", "crate::e::*", "super::g::H", "i::j", "crate::k"] {
        assert!(shown.iter().any(|found| found == path), "{path} is missing in {shown:?}");
    }
    assert_eq!(source.module(), ["http", "head"]);
}
