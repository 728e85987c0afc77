//! `agimo check --cluster`: gathers what is found in the cluster, and prints it.

use std::io::Write;
use std::time::SystemTime;

use anyhow::{Context, bail};
use clap::Parser;
use futures_util::future::join_all;
use k8s_openapi::api::core::v1::Pod;
use kube::{Client, ResourceExt};

use crate::cli::Cli;
use crate::cli::asking::{CheckOptions, OutputFormat};
use crate::commands::check::{self as replies, Answers, Replica};
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
    let api_server = check::api_server(client).await;
    let is_reachable = api_server.level != Level::Failed;
    let section = |name: &str, findings| Section { name: name.to_owned(), findings };
    let mut sections = vec![section("Kubernetes", vec![api_server])];
    if !is_reachable {
        return sections;
    }
    let mut services =
        file.map(|file| CheckedService::of_configuration(&file.effective())).unwrap_or_default();
    let mut running = Vec::new();
    match find_installation(client, namespace).await {
        Err(finding) => sections.push(section("agimo", vec![finding])),
        Ok(pods) => {
            let (mut findings, answers) = agimo(client, &pods).await;
            if let Some(Answers { config, services: shown, metrics, .. }) = answers {
                findings.extend(replies::metrics(&metrics, SystemTime::now()));
                let known: Vec<_> = services.iter().map(|service| service.name.clone()).collect();
                let more = CheckedService::of_configuration(&config);
                services.extend(more.into_iter().filter(|service| !known.contains(&service.name)));
                running = shown;
            }
            sections.push(section("agimo", findings));
            let scaled = keda::scaled_objects(client).await;
            let has_keda = scaled.as_ref().is_ok_and(|objects| !objects.is_empty());
            match installation(&pods) {
                Err(finding) => sections.push(section("permissions", vec![finding])),
                Ok(installed) => {
                    let findings =
                        permissions::findings(client, &installed, &services, has_keda).await;
                    sections.push(section("permissions", findings));
                    let findings = scaled.map_or_else(
                        |finding| vec![finding],
                        |objects| keda::findings(&installed, &objects),
                    );
                    sections.push(section("KEDA", findings));
                }
            }
        }
    }
    sections.push(section("external metrics", vec![external_metrics::check::find(client).await]));
    let mut of_services = check::services(client, &services).await;
    for (section, checked) in of_services.iter_mut().zip(&services) {
        let shown = running.iter().find(|service| {
            format!("{}{}", service.host, service.path_prefix.trim_end_matches('/')) == checked.name
        });
        section.findings.extend(shown.map(replies::service).unwrap_or_default());
    }
    sections.extend(of_services);
    sections
}

/// The pods of the agimo that is meant.
async fn find_installation(client: &Client, namespace: Option<&str>) -> Result<Vec<Pod>, Finding> {
    let installed = installations(client, namespace).await.map_err(|error| {
        Finding::skipped(format!("{error:#}"), "name the namespace of agimo with --namespace")
    })?;
    let names: Vec<_> =
        installed.keys().map(|(namespace, name)| format!("{name} in {namespace}")).collect();
    let mut installed = installed.into_values();
    match (installed.next(), installed.next()) {
        (Some(pods), None) => Ok(pods),
        (None, _) => Err(Finding::skipped(
            "no agimo runs in the cluster",
            "install the chart (docs/kubernetes.md), or name the namespace of agimo with --namespace",
        )),
        (Some(_), Some(_)) => Err(Finding::skipped(
            format!("agimo is installed several times: {}", names.join(", ")),
            "name the namespace of one of them with --namespace",
        )),
    }
}

/// The findings about the pods of agimo, and what the first of them answers.
async fn agimo(client: &Client, pods: &[Pod]) -> (Vec<Finding>, Option<Answers>) {
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
    let has_lease = installation(pods).is_ok_and(|installed| installed.options.lease.is_some());
    findings.extend(replies::replicas(&replicas, version::TEXT, has_lease));
    (findings, replicas.into_iter().find_map(|replica| replica.answers.ok()))
}

/// The arguments and the account of a pod of agimo.
fn installation(pods: &[Pod]) -> Result<Installation, Finding> {
    let unreadable = |detail: String| {
        let text = format!("the arguments of the container of agimo cannot be read: {detail}");
        Finding::skipped(text, "use the command of the same version as agimo")
    };
    let pod = pods.first().ok_or_else(|| unreadable("it has no pod".to_owned()))?;
    let spec = pod.spec.as_ref().ok_or_else(|| unreadable("no specification".to_owned()))?;
    let container = spec
        .containers
        .iter()
        .find(|container| container.name == "agimo")
        .or(spec.containers.first());
    let arguments = container.into_iter().flat_map(|container| container.args.iter().flatten());
    let cli = Cli::try_parse_from(std::iter::once("agimo").chain(arguments.map(String::as_str)));
    Ok(Installation {
        namespace: pod.namespace().unwrap_or_default(),
        service_account: spec.service_account_name.clone().unwrap_or_else(|| "default".to_owned()),
        options: cli.map_err(|error| unreadable(error.to_string()))?.serve,
    })
}
