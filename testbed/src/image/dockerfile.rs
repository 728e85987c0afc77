//! agimo's image, built from the Dockerfile that users build from, so that the tests run the image that users get. The
//! build needs no network and leaves only the archive on the machine.

use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::process::Command;

use rustix::mount::mount_bind;

use crate::files;

/// The stage of the Dockerfile that copies an existing binary.
const STAGE: &str = "prebuilt";

/// Writes the image of this binary, with this reference as its name, to `archive`.
pub(super) fn build(binary: &Path, reference: &str, archive: &Path) -> Result<(), String> {
    let scratch = archive.with_extension("scratch");
    files::create_folder(&scratch.join("context"))?;
    files::create_folder(&scratch.join("var-lib"))?;
    fs::copy(binary, scratch.join("context/agimo")).map_err(files::with_path(binary))?;
    let testbed = std::env::current_exe().map_err(|error| format!("finding testbed: {error}"))?;
    let mut unshare = Command::new("unshare");
    unshare.args(["--mount", "--propagation", "private", "--"]).arg(testbed).arg("build-image");
    // The reference takes the place of the cluster's name in the arguments.
    subprocess::capture(unshare.arg(reference).arg("--").arg(&scratch).arg(archive))?;
    fs::remove_dir_all(&scratch).map_err(files::with_path(&scratch))
}

/// The part of `build` that runs in its own mount namespace, because buildah writes to /var/lib/containers in spite of
/// `--root`.
pub fn build_in_own_namespace(reference: &str, paths: &[OsString]) -> Result<(), String> {
    let [scratch, archive] = paths else {
        return Err("build-image requires two paths".to_owned());
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
