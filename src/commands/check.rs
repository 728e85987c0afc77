//! For `agimo check --cluster`: what the replicas of an installed agimo say about themselves and about their services. Pure, but for
//! `Replica::ask`.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use serde_json::Value;

use super::client::AdminClient;
use crate::api::{Decision, Peers, Service, Services};
use crate::findings::Finding;
use crate::telemetry::durations::{since_1970, whole};

/// What one replica of agimo answers.
#[derive(Clone, Debug)]
pub struct Replica {
    pub pod: String,
    /// Absent where it does not answer, with the reason.
    pub answers: Result<Answers, String>,
}

#[derive(Clone, Debug)]
pub struct Answers {
    pub peers: Peers,
    pub services: Vec<Service>,
    /// The effective configuration.
    pub config: Value,
    /// The metrics page.
    pub metrics: String,
}

/// A certificate that expires within this time is a warning.
const RENEW_WITHIN: Duration = Duration::from_secs(14 * 24 * 3600);
const EXPIRY: &str = "agimo_tls_certificate_expiry_timestamp_seconds";
const RELOAD: &str = "agimo_config_last_reload_successful";

// === impl Replica ===

impl Replica {
    /// Asks a replica through its admin port.
    pub async fn ask(pod: String, client: &AdminClient) -> Self {
        let answers = async {
            Ok(Answers {
                peers: client.get("peers").await?,
                services: client.get::<Services>("services").await?.services,
                config: client.get("config").await?,
                metrics: String::from_utf8_lossy(&client.get_page("/metrics").await?).into_owned(),
            })
        };
        let answers = answers.await.map_err(|error: anyhow::Error| format!("{error:#}"));
        Self { pod, answers }
    }
}

/// Whether the replicas act as one. `pods`: how many there are, ready or not. `has_lease`: they choose a leader.
pub fn replicas(
    replicas: &[Replica],
    pods: usize,
    own_version: &str,
    has_lease: bool,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut versions = BTreeSet::new();
    let mut leaders = 0;
    for Replica { pod, answers } in replicas {
        let Answers { peers, .. } = match answers {
            Ok(answers) => answers,
            Err(reason) => {
                findings.push(unreachable(pod, reason));
                continue;
            }
        };
        versions.insert(peers.version.as_str());
        leaders += usize::from(peers.is_leader);
        const FIX: &str = "let the pods of agimo reach each other on the port for peers (NetworkPolicy), with the same token \
                           (--peer-tokens)";
        if peers.peers.len() + 1 < replicas.len() {
            let known = peers.peers.len();
            findings.push(Finding::failed(
                format!("the pod {pod} knows {known} of {} other replicas", replicas.len() - 1),
                FIX,
            ));
        }
        let unknown = peers.peers.iter().filter(|peer| !peer.is_known);
        findings.extend(unknown.map(|peer| {
            let text = "does not know the demand of";
            let effect = "no workload is put to sleep";
            Finding::failed(format!("the pod {pod} {text} {}: {effect}", peer.address), FIX)
        }));
    }
    let answering = replicas.iter().filter(|replica| replica.answers.is_ok()).count();
    if answering == 0 {
        return findings;
    }
    if findings.is_empty() && answering > 1 {
        findings.push(Finding::ok(format!("{answering} replicas know each other")));
    }
    match leaders {
        1 => findings.push(Finding::ok("one replica leads")),
        // One that does not answer may lead.
        0 if has_lease && answering == pods => findings.push(Finding::failed(
            "no replica leads, so no workload is put to sleep",
            "wait for ten seconds after a restart; then check the permissions on the Lease",
        )),
        _ => {}
    }
    let listed = versions.iter().copied().collect::<Vec<_>>().join(" and ");
    findings.push(match versions.len() {
        1 if versions.contains(own_version) => Finding::ok(format!("version {listed}")),
        1 => Finding::warning(
            format!("version {listed}, and this command is {own_version}"),
            "use the command of the same version: fields that it does not know are not shown",
        ),
        _ => Finding::warning(
            format!("the replicas have different versions: {listed}"),
            "wait for the rollout to finish: kubectl rollout status",
        ),
    });
    findings
}

/// If the account may not forward ports, the check is skipped: that says nothing about the pod.
fn unreachable(pod: &str, reason: &str) -> Finding {
    let text = format!("the admin port of the pod {pod} does not answer: {reason}");
    if reason.contains("403") || reason.to_lowercase().contains("forbidden") {
        return Finding::skipped(text, "use an account that may create pods/portforward");
    }
    Finding::failed(text, "read the log of the pod")
}

/// Whether the configuration was accepted, and when certificates expire, from the metrics page of a replica.
pub fn metrics(pod: &str, page: &str, now: SystemTime) -> Vec<Finding> {
    const FIX: &str =
        "renew it: agimo uses the new certificate within two minutes, without a restart";
    let mut findings = Vec::new();
    let samples = || page.lines().filter(|line| !line.starts_with('#'));
    if samples().any(|line| line.split(' ').next() == Some(RELOAD) && line.ends_with(" 0")) {
        findings.push(Finding::failed(
            format!("the newest configuration is invalid, and the pod {pod} uses the previous one"),
            "read the log of agimo, which names each problem, and correct the configuration",
        ));
    }
    let now = since_1970(now).as_secs_f64();
    for line in samples().filter(|line| line.starts_with(EXPIRY)) {
        let Some((labels, value)) = line.rsplit_once(' ') else { continue };
        let Ok(expires) = value.parse::<f64>() else { continue };
        let file = labels.split('"').nth(1).unwrap_or(labels);
        findings.push(match Duration::try_from_secs_f64(expires - now) {
            Err(_) => Finding::failed(format!("the certificate {file} has expired"), FIX),
            Ok(left) if left < RENEW_WITHIN => {
                Finding::warning(format!("the certificate {file} expires in {}", whole(left)), FIX)
            }
            Ok(left) => Finding::ok(format!("the certificate {file} expires in {}", whole(left))),
        });
    }
    findings
}

