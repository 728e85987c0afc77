//! Chooses one of agimo's replicas as the leader, by a Lease (coordination.k8s.io/v1).
//!
//! As in client-go, no clock of another machine is read: a Lease has expired when it has not changed for its duration, seen
//! from here. kube-lease-manager compares its own clock with the time in the Lease, and goes on leading while the API server
//! does not answer. More than one leader does no harm, only useless work: no workload is scaled to zero before every other
//! replica has agreed.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::Timestamp;
use kube::api::PostParams;
use kube::{Api, Client};
use tokio::time::Instant;
use tracing::{debug, info, warn};

use super::objects::ObjectName;
use crate::coordination::Coordination;
use crate::kube_client::error_with_sources;
use crate::shutdown::Shutdown;

/// What is known of the Lease. Pure: time is passed in.
#[derive(Debug)]
struct Election {
    /// This replica, as the Lease names its holder.
    identity: String,
    /// The version of the Lease that was seen last, and when it was first seen.
    seen: Option<(String, Instant)>,
    /// When the last renewal by this replica began.
    renewed: Option<Instant>,
}

/// What to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Write {
    Nothing,
    /// The Lease of this replica, once more.
    Renew,
    /// A Lease that nobody holds, or whose holder has not renewed it in time.
    TakeOver,
}

/// A Lease that its holder has not renewed for so long may be taken over.
const DURATION: Duration = Duration::from_secs(8);
/// The holder leads only so long without a renewal.
const LEAD_FOR: Duration = Duration::from_secs(6);
const INTERVAL: Duration = Duration::from_secs(2);
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(2);

/// Takes part in the election until agimo drains, and then releases the Lease. Without a Lease this replica leads.
pub async fn run(
    client: Client,
    lease: Option<ObjectName>,
    coordination: Coordination,
    shutdown: Shutdown,
) {
    let Some(name) = lease else { return };
    let api: Api<Lease> = Api::namespaced(client, &name.namespace);
    let identity = format!("agimo-{:016x}", coordination.instance());
    let mut election = Election { identity, seen: None, renewed: None };
    let mut is_failing = false;
    coordination.set_leader(false);
    loop {
        let attempt =
            tokio::time::timeout(ATTEMPT_TIMEOUT, attempt(&api, &name, &mut election)).await;
        let error = match attempt {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error_with_sources(&error)),
            Err(_) => Some("no answer within 2 s".to_owned()),
        };
        match &error {
            Some(error) if is_failing => debug!(lease = %name, error, "no leader can be chosen"),
            Some(error) => warn!(
                lease = %name,
                error,
                "no leader can be chosen, and only a leader puts workloads to sleep; grant agimo get, create and update on \
                 this Lease"
            ),
            None => {}
        }
        is_failing = error.is_some();
        let is_leader = election.is_leader(Instant::now());
        if is_leader != coordination.is_leader() {
            info!(lease = %name, is_leader, "leader election");
            coordination.set_leader(is_leader);
        }
        tokio::select! {
            () = tokio::time::sleep(INTERVAL) => {}
            () = shutdown.draining() => break,
        }
    }
    if coordination.is_leader() {
        coordination.set_leader(false);
        let released = tokio::time::timeout(ATTEMPT_TIMEOUT, release(&api, &name, &election)).await;
        // Otherwise the others wait until it expires.
        match released {
            Ok(Ok(())) => info!(lease = %name, "the Lease was released"),
            Ok(Err(error)) => debug!(lease = %name, %error, "the Lease was not released"),
            Err(_) => debug!(lease = %name, "the Lease was not released within 2 s"),
        }
    }
}

/// Leaves the Lease to whoever asks next, if this replica still holds it.
async fn release(api: &Api<Lease>, name: &ObjectName, election: &Election) -> kube::Result<()> {
    let Some(mut lease) = api.get_opt(&name.name).await? else { return Ok(()) };
    let Some(spec) = lease.spec.as_mut() else { return Ok(()) };
    if spec.holder_identity.as_ref() != Some(&election.identity) {
        return Ok(());
    }
    spec.holder_identity = Some(String::new());
    api.replace(&name.name, &PostParams::default(), &lease).await.map(drop)
}

async fn attempt(api: &Api<Lease>, name: &ObjectName, election: &mut Election) -> kube::Result<()> {
    let began = Instant::now();
    let Some(lease) = api.get_opt(&name.name).await? else {
        let created = api.create(&PostParams::default(), &election.lease(name, None)).await;
        return election.written(created, began);
    };
    match election.observe(&lease, began) {
        Write::Nothing => Ok(()),
        Write::Renew | Write::TakeOver => {
            let renewed = election.lease(name, Some(&lease));
            let written = api.replace(&name.name, &PostParams::default(), &renewed).await;
            election.written(written, began)
        }
    }
}

// === impl Election ===

