//! Parses the annotations of a workload into services, by the table of keys. A problem is one line for the person who
//! wrote the annotation.

use std::collections::HashSet;

use serde_json::json;

use super::section::{Layers, Section};
use super::{ServiceDefaults, service};
use crate::config::annotations::{AnnotatedWorkload, AnnotationsConfig, PREFIX};
use crate::config::keys::table::TABLE;
use crate::config::keys::{self, Key, ServiceType, TableScope, ValueKind};
use crate::config::report::Problem;
use crate::config::{KubernetesKind, ServiceConfig};
use crate::workload::WorkloadKind;

/// Annotations with names of their own, and the keys that they set.
const RENAMED: [(&str, &str); 2] = [("service", "service_name"), ("port", "service_port")];
/// Keys that the workload itself or the annotation `host` sets.
const SET_OTHERWISE: [&str; 5] = ["host", "path_prefix", "type", "namespace", "name"];
/// Separates schedules, which contain commas.
const LIST_SEPARATOR: char = ';';

/// The services of a workload, one for each host.
///
/// # Errors
/// Everything that is wrong with the annotations, one line each, with what to write.
pub fn parse(
    workload: &AnnotatedWorkload,
    config: &AnnotationsConfig,
) -> Result<Vec<ServiceConfig>, Vec<String>> {
    let kind = match workload.id.kind {
        WorkloadKind::StatefulSet => KubernetesKind::StatefulSet,
        WorkloadKind::Deployment | WorkloadKind::Process => KubernetesKind::Deployment,
    };
    let scope = TableScope::Service(Some(ServiceType::Kubernetes(kind)));
    let mut problems = Vec::new();
    let mut values = Vec::new();
    for (name, text) in workload.annotations.iter().filter(|(name, _)| *name != "host") {
        match key_of(name, scope) {
            Ok(key) => values.push((key, toml_of(key, text))),
            Err(problem) => problems.push(problem),
        }
    }
    values.extend(found_source(workload, &mut problems));
    let hosts = hosts(workload, config, &mut problems);
    let mut services = Vec::new();
    for (host, path) in &hosts {
        let mut values = values.clone();
        let own = [("host", *host), ("path_prefix", *path), ("namespace", &workload.id.namespace)];
        for (name, text) in own.into_iter().chain([("name", workload.id.name.as_str())]) {
            values.extend(keys::find(name, scope).map(|key| (key, json!(text).to_string())));
        }
        let mut found = Vec::new();
        let own = Section::of_values(values, &mut found);
        let ServiceDefaults { top, defaults } = &*config.defaults;
        let layers = Layers { own: &own, outer: Some(top), defaults };
        let service = service::checked(&layers, ServiceType::Kubernetes(kind), &mut found);
        problems
            .extend(service.iter().flat_map(|service| forbidden_names(service, workload, config)));
        services.extend(service);
        problems.extend(found.iter().map(in_terms_of_annotations));
    }
    let mut known = HashSet::new();
    problems.retain(|problem| known.insert(problem.clone()));
    if problems.is_empty() { Ok(services) } else { Err(problems) }
}

/// The key that an annotation sets.
fn key_of(name: &str, scope: TableScope) -> Result<&'static Key, String> {
    let renamed = RENAMED.iter().find(|(annotation, _)| *annotation == name);
    let key_name = renamed.map_or_else(|| name.replace('-', "_"), |(_, key)| (*key).to_owned());
    if key_name == "path_prefix" {
        return Err(format!(
            "{PREFIX}{name}: write the path in {PREFIX}host: \"example.com/path\""
        ));
    }
    let key = keys::find(&key_name, scope);
    if key.is_some_and(|key| key.kind == ValueKind::File) {
        return Err(format!(
            "{PREFIX}{name}: it names a file of agimo, which a workload cannot choose: remove it, or have `{key_name}` set at the \
             top of agimo's configuration"
        ));
    }
    key.filter(|key| !SET_OTHERWISE.contains(&key.name) && !name.contains('_')).ok_or_else(|| {
        let fix = keys::fix_for_unknown_key(&key_name, scope);
        let fix = TABLE.iter().fold(fix, |fix, key| {
            fix.replace(&format!("`{}`", key.name), &format!("{PREFIX}{}", annotation_of(key.name)))
        });
        let is_close = fix.starts_with("did you mean");
        let fix =
            if is_close { fix } else { "remove it; docs/annotations.md lists them all".to_owned() };
        format!("{PREFIX}{name} is unknown: {fix}")
    })
}

