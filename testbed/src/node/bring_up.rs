//! Brings the node from its first processes to a usable cluster, in fixed steps, and prints the progress. It runs once and
//! starts no component itself: it removes the `down` files that keep the supervisor from starting them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::components::{self, StartCondition};
use super::{ADDRESS, NAME};
use crate::cluster_folder::ClusterFolder;
use crate::files;
use crate::image::AGIMO_TAGS;

/// For each step; on a busy machine a step takes several seconds.
const STEP_TIMEOUT: Duration = Duration::from_secs(120);
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// Brings the cluster up and writes the file `up` or, with the reason, the file `failed`.
pub fn bring_up(folder: &ClusterFolder) -> Result<(), String> {
    let result = run_steps(folder);
    match &result {
        Ok(()) => files::write(&folder.up(), "")?,
        Err(reason) => files::write(&folder.failed(), reason)?,
    }
    result
}

fn run_steps(folder: &ClusterFolder) -> Result<(), String> {
    let started = Instant::now();
    let report = |what: &str| println!("  {:>5.1} s  {what}", started.elapsed().as_secs_f64());
    wait_for("containerd", folder, || subprocess::succeeds(ctr().arg("version")))?;
    report("containerd answers");
    let imports = start_imports(folder)?;
    wait_for("the API server", folder, || {
        subprocess::succeeds(kubectl(folder).args(["get", "--raw", "/readyz"]))
    })?;
    report("API server ready");
    for component in components::all(folder) {
        if component.start_condition == StartCondition::ApiServerReady {
            let down = folder.component(component.name).join("down");
            fs::remove_file(&down).map_err(files::with_path(&down))?;
        }
    }
    wait_for("the node's condition Ready", folder, || {
        node_field_is(folder, "{.status.conditions[?(@.type==\"Ready\")].status}", "True")
    })?;
    report("node ready");
    wait_for("the removal of the node's taints", folder, || {
        node_field_is(folder, "{.spec.taints}", "")
    })?;
    wait_for("the default service account", folder, || {
        subprocess::succeeds(kubectl(folder).args(["get", "serviceaccount", "default"]))
    })?;
    report("pods can be scheduled");
    for (archive, mut import) in imports {
        let status = import.wait().map_err(files::with_path(&archive))?;
        if !status.success() {
            return Err(format!(
                "`ctr images import {}` ended with {status}; see {}",
                archive.display(),
                folder.log("images").display()
            ));
        }
    }
    if folder.images().join("agimo.tar").exists() {
        subprocess::capture(ctr().args(["images", "tag"]).args(AGIMO_TAGS))?;
    }
    report("images imported");
    wait_for("the cluster's DNS", folder, || {
        subprocess::succeeds(
            Command::new("getent").args(["hosts", "kubernetes.default.svc.cluster.local"]),
        )
    })?;
    report("DNS answers");
    Ok(())
}

/// Starts all imports in parallel with the other steps: no image is needed before the first pod.
fn start_imports(folder: &ClusterFolder) -> Result<Vec<(PathBuf, Child)>, String> {
    let mut imports = Vec::new();
    let images = folder.images();
    let log = folder.log("images");
    let output = fs::File::create(&log).map_err(files::with_path(&log))?;
    for entry in fs::read_dir(&images).map_err(files::with_path(&images))? {
        let archive = entry.map_err(files::with_path(&images))?.path();
        let mut import = ctr();
        import.args(["images", "import", "--local"]).arg(&archive).stdout(Stdio::null());
        // To a log and not to the terminal, because every ctr also writes a warning about cgroup v1.
        import.stderr(output.try_clone().map_err(files::with_path(&log))?);
        imports.push((archive, subprocess::spawn(&mut import)?));
    }
    Ok(imports)
}

/// Imports an image archive into the node's containerd.
pub(crate) fn import_image(archive: &Path) -> Result<(), String> {
    subprocess::capture(ctr().args(["images", "import", "--local"]).arg(archive)).map(drop)
}

/// kubectl as the cluster's administrator.
pub(crate) fn kubectl(folder: &ClusterFolder) -> Command {
    let mut command = Command::new(folder.programs().join("kubectl"));
    command
        .env("KUBECONFIG", folder.kubeconfig())
        .env("KUBECACHEDIR", folder.state("home/kubectl"));
    command
}

/// ctr in the containerd namespace that the kubelet uses.
fn ctr() -> Command {
    let mut command = Command::new("ctr");
    command.args(["--address", "/run/containerd.sock", "--namespace", "k8s.io"]);
    command
}

fn node_field_is(folder: &ClusterFolder, path: &str, value: &str) -> bool {
    let format = format!("jsonpath={path}");
    let output = subprocess::capture(kubectl(folder).args(["get", "node", NAME, "-o", &format]));
    output.is_ok_and(|output| output.trim() == value)
}

fn wait_for(
    what: &str,
    folder: &ClusterFolder,
    mut condition: impl FnMut() -> bool,
) -> Result<(), String> {
    let deadline = Instant::now() + STEP_TIMEOUT;
    while !condition() {
        if Instant::now() > deadline {
            return Err(format!(
                "timed out after {} s waiting for {what} ({ADDRESS}); the logs are in {}",
                STEP_TIMEOUT.as_secs(),
                folder.logs().display()
            ));
        }
        thread::sleep(POLL_INTERVAL);
    }
    Ok(())
}
