//! Links in the documentation: files and headings that they name exist. It reads Markdown as text.

use std::collections::BTreeSet;
use std::path::Path;

use crate::support::documentation::documents;

/// A link of a document, with its line.
struct Link {
    line: usize,
    target: String,
}

#[test]
fn links_of_the_documentation_lead_somewhere() {
    let documents = documents();
    assert!(documents.len() > 10, "the documents are found: {documents:?}");
    let mut violations = Vec::new();
    let mut count = 0;
    for document in &documents {
        let text = std::fs::read_to_string(document).unwrap();
        for Link { line, target } in links(&text) {
            count += 1;
            if let Some(problem) = problem(document, &target) {
                violations.push(format!("{}:{line}: {target}: {problem}", document.display()));
            }
        }
    }
    assert!(count > 30, "links are found: {count}");
    super::report(violations.into_iter());
}

/// The targets of inline links, outside of code blocks.
fn links(text: &str) -> Vec<Link> {
    let mut is_code = false;
    let mut links = Vec::new();
    for (at, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            is_code = !is_code;
        }
        if is_code {
            continue;
        }
        for part in line.split("](").skip(1) {
            if let Some(end) = part.find(')') {
                links.push(Link { line: at + 1, target: part[..end].to_owned() });
            }
        }
    }
    links
}

fn problem(document: &Path, target: &str) -> Option<&'static str> {
    if target.contains("://") || target.starts_with("mailto:") {
        return None;
    }
    let (file, heading) = target.split_once('#').unwrap_or((target, ""));
    let path = if file.is_empty() { document.to_owned() } else { document.parent()?.join(file) };
    if !path.exists() {
        return Some("there is no such file");
    }
    if heading.is_empty() {
        return None;
    }
    let text = std::fs::read_to_string(&path).unwrap();
    (!anchors(&text).contains(heading)).then_some("the file has no such heading")
}

/// The anchors of the headings, as GitHub and mdBook make them.
fn anchors(text: &str) -> BTreeSet<String> {
    let mut is_code = false;
    let mut anchors = BTreeSet::new();
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            is_code = !is_code;
        }
        let Some(heading) = line.strip_prefix('#').filter(|_| !is_code) else { continue };
        let kept = heading.trim_start_matches('#').trim().to_lowercase();
        let kept = kept.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
        anchors.insert(kept.map(|c| if c == ' ' { '-' } else { c }).collect());
    }
    anchors
}
