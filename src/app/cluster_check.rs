//! `agimo check --cluster`: gathers what is found in the cluster, and prints it.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::time::SystemTime;

use anyhow::{Context, bail};
use futures_util::future::join_all;
use k8s_openapi::api::core::v1::Pod;
use kube::{Client, ResourceExt};
use serde_json::Value;

use crate::api::Service;
use crate::cli::Cli;
use crate::cli::asking::{CheckOptions, OutputFormat};
use crate::cli::serving::ReadinessSource;
use crate::commands::check::{self as replies, Replica};
use crate::commands::client::AdminClient;
use crate::commands::port_forward::{PortForward, installations, is_ready};
use crate::config::Config;
use crate::external_metrics;
use crate::findings::{self, Finding, Level, Section};
use crate::kube_client;
use crate::kubernetes::check::permissions::{self, Installation};
use crate::kubernetes::check::{self, CheckedService, keda};
use crate::net::dns::Resolver;
use crate::version;

/// Checks the cluster, and the services of the file and of the agimo that runs there. `context` is that of the proxy's own option.
///
/// # Errors
/// When there is no cluster, or a check has failed.
pub fn run(
    options: &CheckOptions,
    context: Option<&str>,
    file: Option<&Config>,
) -> anyhow::Result<()> {
    let context = options.kube_context.as_deref().or(context);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let sections = runtime.block_on(async {
        let found = kube_client::find(context, Resolver::default()).await?;
        let (client, _) =
            found.context("no cluster is found: set KUBECONFIG, or --kube-context")?;
        anyhow::Ok(sections(&client, options.namespace.as_deref(), file).await)
    })?;
    let text = match options.output {
        OutputFormat::Json => findings::json(&sections),
        OutputFormat::Table | OutputFormat::Wide => findings::text(&sections),
    };
    std::io::stdout().lock().write_all(text.as_bytes())?;
    match findings::count(&sections, Level::Failed) {
        0 => Ok(()),
        1 => bail!("a check of the cluster has failed"),
        failed => bail!("{failed} checks of the cluster have failed"),
    }
}

async fn sections(client: &Client, namespace: Option<&str>, file: Option<&Config>) -> Vec<Section> {
    let (api_server, is_reachable) = check::api_server(client).await;
    let mut sections = vec![Section::new("Kubernetes", vec![api_server])];
    if !is_reachable {
        return sections;
    }
    let file = file.map(Config::effective);
    let mut known = Known::default();
    file.iter().for_each(|file| known.add(file));
    let has_keda = check::has_keda(client).await;
    let mut own_metrics_service = None;
    let mut can_write = true;
    match find_installation(client, namespace).await {
        Err(finding) => sections.push(Section::new("agimo", vec![finding])),
        Ok(pods) => {
            let installed = installation(&pods);
            let (mut findings, replicas) = agimo(client, &pods, &installed).await;
            for Replica { pod, answers } in &replicas {
                let Ok(answers) = answers else { continue };
                findings.extend(replies::metrics(pod, &answers.metrics, SystemTime::now()));
                known.add(&answers.config);
                known.add_shown(&answers.services);
            }
            sections.push(Section::new("agimo", findings));
            match installed {
                Err(finding) => sections.push(Section::new("permissions", vec![finding])),
                Ok(installed) => {
                    sections.extend(of_installation(client, &installed, &known, has_keda).await);
                    can_write = installed.options.readiness_source != ReadinessSource::Prometheus;
                    own_metrics_service = installed.options.external_metrics_service.clone();
                }
            }
        }
    }
    let metrics = external_metrics::check::find(client, own_metrics_service.as_ref()).await;
    sections.push(Section::new("external metrics", vec![metrics]));
    let mut of_services = check::services(client, &known.services, has_keda, can_write).await;
    for (section, checked) in of_services.iter_mut().zip(&known.services) {
        let shown = known.shown.get(&checked.name).into_iter().flatten();
        section.add(shown.flat_map(replies::service_findings));
    }
    sections.extend(of_services);
    sections
}

