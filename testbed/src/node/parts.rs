//! The parts that a node consists of and how each is started. Which of them run at the moment is not known here.

use crate::folder::Folder;

use super::certificates::{FRONT_PROXY, FRONT_PROXY_AUTHORITY, SERVICE_ACCOUNTS};
use super::{ADDRESS, NAME, SERVICE_NETWORK};

/// A program that the node keeps running.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Part {
    /// Also the program's name.
    pub(crate) name: &'static str,
    pub(crate) starts: Starts,
    pub(super) arguments: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Starts {
    AtOnce,
    /// Not before the API server answers: these would give up, or wait long before they ask again.
    WithTheApi,
}

/// The names of all parts, in the order in which they start.
pub(crate) const NAMES: [&str; 8] = [
    "containerd",
    "etcd",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kubelet",
    "coredns",
    "kube-proxy",
];

/// A client with the limits of its default would take five seconds more for its first lists.
const QUICK: [&str; 4] = ["--kube-api-qps", "300", "--kube-api-burst", "600"];

/// All parts in the order of `NAMES`.
pub(super) fn of(folder: &Folder) -> Vec<Part> {
    let path = |path: std::path::PathBuf| path.to_string_lossy().into_owned();
    let config = |name: &str| path(folder.config().join(name));
    let certificate = |name: &str| path(folder.state("certificates").join(name));
    let kubeconfig = path(folder.kubeconfig());
    NAMES
        .into_iter()
        .map(|name| {
            let (starts, arguments) = match name {
                "containerd" => (Starts::AtOnce, words(&["--config", &config("containerd.toml")])),
                "etcd" => (Starts::AtOnce, etcd(&path(folder.state("etcd")))),
                "kube-apiserver" => {
                    (Starts::AtOnce, api_server(&config("tokens.csv"), certificate))
                }
                "kube-controller-manager" => {
                    (Starts::WithTheApi, controller_manager(&kubeconfig, certificate))
                }
                "kube-scheduler" => {
                    let mut arguments =
                        words(&["--kubeconfig", &kubeconfig, "--leader-elect=false"]);
                    arguments.extend(words(&QUICK));
                    (Starts::WithTheApi, arguments)
                }
                "kubelet" => {
                    let root = path(folder.state("kubelet"));
                    let arguments = [
                        "--config",
                        &config("kubelet.yaml"),
                        "--kubeconfig",
                        &kubeconfig,
                        "--root-dir",
                        &root,
                        "--cert-dir",
                        &certificate("kubelet"),
                        "--hostname-override",
                        NAME,
                        "--node-ip",
                        ADDRESS,
                        "-v",
                        "2",
                    ];
                    (Starts::WithTheApi, words(&arguments))
                }
                "coredns" => (Starts::WithTheApi, words(&["-conf", &config("Corefile")])),
                _ => (Starts::WithTheApi, words(&["--config", &config("kube-proxy.yaml")])),
            };
            Part { name, starts, arguments }
        })
        .collect()
}

fn etcd(data: &str) -> Vec<String> {
    words(&[
        "--data-dir",
        data,
        "--listen-client-urls",
        "http://127.0.0.1:2379",
        "--advertise-client-urls",
        "http://127.0.0.1:2379",
        "--listen-peer-urls",
        "http://127.0.0.1:2380",
        // The cluster never outlives the machine's memory.
        "--unsafe-no-fsync",
    ])
}

fn api_server(tokens: &str, certificate: impl Fn(&str) -> String) -> Vec<String> {
    let issuer = "https://kubernetes.default.svc";
    words(&[
        "--etcd-servers",
        "http://127.0.0.1:2379",
        "--bind-address",
        ADDRESS,
        "--advertise-address",
        ADDRESS,
        "--secure-port",
        "6443",
        // It makes its own serving certificate there.
        "--cert-dir",
        &certificate(""),
        "--service-account-key-file",
        &certificate(SERVICE_ACCOUNTS),
        "--service-account-signing-key-file",
        &certificate(SERVICE_ACCOUNTS),
        "--service-account-issuer",
        issuer,
        "--api-audiences",
        issuer,
        "--token-auth-file",
        tokens,
        "--authorization-mode",
        "RBAC",
        "--service-cluster-ip-range",
        SERVICE_NETWORK,
        "--allow-privileged=true",
        "--kubelet-preferred-address-types",
        "InternalIP",
        // Aggregation: without these an APIService stays at 403 while its pods are ready.
        "--enable-aggregator-routing=true",
        "--requestheader-client-ca-file",
        &certificate(&format!("{FRONT_PROXY_AUTHORITY}.crt")),
        "--requestheader-allowed-names",
        "front-proxy-client",
        "--requestheader-username-headers",
        "X-Remote-User",
        "--requestheader-group-headers",
        "X-Remote-Group",
        "--requestheader-extra-headers-prefix",
        "X-Remote-Extra-",
        "--proxy-client-cert-file",
        &certificate(&format!("{FRONT_PROXY}.crt")),
        "--proxy-client-key-file",
        &certificate(&format!("{FRONT_PROXY}.key")),
    ])
}

fn controller_manager(kubeconfig: &str, certificate: impl Fn(&str) -> String) -> Vec<String> {
    let mut arguments = words(&[
        "--kubeconfig",
        kubeconfig,
        "--service-account-private-key-file",
        &certificate(SERVICE_ACCOUNTS),
        "--use-service-account-credentials=true",
        "--root-ca-file",
        &certificate("apiserver.crt"),
        "--leader-elect=false",
        "--cert-dir",
        &certificate("controller-manager"),
        "--node-monitor-period",
        "1s",
        // Autoscalers that answer within the patience of a test.
        "--horizontal-pod-autoscaler-sync-period",
        "1s",
        "--horizontal-pod-autoscaler-downscale-stabilization",
        "5s",
    ]);
    arguments.extend(words(&QUICK));
    arguments
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|&word| word.to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_has_arguments_of_its_own() {
        let parts = of(&Folder::of("test").unwrap());
        assert_eq!(parts.len(), NAMES.len());
        for (index, part) in parts.iter().enumerate() {
            assert!(!part.arguments.is_empty(), "{}", part.name);
            let others = parts[index + 1..].iter().filter(|o| o.arguments == part.arguments);
            assert_eq!(others.count(), 0, "{}", part.name);
        }
    }
}