/// What a replica of agimo has noticed about a service.
pub fn service_findings(service: &Service) -> Vec<Finding> {
    let mut findings = Vec::new();
    if let Some(reverted) = &service.reverted_by {
        let text =
            format!("{} undoes what agimo writes to `replicas`", reverted.writers.join(" and "));
        findings.push(Finding::failed(text, &*reverted.fix));
    }
    let reported =
        [("not ready", &service.not_ready), ("its last wake failed", &service.last_failure)];
    for (what, decision) in reported {
        let Some(Decision { reason, detail }) = decision else { continue };
        let host = service.name();
        findings.push(Finding::warning(
            format!("{what}: {reason}: {detail}"),
            format!("docs/kubernetes.md, \"Troubleshooting\", explains the reason; agimo why {host} shows the last wakes"),
        ));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Peer;
    use crate::findings::Level;
    use serde_json::json;

    fn replica(version: &str, is_leader: bool, is_known: bool) -> Replica {
        let peers = vec![Peer { address: "10.0.0.2:9091".to_owned(), is_known }];
        let peers =
            Peers { replica: "a".to_owned(), version: version.to_owned(), is_leader, peers };
        let answers =
            Answers { peers, services: Vec::new(), config: json!({}), metrics: String::new() };
        Replica { pod: "agimo-1".to_owned(), answers: Ok(answers) }
    }

    fn problems(findings: Vec<Finding>) -> Vec<(Level, String)> {
        let asking = findings.into_iter().filter(|finding| finding.level != Level::Ok);
        asking.map(|finding| (finding.level, finding.text)).collect()
    }

    #[test]
    fn replicas_must_know_each_other_and_have_one_leader() {
        let sound = [replica("1", true, true), replica("1", false, true)];
        assert_eq!(problems(replicas(&sound, 2, "1", true)), []);
        let mut unreachable = replica("1", true, true);
        unreachable.answers = Err("status 403 Forbidden".to_owned());
        let mut silent = unreachable.clone();
        silent.answers = Err("no answer within 10 s".to_owned());
        let mut lonely = replica("1", true, true);
        lonely.answers.as_mut().unwrap().peers.peers.clear();
        for (pods, own, level, part) in [
            (
                [replica("1", true, false), replica("1", false, true)],
                "1",
                Level::Failed,
                "no workload is put to sleep",
            ),
            (
                [replica("1", false, true), replica("1", false, true)],
                "1",
                Level::Failed,
                "no replica leads",
            ),
            (
                [replica("1", true, true), replica("2", false, true)],
                "1",
                Level::Warning,
                "different versions: 1 and 2",
            ),
            (
                [replica("1", true, true), replica("1", false, true)],
                "2",
                Level::Warning,
                "this command is 2",
            ),
            (
                [unreachable, replica("1", false, true)],
                "1",
                Level::Skipped,
                "does not answer: status 403",
            ),
            ([silent, replica("1", false, true)], "1", Level::Failed, "no answer within 10 s"),
            ([lonely, replica("1", false, true)], "1", Level::Failed, "knows 0 of 1 other"),
        ] {
            let found = problems(replicas(&pods, 2, own, true));
            assert_eq!(found.len(), 1, "{found:?}");
            assert!(found[0].0 == level && found[0].1.contains(part), "{found:?}");
        }
    }

    #[test]
    fn what_a_replica_has_noticed_about_a_service_is_a_finding() {
        let decision = |reason: &str| json!({ "reason": reason, "detail": "x" });
        let service = json!({
            "host": "a.test", "path_prefix": "/", "workload": "deployment a/web", "state": "waking", "ready_endpoints": 0,
            "open_requests": 1, "held_requests": 1, "not_ready": decision("crash-loop"), "last_failure": decision("wake-exited"),
            "reverted_by": { "writers": ["argocd"], "fix": "ignore replicas" },
        });
        let found = service_findings(&serde_json::from_value(service).unwrap());
        let levels: Vec<_> = found.iter().map(|finding| finding.level).collect();
        assert_eq!(levels, [Level::Failed, Level::Warning, Level::Warning]);
        assert!(
            found[0].text.contains("argocd") && found[0].fix.as_deref() == Some("ignore replicas")
        );
        assert!(
            found[1].text.contains("crash-loop") && found[2].text.contains("wake-exited"),
            "{found:?}"
        );
    }

    #[test]
    fn certificates_are_to_be_renewed_in_time() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
        let page = |days: i64| {
            let expires = 1_000_000_000 + days * 24 * 3600;
            format!("# HELP {EXPIRY} x\n{EXPIRY}{{file=\"/tls/a.crt\"}} {expires}\n{RELOAD} 1\n")
        };
        for (days, level, part) in [
            (-1, Level::Failed, "/tls/a.crt has expired"),
            (13, Level::Warning, "/tls/a.crt expires in 13days"),
            (90, Level::Ok, "expires in"),
        ] {
            let found = metrics("agimo-1", &page(days), now);
            assert!(
                found.len() == 1 && found[0].level == level && found[0].text.contains(part),
                "{found:?}"
            );
        }
        let found = metrics("agimo-1", &format!("{RELOAD} 0\n"), now);
        assert!(
            found[0].level == Level::Failed && found[0].text.contains("previous one"),
            "{found:?}"
        );
    }
}
