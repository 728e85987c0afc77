//! The programs that tests and clusters are made of: finds out which are missing and has apt install them. It never
//! installs anything before it has named it, and never starts a service.

use std::process::Command;

use crate::workspace;

/// Installs without starting what it installs: Debian's nginx would take port 80, its prometheus port 9090.
const INSTALL_SCRIPT: &str = "xtask/src/packages/install.sh";

/// A program and the Debian package that brings it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Needed {
    program: &'static str,
    package: &'static str,
}

/// What the tests run agimo against.
pub(crate) const OF_TESTS: &[Needed] = &[
    // Upstream application in the tests, and the proxy the benchmark measures beside agimo.
    Needed { program: "nginx", package: "nginx-light" },
    // The other proxy of the benchmark.
    Needed { program: "haproxy", package: "haproxy" },
    // `promtool check metrics` judges the metrics page.
    Needed { program: "promtool", package: "prometheus" },
    // Opens the demo's page as a user would.
    Needed { program: "chromium", package: "chromium" },
    // `python3 -m http.server` as application under test.
    Needed { program: "python3", package: "python3" },
    // A WebSocket server that is not ours.
    Needed { program: "node", package: "nodejs" },
];

/// What a cluster's node uses of the machine; everything else of it is built from source.
pub(crate) const OF_CLUSTERS: &[Needed] = &[
    // Runs containers for containerd.
    Needed { program: "runc", package: "runc" },
    // kube-proxy's rules, and the cuts between pods that tests make.
    Needed { program: "nft", package: "nftables" },
    // kube-proxy forgets connections to endpoints that are gone with it.
    Needed { program: "conntrack", package: "conntrack" },
    // The node's addresses and routes.
    Needed { program: "ip", package: "iproute2" },
    // The keys of service accounts and of the API server's aggregation.
    Needed { program: "openssl", package: "openssl" },
    // Makes agimo's image from the Dockerfile.
    Needed { program: "buildah", package: "buildah" },
    // Namespaces and the way into them.
    Needed { program: "unshare", package: "util-linux" },
    Needed { program: "nsenter", package: "util-linux" },
];

/// Makes sure that every one of these programs is there.
pub(crate) fn install_missing(needed: &[&'static [Needed]]) -> Result<(), String> {
    let needed = needed.concat();
    let missing = missing(&needed, workspace::is_installed);
    if missing.is_empty() {
        return Ok(());
    }
    let packages: Vec<&str> = missing.iter().map(|needed| needed.package).collect();
    println!("missing, to be installed by apt: {}", packages.join(" "));
    subprocess::run(&mut installer(&packages)?)?;
    match self::missing(&needed, workspace::is_installed).first() {
        None => Ok(()),
        Some(Needed { program, package }) => Err(format!(
            "apt installed {package}, and yet there is no `{program}` in PATH or /usr/sbin"
        )),
    }
}

/// The parts of the toolchain that formatting and lints need.
pub(crate) fn install_components() -> Result<(), String> {
    for (component, subcommand) in [("rustfmt", "fmt"), ("clippy", "clippy")] {
        if !subprocess::succeeds(&mut workspace::cargo(&[subcommand, "--version"])) {
            println!("missing in the toolchain, to be installed by rustup: {component}");
            subprocess::run(workspace::program("rustup").args(["component", "add", component]))?;
        }
    }
    Ok(())
}

fn missing(needed: &[Needed], is_installed: impl Fn(&str) -> bool) -> Vec<&Needed> {
    needed.iter().filter(|needed| !is_installed(needed.program)).collect()
}

/// The command that installs, as root or through a sudo that asks no password; an error says what to type instead.
fn installer(packages: &[&str]) -> Result<Command, String> {
    let by_hand = format!("apt-get install -y --no-install-recommends {}", packages.join(" "));
    if !workspace::is_installed("apt-get") {
        return Err(format!("this machine has no apt-get; install what `{by_hand}` would install"));
    }
    let is_root = subprocess::capture(workspace::program("id").arg("-u"))?.trim() == "0";
    let mut command = if is_root {
        workspace::program("sh")
    } else if subprocess::succeeds(workspace::program("sudo").args(["-n", "true"])) {
        let mut sudo = workspace::program("sudo");
        sudo.args(["-n", "sh"]);
        sudo
    } else {
        return Err(format!("installing needs root; run: sudo apt-get update && sudo {by_hand}"));
    };
    command.arg(INSTALL_SCRIPT).args(packages);
    Ok(command)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_missing_is_installed() {
        assert_eq!(missing(OF_TESTS, |_| true), Vec::<&Needed>::new());
        assert_eq!(missing(OF_CLUSTERS, |_| false).len(), OF_CLUSTERS.len());
        let missing = missing(OF_TESTS, |program| program != "promtool");
        assert_eq!(missing, [&Needed { program: "promtool", package: "prometheus" }]);
    }
}
