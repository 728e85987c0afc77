//! Whether a pod belongs to a workload, by the name that its controller gives it: a Service may select the pods of several
//! workloads. Pure.

use crate::workload::{WorkloadId, WorkloadKind, ordinal};

/// The characters of generated names (apimachinery, `util/rand`): no vowels, so that hardly any word looks like one.
const GENERATED: &str = "bcdfghjklmnpqrstvwxz2456789";
/// Length of the random end of a generated name (apiserver, `SimpleNameGenerator`).
const RANDOM_LENGTH: usize = 5;
/// Longest part of a generated name before that end; longer ones are cut.
const LONGEST_BASE: usize = 58;

/// Whether the controllers of the workload would give this name to one of its pods. The pods of a Deployment are named
/// after its ReplicaSet, `<name>-<hash>-<random>`, and those of a StatefulSet `<name>-<ordinal>`.
pub fn belongs_to(pod: &str, workload: &WorkloadId) -> bool {
    let name = workload.name.as_str();
    match workload.kind {
        WorkloadKind::StatefulSet => ordinal(pod, name).is_some(),
        WorkloadKind::Deployment => {
            let Some(end) = pod.len().checked_sub(RANDOM_LENGTH) else { return false };
            if !pod.is_char_boundary(end) || !is_generated(&pod[end..]) {
                return false;
            }
            let base = &pod[..end];
            let Some(hash) = base.strip_prefix(name).and_then(|rest| rest.strip_prefix('-')) else {
                // The name of the Deployment alone was too long.
                return base.len() == LONGEST_BASE && format!("{name}-").starts_with(base);
            };
            match hash.strip_suffix('-') {
                Some(hash) => is_generated(hash),
                None => base.len() == LONGEST_BASE && hash.chars().all(is_generated_char),
            }
        }
        WorkloadKind::Process => false,
    }
}

fn is_generated(text: &str) -> bool {
    !text.is_empty() && text.chars().all(is_generated_char)
}

fn is_generated_char(character: char) -> bool {
    GENERATED.contains(character)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workload(kind: WorkloadKind, name: &str) -> WorkloadId {
        WorkloadId { kind, namespace: "a".to_owned(), name: name.to_owned() }
    }

    #[test]
    fn the_pods_of_a_deployment_are_told_from_those_of_its_canary() {
        let of = |name: &str, pod: &str| belongs_to(pod, &workload(WorkloadKind::Deployment, name));
        assert!(of("web", "web-7d4b9c6f58-x2k9p"));
        assert!(!of("web", "web-canary-7d4b9c6f58-x2k9p"));
        assert!(of("web-canary", "web-canary-7d4b9c6f58-x2k9p"));
        for other in ["web-0", "web-x2k9p", "web-blue-x2k9p", "web2-7d4b9c6f58-x2k9p", "web-", "x"]
        {
            assert!(!of("web", other), "{other}");
        }
        // The name of the ReplicaSet is cut to 58 characters.
        let long = "a".repeat(55);
        assert!(of(&long, &format!("{long}-7dx2k9p")));
        let longer = "a".repeat(70);
        assert!(of(&longer, &format!("{}x2k9p", &longer[..58])));
        assert!(!of(&longer, &format!("{}x2k9p", &longer[..50])));
    }

    #[test]
    fn the_pods_of_a_stateful_set_have_ordinals() {
        let of =
            |name: &str, pod: &str| belongs_to(pod, &workload(WorkloadKind::StatefulSet, name));
        assert!(of("db", "db-0") && of("db", "db-12"));
        for other in ["db-01", "db-+1", "db-a-0", "db-", "db", "db-7d4b9c6f58-x2k9p"] {
            assert!(!of("db", other), "{other}");
        }
    }
}
