//! The annotations of agimo on a Deployment or StatefulSet. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use jiff::Timestamp;

use crate::config::annotations::PREFIX;
use crate::ownership::directive::{Pin, PinnedState};

const PIN: &str = "pin";
const PIN_UNTIL: &str = "pin-until";

/// The label that says which installation of agimo serves a workload.
const MANAGED_BY: &str = "managed-by";

/// The annotations that make a workload a service, by their names without the prefix; `None` where there are none.
pub fn of_service(annotations: &BTreeMap<String, String>) -> Option<Arc<BTreeMap<String, String>>> {
    let own = annotations.iter().filter_map(|(name, value)| {
        let name = name.strip_prefix(PREFIX)?;
        (name != PIN && name != PIN_UNTIL).then(|| (name.to_owned(), value.clone()))
    });
    let own: BTreeMap<_, _> = own.collect();
    (!own.is_empty()).then(|| Arc::new(own))
}

/// The installation of agimo that the labels of a workload name.
pub fn managed_by(labels: &BTreeMap<String, String>) -> Option<Arc<str>> {
    labels.get(&format!("{PREFIX}{MANAGED_BY}")).map(|name| name.as_str().into())
}

/// The pin of a workload with these annotations, or what is wrong with it. A pin whose end cannot be read does not apply.
pub fn pin(annotations: &BTreeMap<String, String>) -> Result<Option<Pin>, String> {
    let value = |name: &str| annotations.get(&format!("{PREFIX}{name}")).map(|value| value.trim());
    let state = match value(PIN) {
        None if value(PIN_UNTIL).is_none() => return Ok(None),
        None => return Err(format!("{PREFIX}{PIN_UNTIL} has no effect without {PREFIX}{PIN}")),
        Some("awake") => PinnedState::Awake,
        Some("asleep") => PinnedState::Asleep,
        Some(other) => {
            return Err(format!("{PREFIX}{PIN} is {other:?}: write \"awake\" or \"asleep\""));
        }
    };
    let until = value(PIN_UNTIL).map(|until| match until.parse::<Timestamp>() {
        Ok(until) => Ok(SystemTime::from(until)),
        Err(_) => Err(format!(
            "{PREFIX}{PIN_UNTIL} is {until:?}: write a time with its zone, such as \"2030-01-31T18:00:00Z\" (RFC 3339)"
        )),
    });
    Ok(Some(Pin { state, until: until.transpose()? }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn of(annotations: &[(&str, &str)]) -> Result<Option<Pin>, String> {
        let with_prefix =
            |(name, value): &(&str, &str)| (format!("{PREFIX}{name}"), (*value).to_owned());
        pin(&annotations.iter().map(with_prefix).collect())
    }

    #[test]
    fn a_pin_may_have_an_end() {
        assert_eq!(of(&[]), Ok(None));
        let pin = Pin { state: PinnedState::Awake, until: None };
        assert_eq!(of(&[("pin", "awake")]), Ok(Some(pin)));
        let until = SystemTime::UNIX_EPOCH + Duration::from_secs(3600);
        let pin = Pin { state: PinnedState::Asleep, until: Some(until) };
        let written = [("pin", " asleep"), ("pin-until", "1970-01-01T02:00:00+01:00")];
        assert_eq!(of(&written), Ok(Some(pin)));
        assert!(pin.applies_at(SystemTime::UNIX_EPOCH));
        assert!(!pin.applies_at(until));
    }

    #[test]
    fn a_wrong_pin_says_what_to_write() {
        for (annotations, part) in [
            (&[("pin", "awke")][..], "is \"awke\": write \"awake\" or \"asleep\""),
            (&[("pin", "awake"), ("pin-until", "tomorrow")], "is \"tomorrow\": write a time"),
            (&[("pin-until", "2030-01-01T00:00:00Z")], "has no effect without"),
        ] {
            let problem = of(annotations).unwrap_err();
            assert!(problem.contains(part), "{problem}");
        }
    }
}
