//! Installs the add-ons that some tests need: KEDA, Prometheus and kube-state-metrics. Their manifests are in
//! `testbed/addons/` and in KEDA's Go module. Of prometheus-adapter only the image is there: a cluster has one API for external
//! metrics, and it belongs to KEDA until a test takes it away.

use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::build::{BuildScope, BuiltBinaries, RequiredBy, build};
use crate::cluster_folder::ClusterFolder;
use crate::node::{import_image, kubectl};
use crate::{cluster, files, image};

const KEDA: &str = include_str!("../addons/keda.yaml");
const MONITORING: &str = include_str!("../addons/monitoring.yaml");
/// As `kubectl wait` expects it.
const AVAILABLE_TIMEOUT: &str = "120s";
const SCRAPE_TIMEOUT: Duration = Duration::from_secs(60);

/// The end of Prometheus' answer when it scrapes two targets: itself and kube-state-metrics.
const TWO_TARGETS: &str = "\"2\"]";

/// Writes the manifests and images to the cluster's folder, unless they are there already.
fn fill_folder(folder: &ClusterFolder, binaries: &BuiltBinaries) -> Result<(), String> {
    let manifests = folder.manifests();
    if manifests.exists() {
        return Ok(());
    }
    let keda = manifests.join("keda");
    files::copy_folder(&binaries.folder("keda")?.join("manifests"), &keda)?;
    files::write(&keda.join("kustomization.yaml"), KEDA)?;
    files::write(&manifests.join("monitoring.yaml"), MONITORING)?;
    let images = manifests.join("images");
    files::create_folder(&images)?;
    image::link_images(binaries, RequiredBy::AddOns, &images)
}

/// Builds the add-ons that the cache does not hold and installs them into a cluster. Called outside the cluster.
pub fn install_into(folder: &ClusterFolder) -> Result<(), String> {
    fill_folder(folder, &build(BuildScope::ClusterAndAddOns)?)?;
    let testbed = std::env::current_exe().map_err(|error| format!("finding testbed: {error}"))?;
    let command = [testbed.into_os_string(), OsString::from("install-addons")];
    subprocess::run(&mut cluster::command_inside(folder, &command)?)
}

/// Installs the add-ons into the cluster inside which this process runs, and waits until all of them are available.
/// A second call only waits.
pub fn install() -> Result<(), String> {
    let folder = ClusterFolder::from_environment()?;
    let started = Instant::now();
    let report = |what: &str| println!("  {:>5.1} s  {what}", started.elapsed().as_secs_f64());
    let manifests = folder.manifests();
    let images = manifests.join("images");
    for entry in fs::read_dir(&images).map_err(files::with_path(&images))? {
        import_image(&entry.map_err(files::with_path(&images))?.path())?;
    }
    report("images of the add-ons imported");
    apply(&folder, "-k", &manifests.join("keda"))?;
    apply(&folder, "-f", &manifests.join("monitoring.yaml"))?;
    report("add-ons applied");
    let mut waits: Vec<(Command, Child)> = Vec::new();
    for (namespace, object) in [
        ("monitoring", "deployment/prometheus"),
        ("monitoring", "deployment/kube-state-metrics"),
        ("keda", "deployment/keda-operator"),
        ("keda", "deployment/keda-metrics-apiserver"),
        ("keda", "apiservice/v1beta1.external.metrics.k8s.io"),
    ] {
        let mut wait = kubectl(&folder);
        wait.args(["wait", "--for=condition=Available", "--timeout", AVAILABLE_TIMEOUT]);
        wait.args(["--namespace", namespace, object]).stdout(Stdio::null());
        let child = subprocess::spawn(&mut wait)?;
        waits.push((wait, child));
    }
    for (command, mut child) in waits {
        let status = child.wait().map_err(|error| format!("waiting for kubectl: {error}"))?;
        if !status.success() {
            return Err(format!("`{}` ended with {status}", subprocess::command_line(&command)));
        }
    }
    report("KEDA, Prometheus and kube-state-metrics are available");
    wait_until_scraped(&folder)?;
    report("Prometheus scrapes the add-ons");
    Ok(())
}

/// Server-side, because KEDA's custom resource definitions exceed the size limit of the annotation that client-side
/// apply writes.
fn apply(folder: &ClusterFolder, option: &str, path: &Path) -> Result<(), String> {
    let mut apply = kubectl(folder);
    apply.args(["apply", "--server-side", "--force-conflicts", option]).arg(path);
    subprocess::capture(&mut apply).map(drop)
}

fn wait_until_scraped(folder: &ClusterFolder) -> Result<(), String> {
    const QUERY: &str = "/api/v1/namespaces/monitoring/services/prometheus:9090/proxy/api/v1/query?query=\
        count(up%7Bnamespace%3D%22monitoring%22%7D==1)";
    let deadline = Instant::now() + SCRAPE_TIMEOUT;
    loop {
        let answer = subprocess::capture(kubectl(folder).args(["get", "--raw", QUERY]));
        if answer.as_ref().is_ok_and(|answer| answer.contains(TWO_TARGETS)) {
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err(format!("Prometheus does not scrape the add-ons: {answer:?}"));
        }
        thread::sleep(Duration::from_millis(100));
    }
}
