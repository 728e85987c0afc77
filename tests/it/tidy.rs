//! Checks rules of this repository that the compiler does not check: imports between floors, the opening line, length and
//! name of files, and banned calls. It reads the source as text.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use rooms::{EDGES, MODEL, ORDER, UNKNOWN_TO_THE_MODEL};
use text::{line_of, production_code, words};
mod codecs;
mod links;
mod rooms;
mod text;

/// The maximum number of lines of a file, and the exceptions, each with its reason.
const MOST_LINES: usize = 400;
const LONGER_FILES: &[(&str, &str)] = &[];

/// File names that do not say what is in the file.
const DRAWERS: &[&str] = &["utils", "util", "helpers", "helper", "common", "constants", "mod"];

/// Calls that production code must not make, each with the fix.
const BANNED_CALLS: &[(&str, &str)] = &[
    (".unwrap()", "return an error, or handle the case with `match`, `let else` or `unwrap_or`"),
    (".expect(", "return an error, or handle the case with `match`, `let else` or `unwrap_or`"),
    ("thread::sleep", "it blocks every connection of the core: use tokio::time::sleep"),
];

#[test]
fn rooms_import_only_from_rooms_above_them() {
    let files = rust_files("src");
    assert!(!files.is_empty());
    report(files.iter().flat_map(|file| order_violations(&file.path, &file.text)));

    let listed: BTreeSet<&str> = ORDER.concat().into_iter().collect();
    let present: BTreeSet<&str> = files.iter().map(|file| room_of(&file.path)).collect();
    let gone: Vec<_> = listed.difference(&present).collect();
    assert!(gone.is_empty(), "in ORDER and not in src/, remove them: {gone:?}");
    for room in MODEL {
        assert!(listed.contains(room), "`{room}` is not in ORDER");
    }
}

#[test]
fn files_have_an_opening_line_a_specific_name_and_a_limited_length() {
    let mut files = Vec::new();
    for folder in [
        "src",
        "tests",
        "bench/src",
        "subprocess/src",
        "testbed/src",
        "xtask/src",
        "fuzz/src",
        "fuzz/fuzz_targets",
    ] {
        let found = rust_files(folder);
        assert!(!found.is_empty(), "no source in {folder}");
        files.extend(found);
    }
    report(files.iter().flat_map(|file| file_violations(&file.path, &file.text)));

    for (path, reason) in LONGER_FILES {
        let file = files.iter().find(|file| file.path == *path);
        let lines = file.map_or(0, |file| file.text.lines().count());
        assert!(lines > MOST_LINES, "{path} no longer needs its exception ({reason}): remove it");
    }
}

#[test]
fn production_code_makes_no_banned_calls() {
    let files = rust_files("src");
    assert!(!files.is_empty());
    report(files.iter().flat_map(|file| banned_calls(&file.path, &file.text)));
}

/// A source file: its path from the root of the repository, and its content.
struct SourceFile {
    path: String,
    text: String,
}

fn rust_files(folder: &str) -> Vec<SourceFile> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut folders = vec![root.join(folder)];
    let mut paths: Vec<PathBuf> = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display())) {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                paths.push(path);
            }
        }
    }
    paths.sort();
    let read = |path: PathBuf| SourceFile {
        path: path.strip_prefix(root).unwrap().to_string_lossy().into_owned(),
        text: fs::read_to_string(&path).unwrap(),
    };
    paths.into_iter().map(read).collect()
}

fn report(violations: impl Iterator<Item = String>) {
    let violations: Vec<String> = violations.collect();
    assert!(violations.is_empty(), "\n{}\n", violations.join("\n"));
}

fn file_violations(path: &str, text: &str) -> Vec<String> {
    let mut violations = Vec::new();
    if !text.starts_with("//! ") {
        violations.push(format!(
            "{path}:1: open the file with a `//!` sentence that says what it is for"
        ));
    }
    let lines = text.lines().count();
    if lines > MOST_LINES && !LONGER_FILES.iter().any(|(longer, _)| *longer == path) {
        violations
            .push(format!("{path}:{lines}: more than {MOST_LINES} lines: split it by subject"));
    }
    let name = path.rsplit('/').next().unwrap_or(path).trim_end_matches(".rs");
    if DRAWERS.contains(&name) {
        violations.push(format!(
            "{path}:1: `{name}` does not say what is in the file: name it after its content"
        ));
    }
    violations
}

