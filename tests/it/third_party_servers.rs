//! Third-party servers as applications: nginx, Python's http.server and Node.

use futures_util::{SinkExt, StreamExt};
use rustix::process::Signal;
use tokio_tungstenite::tungstenite::Message;

use crate::support::agimo::Agimo;
use crate::support::application::ScriptedServer;
use crate::support::node::web_socket_application;
use crate::support::within;

/// A service with this command, which is a TOML array; `more` are further keys.
fn service(command: &str, more: &str) -> String {
    format!("[[services]]\nhost = \"a.test\"\ntype = \"process\"\ncommand = {command}\n{more}\n")
}

#[tokio::test]
async fn nginx_is_woken_and_serves_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().canonicalize().unwrap();
    let root = root.display();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    std::fs::write(folder.path().join("page.txt"), "from nginx\n").unwrap();
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|kind| format!("{kind}_temp_path {root}/{kind};\n"))
        .concat();
    let nginx = format!(
        "daemon off;\nmaster_process on;\nworker_processes 1;\npid {root}/pid;\nerror_log stderr;\n\
         events {{}}\nhttp {{\naccess_log off;\n{temporary}\
         server {{ listen 127.0.0.1:{port}; root {root}; }}\n}}\n"
    );
    let conf = folder.path().join("nginx.conf");
    std::fs::write(&conf, nginx).unwrap();
    // Workers of an nginx that runs as root switch to another user, who cannot read the folder.
    let user = "-g', 'user root;";
    let user =
        if rustix::process::geteuid().is_root() { format!(", '{user}'") } else { String::new() };
    let command = format!("['/usr/sbin/nginx', '-e', 'stderr', '-c', '{}'{user}]", conf.display());
    let more = format!("port = {port}\nsleep_after = \"300ms\"");
    let mut agimo = Agimo::with(service(&command, &more)).start().await;
    for wakes in 1..=2 {
        let response = agimo.get("a.test", "/page.txt").await;
        assert_eq!((response.status, response.text().as_str()), (200, "from nginx\n"));
        assert!(response.header("server").unwrap().starts_with("nginx"));
        agimo.until_sleep_count("a.test", wakes).await;
    }
    let woken = "agimo_wakes_total{host=\"a.test\",result=\"ready\"}";
    assert_eq!(agimo.metric(woken).await, Some(2.0));
    assert_eq!(agimo.get("a.test", "/missing").await.status, 404);
    // After SIGTERM agimo stops the whole process group; if agimo were killed, nginx's workers would stay.
    agimo.signal(Signal::TERM);
    assert!(agimo.wait_for_exit().await.success());
}

#[tokio::test]
async fn pythons_http_server_is_woken_and_serves_a_file() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("page.txt"), "from python\n").unwrap();
    let command = "['sh', '-c', 'exec python3 -m http.server --bind 127.0.0.1 $PORT']";
    let more = format!("workdir = '{}'", folder.path().display());
    let agimo = Agimo::with(service(command, &more)).start().await;
    // The server uses HTTP/1.0: each response ends with its connection.
    for _ in 0..3 {
        let response = agimo.get("a.test", "/page.txt").await;
        assert_eq!((response.status, response.text().as_str()), (200, "from python\n"));
    }
    assert!(agimo.get("a.test", "/").await.text().contains("page.txt"), "the directory listing");
}

#[tokio::test]
async fn a_node_server_is_woken_and_streams_its_response() {
    let program = r#"require("http").createServer((request, response) => {
        response.write(request.method + " " + request.url + " ");
        request.on("data", (data) => response.write(data)).on("end", () => response.end());
    }).listen(process.env.PORT, "127.0.0.1")"#;
    let agimo = Agimo::with(service(&format!("['node', '-e', '''{program}''']"), "")).start().await;
    let mut client = agimo.connect().await;
    for _ in 0..3 {
        client.send("POST /x?y=1 HTTP/1.1\r\nHost: a.test\r\nContent-Length: 5\r\n\r\nhello").await;
        let response = client.response().await;
        assert_eq!((response.status, response.text().as_str()), (200, "POST /x?y=1 hello"));
    }
}

#[tokio::test]
async fn a_node_web_socket_opens_through_a_cold_start_and_prevents_sleep_while_open() {
    let sleep_after = "sleep_after = \"300ms\"";
    let node = web_socket_application("a.test", sleep_after);
    let other = ScriptedServer::answering("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
    let agimo = Agimo::with(node + &other.service("b.test", sleep_after)).start().await;
    let request = http::Request::get("ws://a.test/socket")
        .header("Host", "a.test")
        .header("Connection", "Upgrade")
        .header("Upgrade", "websocket")
        .header("Sec-WebSocket-Version", "13")
        .header(
            "Sec-WebSocket-Key",
            tokio_tungstenite::tungstenite::handshake::client::generate_key(),
        )
        .header("Sec-WebSocket-Protocol", "clock")
        .body(())
        .unwrap();
    let stream = agimo.connect().await.stream;
    let opening = tokio_tungstenite::client_async(request, stream);
    let (mut socket, response) = within("the handshake", opening).await.unwrap();
    assert_eq!(response.headers()["sec-websocket-protocol"], "clock");
    for number in 0..100 {
        let text = format!("message {number}");
        socket.send(Message::text(text.clone())).await.unwrap();
        let echoed = within("the echo", socket.next()).await.unwrap().unwrap();
        assert_eq!(echoed.into_text().unwrap().as_str(), text);
    }
    // Another service is put to sleep several times while the tunnel is idle.
    agimo.run_sleep_cycles("b.test", 3).await;
    assert_eq!(agimo.sleep_count("a.test"), 0);
    socket.send(Message::text("still there")).await.unwrap();
    let echoed = within("the echo", socket.next()).await.unwrap().unwrap();
    assert_eq!(echoed.into_text().unwrap().as_str(), "still there");
    socket.close(None).await.unwrap();
    while within("the close", socket.next()).await.is_some_and(|message| message.is_ok()) {}
    drop(socket);
    agimo.until_sleep_count("a.test", 1).await;
}
