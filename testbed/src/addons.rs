//! KEDA, Prometheus and kube-state-metrics, for the tests that need them. They come from manifests beside `src/` and
//! from KEDA's own; nothing is applied that was not asked for.

use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::build::{Built, Extent, build};
use crate::cluster;
use crate::files;
use crate::folder::Folder;
use crate::image::{self, Use};
use crate::node::{import, kubectl};

const KEDA: &str = include_str!("../addons/keda.yaml");
const MONITORING: &str = include_str!("../addons/monitoring.yaml");
const PATIENCE: &str = "120s";

/// How many targets Prometheus has once it sees the add-ons: itself and kube-state-metrics.
const TARGETS: &str = "\"2\"]";

/// Puts manifests and images where they are found inside, unless they are there.
fn furnish(folder: &Folder, built: &Built) -> Result<(), String> {
    let manifests = folder.manifests();
    if manifests.exists() {
        return Ok(());
    }
    let keda = manifests.join("keda");
    files::copy_folder(&built.folder("keda")?.join("manifests"), &keda)?;
    files::write(&keda.join("kustomization.yaml"), KEDA)?;
    files::write(&manifests.join("monitoring.yaml"), MONITORING)?;
    let images = manifests.join("images");
    files::create_folder(&images)?;
    image::provide(built, Use::AddOns, &images)
}

/// Builds what is not built yet and installs all of them into a cluster, from outside.
pub fn install_into(folder: &Folder) -> Result<(), String> {
    furnish(folder, &build(Extent::WithAddOns)?)?;
    let this = std::env::current_exe().map_err(|error| format!("finding testbed: {error}"))?;
    let inside = [this.into_os_string(), OsString::from("install-addons")];
    subprocess::run(&mut cluster::entering(folder, &inside)?)
}

/// Installs them into the cluster around this process and waits until every one of them works; a second call only
/// waits.
pub fn install() -> Result<(), String> {
    let folder = Folder::around_us()?;
    let started = Instant::now();
    let say = |what: &str| println!("  {:>5.1} s  {what}", started.elapsed().as_secs_f64());
    let manifests = folder.manifests();
    let images = manifests.join("images");
    for entry in fs::read_dir(&images).map_err(files::naming(&images))? {
        import(&entry.map_err(files::naming(&images))?.path())?;
    }
    say("images of the add-ons imported");
    apply(&folder, "-k", &manifests.join("keda"))?;
    apply(&folder, "-f", &manifests.join("monitoring.yaml"))?;
    say("add-ons applied");
    let mut waits: Vec<(Command, Child)> = Vec::new();
    for (namespace, what) in [
        ("monitoring", "deployment/prometheus"),
        ("monitoring", "deployment/kube-state-metrics"),
        ("keda", "deployment/keda-operator"),
        ("keda", "deployment/keda-metrics-apiserver"),
        ("keda", "apiservice/v1beta1.external.metrics.k8s.io"),
    ] {
        let mut wait = kubectl(&folder);
        wait.args(["wait", "--for=condition=Available", "--timeout", PATIENCE]);
        wait.args(["--namespace", namespace, what]).stdout(Stdio::null());
        let child = subprocess::spawn(&mut wait)?;
        waits.push((wait, child));
    }
    for (command, mut child) in waits {
        let status = child.wait().map_err(|error| format!("waiting for kubectl: {error}"))?;
        if !status.success() {
            return Err(format!("`{}` ended with {status}", subprocess::command_line(&command)));
        }
    }
    say("KEDA, Prometheus and kube-state-metrics are available");
    until_scraped(&folder)?;
    say("Prometheus has scraped them");
    Ok(())
}

/// On the server's side: KEDA's definitions are too large for the annotation of the other way.
fn apply(folder: &Folder, option: &str, what: &Path) -> Result<(), String> {
    let mut apply = kubectl(folder);
    apply.args(["apply", "--server-side", "--force-conflicts", option]).arg(what);
    subprocess::capture(&mut apply).map(drop)
}

fn until_scraped(folder: &Folder) -> Result<(), String> {
    const QUERY: &str = "/api/v1/namespaces/monitoring/services/prometheus:9090/proxy/api/v1/query?query=\
        count(up%7Bnamespace%3D%22monitoring%22%7D==1)";
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let answer = subprocess::capture(kubectl(folder).args(["get", "--raw", QUERY]));
        if answer.as_ref().is_ok_and(|answer| answer.contains(TARGETS)) {
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err(format!("Prometheus does not scrape the add-ons: {answer:?}"));
        }
        thread::sleep(Duration::from_millis(100));
    }
}
