//! The exchange between the replicas of agimo: each follows what every other one reports, over HTTP/1.1 with a shared
//! token. The connection is not encrypted: it carries names of workloads, numbers, what people have asked one replica to change
//! and, when somebody asks, records of wakes.

use std::sync::Arc;

use tokio::net::TcpListener;

use crate::control_port::pages::PageQueue;
use crate::control_port::tokens::Tokens;
use crate::coordination::Coordination;
use crate::shutdown::Shutdown;

pub mod client;
pub mod frame;
pub mod server;

/// What the exchange needs.
pub struct Exchange {
    pub listener: TcpListener,
    pub tokens: Tokens,
    pub coordination: Coordination,
    pub answers: Answers,
    /// Carries out what a person has asked another replica for: a path and a query.
    pub calls: Answers,
    /// Makes the answers.
    pub pages: PageQueue,
    pub shutdown: Shutdown,
}

/// What this replica alone answers to a path and a query of the API, as JSON; absent where it has no answer.
pub type Answers = Arc<dyn Fn(&str, &str) -> Option<String> + Send + Sync>;

/// Where the reports are.
const PATH: &str = "/v1/reports";
/// Paths of the API of one replica begin so.
const API: &str = "/v1/api/";

// === impl Exchange ===

impl Exchange {
    /// Runs until agimo is aborted: while a replica drains, the others must know what it still has in flight.
    pub async fn run(self) {
        let Self { listener, tokens, coordination, answers, calls, pages, shutdown } = self;
        coordination.begin_exchange();
        let served = server::Served {
            tokens: tokens.clone(),
            coordination: coordination.clone(),
            answers,
            calls,
            pages,
        };
        let server = server::run(listener, served, shutdown.clone());
        tokio::select! {
            () = shutdown.aborted() => {}
            () = server => {}
            () = client::run(coordination, tokens) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::net::SocketAddr;
    use std::time::Duration;

    use hyper::Method;

    use super::*;
    use crate::coordination::membership::Membership;
    use crate::demand::{RouteCounters, WorkloadDemand};
    use crate::workload::{WorkloadId, WorkloadKind};

    struct Replica {
        address: SocketAddr,
        coordination: Coordination,
        membership: Membership,
        route: Arc<RouteCounters>,
        folder: tempfile::TempDir,
        shutdown: Shutdown,
    }

    impl Replica {
        async fn start(tokens: &[(&str, &str)]) -> Self {
            let folder = tempfile::tempdir().unwrap();
            for (name, token) in tokens {
                std::fs::write(folder.path().join(name), format!("{token}\n")).unwrap();
            }
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let (coordination, shutdown) = (Coordination::default(), Shutdown::default());
            let (route, demand) =
                (Arc::new(RouteCounters::new(1)), Arc::<WorkloadDemand>::default());
            demand.set_routes(vec![route.clone()]);
            let id = WorkloadId {
                kind: WorkloadKind::StatefulSet,
                namespace: "a".into(),
                name: "web".into(),
            };
            let membership = coordination.join(Arc::new(id), demand);
            let exchange = Exchange {
                listener,
                tokens: Tokens::new(folder.path()).unwrap(),
                coordination: coordination.clone(),
                answers: Arc::new(move |path, query| {
                    (path == "wakes").then(|| format!("{query} at port {}", address.port()))
                }),
                calls: Arc::new(|path, query| (path == "sleep").then(|| query.to_owned())),
                pages: PageQueue::start().unwrap(),
                shutdown: shutdown.clone(),
            };
            tokio::spawn(exchange.run());
            Self { address, coordination, membership, route, folder, shutdown }
        }
    }

    fn list(replicas: &[&Replica]) {
        let all: BTreeSet<_> = replicas.iter().map(|replica| replica.address).collect();
        replicas.iter().for_each(|replica| replica.coordination.set_listed(all.clone()));
    }

    async fn until(what: &str, condition: impl Fn() -> bool) {
        for _ in 0..1_000 {
            if condition() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("timed out: {what}");
    }

    const OLD: &str = "an old token of some length";
    const NEW: &str = "a new token of some length";

    #[tokio::test]
    async fn replicas_follow_each_other_and_find_themselves() {
        let (one, other) =
            (Replica::start(&[("a", OLD)]).await, Replica::start(&[("a", OLD)]).await);
        list(&[&one, &other]);
        until("both to know the other", || {
            one.coordination.are_peers_known() && other.coordination.are_peers_known()
        })
        .await;
        other.route.core(0).count_arrival(tokio::time::Instant::now());
        until("the arrival", || one.membership.view().in_flight == 1).await;
        assert_eq!(
            other.membership.view().in_flight,
            0,
            "its own requests are not those of a peer"
        );
        let announced = one.membership.announce();
        until("the announcement", || !other.membership.view().announcements.is_empty()).await;
        other.membership.acknowledge(announced.into_iter().collect());
        until("the agreement", || one.membership.view().agreed == announced).await;
        other.shutdown.abort();
        until("the end of the other", || !one.coordination.are_peers_known()).await;
    }

    #[tokio::test]
    async fn a_replica_with_another_token_is_unknown_until_they_share_one() {
        let (one, other) =
            (Replica::start(&[("a", OLD)]).await, Replica::start(&[("a", NEW)]).await);
        list(&[&one, &other]);
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert!(!one.coordination.are_peers_known() && !other.coordination.are_peers_known());
        // Both accept both, and each sends the first of them that is accepted.
        std::fs::write(one.folder.path().join("b"), NEW).unwrap();
        until("both to know the other", || {
            one.coordination.are_peers_known() && other.coordination.are_peers_known()
        })
        .await;
    }

    #[tokio::test]
    async fn the_others_are_asked_for_what_they_alone_know() {
        let (one, other) =
            (Replica::start(&[("a", OLD)]).await, Replica::start(&[("a", OLD)]).await);
        list(&[&one, &other]);
        until("both to know the other", || one.coordination.are_peers_known()).await;
        let tokens = Tokens::new(one.folder.path()).unwrap();
        let ask =
            |path: &str| client::send(&one.coordination, &tokens, Method::GET, path.to_owned());
        let expected = format!("host=a at port {}", other.address.port());
        let answers = ask("wakes?host=a").await;
        assert_eq!(answers.len(), 1, "it does not ask itself");
        assert_eq!(answers[0], (other.address, Ok(expected.into())));
        assert!(ask("nothing").await[0].1.as_ref().unwrap_err().contains("404"));
        let tell =
            |path: &str| client::send(&one.coordination, &tokens, Method::POST, path.to_owned());
        assert_eq!(tell("sleep?host=a").await, [(other.address, Ok("host=a".into()))]);
        assert!(tell("wakes").await[0].1.as_ref().unwrap_err().contains("404"));
        std::fs::write(one.folder.path().join("a"), NEW).unwrap();
        assert!(ask("wakes").await[0].1.as_ref().unwrap_err().contains("none of the tokens"));
    }
}
