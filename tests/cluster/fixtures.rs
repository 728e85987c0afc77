//! Fixtures of the cluster tests: namespaces, sample applications, kubectl and Helm, and agimo in front of them. They
//! assert only what their documentation says.

use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use testbed::faults::{self, ClusterLock};

use crate::support::agimo::Agimo;
use crate::support::{eventually, poll_until};

pub(crate) use self::helm::{CHART, Helm, Release};
pub(crate) use self::load::{Load, SampleRequest};
pub(crate) use self::prometheus::{PROMETHEUS_URL, Prometheus};
pub(crate) use self::sample::{Sample, WorkloadKind};
pub(crate) use self::scaled_object::apply_scaled_object;
pub(crate) use self::service::{apply_service, grpc_health_check};
pub(crate) use self::sleep_cycles::SleepCycles;
pub(crate) use self::websocket::WebSocket;

pub(crate) mod certificate;
pub(crate) mod external_api;
mod helm;
pub(crate) mod hpa;
pub(crate) mod load;
pub(crate) mod outage;
mod prometheus;
pub(crate) mod registry;
mod sample;
mod scaled_object;
mod service;
mod sleep_cycles;
mod websocket;

/// A namespace of one test, deleted when the value is dropped. While it exists, no other test stops a part of the cluster.
pub(crate) struct Namespace {
    pub(crate) name: String,
    /// Shared, or exclusive for a test that stops a part of the cluster.
    _claim: ClusterLock,
}

/// Runs `kubectl` with the kubeconfig of the test's environment.
pub(crate) struct Kubectl;

/// A hundred pods take half a minute.
const PODS_REMOVED_DEADLINE: Duration = Duration::from_secs(120);

/// Makes the names of namespaces unique within this process.
static NAMESPACE_COUNT: AtomicU32 = AtomicU32::new(0);

/// Starts agimo with this configuration as a process on the node, with the rights of a cluster administrator, and waits
/// until it is ready.
pub(crate) async fn start_agimo(services: &str) -> Agimo {
    start_agimo_with_arguments(services, &[]).await
}

/// `start_agimo` with further command-line arguments.
pub(crate) async fn start_agimo_with_arguments(services: &str, arguments: &[&str]) -> Agimo {
    let agimo = Agimo::with(services).arguments(arguments).start().await;
    agimo.until_ready().await;
    agimo
}

// === impl Namespace ===

impl Namespace {
    /// A new namespace whose name begins with `subject`. Waits while another test has the cluster to itself.
    pub(crate) async fn new(subject: &str) -> Self {
        let claim = tokio::task::spawn_blocking(faults::lock_shared).await.unwrap();
        Self::create(subject, claim.unwrap())
    }

    /// For a test that stops or overloads a shared part of the cluster: no other test runs while the namespace exists.
    pub(crate) async fn exclusive(subject: &str) -> Self {
        let claim = tokio::task::spawn_blocking(faults::lock_exclusive).await.unwrap();
        Self::create(subject, claim.unwrap())
    }

    fn create(subject: &str, claim: ClusterLock) -> Self {
        let number = NAMESPACE_COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("{subject}-{}-{number}", std::process::id());
        Kubectl::run(&["create", "namespace", &name]);
        Self { name, _claim: claim }
    }

    /// A sample application as a Deployment with a Service of the same name, to be configured and then applied.
    pub(crate) fn deployment(&self, name: &str) -> Sample {
        Sample::new(WorkloadKind::Deployment, &self.name, name)
    }

    /// A sample application as a StatefulSet with a headless Service of the same name, to be configured and then applied.
    pub(crate) fn stateful_set(&self, name: &str) -> Sample {
        Sample::new(WorkloadKind::StatefulSet, &self.name, name)
    }

    /// Runs `kubectl` in this namespace and returns its standard output.
    pub(crate) fn kubectl(&self, arguments: &[&str]) -> String {
        Kubectl::run(&[&["--namespace", &self.name], arguments].concat())
    }

    /// Deletes all Deployments and waits until their pods are gone. For a test with many of them: while the kubelet removes them,
    /// it is slow to start and to end those of the tests that follow.
    pub(crate) async fn remove_pods(&self) {
        self.kubectl(&["delete", "deployments", "--all", "--wait=false"]);
        let gone = || async {
            self.kubectl(&["get", "pods", "--output", "name"]).is_empty().then_some(())
        };
        let all = poll_until(PODS_REMOVED_DEADLINE, gone).await;
        assert!(all.is_some(), "{} has pods after {PODS_REMOVED_DEADLINE:?}", self.name);
    }

    /// Applies manifests to this namespace.
    pub(crate) fn apply(&self, manifests: &str) {
        Kubectl::apply(&["--namespace", &self.name], manifests);
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = Command::new("kubectl")
            .args(["delete", "namespace", &self.name, "--wait=false", "--ignore-not-found"])
            .output();
    }
}

// === impl Kubectl ===

impl Kubectl {
    /// Returns the standard output; panics with the standard error if the command fails.
    pub(crate) fn run(arguments: &[&str]) -> String {
        Self::finish(Command::new("kubectl").args(arguments), arguments)
    }

    /// Server-side apply of these manifests.
    pub(crate) fn apply(arguments: &[&str], manifests: &str) {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("manifests.yaml");
        std::fs::write(&file, manifests).unwrap();
        let mut command = Command::new("kubectl");
        command.args(arguments).args(["apply", "--server-side", "--force-conflicts", "-f"]);
        Self::finish(command.arg(&file), &[manifests]);
    }

    fn finish(command: &mut Command, description: &[&str]) -> String {
        let output = command.output().expect("kubectl is in PATH on the node of a test cluster");
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "kubectl {}: {error}", description.join(" "));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

// === impl Agimo ===

/// Queries of the admin port that only the cluster tests use.
impl Agimo {
    pub(crate) async fn until_ready(&self) {
        eventually("200 from /readyz", || async {
            (self.admin("/readyz").await.status == 200).then_some(())
        })
        .await;
    }

    pub(crate) async fn until_served(&self, host: &str) {
        eventually(&format!("a response of {host}"), || async {
            (self.get(host, "/").await.status == 200).then_some(())
        })
        .await;
    }

    /// The entry of this host in `/services`.
    pub(crate) async fn service_status(&self, host: &str) -> serde_json::Value {
        let page = self.admin("/services").await.text();
        let services: Vec<serde_json::Value> = serde_json::from_str(&page).unwrap();
        let found = services.into_iter().find(|service| service["host"] == host);
        found.unwrap_or_else(|| panic!("{host} in {page}"))
    }

    pub(crate) async fn until_reason(&self, host: &str, reason: &str) {
        let what = format!("{host} with the reason {reason}");
        eventually(&what, || async {
            (self.service_status(host).await["reason"] == reason).then_some(())
        })
        .await;
    }

    pub(crate) async fn until_ready_endpoints(&self, host: &str, count: u64) {
        let what = format!("{host} with {count} ready endpoints");
        eventually(&what, || async {
            (self.service_status(host).await["ready_endpoints"] == count).then_some(())
        })
        .await;
    }

    /// How many wakes of this host's workload have ended with a ready endpoint.
    pub(crate) async fn successful_wakes(&self, host: &str) -> f64 {
        let sample = format!("agimo_wakes_total{{host=\"{host}\",result=\"ready\"}}");
        self.metric(&sample).await.unwrap()
    }

    pub(crate) async fn until_state(&self, host: &str, state: &str) {
        let what = format!("{host} {state}");
        eventually(&what, || async {
            (self.service_status(host).await["state"] == state).then_some(())
        })
        .await;
    }
}
