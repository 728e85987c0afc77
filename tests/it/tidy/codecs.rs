//! Checks that the request path knows no version of HTTP: only the files that choose a codec name one.

use super::text::{line_of, production_code, words};
use super::{report, rust_files};

/// The rooms that every version of HTTP shares.
const NEUTRAL: &[&str] = &["src/http/", "src/proxy.rs", "src/proxy/"];

/// Files of these rooms that may name a codec: the codecs, and where the codec of a connection is chosen.
const MAY_NAME_A_CODEC: &[&str] = &[
    "src/http/http1/",
    "src/http/http2/",
    "src/proxy/connection.rs",
    "src/proxy/connection/",
    "src/proxy/upstream.rs",
    "src/proxy/upstream/",
];

const CODECS: &[&str] = &["http1", "http2"];

#[test]
fn only_the_choice_of_a_codec_names_a_version_of_http() {
    let files = rust_files("src");
    let neutral: Vec<_> = files.iter().filter(|file| is_neutral(&file.path)).collect();
    assert!(neutral.len() > 10, "{} files are neutral", neutral.len());
    report(neutral.iter().flat_map(|file| violations(&file.path, &file.text)));
}

#[test]
fn a_codec_in_the_request_path_is_reported() {
    let code = "//! x\n// http1::head is fine in a comment.\nuse crate::http::http1::head;\n";
    let found = violations("src/proxy/exchange.rs", code);
    assert_eq!(found.len(), 1);
    assert!(found[0].starts_with("src/proxy/exchange.rs:3: `http1`"), "{found:?}");
    assert!(!is_neutral("src/proxy/upstream.rs") && !is_neutral("src/http/http1/head.rs"));
    assert!(is_neutral("src/http/message.rs") && is_neutral("src/proxy.rs"));
}

fn is_neutral(path: &str) -> bool {
    let is_below = |folders: &[&str]| folders.iter().any(|folder| path.starts_with(folder));
    is_below(NEUTRAL) && !is_below(MAY_NAME_A_CODEC)
}

fn violations(path: &str, text: &str) -> Vec<String> {
    let code = production_code(text);
    words(&code)
        .filter(|(_, word)| CODECS.contains(word))
        .map(|(offset, word)| {
            let line = line_of(&code, offset);
            format!("{path}:{line}: `{word}` in the request path: use the traits of http/codec.rs")
        })
        .collect()
}
