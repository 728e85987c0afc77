//! What the cluster tests are written with: namespaces, sample applications in them, and agimo before them. It asserts
//! nothing about agimo by itself.

use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use testbed::faults::{self, ClusterLock};

use crate::support::agimo::Agimo;
use crate::support::eventually;

pub(crate) use self::helm::{CHART, Helm, Release};
pub(crate) use self::load::{Load, Question};
pub(crate) use self::sample::{Kind, Sample};
pub(crate) use self::scraped::{PROMETHEUS, Scraped, apply_scaled_object};
pub(crate) use self::socket::Socket;

mod helm;
mod load;
pub(crate) mod outage;
mod sample;
mod scraped;
mod socket;

/// A namespace of one test, gone after it. While it lives no other test breaks what all share.
pub(crate) struct Namespace {
    pub(crate) name: String,
    _claim: ClusterLock,
}

/// `kubectl`, as a person would use it.
pub(crate) struct Kubectl;

static NAMESPACES: AtomicU32 = AtomicU32::new(0);

/// An agimo outside of the cluster's pods and with an administrator's rights, before these services; ready.
pub(crate) async fn agimo(services: &str) -> Agimo {
    agimo_with(services, &[]).await
}

/// The same with further arguments.
pub(crate) async fn agimo_with(services: &str, arguments: &[&str]) -> Agimo {
    let agimo = Agimo::with(services).arguments(arguments).start().await;
    agimo.until_ready().await;
    agimo
}

// === impl Namespace ===

impl Namespace {
    /// Its name begins with the test's subject.
    pub(crate) async fn new(subject: &str) -> Self {
        let claim = tokio::task::spawn_blocking(faults::lock_shared).await.unwrap();
        Self::claimed(subject, claim.unwrap())
    }

    /// For a test that breaks what all share: it runs while no other does.
    pub(crate) async fn alone(subject: &str) -> Self {
        let claim = tokio::task::spawn_blocking(faults::lock_exclusive).await.unwrap();
        Self::claimed(subject, claim.unwrap())
    }

    fn claimed(subject: &str, claim: ClusterLock) -> Self {
        let number = NAMESPACES.fetch_add(1, Ordering::Relaxed);
        let name = format!("{subject}-{}-{number}", std::process::id());
        Kubectl::run(&["create", "namespace", &name]);
        Self { name, _claim: claim }
    }

    /// The sample as a Deployment, with a Service of the same name; not applied yet.
    pub(crate) fn deployment(&self, name: &str) -> Sample {
        Sample::new(Kind::Deployment, &self.name, name)
    }

    /// The sample as a StatefulSet, with a headless Service of the same name; not applied yet.
    pub(crate) fn stateful_set(&self, name: &str) -> Sample {
        Sample::new(Kind::StatefulSet, &self.name, name)
    }

    /// `kubectl` in this namespace.
    pub(crate) fn kubectl(&self, arguments: &[&str]) -> String {
        Kubectl::run(&[&["--namespace", &self.name], arguments].concat())
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
    /// What it prints; panics with its complaint when it fails.
    pub(crate) fn run(arguments: &[&str]) -> String {
        Self::finish(Command::new("kubectl").args(arguments), arguments)
    }

    /// Applies manifests, server-side.
    pub(crate) fn apply(arguments: &[&str], manifests: &str) {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("manifests.yaml");
        std::fs::write(&file, manifests).unwrap();
        let mut command = Command::new("kubectl");
        command.args(arguments).args(["apply", "--server-side", "--force-conflicts", "-f"]);
        Self::finish(command.arg(&file), &[manifests]);
    }

    fn finish(command: &mut Command, what: &[&str]) -> String {
        let output = command.output().expect("kubectl, as inside of a cluster of the test bed");
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "kubectl {}: {complaint}", what.join(" "));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

// === impl Agimo ===

/// What only the cluster tests ask of it.
impl Agimo {
    pub(crate) async fn until_ready(&self) {
        eventually("/readyz", || async {
            (self.admin("/readyz").await.status == 200).then_some(())
        })
        .await;
    }

    /// What `/services` says of this host.
    pub(crate) async fn shown(&self, host: &str) -> serde_json::Value {
        let page = self.admin("/services").await.text();
        let services: Vec<serde_json::Value> = serde_json::from_str(&page).unwrap();
        let found = services.into_iter().find(|service| service["host"] == host);
        found.unwrap_or_else(|| panic!("{host} in {page}"))
    }

    pub(crate) async fn until_reason(&self, host: &str, reason: &str) {
        let what = format!("{host} with the reason {reason}");
        eventually(&what, || async { (self.shown(host).await["reason"] == reason).then_some(()) })
            .await;
    }

    pub(crate) async fn until_ready_endpoints(&self, host: &str, count: u64) {
        let what = format!("{host} with {count} ready endpoints");
        eventually(&what, || async {
            (self.shown(host).await["ready_endpoints"] == count).then_some(())
        })
        .await;
    }

    /// How often it has woken this host's workload.
    pub(crate) async fn wakes(&self, host: &str) -> f64 {
        let sample = format!("agimo_wakes_total{{host=\"{host}\",result=\"ready\"}}");
        self.metric(&sample).await.unwrap()
    }

    pub(crate) async fn until_state(&self, host: &str, state: &str) {
        let what = format!("{host} {state}");
        eventually(&what, || async { (self.shown(host).await["state"] == state).then_some(()) })
            .await;
    }
}