/// What the configurations and the replicas say.
#[derive(Default)]
struct Known {
    services: Vec<CheckedService>,
    /// By the name of the service; from each replica.
    shown: BTreeMap<String, Vec<Service>>,
    /// The effective configuration of the agimo that runs, or of the file.
    config: Option<Value>,
    /// Services that this version cannot read.
    unreadable: usize,
    /// A replica has answered.
    has_answer: bool,
}

/// Of an installation: its permissions, whether its services can be found, and KEDA.
async fn of_installation(
    client: &Client,
    installed: &Installation,
    known: &Known,
    has_keda: bool,
) -> Vec<Section> {
    let scaled = if has_keda { keda::scaled_objects(client).await } else { Ok(Vec::new()) };
    let mut sections = Vec::new();
    let findings = permissions::findings(client, installed, known.writes(), has_keda).await;
    sections.push(Section::new("permissions", findings));
    let namespaces = &installed.options.watch_namespaces;
    let mut findings = known.findings(namespaces);
    if known.finds_annotated() {
        findings.extend(check::rejected_annotations(client, namespaces, &known.services).await);
    }
    sections.push(Section::new("services", findings));
    let findings = match scaled {
        Ok(objects) => keda::findings(installed, &objects),
        Err(finding) => vec![finding],
    };
    sections.push(Section::new("KEDA", findings));
    sections
}

/// The pods of the agimo that is meant, without those that have ended or terminate.
async fn find_installation(client: &Client, namespace: Option<&str>) -> Result<Vec<Pod>, Finding> {
    let mut installed = installations(client, namespace).await.map_err(|error| {
        let fix = match namespace {
            Some(_) => "use an account that may list pods there",
            None => "name the namespace of agimo with --namespace",
        };
        Finding::skipped(format!("{error:#}"), fix)
    })?;
    installed.retain(|_, pods| {
        pods.retain(|pod| !has_ended(pod));
        !pods.is_empty()
    });
    let names: Vec<_> =
        installed.keys().map(|(namespace, name)| format!("{name} in {namespace}")).collect();
    let mut installed = installed.into_values();
    match (installed.next(), installed.next()) {
        (Some(pods), None) => Ok(pods),
        (None, _) => Err(match namespace {
            Some(namespace) => Finding::failed(
                format!("no agimo runs in the namespace {namespace}"),
                "correct --namespace, or install the chart there (docs/kubernetes.md)",
            ),
            None => Finding::skipped(
                "no agimo runs in the cluster",
                "install the chart (docs/kubernetes.md), or name the namespace of agimo with --namespace",
            ),
        }),
        (Some(_), Some(_)) => Err(Finding::skipped(
            format!("agimo is installed several times: {}", names.join(", ")),
            "name a namespace with one installation with --namespace",
        )),
    }
}

fn has_ended(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    pod.metadata.deletion_timestamp.is_some() || matches!(phase, Some("Succeeded" | "Failed"))
}

/// The findings about the pods of agimo, and what each of them answers.
async fn agimo(
    client: &Client,
    pods: &[Pod],
    installed: &Result<Installation, Finding>,
) -> (Vec<Finding>, Vec<Replica>) {
    let namespace = pods.first().and_then(ResourceExt::namespace).unwrap_or_default();
    let ready: Vec<&Pod> = pods.iter().filter(|pod| is_ready(pod)).collect();
    let count =
        format!("{} of {} pods in the namespace {namespace} are ready", ready.len(), pods.len());
    let describe = format!("kubectl --namespace {namespace} describe pods");
    let mut findings = vec![match (ready.len(), pods.len()) {
        (0, _) => Finding::failed(count, describe),
        (1, 1) => Finding::warning(
            "one pod is ready: while its node restarts, no request is served",
            "set `replicas: 2` in the values of the chart",
        ),
        (ready, all) if ready < all => Finding::warning(count, describe),
        _ => Finding::ok(count),
    }];
    let asking = ready.iter().map(|pod| async move {
        let admin = AdminClient::through(PortForward::to(client, pod));
        Replica::ask(pod.name_any(), &admin).await
    });
    let replicas = join_all(asking).await;
    let has_lease = installed.as_ref().is_ok_and(|installed| installed.options.lease.is_some());
    findings.extend(replies::replicas(&replicas, pods.len(), version::TEXT, has_lease));
    (findings, replicas)
}

