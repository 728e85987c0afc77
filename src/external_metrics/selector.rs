//! Reads a label selector as a query carries it (Kubernetes, "Labels and Selectors"). Pure.

use std::collections::BTreeSet;

use kube::core::{Expression, Selector};

/// Reads a selector such as `name=web,kind in (deployment, statefulset),!host`.
///
/// # Errors
/// What is wrong with which requirement.
pub fn parse(text: &str) -> Result<Selector, String> {
    requirements(text)?
        .into_iter()
        .map(|requirement| expression(requirement.trim()))
        .collect::<Result<Vec<_>, _>>()
        .map(Selector::from_iter)
}

/// The parts between the commas that are not in parentheses.
fn requirements(text: &str) -> Result<Vec<&str>, String> {
    if text.trim().is_empty() {
        return Ok(Vec::new());
    }
    let (mut parts, mut start, mut is_inside) = (Vec::new(), 0, false);
    for (position, character) in text.char_indices() {
        match character {
            '(' if !is_inside => is_inside = true,
            ')' if is_inside => is_inside = false,
            '(' | ')' => return Err(format!("unexpected `{character}` in the selector {text:?}")),
            ',' if !is_inside => {
                parts.push(&text[start..position]);
                start = position + 1;
            }
            _ => {}
        }
    }
    if is_inside {
        return Err(format!("`)` is missing in the selector {text:?}"));
    }
    parts.push(&text[start..]);
    Ok(parts)
}

fn expression(requirement: &str) -> Result<Expression, String> {
    if let Some((key, values)) = requirement.split_once('(') {
        let values = values.strip_suffix(')').ok_or_else(|| invalid(requirement))?;
        let values: BTreeSet<String> =
            values.split(',').map(|part| value(part, requirement)).collect::<Result<_, _>>()?;
        let mut words = key.split_whitespace();
        return match (words.next(), words.next(), words.next()) {
            (Some(name), Some("in"), None) => {
                Ok(Expression::In(key_of(name, requirement)?, values))
            }
            (Some(name), Some("notin"), None) => {
                Ok(Expression::NotIn(key_of(name, requirement)?, values))
            }
            _ => Err(invalid(requirement)),
        };
    }
    if let Some(name) = requirement.strip_prefix('!') {
        return Ok(Expression::DoesNotExist(key_of(name, requirement)?));
    }
    if let Some((name, other)) = requirement.split_once("!=") {
        return Ok(Expression::NotEqual(key_of(name, requirement)?, value(other, requirement)?));
    }
    if let Some((name, same)) = requirement.split_once('=') {
        let same = same.strip_prefix('=').unwrap_or(same);
        return Ok(Expression::Equal(key_of(name, requirement)?, value(same, requirement)?));
    }
    Ok(Expression::Exists(key_of(requirement, requirement)?))
}

fn key_of(text: &str, requirement: &str) -> Result<String, String> {
    let key = text.trim();
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./".contains(&byte);
    if key.is_empty() || !key.bytes().all(is_allowed) {
        return Err(invalid(requirement));
    }
    Ok(key.to_owned())
}

fn value(text: &str, requirement: &str) -> Result<String, String> {
    let value = text.trim();
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if !value.bytes().all(is_allowed) {
        return Err(invalid(requirement));
    }
    Ok(value.to_owned())
}

fn invalid(requirement: &str) -> String {
    format!("{requirement:?} is no requirement on a label: write, for example, name=web")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use kube::core::SelectorExt;
    use proptest::prelude::*;

    use super::*;

    fn selects(text: &str) -> bool {
        let labels = [("kind", "deployment"), ("name", "web"), ("host", "web.test")];
        let labels: BTreeMap<String, String> =
            labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        parse(text).unwrap().matches(&labels)
    }

    #[test]
    fn every_kind_of_requirement_is_read() {
        for text in [
            "",
            "name=web",
            "name==web , kind!=statefulset",
            "name in (api, web),host",
            "name notin (api,other)",
            "!zone,zone!=a",
        ] {
            assert!(selects(text), "{text}");
        }
        for text in
            ["name=api", "kind!=deployment", "name in (api)", "name notin (web)", "!host", "zone"]
        {
            assert!(!selects(text), "{text}");
        }
    }

    #[test]
    fn invalid_selectors_are_rejected() {
        for text in [
            "name=a b",
            "=web",
            "name in web",
            "name in (web",
            "name)",
            "name in ((web))",
            ",",
            "a>1",
            "a in (x) y",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
        assert!(parse("a=b c").unwrap_err().contains("write, for example, name=web"));
    }

    proptest! {
        #[test]
        fn arbitrary_text_never_panics(text in ".{0,60}") {
            let _ = parse(&text);
        }
    }
}
