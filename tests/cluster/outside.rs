//! The seed's original way: agimo outside of the cluster without credentials, and readiness from Prometheus alone.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::fixtures::{Namespace, PROMETHEUS, Sample, agimo_with};
use crate::support::agimo::Agimo;
use crate::support::application::{Script, reserve};

/// A fake of Prometheus: it answers what the test wants, sensible or not, and counts the questions.
struct Fake {
    _script: Script,
    answer: Arc<Mutex<String>>,
    questions: Arc<Mutex<u32>>,
}

// === impl Fake ===

impl Fake {
    fn on(socket: tokio::net::TcpSocket, answer: &str) -> Self {
        let answer = Arc::new(Mutex::new(answer.to_owned()));
        let questions = Arc::new(Mutex::new(0));
        let (says, counts) = (answer.clone(), questions.clone());
        let script = Script::serve_on(socket.listen(8).unwrap(), move |mut client, _| {
            let (says, counts) = (says.clone(), counts.clone());
            async move {
                let Some(question) = client.request().await else { return };
                assert!(question.line().starts_with("POST /api/v1/query "), "{question:?}");
                *counts.lock().unwrap() += 1;
                let body = says.lock().unwrap().clone();
                let head = format!("Connection: close\r\nContent-Length: {}\r\n\r\n", body.len());
                client.send(format!("HTTP/1.1 200 OK\r\n{head}{body}")).await;
            }
        });
        Self { _script: script, answer, questions }
    }

    fn says(&self, answer: &str) {
        *self.answer.lock().unwrap() = answer.to_owned();
    }

    /// How many questions came since the last time.
    fn asked(&self) -> u32 {
        std::mem::take(&mut *self.questions.lock().unwrap())
    }
}

/// An agimo that knows no cluster: neither a kubeconfig nor a home where one might lie.
async fn outsider(services: &str, prometheus: &str) -> Agimo {
    let arguments = ["--readiness", "prometheus", "--prometheus-address", prometheus];
    let starting = Agimo::with(services).arguments(&arguments);
    starting.without_env("KUBECONFIG").without_env("HOME").start().await
}

#[tokio::test]
async fn what_another_wakes_is_seen_by_prometheus_and_sent_to_its_service() {
    let namespace = Namespace::new("outside").await;
    let web = namespace.deployment("web").apply().await;
    let db = namespace.stateful_set("db").apply().await;
    // A headless Service has no port of its own: its name leads to the pods.
    let of_db = db.service("db.test", "timeout = \"15s\"");
    let of_db = of_db.replace("service_port = 80", "service_port = 8080");
    let services = web.service("web.test", "timeout = \"15s\"") + &of_db;
    let agimo = outsider(&services, PROMETHEUS).await;

    for round in 0..2 {
        let woken = async {
            for (sample, host) in [(&web, "web.test"), (&db, "db.test")] {
                agimo.until_metric(&format!("agimo_held_requests{{host=\"{host}\"}}"), 1.0).await;
                sample.scale(1).await;
            }
        };
        let (one, other, ()) =
            tokio::join!(agimo.get("web.test", "/"), agimo.get("db.test", "/"), woken);
        assert_eq!((one.status, other.status), (200, 200), "{} {}", one.head, other.head);
        assert!(other.text().starts_with("hello from db-0"), "{}", other.text());
        if round == 0 {
            // Put to sleep behind agimo's back: the next requests are held again, not lost.
            for sample in [&web, &db] {
                sample.scale(0).await;
                sample.until_asleep().await;
            }
        }
    }
}

#[tokio::test]
async fn without_a_sensible_answer_the_cold_are_held_and_the_warm_go_on() {
    let namespace = Namespace::new("unknown").await;
    let web = namespace.deployment("web").replicas(1).apply().await;
    let cold = namespace.deployment("cold").replicas(1).apply().await;
    web.until_ready(1).await;
    cold.until_ready(1).await;
    let ready = |sample: &Sample| {
        let (namespace, name) = (&namespace.name, &sample.name);
        format!(
            "{{\"metric\":{{\"namespace\":\"{namespace}\",\"deployment\":\"{name}\"}},\"value\":[1,\"1\"]}}"
        )
    };
    let answer = |series: &str| {
        let data = format!("{{\"resultType\":\"vector\",\"result\":[{series}]}}");
        format!("{{\"status\":\"success\",\"data\":{data}}}")
    };
    let (address, mut sockets) = reserve(2);
    let fake = Fake::on(sockets.remove(0), &answer(&ready(&web)));
    let services = web.service("web.test", "") + &cold.service("cold.test", "timeout = \"3s\"");
    let agimo = outsider(&services, &format!("http://{address}")).await;
    agimo.until_ready_endpoints("web.test", 1).await;
    assert_eq!(agimo.get("web.test", "/").await.status, 200);

    // Idle time is what is tested: while nothing is held, hardly a question.
    fake.asked();
    tokio::time::sleep(Duration::from_secs(4)).await;
    let asked = fake.asked();
    assert!(asked <= 1, "{asked} questions while idle");

    // No series of it: it is held all the same, and asked for each second.
    held(&agimo, "workload-missing", "does it scrape kube-state-metrics?").await;
    let asked = fake.asked();
    assert!((3..=5).contains(&asked), "{asked} questions in three seconds of holding");

    for senseless in ["<html>", "{\"status\":\"error\",\"error\":\"query queue is full\"}"] {
        fake.says(senseless);
        let words =
            if senseless.starts_with('<') { "is not that of Prometheus" } else { "queue is full" };
        held(&agimo, "readiness-unknown", words).await;
        assert_eq!(agimo.get("web.test", "/").await.status, 200);
    }
    drop(fake);
    held(&agimo, "readiness-unknown", &format!("http://{address} cannot be asked")).await;
    assert_eq!(agimo.get("web.test", "/").await.status, 200);

    let both = [ready(&web), ready(&cold)].join(",");
    let _fake = Fake::on(sockets.remove(0), &answer(&both));
    assert_eq!(agimo.get("cold.test", "/").await.status, 200);
}

#[tokio::test]
async fn with_both_at_hand_kubernetes_goes_before_prometheus_and_the_log_says_so() {
    let namespace = Namespace::new("both").await;
    let web = namespace.deployment("web").replicas(1).apply().await;
    let agimo =
        agimo_with(&web.service("web.test", ""), &["--prometheus-address", PROMETHEUS]).await;
    agimo.until_logged("which goes before Prometheus").await;
    assert_eq!(agimo.get("web.test", "/").await.status, 200);
}

/// A request for `cold.test` waits for its whole three seconds, and is then told why.
async fn held(agimo: &Agimo, reason: &str, words: &str) {
    let begun = tokio::time::Instant::now();
    let response = agimo.get("cold.test", "/").await;
    assert_eq!((response.status, response.reason()), (504, Some(reason)), "{}", response.head);
    let detail = response.header("x-agimo-detail").unwrap();
    assert!(detail.contains(words), "{detail}");
    assert!(begun.elapsed() >= Duration::from_secs(3), "{:?}", begun.elapsed());
}
