//! Takes the node from its first processes to a cluster that can be used, in order, saying how far it is. It runs once
//! and starts nothing itself: it takes away what holds the parts back.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::parts::{self, Starts};
use super::{ADDRESS, NAME};
use crate::files;
use crate::folder::Folder;
use crate::image::NEXT_AGIMO;

/// How long each step may take; on a machine that is busy with other things it takes seconds.
const PATIENCE: Duration = Duration::from_secs(120);
const LOOK: Duration = Duration::from_millis(50);

/// Brings the cluster up and leaves the file `up` or `failed`.
pub fn bring_up(folder: &Folder) -> Result<(), String> {
    let result = steps(folder);
    match &result {
        Ok(()) => files::write(&folder.up(), "")?,
        Err(reason) => files::write(&folder.failed(), reason)?,
    }
    result
}

fn steps(folder: &Folder) -> Result<(), String> {
    let started = Instant::now();
    let say = |what: &str| println!("  {:>5.1} s  {what}", started.elapsed().as_secs_f64());
    until("containerd to answer", folder, || subprocess::succeeds(ctr().arg("version")))?;
    say("containerd answers");
    let imports = start_imports(folder)?;
    until("the API server to be ready", folder, || {
        subprocess::succeeds(kubectl(folder).args(["get", "--raw", "/readyz"]))
    })?;
    say("API ready");
    for part in parts::of(folder).iter().filter(|part| part.starts == Starts::WithTheApi) {
        let down = folder.part(part.name).join("down");
        fs::remove_file(&down).map_err(files::naming(&down))?;
    }
    until("the node to be Ready", folder, || {
        says(folder, "{.status.conditions[?(@.type==\"Ready\")].status}", "True")
    })?;
    say("node Ready");
    until("the node to be free of taints", folder, || says(folder, "{.spec.taints}", ""))?;
    until("the default service account", folder, || {
        subprocess::succeeds(kubectl(folder).args(["get", "serviceaccount", "default"]))
    })?;
    say("pods can be scheduled");
    for (archive, mut import) in imports {
        let status = import.wait().map_err(files::naming(&archive))?;
        if !status.success() {
            return Err(format!(
                "`ctr images import {}` ended with {status}; see {}",
                archive.display(),
                folder.log("images").display()
            ));
        }
    }
    if folder.images().join("agimo.tar").exists() {
        subprocess::capture(ctr().args(["images", "tag"]).args(NEXT_AGIMO))?;
    }
    say("images imported");
    until("the cluster's DNS", folder, || {
        subprocess::succeeds(
            Command::new("getent").args(["hosts", "kubernetes.default.svc.cluster.local"]),
        )
    })?;
    say("DNS answers");
    Ok(())
}

/// All at once, beside everything else: the first pod needs them, nothing before.
fn start_imports(folder: &Folder) -> Result<Vec<(PathBuf, Child)>, String> {
    let mut imports = Vec::new();
    let images = folder.images();
    let log = folder.log("images");
    let output = fs::File::create(&log).map_err(files::naming(&log))?;
    for entry in fs::read_dir(&images).map_err(files::naming(&images))? {
        let archive = entry.map_err(files::naming(&images))?.path();
        let mut import = ctr();
        import.args(["images", "import", "--local"]).arg(&archive).stdout(Stdio::null());
        // Beside its errors, ctr warns of cgroup v1 each time.
        import.stderr(output.try_clone().map_err(files::naming(&log))?);
        imports.push((archive, subprocess::spawn(&mut import)?));
    }
    Ok(imports)
}

/// Puts an image archive into the node's store.
pub(crate) fn import(archive: &std::path::Path) -> Result<(), String> {
    subprocess::capture(ctr().args(["images", "import", "--local"]).arg(archive)).map(drop)
}

/// kubectl as the cluster's administrator.
pub(crate) fn kubectl(folder: &Folder) -> Command {
    let mut command = Command::new(folder.programs().join("kubectl"));
    command
        .env("KUBECONFIG", folder.kubeconfig())
        .env("KUBECACHEDIR", folder.state("home/kubectl"));
    command
}

/// In the namespace in which the kubelet looks for images.
fn ctr() -> Command {
    let mut command = Command::new("ctr");
    command.args(["--address", "/run/containerd.sock", "--namespace", "k8s.io"]);
    command
}

fn says(folder: &Folder, path: &str, wanted: &str) -> bool {
    let output = format!("jsonpath={path}");
    let asked = subprocess::capture(kubectl(folder).args(["get", "node", NAME, "-o", &output]));
    asked.is_ok_and(|answer| answer.trim() == wanted)
}

fn until(what: &str, folder: &Folder, mut holds: impl FnMut() -> bool) -> Result<(), String> {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        if Instant::now() > deadline {
            return Err(format!(
                "waited {} s in vain for {what} ({ADDRESS}); the logs are in {}",
                PATIENCE.as_secs(),
                folder.logs().display()
            ));
        }
        thread::sleep(LOOK);
    }
    Ok(())
}
