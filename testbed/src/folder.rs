//! Where a cluster keeps what: the layout of its one folder. It creates nothing and asks nothing but the environment.

use std::env;
use std::path::{Path, PathBuf};

/// Names the folder to everything that runs inside the cluster.
pub const VARIABLE: &str = "AGIMO_TESTBED";

/// The folder of one cluster.
#[derive(Clone, Debug, PartialEq)]
pub struct Folder {
    path: PathBuf,
    name: String,
}

// === impl Folder ===

impl Folder {
    /// The folder of the cluster of this name, whether it is there or not.
    pub fn of(name: &str) -> Result<Folder, String> {
        let is_telling =
            name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        if name.is_empty() || name.len() > 40 || !is_telling {
            return Err(format!(
                "`{name}` cannot name a cluster: write up to 40 of a-z, 0-9 and -"
            ));
        }
        Ok(Folder { path: env::temp_dir().join(format!("{PREFIX}{name}")), name: name.to_owned() })
    }

    /// The folder of the cluster that this process runs inside of.
    pub fn around_us() -> Result<Folder, String> {
        let path = env::var_os(VARIABLE).map(PathBuf::from).ok_or_else(|| {
            format!(
                "{VARIABLE} is not set: run this inside a cluster, with `testbed enter NAME --`"
            )
        })?;
        let name = path.file_name().and_then(|name| name.to_str()?.strip_prefix(PREFIX));
        let name =
            name.ok_or_else(|| format!("{VARIABLE} is no cluster's folder: {}", path.display()))?;
        Ok(Folder { name: name.to_owned(), path })
    }

    /// Every cluster's folder that is there.
    pub fn all() -> Vec<Folder> {
        let Ok(entries) = std::fs::read_dir(env::temp_dir()) else { return Vec::new() };
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let mut all: Vec<Folder> =
            names.filter_map(|name| Folder::of(name.strip_prefix(PREFIX)?).ok()).collect();
        all.sort_by(|one, other| one.name.cmp(&other.name));
        all
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Held, by flock(2), by whoever has to clear this cluster away.
    pub(crate) fn lock(&self) -> PathBuf {
        self.path.join("lock")
    }

    /// The process whose end is the cluster's end.
    pub(crate) fn keeper_id(&self) -> PathBuf {
        self.path.join("keeper.pid")
    }

    /// The node's first process, as numbered outside.
    pub(crate) fn node_id(&self) -> PathBuf {
        self.path.join("node.pid")
    }

    /// There as soon as the cluster can be used.
    pub(crate) fn up(&self) -> PathBuf {
        self.path.join("up")
    }

    /// There when the cluster cannot come up; says why.
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

    pub(crate) fn images(&self) -> PathBuf {
        self.path.join("images")
    }

    pub(crate) fn manifests(&self) -> PathBuf {
        self.path.join("manifests")
    }

    pub(crate) fn config(&self) -> PathBuf {
        self.path.join("config")
    }

    /// What the parts keep: etcd's data, containers, certificates.
    pub(crate) fn state(&self, of: &str) -> PathBuf {
        self.path.join("state").join(of)
    }

    pub fn logs(&self) -> PathBuf {
        self.path.join("log")
    }

    /// The logs of the pods.
    pub fn pod_logs(&self) -> PathBuf {
        self.path.join("state/var-log/pods")
    }

    pub(crate) fn log(&self, of: &str) -> PathBuf {
        self.logs().join(format!("{of}.log"))
    }

    /// `pid` and `down` of a part.
    pub(crate) fn part(&self, name: &str) -> PathBuf {
        self.path.join("parts").join(name)
    }
}

/// What the names of all clusters' folders begin with.
const PREFIX: &str = "agimo-testbed-";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_would_leave_the_temporary_folder_are_refused() {
        for name in ["", "..", "a/b", "A", "a b"] {
            assert!(Folder::of(name).is_err(), "{name}");
        }
        let folder = Folder::of("test-1").unwrap();
        assert_eq!(folder.path(), env::temp_dir().join("agimo-testbed-test-1"));
        assert_eq!(folder.log("etcd"), folder.path().join("log/etcd.log"));
    }
}
