//! What is built, and from which pins. The versions are in the `go.mod` beside each recipe's sources, never here.

use std::fs;
use std::path::{Path, PathBuf};

use super::cache::hash;
use crate::files;

/// One Go module of ours and how it is built.
pub(super) struct Recipe {
    /// Also its folder beside `src/`.
    pub(super) name: &'static str,
    /// What `go build` is given: this module's own package, or the tools that its `go.mod` lists.
    pub(super) package: &'static str,
    pub(super) tags: &'static str,
    /// Beyond `-s -w`.
    pub(super) linker: &'static str,
    pub(super) programs: &'static [Program],
    /// The module whose `config/` is kept beside the binaries.
    pub(super) manifests_of: Option<&'static str>,
    pub(super) serves: Serves,
    /// For the impatient, on two cores.
    pub(super) takes: &'static str,
}

/// What cannot do without it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Serves {
    EveryCluster,
    AddOns,
}

/// A binary, and what the node calls it by.
pub(super) struct Program {
    pub(super) binary: &'static str,
    pub(super) called: &'static str,
}

const OWN: &str = ".";
const TOOLS: &str = "tool";

/// Without these, clients read `v0.0.0-master` and refuse what is newer.
const KUBERNETES_VERSION: &str = "-X k8s.io/component-base/version.gitVersion=v1.37.2 \
    -X k8s.io/component-base/version.gitMajor=1 -X k8s.io/component-base/version.gitMinor=37 \
    -X k8s.io/component-base/version.gitTreeState=clean";

/// In the order in which they are built: the small ones first, so that a missing compiler or network shows at once.
pub(super) const RECIPES: &[Recipe] = &[
    Recipe {
        name: "pause",
        package: OWN,
        tags: "",
        linker: "",
        programs: &[],
        manifests_of: None,
        serves: Serves::EveryCluster,
        takes: "seconds",
    },
    Recipe {
        name: "sample",
        package: OWN,
        tags: "",
        linker: "",
        programs: &[],
        manifests_of: None,
        serves: Serves::EveryCluster,
        takes: "half a minute",
    },
    Recipe {
        name: "cni",
        package: TOOLS,
        tags: "",
        linker: "",
        programs: &[
            program("host-local", "cni/host-local"),
            program("loopback", "cni/loopback"),
            program("ptp", "cni/ptp"),
        ],
        manifests_of: None,
        serves: Serves::EveryCluster,
        takes: "half a minute",
    },
    Recipe {
        name: "containerd",
        package: TOOLS,
        tags: "no_btrfs no_devmapper no_zfs",
        linker: "",
        programs: &[
            program("containerd", "containerd"),
            program("containerd-shim-runc-v2", "containerd-shim-runc-v2"),
            program("ctr", "ctr"),
        ],
        manifests_of: None,
        serves: Serves::EveryCluster,
        takes: "about 2 minutes",
    },
    Recipe {
        name: "kubernetes",
        package: OWN,
        tags: "",
        linker: KUBERNETES_VERSION,
        programs: &[
            program("kubernetes", "etcd"),
            program("kubernetes", "kube-apiserver"),
            program("kubernetes", "kube-controller-manager"),
            program("kubernetes", "kube-proxy"),
            program("kubernetes", "kube-scheduler"),
            program("kubernetes", "kubectl"),
            program("kubernetes", "kubelet"),
        ],
        manifests_of: None,
        serves: Serves::EveryCluster,
        takes: "about 10 minutes",
    },
    Recipe {
        name: "coredns",
        package: OWN,
        tags: "",
        linker: "",
        programs: &[program("coredns", "coredns")],
        manifests_of: None,
        serves: Serves::EveryCluster,
        takes: "about 3 minutes",
    },
    Recipe {
        name: "prometheus",
        package: TOOLS,
        tags: "remove_all_sd,enable_kubernetes_sd",
        linker: "",
        programs: &[],
        manifests_of: None,
        serves: Serves::AddOns,
        takes: "about 3 minutes",
    },
    Recipe {
        name: "keda",
        package: TOOLS,
        tags: "",
        linker: "",
        programs: &[],
        manifests_of: Some("github.com/kedacore/keda/v2"),
        serves: Serves::AddOns,
        takes: "about 7 minutes",
    },
    Recipe {
        name: "kube-state-metrics",
        package: TOOLS,
        tags: "",
        linker: "",
        programs: &[],
        manifests_of: None,
        serves: Serves::AddOns,
        takes: "about 2 minutes",
    },
    Recipe {
        name: "helm",
        package: TOOLS,
        tags: "",
        linker: "",
        programs: &[program("helm", "helm")],
        manifests_of: None,
        serves: Serves::AddOns,
        takes: "about 4 minutes",
    },
];

const fn program(binary: &'static str, called: &'static str) -> Program {
    Program { binary, called }
}

// === impl Recipe ===

impl Recipe {
    /// Where its `go.mod` is.
    pub(super) fn sources(&self) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join(self.name)
    }

    pub(super) fn linker_flags(&self) -> String {
        format!("-s -w {}", self.linker).trim().to_owned()
    }

    /// The hash of everything that decides what comes out: sources, pins, flags, compiler.
    pub(super) fn pins(&self, compiler: &str) -> Result<String, String> {
        let sources = self.sources();
        let mut names: Vec<String> = fs::read_dir(&sources)
            .map_err(files::naming(&sources))?
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .filter(|name| name.ends_with(".go") || name == "go.mod" || name == "go.sum")
            .collect();
        names.sort();
        if !names.iter().any(|name| name == "go.mod") {
            return Err(format!("{} has no go.mod", sources.display()));
        }
        let mut pinned: Vec<(String, Vec<u8>)> = Vec::new();
        for name in names {
            let content = files::read_bytes(&sources.join(&name))?;
            pinned.push((name, content));
        }
        let flags = format!("{} {} {}", self.package, self.tags, self.linker_flags());
        pinned.push(("flags".to_owned(), flags.into_bytes()));
        pinned.push(("compiler".to_owned(), compiler.as_bytes().to_vec()));
        Ok(hash(pinned.iter().map(|(name, content)| (name.as_str(), content.as_slice()))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pins_change_with_the_compiler_and_with_nothing_else() {
        for recipe in RECIPES {
            let pins = recipe.pins("go1.26.8").unwrap();
            assert_eq!(pins, recipe.pins("go1.26.8").unwrap(), "{}", recipe.name);
            assert_ne!(pins, recipe.pins("go1.26.9").unwrap(), "{}", recipe.name);
        }
    }
}
