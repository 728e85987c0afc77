//! The grammar of chunk extensions (RFC 9112 section 7.1.1). agimo ignores their meaning; it checks that no other
//! recipient could take a part of one for something else. Pure.

use crate::http::fields::is_token;

/// How strictly the line of a chunk's size is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Grammar {
    /// To the letter: what a client sends.
    Strict,
    /// Any text up to the end of the line: what an application sends.
    Liberal,
}

/// A position in the grammar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ChunkExtension {
    /// Any text.
    Text,
    /// White space before the next semicolon.
    Gap,
    BeforeName,
    Name,
    AfterName,
    BeforeValue,
    Token,
    Quoted,
    Escaped,
    AfterQuoted,
}

// === impl ChunkExtension ===

impl ChunkExtension {
    /// The position after the byte that ends the size; `None` where no extension can begin so.
    pub(super) fn begin(byte: u8, grammar: Grammar) -> Option<Self> {
        match (byte, grammar) {
            (b';' | b' ' | b'\t', Grammar::Liberal) => Some(Self::Text),
            (b';', Grammar::Strict) => Some(Self::BeforeName),
            (b' ' | b'\t', Grammar::Strict) => Some(Self::Gap),
            _ => None,
        }
    }

    /// The position after another byte; `None` where it is not allowed.
    pub(super) fn after(self, byte: u8) -> Option<Self> {
        let is_space = matches!(byte, b' ' | b'\t');
        let is_token = is_token(byte);
        let is_text = is_space || matches!(byte, 0x21..=0x7e | 0x80..);
        match (self, byte) {
            (Self::Text, _) => is_text.then_some(Self::Text),
            (Self::Quoted, b'"') => Some(Self::AfterQuoted),
            (Self::Quoted, b'\\') => Some(Self::Escaped),
            (Self::Quoted | Self::Escaped, _) => is_text.then_some(Self::Quoted),
            (Self::BeforeName, _) if is_space => Some(Self::BeforeName),
            (Self::BeforeName | Self::Name, _) if is_token => Some(Self::Name),
            (Self::Name | Self::AfterName, _) if is_space => Some(Self::AfterName),
            (Self::Name | Self::AfterName, b'=') => Some(Self::BeforeValue),
            (Self::BeforeValue, b'"') => Some(Self::Quoted),
            (Self::BeforeValue, _) if is_space => Some(Self::BeforeValue),
            (Self::BeforeValue | Self::Token, _) if is_token => Some(Self::Token),
            (Self::Gap | Self::Token | Self::AfterQuoted, _) if is_space => Some(Self::Gap),
            (Self::BeforeName | Self::BeforeValue, _) => None,
            (_, b';') => Some(Self::BeforeName),
            _ => None,
        }
    }

    /// Whether the line may end here.
    pub(super) fn is_complete(self) -> bool {
        matches!(self, Self::Text | Self::Name | Self::Token | Self::AfterQuoted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_valid(extension: &str, grammar: Grammar) -> bool {
        let (first, rest) = extension.as_bytes().split_first().unwrap();
        let begun = ChunkExtension::begin(*first, grammar);
        let end = begun
            .and_then(|begun| rest.iter().try_fold(begun, |position, byte| position.after(*byte)));
        end.is_some_and(ChunkExtension::is_complete)
    }

    #[test]
    fn only_what_the_grammar_allows_is_an_extension_of_a_client() {
        for extension in [";a", ";a=b", " ; a = b;c", ";a=\"b;\\\" c\"", ";a=\"\" ;b", ";a=b ; c"] {
            assert!(is_valid(extension, Grammar::Strict), "{extension:?}");
        }
        for extension in
            [" ", ";", ";;", ";a=", "; =b", ";a b", ";a ", ";a=\"b", ";a=b c", ";a=\"b\"c", ";a\n"]
        {
            assert!(!is_valid(extension, Grammar::Strict), "{extension:?}");
        }
        for extension in [" ", ";", ";a b", ";a=\"b"] {
            assert!(is_valid(extension, Grammar::Liberal), "{extension:?}");
        }
        assert!(!is_valid(";a\n", Grammar::Liberal));
    }
}
