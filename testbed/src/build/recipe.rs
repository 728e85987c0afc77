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
    /// The Kubernetes module whose version, as `go.mod` requires it, the binary reports as its own.
    pub(super) reports_version_of: Option<&'static str>,
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

/// In the order in which they are built: the small ones first, so that a missing compiler or network shows at once.
pub(super) const RECIPES: &[Recipe] = &[
    Recipe {
        name: "pause",
        package: OWN,
        tags: "",
        reports_version_of: None,
        programs: &[],
        manifests_of: None,
        serves: Serves::EveryCluster,
        takes: "seconds",
    },
    Recipe {
        name: "sample",
        package: OWN,
        tags: "",
        reports_version_of: None,
        programs: &[],
        manifests_of: None,
        serves: Serves::EveryCluster,
        takes: "half a minute",
    },
    Recipe {
        name: "cni",
        package: TOOLS,
        tags: "",
        reports_version_of: None,
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
        reports_version_of: None,
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
        reports_version_of: Some("k8s.io/kubernetes"),
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
        reports_version_of: None,
        programs: &[program("coredns", "coredns")],
        manifests_of: None,
        serves: Serves::EveryCluster,
        takes: "about 3 minutes",
    },
    Recipe {
        name: "prometheus",
        package: TOOLS,
        tags: "remove_all_sd,enable_kubernetes_sd",
        reports_version_of: None,
        programs: &[],
        manifests_of: None,
        serves: Serves::AddOns,
        takes: "about 3 minutes",
    },
    Recipe {
        name: "keda",
        package: TOOLS,
        tags: "",
        reports_version_of: None,
        programs: &[],
        manifests_of: Some("github.com/kedacore/keda/v2"),
        serves: Serves::AddOns,
        takes: "about 7 minutes",
    },
    Recipe {
        name: "kube-state-metrics",
        package: TOOLS,
        tags: "",
        reports_version_of: None,
        programs: &[],
        manifests_of: None,
        serves: Serves::AddOns,
        takes: "about 2 minutes",
    },
    Recipe {
        name: "helm",
        package: TOOLS,
        tags: "",
        reports_version_of: None,
        programs: &[program("helm", "helm")],
        manifests_of: None,
        serves: Serves::EveryCluster,
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

    /// The value of `go build -ldflags`.
    pub(super) fn linker_flags(&self) -> Result<String, String> {
        let mut flags = "-s -w".to_owned();
        if let Some(module) = self.reports_version_of {
            let go_mod = self.sources().join("go.mod");
            let version = required_version(&files::read(&go_mod)?, module).and_then(version_flags);
            let version = version.ok_or_else(|| {
                format!("{} requires no release v1.2.3 of {module}", go_mod.display())
            })?;
            flags.push_str(&version);
        }
        Ok(flags)
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
        let flags = format!("{} {} {}", self.package, self.tags, self.linker_flags()?);
        pinned.push(("flags".to_owned(), flags.into_bytes()));
        pinned.push(("compiler".to_owned(), compiler.as_bytes().to_vec()));
        Ok(hash(pinned.iter().map(|(name, content)| (name.as_str(), content.as_slice()))))
    }
}

/// The version of a module that the text of a `go.mod` requires (Go Modules Reference, "require directive").
fn required_version<'a>(go_mod: &'a str, module: &str) -> Option<&'a str> {
    go_mod.lines().find_map(|line| {
        let line = line.split("//").next().unwrap_or_default().trim();
        let words: Vec<&str> = line.strip_prefix("require ").unwrap_or(line).split(' ').collect();
        match words[..] {
            [path, version] if path == module => Some(version),
            _ => None,
        }
    })
}

/// Sets the version that Kubernetes' programs report. Without it they report `v0.0.0-master`, which fails every check
/// for a minimum version.
fn version_flags(version: &str) -> Option<String> {
    const PACKAGE: &str = "k8s.io/component-base/version";
    let mut numbers = version.strip_prefix('v')?.split('.');
    let (major, minor) = (numbers.next()?, numbers.next()?);
    numbers.next()?;
    Some(format!(
        " -X {PACKAGE}.gitVersion={version} -X {PACKAGE}.gitMajor={major} -X {PACKAGE}.gitMinor={minor} \
         -X {PACKAGE}.gitTreeState=clean"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reported_version_is_the_required_one() {
        let go_mod = "require k8s.io/single v1.2.3\n\nrequire (\n\tk8s.io/kubernetes v1.37.2\n\
            \tk8s.io/other v0.1.0 // indirect\n)\n\nreplace k8s.io/replaced => k8s.io/replaced v0.9.0\n";
        assert_eq!(required_version(go_mod, "k8s.io/single"), Some("v1.2.3"));
        assert_eq!(required_version(go_mod, "k8s.io/kubernetes"), Some("v1.37.2"));
        assert_eq!(required_version(go_mod, "k8s.io/other"), Some("v0.1.0"));
        assert_eq!(required_version(go_mod, "k8s.io/replaced"), None);
        assert_eq!(
            version_flags("v1.37.2").as_deref(),
            Some(
                " -X k8s.io/component-base/version.gitVersion=v1.37.2 \
                 -X k8s.io/component-base/version.gitMajor=1 -X k8s.io/component-base/version.gitMinor=37 \
                 -X k8s.io/component-base/version.gitTreeState=clean"
            )
        );
        assert_eq!(version_flags("v1.37"), None);
        for recipe in RECIPES {
            let flags = recipe.linker_flags().unwrap();
            assert_eq!(flags.contains("gitVersion=v"), recipe.reports_version_of.is_some());
        }
    }

    #[test]
    fn pins_change_with_the_compiler_and_with_nothing_else() {
        for recipe in RECIPES {
            let pins = recipe.pins("go1.26.8").unwrap();
            assert_eq!(pins, recipe.pins("go1.26.8").unwrap(), "{}", recipe.name);
            assert_ne!(pins, recipe.pins("go1.26.9").unwrap(), "{}", recipe.name);
        }
    }

    #[test]
    fn every_program_of_the_node_is_built_for_every_cluster() {
        for recipe in RECIPES.iter().filter(|recipe| recipe.serves != Serves::EveryCluster) {
            assert!(recipe.programs.is_empty(), "{}", recipe.name);
        }
    }
}
