//! Joins the services of the file with those of annotated workloads. The file has precedence, and of two workloads that
//! claim a host the older one has it. Pure.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::config::annotations::{AnnotatedWorkload, AnnotationsConfig};
use crate::config::parse::annotations::parse;
use crate::config::{Config, KubernetesConfig, ServiceConfig, WorkloadConfig};
use crate::workload::WorkloadId;

/// What configures agimo: the file, and the annotated workloads of the cluster.
pub struct Sources {
    /// Kept only where annotated workloads are joined to it: it may be large.
    file: Option<Config>,
    annotated: Vec<Arc<AnnotatedWorkload>>,
    /// What was parsed from the annotations, while neither they nor the file change.
    parsed: HashMap<WorkloadId, (Arc<AnnotatedWorkload>, ParsedServices)>,
}

type ParsedServices = Result<Vec<ServiceConfig>, Vec<String>>;

/// The configuration in force, and what is wrong with the annotations of workloads.
#[derive(Clone, Debug, PartialEq)]
pub struct Joined {
    pub config: Config,
    pub problems: BTreeMap<WorkloadId, Vec<String>>,
}

/// Who has which host, and which path of it.
#[derive(Default)]
struct Claims {
    routes: HashMap<(String, String), Claim>,
    hosts: HashMap<String, Claim>,
}

/// Who has a host.
#[derive(Clone)]
struct Claim {
    is_of_file: bool,
    workload: WorkloadId,
}

// === impl Sources ===

impl Sources {
    /// The first version of the file, which the caller has applied.
    pub fn new(file: &Config) -> Self {
        let file = file.annotations.is_some().then(|| file.clone());
        Self { file, annotated: Vec::new(), parsed: HashMap::new() }
    }

    /// Whether annotated workloads are services.
    pub fn has_annotations(&self) -> bool {
        self.annotations().is_some()
    }

    fn annotations(&self) -> Option<&AnnotationsConfig> {
        self.file.as_ref()?.annotations.as_ref()
    }

    pub fn set_file(&mut self, file: Config) {
        // The keys at the top of the file apply to annotated workloads, too.
        if self.annotations() != file.annotations.as_ref() {
            self.parsed.clear();
        }
        self.file = Some(file);
    }

    pub fn set_annotated(&mut self, mut annotated: Vec<Arc<AnnotatedWorkload>>) {
        annotated.sort_by(|one, other| (one.created, &one.id).cmp(&(other.created, &other.id)));
        self.annotated = annotated;
    }

    /// The configuration of all sources together; `None` where it has not changed.
    pub fn join(&mut self) -> Option<Joined> {
        let mut problems = BTreeMap::new();
        let file = self.file.take()?;
        let Some(annotations) = &file.annotations else {
            return Some(Joined { config: file, problems });
        };
        let mut config = file.clone();
        let mut claims = Claims::default();
        for service in &file.services {
            claims.add(service, true);
        }
        let of_file: BTreeMap<_, _> =
            file.services.iter().map(|service| (service.workload_id(), service)).collect();
        let mut before = std::mem::take(&mut self.parsed);
        for workload in &self.annotated {
            if !annotations.manages(workload) {
                continue;
            }
            let known =
                before.remove(&workload.id).filter(|(known, _)| Arc::ptr_eq(known, workload));
            let (_, parsed) =
                known.unwrap_or_else(|| (workload.clone(), parse(workload, annotations)));
            let mut found = Vec::new();
            match &parsed {
                Ok(services) => {
                    for service in services {
                        let conflict = of_file
                            .get(&workload.id)
                            .and_then(|configured| disagreement(configured, service))
                            .map(Conflict::Problem)
                            .or_else(|| claims.taken(service, annotations));
                        match conflict {
                            Some(Conflict::Same) => {
                                let configured = of_file.get(&workload.id);
                                found.extend(configured.and_then(|configured| {
                                    ignored_keys(configured, service, workload)
                                }));
                                continue;
                            }
                            Some(Conflict::Problem(problem)) => {
                                found.push(problem);
                                continue;
                            }
                            None => claims.add(service, false),
                        }
                        config.services.push(service.clone());
                    }
                }
                Err(wrong) => found.extend(wrong.iter().cloned()),
            }
            if !found.is_empty() {
                problems.insert(workload.id.clone(), found);
            }
            self.parsed.insert(workload.id.clone(), (workload.clone(), parsed));
        }
        self.file = Some(file);
        Some(Joined { config, problems })
    }
}