fn banned_calls(path: &str, text: &str) -> Vec<String> {
    let mut violations = Vec::new();
    if path.ends_with("/tests.rs") || path.contains("/tests/") {
        return violations;
    }
    for (index, line) in production_code(text).lines().enumerate() {
        for (call, fix) in BANNED_CALLS {
            if line.contains(call) {
                violations.push(format!("{path}:{}: `{call}`: {fix}", index + 1));
            }
        }
    }
    violations
}

fn order_violations(path: &str, text: &str) -> Vec<String> {
    let room = room_of(path);
    if position_of(room).is_none() {
        return vec![format!(
            "{path}:1: the room `{room}` has no place in the order: add it to ORDER in tests/it/tidy.rs"
        )];
    }
    let code = production_code(text);
    let mut violations = Vec::new();
    for (line, imported) in rooms_named(path, &code) {
        if let Err(fix) = may_import(room, &imported) {
            violations.push(format!("{path}:{line}: `{room}` imports `{imported}`: {fix}"));
        }
    }
    if MODEL.contains(&room) {
        for (offset, word) in words(&code) {
            let names_a_path = code[offset + word.len()..].trim_start().starts_with("::");
            if names_a_path && UNKNOWN_TO_THE_MODEL.contains(&word) {
                let line = line_of(&code, offset);
                violations.push(format!(
                    "{path}:{line}: the model does not know `{word}`: move this to an edge"
                ));
            }
        }
    }
    violations
}

/// `src/proxy/forward.rs` belongs to the room `proxy`, `src/app.rs` to `app`.
fn room_of(path: &str) -> &str {
    let path = path.strip_prefix("src/").unwrap_or(path);
    path.split('/').next().unwrap_or(path).trim_end_matches(".rs")
}

fn position_of(room: &str) -> Option<usize> {
    ORDER.concat().iter().position(|known| *known == room)
}

fn may_import(from: &str, to: &str) -> Result<(), String> {
    let (Some(importer), Some(imported)) = (position_of(from), position_of(to)) else {
        return Err(
            "it has no place in the order: add the room to ORDER in tests/it/tidy.rs".to_owned()
        );
    };
    if from == to {
        Ok(())
    } else if EDGES.contains(&from) && EDGES.contains(&to) {
        Err("edges never import each other: let the composition join them".to_owned())
    } else if imported < importer {
        Ok(())
    } else {
        Err(format!("`{to}` comes after `{from}`: move what is needed up, or the use down"))
    }
}

/// The rooms that are named by paths from the crate's root, with their lines: `crate::a`, `crate::{a, b::c}`, `super::super::a`.
fn rooms_named(path: &str, code: &str) -> Vec<(usize, String)> {
    let inside = path.strip_prefix("src/").unwrap_or(path).trim_end_matches(".rs");
    let depth = if inside == "lib" || inside == "main" { 0 } else { inside.split('/').count() };
    let mut named = Vec::new();
    for (offset, word) in words(code) {
        let mut rest = &code[offset + word.len()..];
        let from_super = word == "super" && !code[..offset].trim_end().ends_with("::");
        if word != "crate" && !from_super {
            continue;
        }
        let mut up = usize::from(from_super);
        while let Some(after) = rest.trim_start().strip_prefix("::") {
            rest = after.trim_start();
            match rest.strip_prefix("super") {
                Some(after) if from_super => (up, rest) = (up + 1, after),
                _ if from_super && up < depth => break,
                _ => {
                    named.extend(first_segments(rest).map(|room| (line_of(code, offset), room)));
                    break;
                }
            }
        }
    }
    named
}