/// The arguments and the account of the newest ready pod of agimo.
fn installation(pods: &[Pod]) -> Result<Installation, Finding> {
    let unreadable = |detail: String| {
        let text = format!("the arguments of the container of agimo cannot be read: {detail}");
        Finding::skipped(text, "use the command of the same version as agimo")
    };
    let created = |pod: &&Pod| pod.creation_timestamp().map(|created| created.0);
    let newest = pods.iter().filter(|pod| is_ready(pod)).max_by_key(created).or(pods.first());
    let pod = newest.ok_or_else(|| unreadable("it has no pod".to_owned()))?;
    let spec = pod.spec.as_ref().ok_or_else(|| unreadable("no specification".to_owned()))?;
    let own = spec.containers.iter().find(|container| container.name == "agimo");
    let container = own.or(spec.containers.first());
    let arguments = container.into_iter().flat_map(|container| container.args.iter().flatten());
    let words = std::iter::once("agimo").chain(arguments.map(String::as_str));
    let variables = container.into_iter().flat_map(|container| container.env.iter().flatten());
    let variables: Vec<_> = variables
        .filter_map(|variable| Some((variable.name.clone(), variable.value.clone()?)))
        .collect();
    let cli = Cli::try_parse_elsewhere(words, &variables);
    Ok(Installation {
        namespace: pod.namespace().unwrap_or_default(),
        service_account: spec.service_account_name.clone().unwrap_or_else(|| "default".to_owned()),
        options: cli.map_err(|error| unreadable(error.to_string()))?.serve,
    })
}

// === impl Known ===

impl Known {
    /// Adds the services of an effective configuration that are not known yet.
    fn add(&mut self, config: &Value) {
        let services = CheckedService::of_configuration(config);
        let in_cluster = |service: &&Value| service["type"] != "process";
        let all = config["services"].as_array().into_iter().flatten().filter(in_cluster).count();
        self.unreadable = self.unreadable.max(all.saturating_sub(services.len()));
        let names: BTreeSet<_> = self.services.iter().map(|service| service.name.clone()).collect();
        self.services.extend(services.into_iter().filter(|service| !names.contains(&service.name)));
        self.config = Some(config.clone());
    }

    fn add_shown(&mut self, services: &[Service]) {
        self.has_answer = true;
        for service in services {
            self.shown.entry(service.name()).or_default().push(service.clone());
        }
    }

    /// Whether agimo writes `replicas` of some workload; absent where no replica says so.
    fn writes(&self) -> Option<bool> {
        if !self.has_answer {
            return None;
        }
        let authorities =
            self.shown.values().flatten().filter_map(|service| service.authority.as_deref());
        Some(authorities.into_iter().any(|authority| authority != "report"))
    }

    /// Whether every annotated workload is to be a service of this agimo.
    fn finds_annotated(&self) -> bool {
        let config = self.config.as_ref().filter(|_| self.has_answer && self.unreadable == 0);
        config.is_some_and(|config| config["annotations"] == true && config["managed_by"].is_null())
    }

    fn findings(&self, watched: &[String]) -> Vec<Finding> {
        let mut findings = Vec::new();
        match (self.services.len(), self.has_answer) {
            (0, true) if self.unreadable == 0 => findings.push(Finding::warning(
                "agimo has no services",
                "annotate a workload (docs/annotations.md), or add [[services]] to the configuration",
            )),
            (count, true) => findings.push(Finding::ok(format!("services: {count}"))),
            (_, false) => findings.push(Finding::skipped(
                "the services of agimo are not known, because no replica answers",
                "use an account that may create pods/portforward",
            )),
        }
        if self.unreadable > 0 {
            findings.push(Finding::skipped(
                format!("{} services cannot be read", self.unreadable),
                "use the command of the same version as agimo",
            ));
        }
        let is_unwatched = |service: &&CheckedService| {
            !watched.is_empty() && !watched.contains(&service.workload.namespace)
        };
        findings.extend(self.services.iter().filter(is_unwatched).map(|service| {
            Finding::failed(
                format!("the namespace of {} is not watched", service.workload),
                "add it to `watchNamespaces` in the values of the chart",
            )
        }));
        findings
    }
}
