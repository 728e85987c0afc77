//! Installs, with apt and rustup, the programs that tests and clusters need and that are missing. It prints what it
//! installs first, and starts no service.

use std::process::Command;

use crate::workspace;

/// Installs packages without starting their services: Debian's nginx would occupy port 80, its prometheus port 9090.
const INSTALL_SCRIPT: &str = "xtask/src/packages/install.sh";

/// A program and the Debian package that contains it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct RequiredProgram {
    program: &'static str,
    package: &'static str,
}

/// The programs that the tests and the benchmark need.
pub(crate) const FOR_TESTS: &[RequiredProgram] = &[
    // An upstream application of the tests, and a proxy that the benchmark compares with agimo.
    RequiredProgram { program: "nginx", package: "nginx-light" },
    // The other proxy of the benchmark.
    RequiredProgram { program: "haproxy", package: "haproxy" },
    // `promtool check metrics` validates the metrics page.
    RequiredProgram { program: "promtool", package: "prometheus" },
    // Opens the page of the demo in a browser.
    RequiredProgram { program: "chromium", package: "chromium" },
    // `python3 -m http.server` is an upstream application of the tests.
    RequiredProgram { program: "python3", package: "python3" },
    // Installs the Python packages of the conformance tests.
    RequiredProgram { program: "pip3", package: "python3-pip" },
    // A client of TLS that shows what was agreed on.
    RequiredProgram { program: "openssl", package: "openssl" },
    // Clients of HTTP/2.
    RequiredProgram { program: "curl", package: "curl" },
    RequiredProgram { program: "nghttp", package: "nghttp2-client" },
    // Runs clients and servers of HTTP/2 and a WebSocket server, which share no code with agimo.
    RequiredProgram { program: "node", package: "nodejs" },
];

/// The programs of the machine that a cluster's node uses; all others are built from source.
pub(crate) const FOR_CLUSTERS: &[RequiredProgram] = &[
    // Runs containers for containerd.
    RequiredProgram { program: "runc", package: "runc" },
    // Installs the rules of kube-proxy, and those with which tests block packets.
    RequiredProgram { program: "nft", package: "nftables" },
    // kube-proxy uses it to delete the connection-tracking entries of removed endpoints.
    RequiredProgram { program: "conntrack", package: "conntrack" },
    // Sets the node's addresses and routes.
    RequiredProgram { program: "ip", package: "iproute2" },
    // Creates the keys of service accounts and of the API server's aggregation layer.
    RequiredProgram { program: "openssl", package: "openssl" },
    // Builds agimo's image from the Dockerfile.
    RequiredProgram { program: "buildah", package: "buildah" },
    // Create namespaces and run commands in them.
    RequiredProgram { program: "unshare", package: "util-linux" },
    RequiredProgram { program: "nsenter", package: "util-linux" },
];

/// Installs those of these programs that are missing.
pub(crate) fn install_missing(required: &[RequiredProgram]) -> Result<(), String> {
    let missing = missing(required, workspace::is_installed);
    if missing.is_empty() {
        return Ok(());
    }
    let packages: Vec<&str> = missing.iter().map(|program| program.package).collect();
    println!("installing missing packages with apt: {}", packages.join(" "));
    subprocess::run(&mut install_command(&packages)?)?;
    match self::missing(required, workspace::is_installed).first() {
        None => Ok(()),
        Some(RequiredProgram { program, package }) => {
            Err(format!("apt installed {package}, but `{program}` is not in PATH or /usr/sbin"))
        }
    }
}

/// Installs rustfmt and clippy if they are missing.
pub(crate) fn install_components() -> Result<(), String> {
    for (component, subcommand) in [("rustfmt", "fmt"), ("clippy", "clippy")] {
        if !subprocess::succeeds(&mut workspace::cargo(&[subcommand, "--version"])) {
            println!("installing a missing component with rustup: {component}");
            subprocess::run(workspace::program("rustup").args(["component", "add", component]))?;
        }
    }
    Ok(())
}

fn missing(
    required: &[RequiredProgram],
    is_installed: impl Fn(&str) -> bool,
) -> Vec<&RequiredProgram> {
    required.iter().filter(|required| !is_installed(required.program)).collect()
}

/// The command that installs packages, as root or through sudo without a password. The error says what to run by hand.
fn install_command(packages: &[&str]) -> Result<Command, String> {
    let by_hand = format!("apt-get install -y --no-install-recommends {}", packages.join(" "));
    if !workspace::is_installed("apt-get") {
        return Err(format!(
            "this machine has no apt-get; install the packages of `{by_hand}` by other means"
        ));
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
    fn only_missing_programs_are_installed() {
        assert_eq!(missing(FOR_TESTS, |_| true), Vec::<&RequiredProgram>::new());
        assert_eq!(missing(FOR_CLUSTERS, |_| false).len(), FOR_CLUSTERS.len());
        let missing = missing(FOR_TESTS, |program| program != "promtool");
        assert_eq!(missing, [&RequiredProgram { program: "promtool", package: "prometheus" }]);
    }
}