/// Why a service of an annotated workload is not used.
enum Conflict {
    /// The file has the same route to the same workload.
    Same,
    Problem(String),
}

// === impl Claims ===

impl Claims {
    fn add(&mut self, service: &ServiceConfig, is_of_file: bool) {
        let claim = Claim { is_of_file, workload: service.workload_id() };
        self.hosts.entry(service.host.clone()).or_insert_with(|| claim.clone());
        self.routes.insert((service.host.clone(), service.path_prefix.clone()), claim);
    }

    /// Who has the host and path of a service already. Other paths of a host that is not in the file are open to its
    /// namespace, and to those that `allowed_hosts` names.
    fn taken(&self, service: &ServiceConfig, annotations: &AnnotationsConfig) -> Option<Conflict> {
        let ServiceConfig { host, path_prefix, .. } = service;
        let own = service.workload_id();
        let same_route = self.routes.get(&(host.clone(), path_prefix.clone()));
        let claim = same_route.or_else(|| {
            let is_foreign = |claim: &&Claim| {
                let is_of_other_namespace = claim.workload.namespace != own.namespace;
                let is_shared = !is_of_other_namespace || annotations.allowed_hosts.is_some();
                claim.workload != own && (claim.is_of_file || !is_shared)
            };
            self.hosts.get(host).filter(is_foreign)
        })?;
        let route = service.name();
        Some(match claim {
            Claim { is_of_file: true, workload } if *workload == own => Conflict::Same,
            Claim { is_of_file: true, .. } => Conflict::Problem(format!(
                "{route} is a service of agimo's configuration file, which has precedence: write another host"
            )),
            Claim { workload, .. } => Conflict::Problem(format!(
                "{route} belongs to the older {workload}: write another host"
            )),
        })
    }
}

/// Whether annotations have no effect because the file has the same route with other keys.
fn ignored_keys(
    configured: &ServiceConfig,
    annotated: &ServiceConfig,
    workload: &AnnotatedWorkload,
) -> Option<String> {
    let (
        WorkloadConfig::Kubernetes(KubernetesConfig { service_name, service_port, .. }),
        WorkloadConfig::Kubernetes(found),
    ) = (&configured.workload, &annotated.workload)
    else {
        return None;
    };
    let is_same_route =
        configured.host == annotated.host && configured.path_prefix == annotated.path_prefix;
    // Where nothing names the Service, the one that was found is no wish of anybody.
    let (service_name, service_port) = (service_name.clone(), service_port.clone());
    let found = KubernetesConfig { service_name, service_port, ..found.clone() };
    let annotated =
        &ServiceConfig { workload: WorkloadConfig::Kubernetes(found), ..annotated.clone() };
    let keys = workload.annotations.keys().filter(|key| !KEYS_OF_A_ROUTE.contains(&key.as_str()));
    let keys: Vec<_> = keys.map(String::as_str).collect();
    (is_same_route && configured != annotated && !keys.is_empty()).then(|| {
        format!(
            "{} is a service of agimo's configuration file, which has precedence, with other values: write the same in the \
             annotations, or remove them ({})",
            annotated.name(),
            keys.join(", ")
        )
    })
}

/// Annotations that say where a route leads and not how it is served.
const KEYS_OF_A_ROUTE: [&str; 3] = ["host", "service", "port"];

