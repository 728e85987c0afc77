//! Turns the errors of the TOML parser into problems with a fix.

use std::collections::HashSet;

use toml::de::Error;

use crate::config::report::{Problem, line_column};

/// Part of the parser's message, and what to write instead.
const FIXES: &[(&str, &str)] = &[
    ("string values must be quoted", "put the value between quotes: \"...\""),
    ("missing opening quote", "put the value between quotes: \"...\""),
    (
        "invalid basic string",
        "end the string with the quote that it begins with; write \\ as \\\\ or use '...'",
    ),
    (
        "invalid literal string",
        "end the string with the quote that it begins with, on the same line",
    ),
    ("invalid multi-line", "end the string with the three quotes that it begins with"),
    ("escaped value", "write \\ as \\\\, or put the string between '...'"),
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
    ("unclosed table", "close the brackets: [name] or [[services]]"),
    ("leading zero", "write the number without leading zeros, or put it between quotes"),
    ("cannot extend", "write the table once, with all of its keys"),
    ("recurs", "remove the nested brackets"),
];

/// The syntax errors as problems, and those of `found` that are not consequences of them.
pub(super) fn with_errors(text: &str, errors: &[Error], found: Vec<Problem>) -> Vec<Problem> {
    let mut problems: Vec<Problem> = errors.iter().map(problem).collect();
    // The parser may report one error twice.
    let mut lines = HashSet::new();
    problems.retain(|problem| lines.insert(line_column(text, problem.span.start).0));
    let independent = |problem: &Problem| {
        // A missing key may be in a line that could not be parsed.
        let missing =
            problem.message.contains(" has no `") || problem.message.starts_with("there is no");
        !missing && !lines.contains(&line_column(text, problem.span.start).0)
    };
    problems.extend(found.into_iter().filter(independent));
    problems
}

fn problem(error: &Error) -> Problem {
    let message = error.message();
    let fix = FIXES.iter().find(|(part, _)| message.contains(part)).map(|(_, fix)| *fix);
    Problem {
        span: error.span().unwrap_or_default(),
        message: format!("not TOML: {message}"),
        help: fix
            .unwrap_or(
                "write key = value, strings between quotes, and [[services]] before each service",
            )
            .to_owned(),
        related: None,
    }
}
