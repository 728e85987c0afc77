//! Words and cures for a file that is not TOML. It reads no key.

use std::collections::HashSet;

use toml::de::Error;

use crate::config::report::{Problem, line_column};

/// The parser's terse words, and what to write instead.
const CURES: &[(&str, &str)] = &[
    ("string values must be quoted", "put the value between quotes: \"...\""),
    ("missing opening quote", "put the value between quotes: \"...\""),
    (
        "invalid basic string",
        "end the text with the quote that it began with; write \\ as \\\\ or use '...'",
    ),
    ("invalid literal string", "end the text with the quote that it began with, on the same line"),
    ("invalid multi-line", "end the text with the three quotes that it began with"),
    ("escaped value", "write \\ as \\\\, or put the text between '...'"),
    ("duplicate key", "write each key once; remove or rename one of the two"),
    ("key with no value", "write key = value"),
    ("missing value", "write a value after the ="),
    ("missing assignment", "write key = value, each key on its own line"),
    ("extra assignment", "write each key on its own line"),
    ("missing comma", "put a comma between the elements"),
    ("extra comma", "remove the comma"),
    ("unclosed array table", "write [[services]], with two brackets on both sides"),
    ("unclosed array", "close the array with ]"),
    ("unclosed inline table", "close the table with }"),
    ("unclosed table", "write [name] or [[services]], the brackets closed"),
    ("leading zero", "write the number without leading zeros, or put it between quotes"),
    ("cannot extend", "write the key once, with all that belongs to it"),
    ("recurs", "remove the nested brackets"),
];

/// The errors, and of what the recovered rest showed whatever is no consequence of them.
pub(super) fn with_errors(text: &str, errors: &[Error], found: Vec<Problem>) -> Vec<Problem> {
    let mut problems: Vec<Problem> = errors.iter().map(problem).collect();
    // The parser may say the same thing twice of one place.
    let mut lines = HashSet::new();
    problems.retain(|problem| lines.insert(line_column(text, problem.span.start).0));
    let independent = |problem: &Problem| {
        // What is missing may stand in a line that could not be read.
        let missing =
            problem.message.contains(" has no `") || problem.message.starts_with("there is no");
        !missing && !lines.contains(&line_column(text, problem.span.start).0)
    };
    problems.extend(found.into_iter().filter(independent));
    problems
}

fn problem(error: &Error) -> Problem {
    let message = error.message();
    let cure = CURES.iter().find(|(words, _)| message.contains(words)).map(|(_, cure)| *cure);
    Problem {
        span: error.span().unwrap_or_default(),
        message: format!("not TOML: {message}"),
        help: cure
            .unwrap_or(
                "write key = value, text between quotes, and [[services]] before each service",
            )
            .to_owned(),
        related: None,
    }
}
