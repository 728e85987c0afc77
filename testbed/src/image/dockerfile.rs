//! agimo's own image, from the Dockerfile that users build from, so that what is tested is what they get. It fetches
//! nothing and leaves nothing on the machine but the archive.

use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::process::Command;

use rustix::mount::mount_bind;

use crate::files;

/// The stage that copies a binary which is there already.
const STAGE: &str = "prebuilt";

/// Writes the image of this binary, under this name, to `archive`.
pub(super) fn build(binary: &Path, reference: &str, archive: &Path) -> Result<(), String> {
    let scratch = archive.with_extension("scratch");
    files::create_folder(&scratch.join("context"))?;
    files::create_folder(&scratch.join("var-lib"))?;
    fs::copy(binary, scratch.join("context/agimo")).map_err(files::naming(binary))?;
    let this = std::env::current_exe().map_err(|error| format!("finding testbed: {error}"))?;
    let mut alone = Command::new("unshare");
    alone.args(["--mount", "--propagation", "private", "--"]).arg(this).arg("build-image");
    // The first word is where a command's cluster usually stands.
    subprocess::capture(alone.arg(reference).arg("--").arg(&scratch).arg(archive))?;
    fs::remove_dir_all(&scratch).map_err(files::naming(&scratch))
}

/// What `build` starts in a mount namespace of its own: buildah writes to /var/lib/containers whatever `--root` says.
pub fn build_alone(reference: &str, paths: &[OsString]) -> Result<(), String> {
    let [scratch, archive] = paths else {
        return Err("build-image needs two paths".to_owned());
    };
    let scratch = Path::new(scratch);
    mount_bind(scratch.join("var-lib"), "/var/lib")
        .map_err(|error| format!("mounting over /var/lib: {error}"))?;
    let dockerfile = Path::new(env!("CARGO_MANIFEST_DIR")).join("../Dockerfile");
    let mut build = buildah();
    build.args(["build", "--isolation", "chroot", "--timestamp", "0", "--target", STAGE]);
    build.args(["--tag", reference, "--file"]).arg(dockerfile).arg(scratch.join("context"));
    subprocess::capture(&mut build)?;
    let mut target = OsString::from("oci-archive:");
    target.push(archive);
    target.push(format!(":{reference}"));
    subprocess::capture(buildah().args(["push", reference]).arg(target)).map(drop)
}

fn buildah() -> Command {
    let mut command = Command::new("buildah");
    command.args([
        "--root",
        "/var/lib/store",
        "--runroot",
        "/var/lib/run",
        "--storage-driver",
        "vfs",
    ]);
    command
}
