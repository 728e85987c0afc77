//! Writes the configuration files of the components from the templates in `testbed/node/`, in which `{{name}}` stands for
//! a value.

use crate::cluster_folder::ClusterFolder;
use crate::files;
use crate::image::PAUSE;

use super::{ADDRESS, NAME, POD_NETWORK};

/// The administrator's bearer token. Not secret, because the API server is reachable only from inside the cluster.
const TOKEN: &str = "testbed-admin";

/// The file names below the configuration folder, and their templates.
const TEMPLATES: [(&str, &str); 5] = [
    ("containerd.toml", include_str!("../../node/containerd.toml")),
    ("cni/10-pods.conflist", include_str!("../../node/cni.conflist")),
    ("Corefile", include_str!("../../node/Corefile")),
    ("kubelet.yaml", include_str!("../../node/kubelet.yaml")),
    ("kube-proxy.yaml", include_str!("../../node/kube-proxy.yaml")),
];
const KUBECONFIG: &str = include_str!("../../node/kubeconfig.yaml");
const RESOLV_CONF: &str = include_str!("../../node/resolv.conf");

/// Writes every configuration file.
pub(super) fn write(folder: &ClusterFolder) -> Result<(), String> {
    let values = values(folder);
    let config = folder.config();
    files::create_folder(&config.join("cni"))?;
    for (name, template) in TEMPLATES {
        files::write(&config.join(name), fill_template(template, &values)?)?;
    }
    files::write(&config.join("empty"), "")?;
    files::write(&config.join("tokens.csv"), format!("{TOKEN},admin,admin,\"system:masters\"\n"))?;
    files::write(&folder.kubeconfig(), fill_template(KUBECONFIG, &values)?)
}

pub(super) fn resolv_conf() -> String {
    RESOLV_CONF.replace("{{address}}", ADDRESS)
}

fn values(folder: &ClusterFolder) -> Vec<(&'static str, String)> {
    let path = |path: std::path::PathBuf| path.to_string_lossy().into_owned();
    vec![
        ("address", ADDRESS.to_owned()),
        ("cgroup", crate::cluster::cgroup_name(folder)),
        ("config", path(folder.config())),
        ("kubeconfig", path(folder.kubeconfig())),
        ("node", NAME.to_owned()),
        ("pause", PAUSE.to_owned()),
        ("pod_network", POD_NETWORK.to_owned()),
        ("programs", path(folder.programs())),
        ("state", path(folder.path().join("state"))),
        ("token", TOKEN.to_owned()),
    ]
}

fn fill_template(template: &str, values: &[(&str, String)]) -> Result<String, String> {
    let mut text = template.to_owned();
    for (name, value) in values {
        text = text.replace(&format!("{{{{{name}}}}}"), value);
    }
    match text.split_once("{{") {
        None => Ok(text),
        Some((_, rest)) => {
            let name = rest.split("}}").next().unwrap_or(rest);
            Err(format!("a template contains `{name}`, for which node/config.rs has no value"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_template_is_filled() {
        let folder = ClusterFolder::named("test").unwrap();
        for (name, template) in TEMPLATES.into_iter().chain([("kubeconfig", KUBECONFIG)]) {
            let text =
                fill_template(template, &values(&folder)).unwrap_or_else(|e| panic!("{name}: {e}"));
            assert!(!text.contains("{{"), "{name}");
        }
        assert!(!resolv_conf().contains("{{"));
    }

    #[test]
    fn a_name_without_a_value_is_reported() {
        let error = fill_template("a: {{unknown}}", &[("known", String::new())]).unwrap_err();
        assert!(error.contains("`unknown`"), "{error}");
    }
}
