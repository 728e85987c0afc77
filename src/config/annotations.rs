//! Workloads whose annotations make them services: what the cluster says of them, and what the file permits.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::parse::ServiceDefaults;
use crate::workload::WorkloadId;

/// What every annotation and label of agimo begins with.
pub const PREFIX: &str = "agimo.onichandame.com/";

/// What the file says about annotated workloads (`annotations = true`).
#[derive(Clone, Debug, PartialEq)]
pub struct AnnotationsConfig {
    /// Only workloads with this value of the label `managed-by` are services; without it, those without the label
    /// (`managed_by`).
    pub managed_by: Option<String>,
    /// Which hosts the workloads of a namespace may claim; any where it is absent (`allowed_hosts`).
    pub allowed_hosts: Option<BTreeMap<String, Vec<String>>>,
    /// The keys at the top of the file apply to annotated workloads, too.
    pub defaults: Arc<ServiceDefaults>,
}

/// A Deployment or StatefulSet with annotations of agimo.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnnotatedWorkload {
    pub id: WorkloadId,
    /// Seconds since 1970. Of two workloads that claim a host, the older one has it.
    pub created: i64,
    /// The label `managed-by`.
    pub managed_by: Option<Arc<str>>,
    /// By their names without the prefix.
    pub annotations: Arc<BTreeMap<String, String>>,
    /// The Service that the annotation `service` names, if it exists; otherwise all that select the pods.
    pub services: BTreeMap<String, Vec<PortOfService>>,
}

/// A TCP port of a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortOfService {
    /// Empty where it has none.
    pub name: String,
    pub number: u16,
}

/// Stands for every namespace that `allowed_hosts` does not name.
const OTHER_NAMESPACES: &str = "*";

// === impl AnnotationsConfig ===

impl AnnotationsConfig {
    /// Whether this installation serves the workload.
    pub fn manages(&self, workload: &AnnotatedWorkload) -> bool {
        self.managed_by.as_deref() == workload.managed_by.as_deref()
    }

    /// Whether a workload of this namespace may claim this host; otherwise the hosts that it may claim.
    ///
    /// # Errors
    /// The patterns that are allowed.
    pub fn check_host(&self, namespace: &str, host: &str) -> Result<(), &[String]> {
        let Some(allowed) = &self.allowed_hosts else { return Ok(()) };
        let of_namespace = allowed.get(namespace).or_else(|| allowed.get(OTHER_NAMESPACES));
        let patterns = of_namespace.map_or(&[][..], Vec::as_slice);
        let is_allowed = patterns.iter().any(|pattern| covers(pattern, host));
        if is_allowed { Ok(()) } else { Err(patterns) }
    }
}

/// Whether a pattern covers a host: `*` every host, `*.example.com` every host below `example.com`, wildcards included.
fn covers(pattern: &str, host: &str) -> bool {
    match pattern.strip_prefix('*') {
        Some(suffix) => host.len() > suffix.len() && host.ends_with(suffix),
        None => pattern == host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(allowed: Option<&[(&str, &[&str])]>) -> AnnotationsConfig {
        let owned = |hosts: &[&str]| hosts.iter().map(ToString::to_string).collect();
        let allowed_hosts = allowed.map(|allowed| {
            allowed.iter().map(|(name, hosts)| ((*name).to_owned(), owned(hosts))).collect()
        });
        AnnotationsConfig { managed_by: None, allowed_hosts, defaults: Arc::default() }
    }

    #[test]
    fn a_namespace_may_claim_what_is_allowed_to_it() {
        let any = config(None);
        assert!(any.check_host("shop", "*").is_ok());
        let config =
            config(Some(&[("shop", &["shop.test", "*.shop.test"]), ("*", &["*.dev.test"])]));
        for (namespace, host, expected) in [
            ("shop", "shop.test", true),
            ("shop", "a.shop.test", true),
            ("shop", "a.b.shop.test", true),
            ("shop", "*.shop.test", true),
            ("shop", "myshop.test", false),
            ("shop", "*", false),
            ("shop", "a.dev.test", false),
            ("blog", "a.dev.test", true),
            ("blog", "shop.test", false),
        ] {
            let is_allowed = config.check_host(namespace, host).is_ok();
            assert_eq!(is_allowed, expected, "{namespace} {host}");
        }
    }
}
