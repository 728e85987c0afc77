//! agimo without access to the Kubernetes API: Prometheus alone tells which workloads are ready, and another scaler sets
//! their replicas.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::Instant;

use crate::fixtures::{Namespace, PROMETHEUS_URL, Sample, start_agimo_with_arguments};
use crate::support::agimo::Agimo;
use crate::support::application::{ScriptedServer, reserve};
use crate::support::eventually;

/// A Prometheus that sends the response a test sets, valid or not, and records when it was queried.
struct FakePrometheus {
    _script: ScriptedServer,
    response: Arc<Mutex<String>>,
    queries: Arc<Mutex<Vec<Instant>>>,
}

/// agimo queries Prometheus every 15 s while no request is held, and every second while one is.
const MIN_IDLE_INTERVAL: Duration = Duration::from_secs(10);

// === impl FakePrometheus ===

impl FakePrometheus {
    fn serve(socket: tokio::net::TcpSocket, response: &str) -> Self {
        let response = Arc::new(Mutex::new(response.to_owned()));
        let queries = Arc::new(Mutex::new(Vec::new()));
        let (current, log) = (response.clone(), queries.clone());
        let script = ScriptedServer::serve_on(socket.listen(8).unwrap(), move |mut client, _| {
            let (current, log) = (current.clone(), log.clone());
            async move {
                let Some(query) = client.request().await else { return };
                assert!(query.line().starts_with("POST /api/v1/query "), "{query:?}");
                log.lock().unwrap().push(Instant::now());
                let body = current.lock().unwrap().clone();
                let head = format!("Connection: close\r\nContent-Length: {}\r\n\r\n", body.len());
                client.send(format!("HTTP/1.1 200 OK\r\n{head}{body}")).await;
            }
        });
        Self { _script: script, response, queries }
    }

    fn set_response(&self, response: &str) {
        *self.response.lock().unwrap() = response.to_owned();
    }

    /// When it was queried so far.
    fn queries(&self) -> Vec<Instant> {
        self.queries.lock().unwrap().clone()
    }
}

/// Starts an agimo without a kubeconfig and without a home directory that may have one.
async fn start_agimo_without_cluster(services: &str, prometheus: &str) -> Agimo {
    let arguments = ["--readiness-source", "prometheus", "--prometheus-address", prometheus];
    let starting = Agimo::with(services).arguments(&arguments);
    starting.without_env("KUBECONFIG").without_env("HOME").start().await
}

#[tokio::test]
async fn a_workload_that_another_scaler_wakes_is_found_through_prometheus_and_reached_by_its_service()
 {
    let namespace = Namespace::new("prometheus").await;
    let web = namespace.deployment("web").apply().await;
    let db = namespace.stateful_set("db").apply().await;
    // The name of a headless Service resolves to the pods, so the port is the pods' own.
    let db_service = db.service_config("db.test", "timeout = \"15s\"");
    let db_service = db_service.replace("service_port = 80", "service_port = 8080");
    let services = web.service_config("web.test", "timeout = \"15s\"") + &db_service;
    let agimo = start_agimo_without_cluster(&services, PROMETHEUS_URL).await;

    for round in 0..2 {
        let scale_up = async {
            for (sample, host) in [(&web, "web.test"), (&db, "db.test")] {
                agimo.until_metric(&format!("agimo_held_requests{{host=\"{host}\"}}"), 1.0).await;
                sample.scale(1).await;
            }
        };
        let (of_web, of_db, ()) =
            tokio::join!(agimo.get("web.test", "/"), agimo.get("db.test", "/"), scale_up);
        assert_eq!((of_web.status, of_db.status), (200, 200), "{} {}", of_web.head, of_db.head);
        assert!(of_db.text().starts_with("hello from db-0"), "{}", of_db.text());
        if round == 0 {
            // The other scaler puts them to sleep: the next requests are held again and not lost.
            for sample in [&web, &db] {
                sample.scale(0).await;
                sample.until_asleep().await;
            }
        }
    }
}

