//! Requests that servers read differently, through agimo to two servers that share no code: each is refused, or both servers see
//! the same request. A request of a victim follows each, on the same connection and on another one.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::support::agimo::Agimo;

mod cases;

/// Answers each request with what it has understood, and remembers it until `/seen` asks.
const NODE: &str = r#"
let seen = [];
const server = require("http").createServer((request, response) => {
    const parts = [];
    request.on("data", (part) => parts.push(part));
    request.on("end", () => {
        const { method, url, headers } = request;
        let told = JSON.stringify([method, url, headers.host ?? null, Buffer.concat(parts).toString("latin1")]);
        if (url == "/seen") {
            told = "[" + seen.join(",") + "]";
            seen = [];
        } else {
            seen.push(told);
        }
        response.setHeader("content-length", told.length).end(told);
    });
});
server.on("upgrade", (request, socket) => socket.end("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"));
server.listen(process.env.PORT, "127.0.0.1");
"#;

/// The same with the HTTP server of Python's standard library, which reads requests with other code and other tolerance.
const PYTHON: &str = r#"
import json, os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
seen = []
class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def body(self):
        if self.headers.get("transfer-encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("content-length", 0)))
        parts = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass
        return b"".join(parts)
    def answer(self):
        global seen
        told = [self.command, self.requestline.split()[1], self.headers.get("host"), self.body().decode("latin1")]
        if self.path == "/seen":
            told, seen = seen, []
        else:
            seen.append(told)
        text = json.dumps(told).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(text)
    def log_message(self, *_):
        pass
    def __getattr__(self, name):
        if name.startswith("do_"):
            return self.answer
        raise AttributeError(name)
ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
"#;

/// Time without a byte after which nothing more is expected: a request that is not complete is never answered.
const SILENCE: Duration = Duration::from_millis(300);

/// The hosts of the two servers, as long as the word `HOST` in the cases, so that all lengths fit.
const HOSTS: [&str; 2] = ["node", "pyth"];

/// Cases in which what looks hidden is a request of its own, by any reading that HTTP allows.
const OPEN: [&str; 2] = ["a length with an underscore in its name", "trailers that frame"];

/// What has become of a case.
#[derive(Debug)]
struct Outcome {
    /// Of the first final response.
    status: Option<u16>,
    is_own_response: bool,
    /// What the server has seen, without the host.
    seen: Vec<Value>,
}

/// The services of the two servers.
fn services() -> String {
    let service = |host: &str, command: &str, option: &str, program: &str| {
        format!(
            "[[services]]\nhost = \"{host}\"\ntype = \"process\"\ncommand = [\"{command}\", \"{option}\", '''{program}''']\n"
        )
    };
    service(HOSTS[0], "node", "-e", NODE) + &service(HOSTS[1], "python3", "-c", PYTHON)
}

/// Sends a case and a victim behind it, and another victim on a connection of its own.
async fn run(agimo: &Agimo, host: &str, request: &[u8]) -> Outcome {
    let text: Vec<u8> = String::from_utf8_lossy(request).replace("HOST", host).into_bytes();
    let victim = format!("GET /victim HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    let mut client = TcpStream::connect(agimo.address).await.unwrap();
    // agimo may close the connection as soon as it has refused the head.
    let _ = client.write_all(&[&text, victim.as_bytes()].concat()).await;
    let mut received = Vec::new();
    let mut buffer = [0; 16 * 1024];
    while let Ok(Ok(length @ 1..)) = timeout(SILENCE, client.read(&mut buffer)).await {
        received.extend_from_slice(&buffer[..length]);
    }
    let response = String::from_utf8_lossy(&received);
    let mut heads = response.split("\r\n\r\n").filter(|head| !head.starts_with("HTTP/1.1 100"));
    let head = heads.next().unwrap_or_default();
    let after = agimo.get(host, "/after").await.text();
    let told: Value = serde_json::from_str(&after).unwrap_or(Value::Null);
    assert_eq!(told, json!(["GET", "/after", host, ""]), "another client's response");
    drop(client);
    let seen: Vec<Value> = serde_json::from_str(&agimo.get(host, "/seen").await.text()).unwrap();
    let mut seen: Vec<Value> = seen.into_iter().filter(|one| one[1] != "/after").collect();
    for one in &mut seen {
        assert!(one[2].is_null() || one[2].as_str().unwrap().starts_with(host), "{one}");
        one.as_array_mut().unwrap().remove(2);
        // The body may name the host, too.
        let body = one[2].as_str().unwrap().replace(host, "HOST");
        one[2] = body.into();
    }
    Outcome {
        status: head.split(' ').nth(1).and_then(|status| status.parse().ok()),
        is_own_response: head.contains("x-agimo-reason: "),
        seen,
    }
}

impl Outcome {
    /// The request of the case as the server has understood it.
    fn understood(&self) -> Option<&Value> {
        self.seen.first().filter(|first| first[1] != "/victim")
    }

    /// Neither agimo nor the server has taken it for a request; an incomplete one has no response.
    fn is_refused(&self) -> bool {
        let is_error = self.status.is_none_or(|status| (400..=505).contains(&status));
        self.understood().is_none() && is_error
    }

    /// The server has seen at most the case and the victim behind it.
    fn is_clean(&self, is_open: bool) -> bool {
        let mut rest = self.seen.iter().skip(usize::from(self.understood().is_some()));
        let hides = |one: &Value| one[1] == "/smuggled" && !is_open;
        self.seen.iter().all(|one| !hides(one))
            && rest.all(|one| one[1] == "/smuggled" || *one == json!(["GET", "/victim", ""]))
    }
}

#[tokio::test]
async fn each_is_refused_or_understood_alike_and_nothing_is_hidden_in_it() {
    let agimo = Agimo::with(services()).start().await;
    for host in HOSTS {
        assert_eq!(agimo.get(host, "/seen").await.text(), "[]");
    }
    let cases = cases::all();
    let names: BTreeSet<_> = cases.iter().map(|(name, _)| *name).collect();
    assert!(names.len() == cases.len() && names.len() >= 60, "{} cases", names.len());
    let (mut faults, mut forwarded) = (Vec::new(), 0);
    for (name, request) in cases {
        let [node, python] =
            [run(&agimo, HOSTS[0], &request).await, run(&agimo, HOSTS[1], &request).await];
        let is_open = OPEN.contains(&name);
        let is_same = match (node.understood(), python.understood()) {
            (Some(one), Some(other)) => one == other,
            (Some(_), None) => python.is_refused() && !python.is_own_response,
            (None, Some(_)) => node.is_refused() && !node.is_own_response,
            (None, None) => node.is_refused() && python.is_refused(),
        };
        forwarded += usize::from(node.understood().is_some());
        if !is_same || !node.is_clean(is_open) || !python.is_clean(is_open) {
            faults.push(format!("{name}: {node:?} {python:?}"));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    assert!(forwarded >= 20, "only {forwarded} cases reached the servers");
}
