//! Bearer tokens that a port accepts (RFC 6750).

use std::path::{Path, PathBuf};

use http::HeaderMap;
use http::header::AUTHORIZATION;

/// The tokens that a port accepts: those of a file, or of every file in a folder. They are read each time, so that a new
/// token is added first everywhere and the old one removed later, without a gap.
#[derive(Clone, Debug)]
pub struct Tokens {
    path: PathBuf,
}

/// A shorter token is a mistake.
const SHORTEST_TOKEN: usize = 16;

/// The bearer token of a request (RFC 6750, section 2.1).
pub fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

// === impl Tokens ===

impl Tokens {
    /// # Errors
    /// When there is no token, with what to write.
    pub fn new(path: &Path) -> Result<Self, String> {
        let tokens = Self { path: path.to_owned() };
        let found = tokens.read();
        if found.is_empty() {
            return Err(format!(
                "{} holds no token: write at least 16 random characters",
                path.display()
            ));
        }
        if found.iter().any(|token| token.len() < SHORTEST_TOKEN) {
            return Err(format!("a token in {} is shorter than 16 characters", path.display()));
        }
        Ok(tokens)
    }

    /// The tokens, in the order of the names of their files.
    pub fn read(&self) -> Vec<String> {
        let mut files = vec![self.path.clone()];
        if let Ok(folder) = std::fs::read_dir(&self.path) {
            files = folder.filter_map(|entry| Some(entry.ok()?.path())).collect();
            // A mounted Secret has a hidden folder with each of its versions.
            files.retain(|file| file.is_file());
            files.sort();
        }
        let texts = files.iter().filter_map(|file| std::fs::read_to_string(file).ok());
        texts.map(|text| text.trim().to_owned()).filter(|token| !token.is_empty()).collect()
    }

    /// Whether this is one of the tokens. It takes as long for every wrong token of a length.
    pub fn accept(&self, token: &str) -> bool {
        let is_same = |known: &String| {
            let pairs = known.bytes().zip(token.bytes());
            let differences =
                pairs.fold(0, |differences, (one, other)| differences | (one ^ other));
            known.len() == token.len() && differences == 0
        };
        self.read().iter().filter(|known| is_same(known)).count() > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: &str = "an old token of some length";
    const NEW: &str = "a new token of some length";

    #[test]
    fn a_missing_or_short_token_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        assert!(Tokens::new(folder.path()).unwrap_err().contains("holds no token"));
        let file = folder.path().join("token");
        std::fs::write(&file, "short").unwrap();
        assert!(Tokens::new(&file).unwrap_err().contains("shorter than 16 characters"));
        std::fs::write(&file, NEW).unwrap();
        let tokens = Tokens::new(&file).unwrap();
        assert!(
            tokens.accept(NEW)
                && !tokens.accept(OLD)
                && !tokens.accept("")
                && !tokens.accept(&NEW[1..])
        );
    }

    #[test]
    fn a_bearer_token_is_read_whatever_the_case_of_its_scheme() {
        let headers = |value: &str| {
            HeaderMap::from_iter([(AUTHORIZATION, value.parse::<http::HeaderValue>().unwrap())])
        };
        for value in ["Bearer abc", "bearer abc", "BEARER  abc"] {
            assert_eq!(bearer(&headers(value)), Some("abc"));
        }
        for value in ["Basic abc", "Bearer", "abc"] {
            assert_eq!(bearer(&headers(value)), None);
        }
        assert_eq!(bearer(&HeaderMap::new()), None);
    }
}
