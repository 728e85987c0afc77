//! When a process counts as ready, why it does not, and what happens when it is not ready any more.

use super::{free_port, pids};
use crate::support::agimo::Agimo;
use crate::support::python::PythonApplication;

#[tokio::test]
async fn no_request_is_sent_before_the_readiness_path_answers() {
    // The port accepts connections at once, so a check by TCP alone would release the request too early.
    let service = PythonApplication::new("a.test")
        .key("readiness = \"/ready\"")
        .env("READY_AFTER", "0.5")
        .service();
    let agimo = Agimo::with(service).start().await;
    assert_eq!(agimo.get("a.test", "/ready").await.status, 200);
}

#[tokio::test]
async fn a_process_that_is_not_ready_in_time_is_told_where_it_listens() {
    let other = free_port();
    let elsewhere = format!(
        "import socket, time; s = socket.create_server((\"127.0.0.1\", {other})); time.sleep(1000)"
    );
    for (program, expected) in [
        (elsewhere.as_str(), format!("listens on 127.0.0.1:{other}")),
        ("import time; time.sleep(1000)", "does not listen anywhere".to_owned()),
    ] {
        let service = format!(
            "[[services]]\nhost = 'a.test'\ntype = 'process'\nstart_timeout = '1s'\ncommand = ['python3', '-S', '-c', '{program}']\n"
        );
        let agimo = Agimo::with(service).start().await;
        assert_eq!(agimo.get("a.test", "/").await.status, 503);
        let line = agimo.until_logged("not ready within start_timeout").await;
        assert!(line.contains("nothing listens on port") && line.contains(&expected), "{line}");
    }
    let service = PythonApplication::new("a.test")
        .key("readiness = '/ready'\nstart_timeout = '500ms'")
        .env("READY_AFTER", 60)
        .service();
    let agimo = Agimo::with(service).start().await;
    agimo.get("a.test", "/").await;
    agimo.until_logged("GET /ready was answered with status 503").await;
}

#[tokio::test]
async fn a_process_that_stops_listening_is_waited_for_and_then_restarted() {
    let folder = tempfile::tempdir().unwrap();
    let starts = folder.path().join("starts");
    let program = "import os, http.server, threading\n\
        class Handler(http.server.BaseHTTPRequestHandler):\n\
        \x20   def do_GET(self):\n\
        \x20       body = str(os.getpid()).encode()\n\
        \x20       self.send_response(200); self.send_header(\"Content-Length\", str(len(body))); self.end_headers()\n\
        \x20       if self.path == \"/stop\": server.socket.close()\n\
        \x20       self.wfile.write(body)\n\
        \x20       if self.path == \"/stop\": threading.Event().wait()\n\
        open(os.environ[\"STARTS\"], \"a\").write(str(os.getpid()) + \"\\n\")\n\
        server = http.server.HTTPServer((\"127.0.0.1\", int(os.environ[\"PORT\"])), Handler)\n\
        server.serve_forever()\n";
    let service = format!(
        "[[services]]\nhost = 'a.test'\ntype = 'process'\nenv = {{ STARTS = '{}' }}\ncommand = ['python3', '-S', '-c', '''{program}''']\n",
        starts.display()
    );
    let agimo = Agimo::with(service).start().await;
    let first = agimo.get("a.test", "/stop").await.text();
    let second = agimo.get("a.test", "/").await;
    assert_eq!(second.status, 200, "{}", second.head);
    assert_ne!(first, second.text());
    let line = agimo.until_logged("does not accept connections any more").await;
    assert!(line.contains("nothing listens on port"), "{line}");
    assert_eq!(pids(&starts).len(), 2);
}

#[tokio::test]
async fn a_process_that_listens_only_on_the_ipv6_loopback_address_is_found() {
    let service =
        PythonApplication::new("a.test").service().replace("\"127.0.0.1\", int", "\"::1\", int");
    let agimo = Agimo::with(service).start().await;
    assert_eq!(agimo.get("a.test", "/").await.text(), "hi");
}

#[tokio::test]
async fn readiness_checks_name_the_host_of_the_service() {
    // As applications with a list of allowed hosts do: Django, Rails, Vite.
    let service = PythonApplication::new("a.test").key("readiness = '/ready'").service().replace(
        "    name, _, rest =",
        "    if \"host: a.test\" not in [line.lower() for line in lines]:\n        name, status = \"\", \"400 Bad Request\"\n    name, _, rest =",
    );
    let service = service
        .replace("async def answer(target, sent, writer):", "async def answer(target, sent, writer, lines):")
        .replace("await answer(lines[0].split(\" \")[1], sent, writer)", "await answer(lines[0].split(\" \")[1], sent, writer, lines)")
        .replace("    status, body = \"200 OK\", b\"hi\"", "    status, body = \"200 OK\", b\"hi\"\n    if not any(line.lower() == \"host: a.test\" for line in lines): status = \"400 Bad Request\"");
    let agimo = Agimo::with(service).start().await;
    assert_eq!(agimo.get("a.test", "/").await.status, 200);
}