#[tokio::test]
async fn while_prometheus_fails_cold_requests_are_held_and_warm_requests_are_served() {
    let namespace = Namespace::new("unknown").await;
    let web = namespace.deployment("web").replicas(1).apply().await;
    let cold = namespace.deployment("cold").replicas(1).apply().await;
    web.until_ready(1).await;
    cold.until_ready(1).await;
    let ready_series = |sample: &Sample| {
        let (namespace, name) = (&namespace.name, &sample.name);
        format!(
            "{{\"metric\":{{\"namespace\":\"{namespace}\",\"deployment\":\"{name}\"}},\"value\":[1,\"1\"]}}"
        )
    };
    let response = |series: &str| {
        let data = format!("{{\"resultType\":\"vector\",\"result\":[{series}]}}");
        format!("{{\"status\":\"success\",\"data\":{data}}}")
    };
    let (address, mut sockets) = reserve(2);
    let fake = FakePrometheus::serve(sockets.remove(0), &response(&ready_series(&web)));
    let services =
        web.service_config("web.test", "") + &cold.service_config("cold.test", "timeout = \"3s\"");
    let agimo = start_agimo_without_cluster(&services, &format!("http://{address}")).await;
    agimo.until_ready_endpoints("web.test", 1).await;
    assert_eq!(agimo.get("web.test", "/").await.status, 200);

    // No request is held: after at most one query for each service, agimo waits for the idle interval.
    let queries = eventually("two queries with the idle interval between them", || async {
        let queries = fake.queries();
        let is_idle = |pair: &[Instant]| pair[1] - pair[0] >= MIN_IDLE_INTERVAL;
        queries.windows(2).position(is_idle).map(|position| position + 1)
    })
    .await;
    assert!(queries <= 3, "{queries} queries before the idle interval");

    // Prometheus has no series of the workload: the request is held, and Prometheus queried every second.
    let known = fake.queries().len();
    assert_held(&agimo, "workload-missing", "does it scrape kube-state-metrics?").await;
    let queries = fake.queries().len() - known;
    assert!((3..=5).contains(&queries), "{queries} queries while a request was held for 3 s");

    for (invalid, detail) in [
        ("<html>", "not a response of the Prometheus query API"),
        ("{\"status\":\"error\",\"error\":\"query queue is full\"}", "queue is full"),
    ] {
        fake.set_response(invalid);
        assert_held(&agimo, "readiness-unknown", detail).await;
        assert_eq!(agimo.get("web.test", "/").await.status, 200);
    }
    drop(fake);
    let unreachable = format!("http://{address} cannot be queried");
    assert_held(&agimo, "readiness-unknown", &unreachable).await;
    assert_eq!(agimo.get("web.test", "/").await.status, 200);

    let both = [ready_series(&web), ready_series(&cold)].join(",");
    let _fake = FakePrometheus::serve(sockets.remove(0), &response(&both));
    assert_eq!(agimo.get("cold.test", "/").await.status, 200);
}

#[tokio::test]
async fn agimo_prefers_the_kubernetes_api_to_prometheus_and_logs_it() {
    let namespace = Namespace::new("both").await;
    let web = namespace.deployment("web").replicas(1).apply().await;
    let arguments = ["--prometheus-address", PROMETHEUS_URL];
    let agimo = start_agimo_with_arguments(&web.service_config("web.test", ""), &arguments).await;
    agimo.until_logged("which has precedence").await;
    assert_eq!(agimo.get("web.test", "/").await.status, 200);
}

/// Asserts that a request for `cold.test` is held for its timeout of 3 s and that the response gives this reason.
async fn assert_held(agimo: &Agimo, reason: &str, expected_detail: &str) {
    let started = Instant::now();
    let response = agimo.get("cold.test", "/").await;
    assert_eq!((response.status, response.reason()), (504, Some(reason)), "{}", response.head);
    let detail = response.header("x-agimo-detail").unwrap();
    assert!(detail.contains(expected_detail), "{detail}");
    assert!(started.elapsed() >= Duration::from_secs(3), "{:?}", started.elapsed());
}
