//! The Go modules that are built, and how. Versions are in the `go.mod` of each module, never here.

use std::fs;
use std::path::{Path, PathBuf};

use super::RequiredBy;
use super::cache::hash;
use crate::files;

/// A Go module below `testbed/` and how it is built.
pub(super) struct Recipe {
    /// Also the name of the module's folder below `testbed/`.
    pub(super) name: &'static str,
    /// The argument of `go build`: the main package of the module, or the tools that its `go.mod` lists.
    pub(super) package: &'static str,
    pub(super) tags: &'static str,
    /// The Kubernetes module whose version, as `go.mod` requires it, the binary reports as its own.
    pub(super) reports_version_of: Option<&'static str>,
    pub(super) programs: &'static [Program],
    /// The module whose `config/` folder is stored with the binaries.
    pub(super) manifests_of: Option<&'static str>,
    pub(super) required_by: RequiredBy,
    /// How long the build takes on two cores, printed when it begins.
    pub(super) usual_duration: &'static str,
}

/// A binary, and the name of the link by which the node starts it.
pub(super) struct Program {
    pub(super) binary: &'static str,
    pub(super) link_name: &'static str,
}

const MAIN_PACKAGE: &str = ".";
const TOOLS_OF_GO_MOD: &str = "tool";

/// In the order in which they are built: small modules first, so that a missing compiler or network is reported early.
pub(super) const RECIPES: &[Recipe] = &[
    Recipe {
        name: "pause",
        package: MAIN_PACKAGE,
        tags: "",
        reports_version_of: None,
        programs: &[],
        manifests_of: None,
        required_by: RequiredBy::EveryCluster,
        usual_duration: "seconds",
    },
    Recipe {
        name: "sample",
        package: MAIN_PACKAGE,
        tags: "",
        reports_version_of: None,
        programs: &[],
        manifests_of: None,
        required_by: RequiredBy::EveryCluster,
        usual_duration: "half a minute",
    },
    Recipe {
        name: "cni",
        package: TOOLS_OF_GO_MOD,
        tags: "",
        reports_version_of: None,
        programs: &[
            program("host-local", "cni/host-local"),
            program("loopback", "cni/loopback"),
            program("ptp", "cni/ptp"),
        ],
        manifests_of: None,
        required_by: RequiredBy::EveryCluster,
        usual_duration: "half a minute",
    },
    Recipe {
        name: "containerd",
        package: TOOLS_OF_GO_MOD,
        tags: "no_btrfs no_devmapper no_zfs",
        reports_version_of: None,
        programs: &[
            program("containerd", "containerd"),
            program("containerd-shim-runc-v2", "containerd-shim-runc-v2"),
            program("ctr", "ctr"),
        ],
        manifests_of: None,
        required_by: RequiredBy::EveryCluster,
        usual_duration: "about 2 minutes",
    },
    Recipe {
        name: "kubernetes",
        package: MAIN_PACKAGE,
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
        required_by: RequiredBy::EveryCluster,
        usual_duration: "about 10 minutes",
    },
    Recipe {
        name: "coredns",
        package: MAIN_PACKAGE,
        tags: "",
        reports_version_of: None,
        programs: &[program("coredns", "coredns")],
        manifests_of: None,
        required_by: RequiredBy::EveryCluster,
        usual_duration: "about 3 minutes",
    },
    Recipe {
        name: "prometheus",
        package: TOOLS_OF_GO_MOD,
        tags: "remove_all_sd,enable_kubernetes_sd",
        reports_version_of: None,
        programs: &[],
        manifests_of: None,
        required_by: RequiredBy::AddOns,
        usual_duration: "about 3 minutes",
    },
    Recipe {
        name: "keda",
        package: TOOLS_OF_GO_MOD,
        tags: "",
        reports_version_of: None,
        programs: &[],
        manifests_of: Some("github.com/kedacore/keda/v2"),
        required_by: RequiredBy::AddOns,
        usual_duration: "about 7 minutes",
    },
    Recipe {
        name: "kube-state-metrics",
        package: TOOLS_OF_GO_MOD,
        tags: "",
        reports_version_of: None,
        programs: &[],
        manifests_of: None,
        required_by: RequiredBy::AddOns,
        usual_duration: "about 2 minutes",
    },
    Recipe {
        name: "prometheus-adapter",
        package: TOOLS_OF_GO_MOD,
        tags: "",
        reports_version_of: None,
        programs: &[],
        manifests_of: None,
        required_by: RequiredBy::AddOns,
        usual_duration: "about 3 minutes",
    },
    Recipe {
        name: "helm",
        package: TOOLS_OF_GO_MOD,
        tags: "",
        reports_version_of: None,
        programs: &[program("helm", "helm")],
        manifests_of: None,
        required_by: RequiredBy::EveryCluster,
        usual_duration: "about 4 minutes",
    },
];

const fn program(binary: &'static str, link_name: &'static str) -> Program {
    Program { binary, link_name }
}

// === impl Recipe ===

impl Recipe {
    /// The folder of the module.
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

    /// The hash of everything that determines the binaries: sources, pinned versions, flags, compiler.
    pub(super) fn cache_key(&self, compiler: &str) -> Result<String, String> {
        let sources = self.sources();
        let mut names: Vec<String> = fs::read_dir(&sources)
            .map_err(files::with_path(&sources))?
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .filter(|name| name.ends_with(".go") || name == "go.mod" || name == "go.sum")
            .collect();
        names.sort();
        if !names.iter().any(|name| name == "go.mod") {
            return Err(format!("{} has no go.mod", sources.display()));
        }
        let mut inputs: Vec<(String, Vec<u8>)> = Vec::new();
        for name in names {
            let content = files::read_bytes(&sources.join(&name))?;
            inputs.push((name, content));
        }
        let flags = format!("{} {} {}", self.package, self.tags, self.linker_flags()?);
        inputs.push(("flags".to_owned(), flags.into_bytes()));
        inputs.push(("compiler".to_owned(), compiler.as_bytes().to_vec()));
        Ok(hash(inputs.iter().map(|(name, content)| (name.as_str(), content.as_slice()))))
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
    fn the_cache_key_is_stable_and_depends_on_the_compiler() {
        for recipe in RECIPES {
            let key = recipe.cache_key("go1.26.8").unwrap();
            assert_eq!(key, recipe.cache_key("go1.26.8").unwrap(), "{}", recipe.name);
            assert_ne!(key, recipe.cache_key("go1.26.9").unwrap(), "{}", recipe.name);
        }
    }

    #[test]
    fn every_program_of_the_node_is_built_for_every_cluster() {
        for recipe in RECIPES.iter().filter(|recipe| recipe.required_by != RequiredBy::EveryCluster)
        {
            assert!(recipe.programs.is_empty(), "{}", recipe.name);
        }
    }
}
