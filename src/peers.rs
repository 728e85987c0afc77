//! The exchange between the replicas of agimo: each follows what every other one reports, over HTTP/1.1 with a shared
//! token. The connection is not encrypted: it carries names of workloads, numbers and, when somebody asks, records of wakes.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::net::TcpListener;

use crate::control_port::pages::PageQueue;
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
    /// Makes them.
    pub pages: PageQueue,
    pub shutdown: Shutdown,
}

/// What this replica alone answers to a path and a query of the API, as JSON; absent where it has no answer.
pub type Answers = Arc<dyn Fn(&str, &str) -> Option<String> + Send + Sync>;

/// The tokens that a replica accepts: those of a file, or of every file in a folder. They are read each time, so that a new
/// token is added first everywhere and the old one removed later, without a gap.
#[derive(Clone, Debug)]
pub struct Tokens {
    path: PathBuf,
}

/// Where the reports are.
const PATH: &str = "/v1/reports";
/// Paths of the API of one replica begin so.
const API: &str = "/v1/api/";
/// A shorter token is a mistake.
const SHORTEST_TOKEN: usize = 16;

// === impl Exchange ===

impl Exchange {
    /// Runs until agimo is aborted: while a replica drains, the others must know what it still has in flight.
    pub async fn run(self) {
        let Self { listener, tokens, coordination, answers, pages, shutdown } = self;
        coordination.begin_exchange();
        let served = server::Served {
            tokens: tokens.clone(),
            coordination: coordination.clone(),
            answers,
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

// === impl Tokens ===

impl Tokens {
    /// # Errors
    /// When there is no token, with what to write.
    pub fn new(path: &Path) -> Result<Self, String> {
        let tokens = Self { path: path.to_owned() };
        let found = tokens.read();
        if found.is_empty() {
            return Err(format!(
                "{} holds no token: write at least 16 random characters",
                path.display()
            ));
        }
        if found.iter().any(|token| token.len() < SHORTEST_TOKEN) {
            return Err(format!("a token in {} is shorter than 16 characters", path.display()));
        }
        Ok(tokens)
    }

    /// The tokens, in the order of the names of their files.
    fn read(&self) -> Vec<String> {
        let mut files = vec![self.path.clone()];
        if let Ok(folder) = std::fs::read_dir(&self.path) {
            files = folder.filter_map(|entry| Some(entry.ok()?.path())).collect();
            // A mounted Secret has a hidden folder with each of its versions.
            files.retain(|file| file.is_file());
            files.sort();
        }
        let texts = files.iter().filter_map(|file| std::fs::read_to_string(file).ok());
        texts.map(|text| text.trim().to_owned()).filter(|token| !token.is_empty()).collect()
    }

    /// Whether this is one of the tokens. It takes as long for every wrong token of a length.
    fn accept(&self, token: &str) -> bool {
        let is_same = |known: &String| {
            let pairs = known.bytes().zip(token.bytes());
            let differences =
                pairs.fold(0, |differences, (one, other)| differences | (one ^ other));
            known.len() == token.len() && differences == 0
        };
        self.read().iter().filter(|known| is_same(known)).count() > 0
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::net::SocketAddr;
    use std::time::Duration;

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
        let ask = |path: &str| client::ask(&one.coordination, &tokens, path.to_owned());
        let expected = format!("host=a at port {}", other.address.port());
        let answers = ask("wakes?host=a").await;
        assert_eq!(answers.len(), 1, "it does not ask itself");
        assert_eq!(answers[0], (other.address, Ok(expected.into())));
        assert!(ask("nothing").await[0].1.as_ref().unwrap_err().contains("404"));
        std::fs::write(one.folder.path().join("a"), NEW).unwrap();
        assert!(ask("wakes").await[0].1.as_ref().unwrap_err().contains("none of the tokens"));
    }

    #[test]
    fn a_missing_or_short_token_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        assert!(Tokens::new(folder.path()).unwrap_err().contains("holds no token"));
        let file = folder.path().join("token");
        std::fs::write(&file, "short").unwrap();
        assert!(Tokens::new(&file).unwrap_err().contains("shorter than 16 characters"));
        std::fs::write(&file, NEW).unwrap();
        let tokens = Tokens::new(&file).unwrap();
        assert!(
            tokens.accept(NEW)
                && !tokens.accept(OLD)
                && !tokens.accept("")
                && !tokens.accept(&NEW[1..])
        );
    }
}
