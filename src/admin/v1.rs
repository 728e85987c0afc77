//! `/api/v1`: the state of services and what has happened to their workloads, for programs and for the commands of agimo.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use hyper::StatusCode;
use serde::Serialize;
use tokio::sync::watch;

use crate::api::records::{LedgerRecord, LedgerRecords};
use crate::api::{Problem, Service, Services};
use crate::catalog::{Route, Snapshot};
use crate::ledger::{Excerpt, Ledger};
use crate::status::ServiceStatus;
use crate::workload::WorkloadId;

/// An answer in JSON, with its status.
pub type Answer = (StatusCode, String);

/// What one replica of agimo answers from.
#[derive(Clone)]
pub struct Own {
    pub snapshot: Arc<Snapshot>,
    pub ledger: Ledger,
    /// The name of this replica.
    pub replica: Arc<str>,
}

/// Asks the other replicas of agimo for a path and query below `/api/v1/`.
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

/// Records in an answer, where the query does not say how many.
const USUAL_LIMIT: usize = 100;

/// The answer of this replica to a GET of this path below `/api/v1/`, with this query.
pub fn answer(path: &str, query: &str, own: &Own) -> Answered {
    let Own { snapshot, ledger, replica } = own;
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
        "config" => {
            Parameters::read(query, &[]).map(|_| Answered::ok(&snapshot.config.effective()))
        }
        _ => Err((
            StatusCode::NOT_FOUND,
            "there are /api/v1/services, /api/v1/wakes, /api/v1/config and /api/v1/events"
                .to_owned(),
        )),
    };
    answered.unwrap_or_else(|(status, error)| Answered::Whole((status, json(&Problem { error }))))
}

fn services(routes: &[Arc<Route>], own: &Own) -> Services {
    let with_requests = own.snapshot.config.record_requests;
    let wakes = own.ledger.last_wakes();
    let services = routes.iter().map(|route| {
        let wake = wakes.get(&route.workload.id);
        let wake = wake.map(|record| LedgerRecord::new(record, &own.replica, with_requests));
        Service::new(&ServiceStatus::of(route), wake)
    });
    Services { services: services.collect() }
}

fn wakes(routes: &[Arc<Route>], parameters: &Parameters, limit: usize, ledger: &Ledger) -> Excerpt {
    // Without a host, those of workloads that have left the configuration, too.
    let is_asked_for = |workload: &WorkloadId| {
        parameters.host.is_none() || routes.iter().any(|route| *route.workload.id == *workload)
    };
    ledger.newest(limit, is_asked_for)
}

/// The query of a request.
#[derive(Debug, Default)]
struct Parameters {
    host: Option<String>,
    limit: Option<String>,
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
        replica: &str,
    ) -> impl Fn() -> Self + Clone + Send + Sync + 'static {
        let replica = Arc::<str>::from(replica);
        move || Self {
            snapshot: snapshots.borrow().clone(),
            ledger: ledger.clone(),
            replica: replica.clone(),
        }
    }
}

// === impl Parameters ===

impl Parameters {
    fn read(query: &str, allowed: &[&str]) -> Result<Self, (StatusCode, String)> {
        let mut parameters = Self::default();
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            let slot = match &*name {
                "host" if allowed.contains(&"host") => &mut parameters.host,
                "limit" if allowed.contains(&"limit") => &mut parameters.limit,
                _ => {
                    let known = match allowed {
                        [] => "nothing is asked for here".to_owned(),
                        names => format!("write {}", names.join(" or ")),
                    };
                    return Err((
                        StatusCode::BAD_REQUEST,
                        format!("`{name}` is no parameter of this path; {known}"),
                    ));
                }
            };
            *slot = Some(value.into_owned());
        }
        Ok(parameters)
    }

    /// The routes of the host and path that are asked for, or all.
    fn routes(&self, snapshot: &Snapshot) -> Result<Vec<Arc<Route>>, (StatusCode, String)> {
        let Some(wanted) = &self.host else { return Ok(snapshot.routes.clone()) };
        let (host, path) = match wanted.find('/') {
            Some(at) => wanted.split_at(at),
            None => (wanted.as_str(), "/"),
        };
        // Without a path, every service of the host.
        let of_host = |route: &&Arc<Route>| {
            !wanted.contains('/') && route.config.host.eq_ignore_ascii_case(host)
        };
        let mut routes: Vec<_> = snapshot.routes.iter().filter(of_host).cloned().collect();
        if routes.is_empty() {
            routes.extend(snapshot.table.find(host.as_bytes(), path.as_bytes()).cloned());
        }
        if routes.is_empty() {
            let error = format!("no service of the configuration has the host `{wanted}`");
            return Err((StatusCode::NOT_FOUND, error));
        }
        Ok(routes)
    }

    fn limit(&self) -> Result<usize, (StatusCode, String)> {
        let Some(text) = &self.limit else { return Ok(USUAL_LIMIT) };
        text.parse().ok().filter(|limit| (1..=10_000).contains(limit)).ok_or_else(|| {
            let error = format!("`limit` is a number from 1 to 10000, not `{text}`");
            (StatusCode::BAD_REQUEST, error)
        })
    }
}

/// In one line for each nested value, as people read it.
fn json(value: &impl Serialize) -> String {
    // The types of the API have no keys that are no strings.
    serde_json::to_string_pretty(value).unwrap_or_default() + "\n"
}
