//! Fills the templates in `node/` in: every `{{name}}` has a value, and every value is written once.

use crate::files;
use crate::folder::Folder;
use crate::image::PAUSE;

use super::{ADDRESS, NAME, POD_NETWORK};

/// Whoever bears it may do everything in the cluster, and only reaches it from inside.
const TOKEN: &str = "testbed-admin";

/// A template and where its text goes, below the folder of configurations.
const TEMPLATES: [(&str, &str); 5] = [
    ("containerd.toml", include_str!("../../node/containerd.toml")),
    ("cni/10-pods.conflist", include_str!("../../node/cni.conflist")),
    ("Corefile", include_str!("../../node/Corefile")),
    ("kubelet.yaml", include_str!("../../node/kubelet.yaml")),
    ("kube-proxy.yaml", include_str!("../../node/kube-proxy.yaml")),
];
const KUBECONFIG: &str = include_str!("../../node/kubeconfig.yaml");
const RESOLV_CONF: &str = include_str!("../../node/resolv.conf");

/// Writes every file that a part of the node reads.
pub(super) fn write(folder: &Folder) -> Result<(), String> {
    let values = values(folder);
    let config = folder.config();
    files::create_folder(&config.join("cni"))?;
    for (name, template) in TEMPLATES {
        files::write(&config.join(name), filled(template, &values)?)?;
    }
    files::write(&config.join("empty"), "")?;
    files::write(&config.join("tokens.csv"), format!("{TOKEN},admin,admin,\"system:masters\"\n"))?;
    files::write(&folder.kubeconfig(), filled(KUBECONFIG, &values)?)
}

pub(super) fn resolv_conf() -> String {
    RESOLV_CONF.replace("{{address}}", ADDRESS)
}

fn values(folder: &Folder) -> Vec<(&'static str, String)> {
    let path = |path: std::path::PathBuf| path.to_string_lossy().into_owned();
    vec![
        ("address", ADDRESS.to_owned()),
        ("cgroup", crate::cluster::cgroup_of(folder)),
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

fn filled(template: &str, values: &[(&str, String)]) -> Result<String, String> {
    let mut text = template.to_owned();
    for (name, value) in values {
        text = text.replace(&format!("{{{{{name}}}}}"), value);
    }
    match text.split_once("{{") {
        None => Ok(text),
        Some((_, rest)) => {
            let name = rest.split("}}").next().unwrap_or(rest);
            Err(format!("a template names `{name}`, which node/config.rs gives no value"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_template_is_filled() {
        let folder = Folder::of("test").unwrap();
        for (name, template) in TEMPLATES.into_iter().chain([("kubeconfig", KUBECONFIG)]) {
            let text = filled(template, &values(&folder)).unwrap_or_else(|e| panic!("{name}: {e}"));
            assert!(!text.contains("{{"), "{name}");
        }
        assert!(!resolv_conf().contains("{{"));
    }

    #[test]
    fn a_name_without_a_value_is_reported() {
        let error = filled("a: {{unknown}}", &[("known", String::new())]).unwrap_err();
        assert!(error.contains("`unknown`"), "{error}");
    }
}
