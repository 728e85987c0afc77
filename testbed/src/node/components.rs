//! The components of the node and their command lines.

use crate::cluster_folder::ClusterFolder;

use super::certificates::{FRONT_PROXY, FRONT_PROXY_AUTHORITY, SERVICE_ACCOUNTS};
use super::{ADDRESS, NAME, SERVICE_NETWORK};

/// A program that the supervisor keeps running.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Component {
    /// Also the name of the program.
    pub(crate) name: &'static str,
    pub(crate) start_condition: StartCondition,
    pub(super) arguments: Vec<String>,
}

/// When a component is started for the first time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum StartCondition {
    Immediate,
    /// For clients of the API server: without it they would exit, or retry only after a long backoff.
    ApiServerReady,
}

/// The names of all components, in the order in which they start.
pub(crate) const COMPONENT_NAMES: [&str; 8] = [
    "containerd",
    "etcd",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kubelet",
    "coredns",
    "kube-proxy",
];

/// With the default client rate limits the first lists would take 5 s longer.
const CLIENT_RATE_LIMITS: [&str; 4] = ["--kube-api-qps", "300", "--kube-api-burst", "600"];

/// All components, in the order of `COMPONENT_NAMES`.
pub(super) fn all(folder: &ClusterFolder) -> Vec<Component> {
    let path = |path: std::path::PathBuf| path.to_string_lossy().into_owned();
    let config = |name: &str| path(folder.config().join(name));
    let certificate = |name: &str| path(folder.state("certificates").join(name));
    let kubeconfig = path(folder.kubeconfig());
    COMPONENT_NAMES
        .into_iter()
        .map(|name| {
            let (start_condition, arguments) = match name {
                "containerd" => (
                    StartCondition::Immediate,
                    to_strings(&["--config", &config("containerd.toml")]),
                ),
                "etcd" => (StartCondition::Immediate, etcd(&path(folder.state("etcd")))),
                "kube-apiserver" => {
                    (StartCondition::Immediate, api_server(&config("tokens.csv"), certificate))
                }
                "kube-controller-manager" => {
                    (StartCondition::ApiServerReady, controller_manager(&kubeconfig, certificate))
                }
                "kube-scheduler" => {
                    let mut arguments =
                        to_strings(&["--kubeconfig", &kubeconfig, "--leader-elect=false"]);
                    arguments.extend(to_strings(&CLIENT_RATE_LIMITS));
                    (StartCondition::ApiServerReady, arguments)
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
                    (StartCondition::ApiServerReady, to_strings(&arguments))
                }
                "coredns" => {
                    (StartCondition::ApiServerReady, to_strings(&["-conf", &config("Corefile")]))
                }
                _ => (
                    StartCondition::ApiServerReady,
                    to_strings(&["--config", &config("kube-proxy.yaml")]),
                ),
            };
            Component { name, start_condition, arguments }
        })
        .collect()
}

fn etcd(data: &str) -> Vec<String> {
    to_strings(&[
        "--data-dir",
        data,
        "--listen-client-urls",
        "http://127.0.0.1:2379",
        "--advertise-client-urls",
        "http://127.0.0.1:2379",
        "--listen-peer-urls",
        "http://127.0.0.1:2380",
        // Data that survives a crash of the machine is not needed.
        "--unsafe-no-fsync",
    ])
}

fn api_server(tokens: &str, certificate: impl Fn(&str) -> String) -> Vec<String> {
    let issuer = "https://kubernetes.default.svc";
    to_strings(&[
        "--etcd-servers",
        "http://127.0.0.1:2379",
        "--bind-address",
        ADDRESS,
        "--advertise-address",
        ADDRESS,
        "--secure-port",
        "6443",
        // The API server creates its serving certificate in this folder.
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
        // The aggregation layer: without these options requests to an APIService get 403 although its pods are ready.
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
    let mut arguments = to_strings(&[
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
        // HorizontalPodAutoscalers react within the timeout of a test.
        "--horizontal-pod-autoscaler-sync-period",
        "1s",
        "--horizontal-pod-autoscaler-downscale-stabilization",
        "5s",
    ]);
    arguments.extend(to_strings(&CLIENT_RATE_LIMITS));
    arguments
}

fn to_strings(arguments: &[&str]) -> Vec<String> {
    arguments.iter().map(|&argument| argument.to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_component_has_its_own_arguments() {
        let components = all(&ClusterFolder::named("test").unwrap());
        assert_eq!(components.len(), COMPONENT_NAMES.len());
        for (index, component) in components.iter().enumerate() {
            assert!(!component.arguments.is_empty(), "{}", component.name);
            let others =
                components[index + 1..].iter().filter(|o| o.arguments == component.arguments);
            assert_eq!(others.count(), 0, "{}", component.name);
        }
    }
}
