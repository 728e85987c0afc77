//! The code blocks of the documentation, and which of them the tests run. The line before a block of commands is a comment,
//! `<!-- run: NAME -->` or `<!-- not run: REASON -->`.

use std::path::{Path, PathBuf};

/// A code block.
#[derive(Clone, Debug)]
pub(crate) struct Block {
    pub(crate) document: PathBuf,
    /// Of its first line of code.
    pub(crate) line: usize,
    pub(crate) language: String,
    /// The comment before it, without its brackets.
    pub(crate) mark: String,
    pub(crate) code: String,
}

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// The Markdown files that people read.
pub(crate) fn documents() -> Vec<PathBuf> {
    let root = Path::new(ROOT);
    let folders = [root.to_owned(), root.join("docs"), root.join("docs/howto"), root.join("bench")];
    let files = folders.iter().flat_map(|folder| std::fs::read_dir(folder).unwrap());
    let files = files.map(|entry| entry.unwrap().path());
    let is_markdown = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "md");
    let mut files: Vec<_> = files.filter(is_markdown).collect();
    files.sort();
    files
}

/// Every code block of every document, in order.
pub(crate) fn blocks() -> Vec<Block> {
    documents().iter().flat_map(|document| blocks_of(document)).collect()
}

/// The commands that are marked with this name, in order.
pub(crate) fn commands(name: &str) -> String {
    let mark = format!("run: {name}");
    let marked = blocks().into_iter().filter(|block| block.mark == mark && block.language == "sh");
    let commands: Vec<_> = marked.map(|block| block.code).collect();
    assert!(!commands.is_empty(), "no commands are marked `{mark}`");
    commands.join("\n")
}

fn blocks_of(document: &Path) -> Vec<Block> {
    let text = std::fs::read_to_string(document).unwrap();
    let mut blocks = Vec::new();
    let mut open: Option<Block> = None;
    let mut before = "";
    for (at, line) in text.lines().enumerate() {
        match (&mut open, line.trim_start().strip_prefix("```")) {
            (None, Some(language)) => {
                let mark =
                    before.trim().strip_prefix("<!--").and_then(|mark| mark.strip_suffix("-->"));
                open = Some(Block {
                    document: document.to_owned(),
                    line: at + 2,
                    language: language.trim().to_owned(),
                    mark: mark.unwrap_or_default().trim().to_owned(),
                    code: String::new(),
                });
            }
            (Some(_), Some(_)) => blocks.extend(open.take()),
            (Some(block), None) => block.code += &format!("{line}\n"),
            (None, None) => {}
        }
        before = line;
    }
    blocks
}

// === impl Block ===

impl Block {
    /// A manifest for Kubernetes, not only a part of one.
    pub(crate) fn is_manifest(&self) -> bool {
        self.language == "yaml" && self.code.lines().any(|line| line.starts_with("apiVersion:"))
    }

    /// Where it is, for messages.
    pub(crate) fn place(&self) -> String {
        let document = self.document.strip_prefix(ROOT).unwrap_or(&self.document);
        format!("{}:{}", document.display(), self.line)
    }
}
