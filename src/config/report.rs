//! Renders the problems of a configuration file: file, line, column, the line itself, and what to write instead.

use std::ops::Range;

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};

/// One problem of a configuration file, and its fix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Byte range in the text.
    pub span: Range<usize>,
    /// What is wrong, on one line.
    pub message: String,
    /// What to write, on one line.
    pub help: String,
    /// Another place that is part of the problem, with its label.
    pub related: Option<(Range<usize>, String)>,
}

/// The first line of a span.
struct Excerpt<'a> {
    /// Counted from 1.
    line: usize,
    text: &'a str,
    /// The span within the line.
    span: Range<usize>,
}

/// Every problem with its line of the file, for a terminal.
pub fn render(file: &str, text: &str, problems: &[Problem], color: bool) -> String {
    let renderer = if color { Renderer::styled() } else { Renderer::plain() };
    let mut shown = String::new();
    for problem in problems {
        let report = &[group(file, text, problem)];
        shown.push_str(&renderer.render(report));
        shown.push_str("\n\n");
    }
    shown.truncate(shown.trim_end().len());
    if !shown.is_empty() {
        shown.push('\n');
    }
    shown
}

/// A problem on one line, for the log: `file:line:column: message; help`.
pub fn one_line(file: &str, text: &str, problem: &Problem) -> String {
    let (line, column) = line_column(text, problem.span.start);
    let shown = format!("{file}:{line}:{column}: {}; {}", problem.message, problem.help);
    shown.replace(|character: char| character.is_control(), " ")
}

/// Line and column of a byte offset, both counted from 1, columns in characters. An offset beyond the text counts as
/// its end.
pub fn line_column(text: &str, offset: usize) -> (usize, usize) {
    let excerpt = excerpt(text, &(offset..offset));
    let before = &excerpt.text[..excerpt.span.start];
    (excerpt.line, before.chars().count() + 1)
}

fn group<'a>(file: &'a str, text: &'a str, problem: &'a Problem) -> Group<'a> {
    let mut group = Level::ERROR.primary_title(&problem.message).element(snippet(
        file,
        text,
        &problem.span,
        AnnotationKind::Primary,
        None,
    ));
    if let Some((span, label)) = &problem.related {
        group = group.element(snippet(file, text, span, AnnotationKind::Context, Some(label)));
    }
    group.element(Level::HELP.message(&problem.help))
}

fn snippet<'a>(
    file: &'a str,
    text: &'a str,
    span: &Range<usize>,
    kind: AnnotationKind,
    label: Option<&'a str>,
) -> Snippet<'a, annotate_snippets::Annotation<'a>> {
    let excerpt = excerpt(text, span);
    Snippet::source(excerpt.text)
        .path(file)
        .line_start(excerpt.line)
        .annotation(kind.span(excerpt.span).label(label))
}

/// Only one line is passed to the renderer, because it scans its whole input for each problem. Spans from the TOML
/// parser may end outside the text or inside a character, so they are cut to the text and to whole characters.
fn excerpt<'a>(text: &'a str, span: &Range<usize>) -> Excerpt<'a> {
    let start = text.floor_char_boundary(span.start);
    let before = &text[..start];
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let line_end = text[start..].find('\n').map_or(text.len(), |length| start + length);
    let line = text[line_start..line_end].trim_end_matches('\r');
    let start = (start - line_start).min(line.len());
    let end = line.floor_char_boundary(span.end.saturating_sub(line_start)).max(start);
    Excerpt {
        line: before.bytes().filter(|byte| *byte == b'\n').count() + 1,
        text: line,
        span: start..end,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TEXT: &str = "timeout = '5s'\r\n\t[[services]]\r\nhöst = \"a\"\n";

    fn problem(span: Range<usize>) -> Problem {
        Problem {
            span,
            message: "unknown key".to_owned(),
            help: "write\nhost".to_owned(),
            related: None,
        }
    }

    #[test]
    fn lines_and_columns_count_from_one_and_in_characters() {
        for (offset, expected) in [
            (0, (1, 1)),
            (10, (1, 11)),
            (16, (2, 1)),
            (17, (2, 2)),
            (31, (3, 1)),
            (36, (3, 5)),
            (999, (4, 1)),
        ] {
            assert_eq!(line_column(TEXT, offset), expected, "{offset}");
        }
        assert_eq!(line_column("", 0), (1, 1));
    }

    #[test]
    fn a_problem_is_shown_with_place_line_and_fix() {
        let mut problem = problem(31..36);
        problem.related = Some((17..29, "in this service".to_owned()));
        let shown = render("a/config.toml", TEXT, &[problem.clone(), problem.clone()], false);
        assert_eq!(shown.matches("error: unknown key").count(), 2, "{shown}");
        for part in [
            "a/config.toml:3:1",
            "höst = \"a\"",
            "^^^^",
            "help: write",
            "[[services]]",
            "in this service",
        ] {
            assert!(shown.contains(part), "{part}\n{shown}");
        }
        assert!(render("x", TEXT, &[problem.clone()], true).contains("\u{1b}["));
        assert_eq!(one_line("x", TEXT, &problem), "x:3:1: unknown key; write host");
        assert_eq!(render("x", TEXT, &[], false), "");
    }

    proptest! {
        #[test]
        fn any_span_of_any_text_can_be_shown(text in "(?s).{0,40}", start in 0usize..200, length in 0usize..200) {
            let problem = problem(start..start + length);
            prop_assert!(!render("f", &text, std::slice::from_ref(&problem), false).is_empty());
            let line = one_line("f", &text, &problem);
            prop_assert!(line.starts_with("f:") && !line.contains('\n'));
        }
    }
}