/// The first segment of a path, or of each path in a group.
fn first_segments(tree: &str) -> impl Iterator<Item = String> {
    let mut segments = Vec::new();
    let Some(group) = tree.strip_prefix('{') else {
        segments.extend(words(tree).next().map(|(_, word)| word.to_owned()));
        return segments.into_iter();
    };
    let (mut nested, mut start) = (0, 0);
    for (offset, character) in group.char_indices() {
        match character {
            '{' => nested += 1,
            '}' if nested > 0 => nested -= 1,
            ',' | '}' if nested == 0 => {
                segments
                    .extend(words(&group[start..offset]).next().map(|(_, word)| word.to_owned()));
                start = offset + 1;
                if character == '}' {
                    break;
                }
            }
            _ => {}
        }
    }
    segments.into_iter()
}

mod the_checks_can_fail {
    use super::*;

    #[test]
    fn upward_and_sideways_imports_are_named_with_their_line() {
        let found = order_violations(
            "src/proxy/forward.rs",
            "//! x\nuse crate::config::Config;\nuse crate::admin::page;\n",
        );
        assert_eq!(found.len(), 1);
        assert!(
            found[0].starts_with("src/proxy/forward.rs:3: `proxy` imports `admin`: edges never"),
            "{found:?}"
        );
        let found = order_violations("src/shutdown.rs", "fn f() { crate::proxy::serve() }");
        assert!(found[0].contains("`proxy` comes after `shutdown`"), "{found:?}");
        assert_eq!(order_violations("src/kitchen.rs", "").len(), 1);
        assert!(
            order_violations("src/proxy.rs", "use crate::kitchen;")[0].contains("add the room")
        );
    }

    #[test]
    fn every_form_of_a_path_is_recognized() {
        let rooms = |path: &str, code: &str| -> Vec<String> {
            rooms_named(path, &production_code(code)).into_iter().map(|(_, room)| room).collect()
        };
        assert_eq!(
            rooms("src/app.rs", "use crate::{\n a::{b, c}, d as e,\n f,\n};"),
            ["a", "d", "f"]
        );
        assert_eq!(rooms("src/app.rs", "let x = [crate::a::b(), super::c::d()];"), ["a", "c"]);
        assert_eq!(rooms("src/proxy/x.rs", "use super::y; use super::super::{a, b};"), ["a", "b"]);
        assert_eq!(rooms("src/proxy/x.rs", "pub(crate) fn f() {} pub(super) fn g() {}"), [""; 0]);
    }

    #[test]
    fn the_model_knows_no_protocol() {
        let found = order_violations(
            "src/routing.rs",
            "use http::Method;\nuse hyper::Request;\nuse crate::http::http1::head;",
        );
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(
            found[0].starts_with("src/routing.rs:2: the model does not know `hyper`"),
            "{found:?}"
        );
        assert_eq!(order_violations("src/proxy.rs", "use hyper::Request;"), [""; 0]);
    }

    #[test]
    fn comments_literals_and_tests_are_ignored() {
        let code = "// a.unwrap()\n/* crate::x */ \"\\\".unwrap()\" r#\"crate::y\"# 'a' '\"' '\\'' &'static str\n\
                    #[cfg(test)]\nmod tests { fn f() { a.unwrap() } }\nfn g() { b.unwrap() }\n";
        assert_eq!(
            banned_calls("src/x.rs", code),
            [format!("src/x.rs:5: `.unwrap()`: {}", BANNED_CALLS[0].1)]
        );
        assert_eq!(rooms_named("src/x.rs", &production_code(code)), []);
    }

    #[test]
    fn files_without_opening_line_specific_name_or_limited_length_are_reported() {
        assert_eq!(file_violations("src/x.rs", "//! For x.\n"), [""; 0]);
        assert!(
            file_violations("src/x.rs", "use std::fs;\n")[0]
                .starts_with("src/x.rs:1: open the file")
        );
        assert!(file_violations("src/x/mod.rs", "//! For x.\n")[0].contains("`mod` does not say"));
        let long = format!("//! For x.\n{}", "\n".repeat(MOST_LINES));
        assert!(file_violations("src/x.rs", &long)[0].contains("more than 400 lines"));
    }
}