impl Election {
    fn is_leader(&self, now: Instant) -> bool {
        self.renewed.is_some_and(|renewed| now < renewed + LEAD_FOR)
    }

    /// Takes the Lease as it is now, and decides what to write.
    fn observe(&mut self, lease: &Lease, now: Instant) -> Write {
        let version = lease.metadata.resource_version.clone().unwrap_or_default();
        if self.seen.as_ref().is_none_or(|(known, _)| *known != version) {
            self.seen = Some((version, now));
        }
        let spec = lease.spec.as_ref();
        let holder = spec.and_then(|spec| spec.holder_identity.as_deref()).unwrap_or("");
        if holder == self.identity {
            return Write::Renew;
        }
        self.renewed = None;
        let duration = spec.and_then(|spec| spec.lease_duration_seconds);
        let duration = duration.and_then(|seconds| u64::try_from(seconds).ok());
        let duration = duration.map_or(DURATION, Duration::from_secs);
        let has_expired = self.seen.as_ref().is_some_and(|(_, since)| now >= *since + duration);
        if holder.is_empty() || has_expired { Write::TakeOver } else { Write::Nothing }
    }

    /// The Lease with this replica as its holder. A version makes the write fail if the Lease has changed since.
    fn lease(&self, name: &ObjectName, before: Option<&Lease>) -> Lease {
        let now = Some(MicroTime(Timestamp::now()));
        let spec = before.and_then(|lease| lease.spec.clone()).unwrap_or_default();
        let is_held = spec.holder_identity.as_deref() == Some(self.identity.as_str());
        let transitions = spec.lease_transitions.unwrap_or(0);
        Lease {
            metadata: before.map_or_else(
                || ObjectMeta {
                    namespace: Some(name.namespace.clone()),
                    name: Some(name.name.clone()),
                    ..ObjectMeta::default()
                },
                |lease| lease.metadata.clone(),
            ),
            spec: Some(LeaseSpec {
                holder_identity: Some(self.identity.clone()),
                lease_duration_seconds: Some(DURATION.as_secs() as i32),
                acquire_time: if is_held { spec.acquire_time } else { now.clone() },
                renew_time: now,
                lease_transitions: Some(if is_held { transitions } else { transitions + 1 }),
                ..LeaseSpec::default()
            }),
        }
    }

    /// Takes the result of a write that began then. Another replica may have been faster.
    fn written(&mut self, written: kube::Result<Lease>, began: Instant) -> kube::Result<()> {
        match written {
            Ok(_) => {
                self.renewed = Some(began);
                Ok(())
            }
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn name() -> ObjectName {
        ObjectName::new("a", "agimo")
    }

    fn election(identity: &str) -> Election {
        Election { identity: identity.to_owned(), seen: None, renewed: None }
    }

    fn held_by(holder: &Election, version: &str) -> Lease {
        let mut lease = holder.lease(&name(), None);
        lease.metadata.resource_version = Some(version.to_owned());
        lease
    }

    #[test]
    fn a_lease_is_taken_over_when_it_has_not_changed_for_its_duration() {
        let (one, mut other, start) = (election("one"), election("other"), Instant::now());
        assert_eq!(other.observe(&held_by(&one, "1"), start), Write::Nothing);
        assert_eq!(other.observe(&held_by(&one, "1"), start + 7 * SECOND), Write::Nothing);
        assert_eq!(
            other.observe(&held_by(&one, "2"), start + 8 * SECOND),
            Write::Nothing,
            "renewed"
        );
        assert_eq!(other.observe(&held_by(&one, "2"), start + 15 * SECOND), Write::Nothing);
        assert_eq!(other.observe(&held_by(&one, "2"), start + 16 * SECOND), Write::TakeOver);
        let taken = other.lease(&name(), Some(&held_by(&one, "2")));
        assert_eq!(taken.metadata.resource_version.as_deref(), Some("2"), "fenced");
        let spec = taken.spec.unwrap();
        assert_eq!(spec.holder_identity.as_deref(), Some("other"));
        assert_eq!(spec.lease_transitions, Some(2));
    }

    #[test]
    fn a_leader_without_renewal_stops_leading_before_another_may_begin() {
        let (mut one, start) = (election("one"), Instant::now());
        let mut free = held_by(&one, "1");
        free.spec.as_mut().unwrap().holder_identity = Some(String::new());
        assert_eq!(one.observe(&free, start), Write::TakeOver);
        one.written(Ok(held_by(&one, "2")), start).unwrap();
        assert!(one.is_leader(start + LEAD_FOR - SECOND) && !one.is_leader(start + LEAD_FOR));
        assert!(LEAD_FOR < DURATION);
        assert_eq!(one.observe(&held_by(&one, "2"), start + SECOND), Write::Renew);
        let other = election("other");
        assert_eq!(one.observe(&held_by(&other, "3"), start + SECOND), Write::Nothing);
        assert!(!one.is_leader(start + SECOND), "another replica holds it");
    }
}
