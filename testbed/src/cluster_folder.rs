//! The paths of a cluster's files: each cluster keeps everything in one folder below the temporary folder.

use std::env;
use std::path::{Path, PathBuf};

use crate::node::certificates::FRONT_PROXY;

/// The environment variable that tells programs inside a cluster where its folder is.
pub const FOLDER_VARIABLE: &str = "AGIMO_TESTBED";

/// The folder of one cluster.
#[derive(Clone, Debug, PartialEq)]
pub struct ClusterFolder {
    path: PathBuf,
    name: String,
}

// === impl ClusterFolder ===

impl ClusterFolder {
    /// The folder of the cluster of this name, whether it exists or not.
    pub fn named(name: &str) -> Result<ClusterFolder, String> {
        let has_valid_characters =
            name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        if name.is_empty() || name.len() > 40 || !has_valid_characters {
            return Err(format!(
                "`{name}` is not a valid cluster name: use 1 to 40 of the characters a-z, 0-9 and -"
            ));
        }
        Ok(ClusterFolder {
            path: env::temp_dir().join(format!("{PREFIX}{name}")),
            name: name.to_owned(),
        })
    }

    /// The folder of the cluster inside which this process runs.
    pub fn from_environment() -> Result<ClusterFolder, String> {
        let path = env::var_os(FOLDER_VARIABLE).map(PathBuf::from).ok_or_else(|| {
            format!(
                "{FOLDER_VARIABLE} is not set: run this inside a cluster, with `testbed enter NAME --`"
            )
        })?;
        let name = path.file_name().and_then(|name| name.to_str()?.strip_prefix(PREFIX));
        let name = name.ok_or_else(|| {
            format!("{FOLDER_VARIABLE} is not the folder of a cluster: {}", path.display())
        })?;
        Ok(ClusterFolder { name: name.to_owned(), path })
    }

    /// The folders of all clusters, by name.
    pub fn all() -> Vec<ClusterFolder> {
        let Ok(entries) = std::fs::read_dir(env::temp_dir()) else { return Vec::new() };
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let mut all: Vec<ClusterFolder> = names
            .filter_map(|name| ClusterFolder::named(name.strip_prefix(PREFIX)?).ok())
            .collect();
        all.sort_by(|one, other| one.name.cmp(&other.name));
        all
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Locked with flock(2) by the process that removes the cluster.
    pub(crate) fn lock(&self) -> PathBuf {
        self.path.join("lock")
    }

    /// Process ID of the owner: the cluster stops when the owner ends.
    pub(crate) fn owner_id(&self) -> PathBuf {
        self.path.join("owner.pid")
    }

    /// Process ID, outside the cluster, of the node's first process.
    pub(crate) fn node_id(&self) -> PathBuf {
        self.path.join("node.pid")
    }

    /// Exists once the cluster is ready for use.
    pub(crate) fn up(&self) -> PathBuf {
        self.path.join("up")
    }

    /// Exists if the cluster failed to start; contains the reason.
    pub(crate) fn failed(&self) -> PathBuf {
        self.path.join("failed")
    }

    pub fn kubeconfig(&self) -> PathBuf {
        self.path.join("kubeconfig")
    }

    /// The programs of the node, kubectl and helm among them.
    pub fn programs(&self) -> PathBuf {
        self.path.join("bin")
    }

    /// Archives of the images that are imported at the start (OCI image layout).
    pub fn images(&self) -> PathBuf {
        self.path.join("images")
    }

    pub(crate) fn manifests(&self) -> PathBuf {
        self.path.join("manifests")
    }

    pub(crate) fn config(&self) -> PathBuf {
        self.path.join("config")
    }

    /// Persistent data of the components: etcd's database, containers, certificates.
    pub(crate) fn state(&self, name: &str) -> PathBuf {
        self.path.join("state").join(name)
    }

    /// The certificate and the key by which the API server shows to an aggregated API who it is.
    pub fn front_proxy(&self) -> [PathBuf; 2] {
        let folder = self.state("certificates");
        ["crt", "key"].map(|end| folder.join(format!("{FRONT_PROXY}.{end}")))
    }

    pub fn logs(&self) -> PathBuf {
        self.path.join("log")
    }

    /// The logs of the pods.
    pub fn pod_logs(&self) -> PathBuf {
        self.path.join("state/var-log/pods")
    }

    pub(crate) fn log(&self, component: &str) -> PathBuf {
        self.logs().join(format!("{component}.log"))
    }

    /// The folder of a component. `pid` in it contains its process ID; while `down` exists, the supervisor does not
    /// start the component.
    pub(crate) fn component(&self, name: &str) -> PathBuf {
        self.path.join("components").join(name)
    }
}

/// The prefix of the folder name of every cluster.
const PREFIX: &str = "agimo-testbed-";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_lead_out_of_the_temporary_folder_are_rejected() {
        for name in ["", "..", "a/b", "A", "a b"] {
            assert!(ClusterFolder::named(name).is_err(), "{name}");
        }
        let folder = ClusterFolder::named("test-1").unwrap();
        assert_eq!(folder.path(), env::temp_dir().join("agimo-testbed-test-1"));
        assert_eq!(folder.log("etcd"), folder.path().join("log/etcd.log"));
    }
}
