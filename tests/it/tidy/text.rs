//! Rust source as text, for checks that need no parser: separates code from comments, literals and tests.

/// The text with comments, literals and `#[cfg(test)]` items replaced by spaces; line numbers do not change.
pub(super) fn production_code(text: &str) -> String {
    let mut code = without_comments_and_literals(text);
    while let Some(start) = code.find("#[cfg(test)]") {
        let end = start + item_length(&code[start..]);
        let blank: String = code[start..end].chars().map(blank).collect();
        code.replace_range(start..end, &blank);
    }
    code
}

/// Identifiers and keywords with their offsets.
pub(super) fn words(code: &str) -> impl Iterator<Item = (usize, &str)> {
    let is_word = |character: char| character.is_alphanumeric() || character == '_';
    let mut offset = 0;
    std::iter::from_fn(move || {
        let start = offset + code[offset..].find(is_word)?;
        let length = code[start..].find(|c| !is_word(c)).unwrap_or(code.len() - start);
        offset = start + length;
        Some((start, &code[start..offset]))
    })
}

pub(super) fn line_of(code: &str, offset: usize) -> usize {
    code[..offset].matches('\n').count() + 1
}

/// The length up to the end of the item's body, or up to its semicolon if it has no body.
fn item_length(code: &str) -> usize {
    let mut nested = 0_usize;
    for (offset, character) in code.char_indices() {
        match character {
            '{' | '[' | '(' => nested += 1,
            '}' | ']' | ')' => nested = nested.saturating_sub(1),
            _ => {}
        }
        if nested == 0 && matches!(character, '}' | ';') {
            return offset + 1;
        }
    }
    code.len()
}

fn without_comments_and_literals(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let after_word = code.ends_with(|c: char| c.is_alphanumeric() || c == '_');
        match opaque_length(rest, after_word) {
            Some(length) => {
                code.extend(rest[..length].chars().map(blank));
                rest = &rest[length..];
            }
            None => {
                code.push(first);
                rest = &rest[first.len_utf8()..];
            }
        }
    }
    code
}

/// The length of the comment or literal at the start of `text`, if there is one.
fn opaque_length(text: &str, after_word: bool) -> Option<usize> {
    let to_end_of = |end: &str, from: usize| {
        text[from..].find(end).map_or(text.len(), |at| from + at + end.len())
    };
    if text.starts_with("//") {
        return Some(text.find('\n').unwrap_or(text.len()));
    }
    if text.starts_with("/*") {
        return Some(to_end_of("*/", 2));
    }
    if text.starts_with('"') {
        let mut escaped = false;
        let closing = |&(_, c): &(usize, char)| {
            let closes = c == '"' && !escaped;
            escaped = c == '\\' && !escaped;
            closes
        };
        return Some(
            text.char_indices().skip(1).find(closing).map_or(text.len(), |(at, _)| at + 1),
        );
    }
    if let Some(raw) = text.strip_prefix("br").or(text.strip_prefix('r')).filter(|_| !after_word) {
        let opening = raw.bytes().take_while(|&byte| byte == b'#').count();
        let closing = format!("\"{}", "#".repeat(opening));
        let body = text.len() - raw.len() + opening + 1;
        // `r#type` is an identifier.
        return raw[opening..].starts_with('"').then(|| to_end_of(&closing, body));
    }
    let mut characters = text.strip_prefix('\'')?.chars();
    match characters.next()? {
        // `'\''` and `'\u{41}'`: the first character after the backslash cannot close the literal.
        '\\' => Some(to_end_of("'", 3)),
        // Anything else without a closing quote is a lifetime.
        one => (characters.next() == Some('\'')).then_some(2 + one.len_utf8()),
    }
}

fn blank(character: char) -> char {
    if character == '\n' { '\n' } else { ' ' }
}

#[test]
fn comments_literals_and_tests_are_blanked_and_line_numbers_do_not_change() {
    let code = |text: &str| -> Vec<String> {
        words(&production_code(text)).map(|(_, word)| word.to_owned()).collect()
    };
    assert_eq!(code("a // b\n/* c\n */ d"), ["a", "d"]);
    assert_eq!(code(r##"a "b \" c" r#"d " e"# br"\" f"##), ["a", "f"]);
    assert_eq!(
        code(r"a 'b' '\'' '\u{41}' '\\' 'c: &'static r#type"),
        ["a", "c", "static", "r", "type"]
    );
    assert_eq!(code("#[cfg(test)]\nfn a(b: [u8; 4]) { c }\nd #[cfg(test)] use e;f"), ["d", "f"]);
    assert_eq!(production_code("\"\n\"\n#[cfg(test)]\nmod a {\n}\n").matches('\n').count(), 5);
}
