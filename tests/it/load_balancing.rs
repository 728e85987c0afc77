//! Load balancing: requests are spread over the replicas of a service.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tokio::task::JoinSet;

use crate::support::agimo::Agimo;
use crate::support::python::PythonApplication;
use crate::support::{eventually, within};

/// A server that answers with its process id; it uses Python's own HTTP server.
const PROCESS_ID_SERVER: &str = "
import http.server, os
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'
    def do_GET(self):
        body = str(os.getpid()).encode()
        self.send_response(200)
        self.send_header('Content-Length', str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *args):
        pass
http.server.ThreadingHTTPServer(('127.0.0.1', int(os.environ['PORT'])), Handler).serve_forever()
";

#[tokio::test]
async fn sequential_requests_are_spread_over_all_replicas() {
    let config = format!(
        "[[services]]\nhost = \"a.test\"\ntype = \"process\"\nreplicas = 3\n\
         command = [\"python3\", \"-c\", '''{PROCESS_ID_SERVER}''']\n"
    );
    let agimo = Agimo::with(config).start().await;
    // The first ready replica releases the first request; the others may become ready later. Another program may take
    // the port that agimo chose for a replica, and answers until agimo has restarted the replica: ignore its answers.
    let mut known = BTreeSet::new();
    within("answers of three replicas", async {
        while known.len() < 3 {
            let mut client = agimo.connect().await;
            client.send("GET / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n").await;
            let all = String::from_utf8_lossy(&client.read_to_end().await).into_owned();
            known.extend(all.rsplit_once("\r\n\r\n").and_then(|(_, id)| id.parse::<u32>().ok()));
        }
    })
    .await;
    let mut answers = BTreeMap::new();
    for _ in 0..60 {
        let response = agimo.get("a.test", "/").await;
        assert_eq!(response.status, 200);
        *answers.entry(response.text()).or_insert(0) += 1;
    }
    assert_eq!(answers.len(), 3, "{answers:?}");
    assert!(answers.values().all(|count| *count >= 5), "{answers:?}");
}

#[tokio::test]
async fn concurrent_requests_are_spread_over_both_replicas() {
    let service = PythonApplication::new("a.test").key("replicas = 2").service();
    // Each core balances its own requests; one core makes the distribution exact.
    let agimo = Arc::new(Agimo::with(service).arguments(&["--threads", "1"]).start().await);
    eventually("answers of both replicas", || async {
        let pids =
            [agimo.get("a.test", "/pid").await.text(), agimo.get("a.test", "/pid").await.text()];
        (pids[0] != pids[1]).then_some(())
    })
    .await;
    let mut requests = JoinSet::new();
    for _ in 0..60 {
        let agimo = agimo.clone();
        requests.spawn(async move { agimo.get("a.test", "/pid/1").await.text() });
    }
    let pids = within("the answers", requests.join_all()).await;
    let first = pids.iter().filter(|pid| **pid == pids[0]).count();
    // Half each while all are in flight; on a busy machine the first may end before the last begins.
    assert!((25..=35).contains(&first), "one replica of two answered {first} of 60 requests");
}