fn annotation_of(key: &str) -> String {
    let renamed = RENAMED.iter().find(|(_, renamed)| *renamed == key);
    renamed.map_or_else(|| key.replace('_', "-"), |(annotation, _)| (*annotation).to_owned())
}

/// The value of an annotation as it would be written in a file. JSON strings, numbers and arrays are valid TOML.
fn toml_of(key: &Key, text: &str) -> String {
    let text = text.trim();
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    match key.kind {
        ValueKind::Boolean if matches!(text, "true" | "false") => text.to_owned(),
        ValueKind::Schedules => {
            let items = text.split(LIST_SEPARATOR).map(str::trim).filter(|item| !item.is_empty());
            json!(items.collect::<Vec<_>>()).to_string()
        }
        ValueKind::Number { .. }
        | ValueKind::Count { .. }
        | ValueKind::Size { .. }
        | ValueKind::KeepAlive
        | ValueKind::ServicePort
            if is_number =>
        {
            // TOML allows no leading zeros.
            let digits = text.trim_start_matches('0');
            if digits.is_empty() { "0".to_owned() } else { digits.to_owned() }
        }
        _ => json!(text).to_string(),
    }
}

/// The hosts of a workload with their paths, as written.
fn hosts<'a>(
    workload: &'a AnnotatedWorkload,
    config: &AnnotationsConfig,
    problems: &mut Vec<String>,
) -> Vec<(&'a str, &'a str)> {
    let written = workload.annotations.get("host").map_or("", String::as_str);
    let hosts = written.split(',').map(str::trim).filter(|host| !host.is_empty());
    // A scheme is reported with the whole of what was written.
    let path_of = |host: &str| if host.contains("://") { None } else { host.find('/') };
    let hosts: Vec<_> =
        hosts.map(|host| host.split_at(path_of(host).unwrap_or(host.len()))).collect();
    if hosts.is_empty() {
        problems.push(format!("the workload has no host: write {PREFIX}host: \"example.com\""));
    }
    let namespace = &workload.id.namespace;
    for (host, _) in &hosts {
        if let Err(allowed) = config.check_host(namespace, &host.to_ascii_lowercase()) {
            let allowed =
                if allowed.is_empty() { "no host".to_owned() } else { allowed.join(", ") };
            problems.push(format!(
                "{PREFIX}host: namespace {namespace} may not claim {host}, only {allowed} (`allowed_hosts` of agimo)"
            ));
        }
    }
    let with_path = |(host, path): (_, &'a str)| (host, if path.is_empty() { "/" } else { path });
    hosts.into_iter().map(with_path).collect()
}

/// Names in the cluster that may be names outside of it as well, such as `google.dev`.
fn forbidden_names(
    service: &ServiceConfig,
    workload: &AnnotatedWorkload,
    config: &AnnotationsConfig,
) -> Vec<String> {
    let namespace = &workload.id.namespace;
    let names = service.names_in_cluster().into_iter();
    let ambiguous = names.filter(|name| !name.contains(".svc"));
    let forbidden = ambiguous.filter(|name| config.check_host(namespace, name).is_err());
    let problem = |name| {
        format!(
            "{PREFIX}cluster-names: namespace {namespace} may not claim {name} (`allowed_hosts` of agimo)"
        )
    };
    forbidden.map(problem).collect()
}

/// The Service and its port, as far as the annotations do not name them.
fn found_source(
    workload: &AnnotatedWorkload,
    problems: &mut Vec<String>,
) -> Vec<(&'static Key, String)> {
    let AnnotatedWorkload { annotations, services, .. } = workload;
    let has =
        |name: &str, key: &str| annotations.contains_key(name) || annotations.contains_key(key);
    let is_named = has("service", "service-name");
    let mut found = Vec::new();
    let mut put = |key: &str, value: String| {
        let scope = TableScope::Service(Some(ServiceType::Kubernetes(KubernetesKind::Deployment)));
        found.extend(keys::find(key, scope).map(|key| (key, value)));
    };
    let names = || services.keys().cloned().collect::<Vec<_>>().join(", ");
    let service = match services.len() {
        // Whether one that is named exists shows when it is asked for.
        0 if is_named => None,
        0 => {
            problems.push(format!(
                "no Service selects the pods of the workload: create one, or name one with {PREFIX}service"
            ));
            return found;
        }
        1 => services.first_key_value(),
        _ => {
            let first = services.keys().next().map_or("", String::as_str);
            let names = names();
            problems.push(format!(
                "the Services {names} select the pods of the workload: write, for example, {PREFIX}service: \"{first}\""
            ));
            return found;
        }
    };
    if let Some((name, _)) = service.filter(|_| !is_named) {
        put("service_name", json!(name).to_string());
    }
    if has("port", "service-port") {
        return found;
    }
    match service {
        Some((_, ports)) if ports.len() == 1 => {
            put("service_port", ports.first().map_or(0, |port| port.number).to_string());
        }
        Some((name, ports)) => {
            let numbers: Vec<_> = ports.iter().map(|port| port.number.to_string()).collect();
            let (listed, first) =
                (numbers.join(", "), numbers.first().map_or("80", String::as_str));
            problems.push(format!(
                "Service {name} has {} TCP ports ({listed}): write, for example, {PREFIX}port: \"{first}\"",
                ports.len()
            ));
        }
        None => {
            let name = annotations.get("service").or_else(|| annotations.get("service-name"));
            let name = name.map_or("", String::as_str);
            problems.push(format!(
                "there is no Service {name}: create it, or write its port with {PREFIX}port as well"
            ));
        }
    }
    found
}

/// A problem as the person who writes annotations knows the keys.
fn in_terms_of_annotations(problem: &Problem) -> String {
    let text = format!("{}: {}", problem.message, problem.help);
    TABLE.iter().fold(text, |text, key| {
        let annotation = format!("{PREFIX}{}", annotation_of(key.name));
        text.replace(&format!("`{}`", key.name), &annotation)
            .replace(&format!("{} = ", key.name), &format!("{annotation}: "))
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::config::annotations::PortOfService;
    use crate::config::scaling::Scaler;
    use crate::config::{ServicePort, WorkloadConfig};
    use crate::workload::WorkloadId;

    /// A file that turns annotations on, with these further keys.
    fn config(keys: &str) -> AnnotationsConfig {
        let file = crate::config::parse::parse(&format!("annotations = true\n{keys}")).unwrap();
        file.annotations.unwrap()
    }

    /// The Deployment `a/web`, whose pods are selected by these Services.
    fn workload(services: &[(&str, &[u16])], annotations: &[(&str, &str)]) -> AnnotatedWorkload {
        let port = |number: &u16| PortOfService { name: String::new(), number: *number };
        let services = services
            .iter()
            .map(|(name, ports)| ((*name).to_owned(), ports.iter().map(port).collect::<Vec<_>>()));
        let owned = |(name, text): &(&str, &str)| ((*name).to_owned(), (*text).to_owned());
        AnnotatedWorkload {
            id: WorkloadId {
                kind: WorkloadKind::Deployment,
                namespace: "a".to_owned(),
                name: "web".to_owned(),
            },
            created: 0,
            managed_by: None,
            annotations: Arc::new(annotations.iter().map(owned).collect()),
            services: services.collect::<BTreeMap<_, _>>(),
        }
    }

    #[test]
    fn one_annotation_is_enough_where_one_service_with_one_port_selects_the_pods() {
        let web = workload(&[("web", &[80])], &[("host", "web.test")]);
        let [service] = &parse(&web, &config("sleep_after = '7m'")).unwrap()[..] else {
            panic!("one service")
        };
        assert_eq!((service.host.as_str(), service.path_prefix.as_str()), ("web.test", "/"));
        assert_eq!(service.sleep_after, Duration::from_secs(420), "the top of the file applies");
        let WorkloadConfig::Kubernetes(kubernetes) = &service.workload else { panic!() };
        assert_eq!((&*kubernetes.namespace, &*kubernetes.name), ("a", "web"));
        assert_eq!(
            (&*kubernetes.service_name, &kubernetes.service_port),
            ("web", &ServicePort::Number(80))
        );
        assert_eq!(kubernetes.scaler, Scaler::Auto);
    }

    #[test]
    fn every_key_of_a_service_can_be_an_annotation() {
        let annotations = [
            ("host", "web.test/api, *.web.test"),
            ("service", "web"),
            ("port", "http"),
            ("scaler", "agimo"),
            ("target-concurrency", "20"),
            ("strip-prefix", "true"),
            ("keep-alive", "5"),
            ("max-body", "10MB"),
            ("awake", "Mon-Fri 08:00-18:00 Europe/Berlin; Sat,Sun 10:00-12:00 UTC"),
        ];
        let services = parse(&workload(&[], &annotations), &config("")).unwrap();
        let routes: Vec<_> = services
            .iter()
            .map(|service| (service.host.as_str(), service.path_prefix.as_str()))
            .collect();
        assert_eq!(routes, [("web.test", "/api"), ("*.web.test", "/")]);
        let WorkloadConfig::Kubernetes(kubernetes) = &services[0].workload else { panic!() };
        assert_eq!(kubernetes.service_port, ServicePort::Name("http".to_owned()));
        assert_eq!(kubernetes.autoscaling.target_concurrency, Some(20));
        assert_eq!((services[0].awake.len(), services[0].max_body), (2, Some(10_000_000)));
    }

    #[test]
    fn a_mistake_names_the_annotation_and_what_to_write() {
        let host = ("host", "web.test");
        let one: &[(&str, &[u16])] = &[("web", &[80])];
        for (services, annotations, part) in [
            (
                one,
                &[("sleep-after", "5m")][..],
                "has no host: write agimo.onichandame.com/host: \"example.com\"",
            ),
            (
                one,
                &[host, ("sleep-afetr", "5m")],
                "sleep-afetr is unknown: did you mean agimo.onichandame.com/sleep-after?",
            ),
            (
                one,
                &[host, ("sleep-after", "soon")],
                "agimo.onichandame.com/sleep-after: \"soon\" is",
            ),
            (
                one,
                &[host, ("min-replicas", "20")],
                "min_replicas (20) is larger than max_replicas (10)",
            ),
            (one, &[host, ("namespace", "other")], "namespace is unknown"),
            (one, &[("host", "http://web.test")], "has a scheme"),
            (one, &[host, ("awake", "always")], "\"always\" is no schedule"),
            (&[], &[host], "no Service selects the pods"),
            (
                &[("a", &[80]), ("b", &[80])],
                &[host],
                "the Services a, b select the pods of the workload: write, for example, agimo.onichandame.com/service: \"a\"",
            ),
            (
                &[("web", &[80, 9090])],
                &[host],
                "has 2 TCP ports (80, 9090): write, for example, agimo.onichandame.com/port: \"80\"",
            ),
            (&[], &[host, ("service", "shop")], "there is no Service shop"),
        ] {
            let problems = parse(&workload(services, annotations), &config("")).unwrap_err();
            assert!(problems.len() == 1 && problems[0].contains(part), "{problems:?}");
        }
        let config = config("allowed_hosts = { a = ['*.a.test'] }");
        let problems = parse(&workload(one, &[host]), &config).unwrap_err();
        assert!(
            problems[0].contains("namespace a may not claim web.test, only *.a.test"),
            "{problems:?}"
        );
    }
}