/// What the file says differently about a workload that is annotated as well.
fn disagreement(configured: &ServiceConfig, annotated: &ServiceConfig) -> Option<String> {
    let (WorkloadConfig::Kubernetes(file), WorkloadConfig::Kubernetes(own)) =
        (&configured.workload, &annotated.workload)
    else {
        return None;
    };
    let difference = if file.scaler != own.scaler {
        format!("scaler \"{}\"", file.scaler.as_str())
    } else if file.mode != own.mode {
        format!("mode \"{}\"", file.mode.as_str())
    } else if file.autoscaling != own.autoscaling {
        "other targets, bounds or windows".to_owned()
    } else {
        return None;
    };
    Some(format!(
        "agimo's configuration file has the workload with {difference} and precedence: write the same in the annotations"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::annotations::PortOfService;
    use crate::config::parse::parse as parse_file;
    use crate::workload::WorkloadKind;

    fn workload(name: &str, created: i64, annotations: &[(&str, &str)]) -> Arc<AnnotatedWorkload> {
        let port = PortOfService { name: String::new(), number: 80 };
        let owned = |(name, text): &(&str, &str)| ((*name).to_owned(), (*text).to_owned());
        Arc::new(AnnotatedWorkload {
            id: WorkloadId {
                kind: WorkloadKind::Deployment,
                namespace: "a".to_owned(),
                name: name.to_owned(),
            },
            created,
            managed_by: None,
            annotations: Arc::new(annotations.iter().map(owned).collect()),
            services: [("web".to_owned(), vec![port])].into(),
        })
    }

    fn sources(text: &str) -> Sources {
        Sources::new(&parse_file(&format!("annotations = true\n{text}")).unwrap())
    }

    /// The hosts that lead to each workload.
    fn hosts(joined: &Joined) -> Vec<(String, String)> {
        let of = |service: &ServiceConfig| (service.host.clone(), service.workload_id().name);
        joined.config.services.iter().map(of).collect()
    }

    fn problem(joined: &Joined, name: &str) -> String {
        let (_, problems) = joined.problems.iter().find(|(id, _)| id.name == name).unwrap();
        problems.join("; ")
    }

    const FILE: &str = "[[services]]\nhost = 'file.test'\ntype = 'deploy'\nnamespace = 'a'\nname = 'file'\n\
                        service_name = 'file'\nservice_port = 80\n";

    #[test]
    fn the_older_of_two_workloads_has_a_host_whichever_is_seen_first() {
        for order in [[0, 1], [1, 0]] {
            let both = [
                workload("old", 1, &[("host", "a.test")]),
                workload("new", 2, &[("host", "a.test, b.test")]),
            ];
            let mut sources = sources("");
            sources.set_annotated(order.map(|at| both[at].clone()).to_vec());
            let joined = sources.join().unwrap();
            let expected =
                [("a.test", "old"), ("b.test", "new")].map(|(h, w)| (h.to_owned(), w.to_owned()));
            assert_eq!(hosts(&joined), expected);
            assert_eq!(
                problem(&joined, "new"),
                "a.test belongs to the older deployment a/old: write another host"
            );
        }
    }

    #[test]
    fn the_file_has_precedence_over_annotations() {
        let mut sources = sources(FILE);
        let other = workload("other", 1, &[("host", "file.test")]);
        let same = workload("file", 1, &[("host", "more.test")]);
        sources.set_annotated(vec![other, same]);
        let joined = sources.join().unwrap();
        assert_eq!(hosts(&joined).len(), 1, "only the file's");
        assert!(
            problem(&joined, "other")
                .contains("file.test is a service of agimo's configuration file")
        );
        assert!(problem(&joined, "file").contains("has the workload with scaler \"external\""));
        let agreeing = workload("file", 1, &[("host", "more.test"), ("scaler", "external")]);
        sources.set_annotated(vec![agreeing]);
        assert_eq!(hosts(&sources.join().unwrap()).len(), 2, "a second route to the workload");
    }

    #[test]
    fn a_mistake_concerns_no_other_workload_and_ends_when_it_is_repaired() {
        let mut sources = sources("");
        let good = workload("good", 1, &[("host", "good.test")]);
        let bad = |text| workload("bad", 2, &[("host", "bad.test"), ("sleep-after", text)]);
        sources.set_annotated(vec![good.clone(), bad("soon")]);
        let joined = sources.join().unwrap();
        assert_eq!((hosts(&joined).len(), joined.problems.len()), (1, 1));
        sources.set_annotated(vec![good, bad("5m")]);
        let joined = sources.join().unwrap();
        assert_eq!((hosts(&joined).len(), joined.problems.len()), (2, 0));
    }

    #[test]
    fn only_the_workloads_of_this_installation_are_services() {
        let labelled = AnnotatedWorkload {
            managed_by: Some("blue".into()),
            ..(*workload("blue", 1, &[("host", "blue.test")])).clone()
        };
        let all = vec![Arc::new(labelled), workload("plain", 1, &[("host", "plain.test")])];
        for (keys, expected) in [("", "plain"), ("managed_by = 'blue'", "blue")] {
            let mut sources = sources(keys);
            sources.set_annotated(all.clone());
            let joined = sources.join().unwrap();
            assert_eq!(hosts(&joined), [(format!("{expected}.test"), expected.to_owned())]);
        }
        let mut off = Sources::new(&parse_file(FILE).unwrap());
        off.set_annotated(all);
        assert_eq!(off.join(), None, "the caller has applied the first version");
        off.set_file(parse_file(FILE).unwrap());
        assert_eq!(hosts(&off.join().unwrap()).len(), 1);
    }

    #[test]
    fn a_path_of_a_host_that_somebody_else_has_cannot_be_taken() {
        let elsewhere = |annotations: &[(&str, &str)]| {
            let other = (*workload("thief", 9, annotations)).clone();
            let id = WorkloadId { namespace: "b".to_owned(), ..other.id.clone() };
            Arc::new(AnnotatedWorkload { id, ..other })
        };
        let mut sources = sources(FILE);
        let own = workload("shop", 1, &[("host", "shop.test")]);
        let part = workload("part", 2, &[("host", "shop.test/api")]);
        let thief = elsewhere(&[("host", "shop.test/login, file.test/login")]);
        sources.set_annotated(vec![own, part, thief]);
        let joined = sources.join().unwrap();
        assert_eq!(hosts(&joined).len(), 3, "the paths of a host are open to its namespace");
        let found = problem(&joined, "thief");
        assert!(
            found.contains("shop.test/login belongs to the older deployment a/shop"),
            "{found}"
        );
        assert!(
            found.contains("file.test/login is a service of agimo's configuration file"),
            "{found}"
        );
    }

    #[test]
    fn a_workload_that_the_file_has_with_the_same_host_is_no_conflict() {
        let mut sources = sources(FILE);
        let same = workload("file", 1, &[("host", "file.test"), ("scaler", "external")]);
        sources.set_annotated(vec![same]);
        let joined = sources.join().unwrap();
        assert_eq!((hosts(&joined).len(), joined.problems.len()), (1, 0));
        // Unless the annotations ask for something else.
        let other = [("host", "file.test"), ("scaler", "external"), ("sleep-after", "1h")];
        sources.set_annotated(vec![workload("file", 1, &other)]);
        let joined = sources.join().unwrap();
        assert!(problem(&joined, "file").contains("with other values"), "{:?}", joined.problems);
        assert_eq!(
            joined.config.services[0].sleep_after,
            parse_file(FILE).unwrap().services[0].sleep_after
        );
    }

    #[test]
    fn every_host_of_a_workload_may_have_the_names_of_its_service() {
        let mut sources = sources("");
        let web = workload("web", 1, &[("host", "a.test, b.test"), ("cluster-names", "true")]);
        sources.set_annotated(vec![web]);
        let joined = sources.join().unwrap();
        assert_eq!((hosts(&joined).len(), joined.problems.len()), (2, 0));
        let names = ["web", "web.a", "web.a.svc", "web.a.svc.cluster.local"];
        assert_eq!(joined.config.services[0].names_in_cluster(), names);
    }
}
