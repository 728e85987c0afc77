//! `/api/v1`: the state of services and what has happened to their workloads, for programs and for the commands of agimo.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use hyper::StatusCode;
use serde::Serialize;
use tokio::sync::watch;
use tracing::{info, warn};

use crate::api::explanation::Explanation;
use crate::api::records::{LedgerRecord, LedgerRecords};
use crate::api::savings::SavingsReport;
use crate::api::{Peer, Peers, Problem, Service, Services};
use crate::catalog::{Route, Snapshot};
use crate::coordination::Coordination;
use crate::ledger::record::Record;
use crate::ledger::{Excerpt, Ledger};
use crate::savings::Savings;
use crate::status::ServiceStatus;
use crate::version;

use super::control::{self, Call};
use super::parameters::{Parameters, no_service};
use super::response::{Refusal, json};
use crate::routing::host_and_path;
use crate::workload::WorkloadId;

/// An answer in JSON, with its status.
pub type Answer = (StatusCode, String);

/// What one replica of agimo answers from.
#[derive(Clone)]
pub struct Own {
    pub snapshot: Arc<Snapshot>,
    pub ledger: Ledger,
    pub coordination: Coordination,
    pub savings: Savings,
    /// The name of this replica.
    pub replica: Arc<str>,
}

/// Sends the other replicas of agimo a path and query below `/api/v1/`: a question, or what a person has asked for.
pub type AskOthers = Box<dyn Fn(String) -> BoxFuture<'static, Vec<OtherAnswer>> + Send + Sync>;
/// The address of a replica, and its answer or why there is none.
pub type OtherAnswer = (SocketAddr, Result<Bytes, String>);

/// An answer that may still be completed.
pub enum Answered {
    Whole(Answer),
    /// What this replica knows; the others know more. No more than `limit` records are wanted.
    Records {
        own: LedgerRecords,
        limit: usize,
    },
}

/// The answer of this replica to a GET of this path below `/api/v1/`, with this query.
pub fn answer(path: &str, query: &str, own: &Own) -> Answered {
    let Own { snapshot, ledger, replica, .. } = own;
    let answered = match path {
        "services" => Parameters::read(query, &["host"]).and_then(|parameters| {
            let routes = parameters.routes(snapshot)?;
            Ok(Answered::ok(&services(&routes, own)))
        }),
        "wakes" => Parameters::read(query, &["host", "limit"]).and_then(|parameters| {
            let limit = parameters.limit()?;
            let excerpt = wakes(&parameters.routes(snapshot)?, &parameters, limit, ledger);
            let with_requests = snapshot.config.record_requests;
            let own = LedgerRecords::new(&excerpt, replica, with_requests);
            Ok(Answered::Records { own, limit })
        }),
        "explain" => Parameters::read(query, &["host"])
            .and_then(|parameters| Ok(Answered::ok(&explain(&parameters, own)?))),
        "savings" => Parameters::read(query, &["host"]).and_then(|parameters| {
            let routes = parameters.routes(snapshot)?;
            Ok(Answered::ok(&SavingsReport::new(&routes, &own.savings, replica)))
        }),
        "peers" => Parameters::read(query, &[]).map(|_| Answered::ok(&peers(own))),
        "config" => {
            Parameters::read(query, &[]).map(|_| Answered::ok(&snapshot.config.effective()))
        }
        _ => Err((
            StatusCode::NOT_FOUND,
            "there are /api/v1/services, /api/v1/services/changes, /api/v1/wakes, /api/v1/explain, \
             /api/v1/savings, /api/v1/requests, /api/v1/peers, /api/v1/config and /api/v1/events"
                .to_owned(),
        )),
    };
    answered.unwrap_or_else(|(status, error)| Answered::Whole((status, json(&Problem { error }))))
}

/// Carries out what another replica of agimo has passed on; `None` where it cannot be.
pub fn perform_passed_on(path: &str, query: &str, own: &Own) -> Option<String> {
    if !control::is_change(path) {
        return None;
    }
    match Call::passed_on_by_peer(path, query, own) {
        Ok((call, by)) => {
            let workload = &call.workload.id;
            info!(%workload, change = path, by, "asked for through another replica of agimo");
            call.perform(own, &by);
            Some(String::new())
        }
        Err((_, problem)) => {
            warn!(
                change = path,
                problem, "another replica of agimo has passed on a change in vain"
            );
            None
        }
    }
}

