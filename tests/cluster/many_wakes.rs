//! A hundred workloads woken at the same instant: each is scaled at once, and every request is answered by its own.

use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::fixtures::{Namespace, start_agimo_with_arguments};
use crate::support::eventually;

const WORKLOADS: usize = 100;
/// The node starts about two pods a second.
const LONGEST: Duration = Duration::from_secs(240);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_workloads_are_woken_at_the_same_instant() {
    let namespace = Namespace::exclusive("many").await;
    let mut manifests = Vec::new();
    for number in 0..WORKLOADS {
        let name = name(number);
        let mut deployment = namespace.deployment(&name).manifest();
        let host = format!("{name}.test");
        deployment["metadata"]["annotations"] = json!({ "agimo.onichandame.com/host": host });
        let port = json!({ "port": 80, "targetPort": "http" });
        let service = json!({
            "apiVersion": "v1", "kind": "Service", "metadata": { "name": name },
            "spec": { "selector": { "app": name }, "ports": [port] },
        });
        manifests.extend([deployment.to_string(), service.to_string()]);
    }
    namespace.apply(&manifests.join("\n---\n"));
    let file = "annotations = true\ntimeout = \"5m\"\nsleep_after = \"1h\"\n";
    let arguments = ["--watch-namespaces", &namespace.name];
    let agimo = start_agimo_with_arguments(file, &arguments).await;

    let address = agimo.address;
    let requests: Vec<_> = (0..WORKLOADS)
        .map(|number| {
            tokio::spawn(async move {
                let name = name(number);
                let mut stream = TcpStream::connect(address).await.unwrap();
                let request =
                    format!("GET / HTTP/1.1\r\nHost: {name}.test\r\nConnection: close\r\n\r\n");
                stream.write_all(request.as_bytes()).await.unwrap();
                let mut response = String::new();
                stream.read_to_string(&mut response).await.unwrap();
                assert!(response.starts_with("HTTP/1.1 200"), "{response}");
                assert!(response.contains(&format!("hello from {name}")), "{response}");
            })
        })
        .collect();
    // None waits for the pods of another.
    eventually("a write for each of them", || async {
        let path = "jsonpath={.items[*].spec.replicas}";
        let replicas = namespace.kubectl(&["get", "deployments", "-o", path]);
        (replicas.split(' ').filter(|replicas| *replicas == "1").count() == WORKLOADS).then_some(())
    })
    .await;
    for request in requests {
        tokio::time::timeout(LONGEST, request).await.expect("an answer in time").unwrap();
    }
    drop(agimo);
    namespace.remove_pods().await;
}

fn name(number: usize) -> String {
    format!("web-{number}")
}
