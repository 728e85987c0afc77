//! Text from outside for the log: characters that a terminal or a reader would not show as they are, are escaped.

use std::fmt::Write;

/// At most so many bytes of a request line are logged.
const MOST_BYTES: usize = 1024;

/// The text with control characters, characters that change the direction of writing, and bytes that are no UTF-8
/// escaped as Rust writes them.
pub fn printable(text: &[u8]) -> String {
    let mut shown = printable_whole(&text[..text.len().min(MOST_BYTES)]);
    if text.len() > MOST_BYTES {
        shown.push_str("...");
    }
    shown
}

/// As `printable`, whatever the length.
pub fn printable_whole(text: &[u8]) -> String {
    let mut shown = String::with_capacity(text.len());
    for chunk in text.utf8_chunks() {
        for character in chunk.valid().chars() {
            if is_hidden(character) {
                shown.extend(character.escape_default());
            } else {
                shown.push(character);
            }
        }
        for byte in chunk.invalid() {
            // Writing to a String cannot fail.
            let _ = write!(shown, "\\x{byte:02x}");
        }
    }
    shown
}

/// Control characters, and the format characters that reorder or hide text (Unicode Standard Annex 9, section 2).
fn is_hidden(character: char) -> bool {
    (character.is_control() && character != '\t')
        || matches!(character,
            '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hidden_characters_are_escaped_and_others_are_not() {
        for (text, shown) in [
            (&b"/a?b=c"[..], "/a?b=c"),
            ("/\u{fc}\u{2603}".as_bytes(), "/\u{fc}\u{2603}"),
            (b"a\r\nb\x1b[31m\x7f", "a\\r\\nb\\u{1b}[31m\\u{7f}"),
            ("\u{202e}gpj.exe".as_bytes(), "\\u{202e}gpj.exe"),
            (b"a\xffb", "a\\xffb"),
        ] {
            assert_eq!(printable(text), shown);
        }
        assert!(printable(&[b'a'; 5000]).len() < 1100);
    }
}
