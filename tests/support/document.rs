//! Reads the fenced blocks of a document, and says whether what was printed is what it shows.
//!
//! Owns the form of an example: a `sh` block behind the comment `<!-- run -->`, and behind it a `text` block with
//! what it prints, in which `...` stands for anything within the line.

#![allow(clippy::panic, reason = "a test fails by panicking, and says where")]
#![allow(dead_code, reason = "included by several test files, none of which uses all of it")]

/// The comment before a block that is run.
pub(crate) const RUN: &str = "<!-- run -->";

/// A fenced block.
#[derive(Debug)]
pub(crate) struct Block<'a> {
    /// What stands behind the opening fence.
    pub(crate) language: &'a str,
    /// The line of that fence, from 1.
    pub(crate) line: usize,
    /// The line before it, where that is a comment.
    pub(crate) comment: Option<&'a str>,
    /// Its lines, each with its end.
    pub(crate) text: String,
}

impl Block<'_> {
    /// Whether it is marked to be run.
    pub(crate) fn is_run(&self) -> bool {
        self.comment == Some(RUN)
    }
}

/// The blocks of a document, in their order.
///
/// # Panics
/// One is not closed.
pub(crate) fn blocks(document: &str) -> Vec<Block<'_>> {
    let mut blocks = Vec::new();
    let mut open: Option<Block<'_>> = None;
    let mut before = "";
    for (index, line) in document.lines().enumerate() {
        match (&mut open, line.strip_prefix("```")) {
            (Some(_), Some(_)) => blocks.extend(open.take()),
            (Some(block), None) => {
                block.text.push_str(line);
                block.text.push('\n');
            }
            (None, Some(language)) => {
                let comment = before.starts_with("<!--").then_some(before);
                open = Some(Block { language, line: index + 1, comment, text: String::new() });
            }
            (None, None) => {}
        }
        before = line;
    }
    assert!(open.is_none(), "a block is not closed");
    blocks
}

/// Whether `printed` is `pattern`, line by line, each `...` standing for anything.
pub(crate) fn fits(pattern: &str, printed: &str) -> bool {
    let line_fits = |pattern: &str, line: &str| {
        let mut parts = pattern.split("...");
        let Some(mut rest) = line.strip_prefix(parts.next().unwrap_or_default()) else { return false };
        let mut parts = parts.peekable();
        while let Some(part) = parts.next() {
            if parts.peek().is_none() {
                return rest.ends_with(part);
            }
            let Some(at) = rest.find(part) else { return false };
            rest = rest.get(at + part.len()..).unwrap_or_default();
        }
        rest.is_empty()
    };
    let (wanted, got): (Vec<&str>, Vec<&str>) = (pattern.lines().collect(), printed.lines().collect());
    wanted.len() == got.len() && wanted.iter().zip(&got).all(|(wanted, got)| line_fits(wanted, got))
}

/// Whether a program of this name can be started.
pub(crate) fn is_there(program: &str) -> bool {
    std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default())
        .any(|folder| folder.join(program).exists())
}