pub fn services(routes: &[Arc<Route>], own: &Own) -> Services {
    let wakes = own.ledger.last_wakes();
    let services = routes.iter().map(|route| {
        let wake = wakes.get(&route.workload.id);
        service(route, &ServiceStatus::of(route), wake.map(|wake| &**wake), own)
    });
    Services { services: services.collect() }
}

fn service(route: &Route, status: &ServiceStatus, wake: Option<&Record>, own: &Own) -> Service {
    let with_requests = own.snapshot.config.record_requests;
    let wake = wake.map(|record| LedgerRecord::new(record, &own.replica, with_requests));
    Service::new(status, &own.coordination.view(&route.workload.id), wake)
}

fn explain(parameters: &Parameters, own: &Own) -> Result<Explanation, Refusal> {
    let Some(wanted) = parameters.get("host") else {
        let error = "write which request, such as ?host=shop.example/cart".to_owned();
        return Err((StatusCode::BAD_REQUEST, error));
    };
    let (host, path) = host_and_path(wanted);
    let snapshot = &own.snapshot;
    let found = snapshot.table.find(host.as_bytes(), path.as_bytes()).cloned();
    // A wildcard host names itself.
    let is_named = |route: &&Arc<Route>| {
        route.config.host.eq_ignore_ascii_case(host) && route.config.path_prefix == path
    };
    let found = found.or_else(|| snapshot.routes.iter().find(is_named).cloned());
    let route = found.ok_or_else(|| no_service(wanted))?;
    let others = snapshot.routes.iter().filter(|other| {
        Arc::ptr_eq(&other.workload, &route.workload) && !Arc::ptr_eq(other, &route)
    });
    let others = others.map(|other| other.config.name()).collect();
    let status = ServiceStatus::of(&route);
    let service =
        service(&route, &status, own.ledger.last_wake(&route.workload.id).as_deref(), own);
    Ok(Explanation::new(&route, service, &status, others))
}

fn peers(own: &Own) -> Peers {
    let peer =
        |(address, is_known): (SocketAddr, bool)| Peer { address: address.to_string(), is_known };
    Peers {
        replica: own.replica.to_string(),
        version: version::TEXT.to_owned(),
        is_leader: own.coordination.is_leader(),
        peers: own.coordination.known_peers().into_iter().map(peer).collect(),
    }
}

fn wakes(routes: &[Arc<Route>], parameters: &Parameters, limit: usize, ledger: &Ledger) -> Excerpt {
    // Without a host, those of workloads that have left the configuration, too.
    let is_asked_for = |workload: &WorkloadId| {
        parameters.get("host").is_none()
            || routes.iter().any(|route| *route.workload.id == *workload)
    };
    ledger.newest(limit, is_asked_for)
}

// === impl Answered ===

impl Answered {
    fn ok(value: &impl Serialize) -> Self {
        Self::Whole((StatusCode::OK, json(value)))
    }

    /// Adds what the other replicas have answered.
    pub fn complete(self, others: Vec<OtherAnswer>) -> Answer {
        let (mut records, limit) = match self {
            Self::Whole(answer) => return answer,
            Self::Records { own, limit } => (own, limit),
        };
        let mut answered = Vec::new();
        for (address, answer) in others {
            let parsed = answer.and_then(|text| {
                serde_json::from_slice(&text).map_err(|error| format!("unexpected answer: {error}"))
            });
            match parsed {
                Ok(other) => answered.push(other),
                Err(problem) => records.unreachable.push(format!("{address}: {problem}")),
            }
        }
        records.merge(answered, limit);
        (StatusCode::OK, json(&records))
    }

    /// What this replica tells another one.
    pub fn part(&self) -> Option<String> {
        match self {
            Self::Whole(_) => None,
            Self::Records { own, .. } => Some(json(own)),
        }
    }
}

// === impl Own ===

impl Own {
    /// What there is to answer from at each call.
    pub fn source(
        snapshots: watch::Receiver<Arc<Snapshot>>,
        ledger: Ledger,
        coordination: Coordination,
        savings: Savings,
    ) -> impl Fn() -> Self + Clone + Send + Sync + 'static {
        let replica = Arc::<str>::from(coordination.name());
        move || Self {
            snapshot: snapshots.borrow().clone(),
            ledger: ledger.clone(),
            coordination: coordination.clone(),
            savings: savings.clone(),
            replica: replica.clone(),
        }
    }
}
