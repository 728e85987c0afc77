//! A browser over TLS and HTTP/2, with a WebSocket on the same connection (RFC 8441).

use serde_json::json;

use super::serving;
use crate::support::chromium::Chromium;
use crate::support::tls::Authority;

/// Answers with a page, and returns messages of WebSockets below 126 bytes behind the `Via` of the handshake.
const APPLICATION: &str = r#"
const page = "<!doctype html><title>page</title>";
const server = require("http").createServer((request, response) => response.setHeader("content-type", "text/html").end(page));
server.on("upgrade", (request, socket) => {
    const key = request.headers["sec-websocket-key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
    const accept = require("crypto").createHash("sha1").update(key).digest("base64");
    socket.write("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: " + accept + "\r\n\r\n");
    socket.on("error", () => {});
    socket.on("data", (frame) => {
        if ((frame[0] & 15) == 8) return socket.end(Buffer.from([0x88, 0]));
        const mask = frame.subarray(2, 6);
        const text = request.headers.via.split(" ")[0] + " " + Buffer.from(frame.subarray(6)).map((byte, at) => byte ^ mask[at % 4]);
        socket.write(Buffer.concat([Buffer.from([0x81, text.length]), Buffer.from(text)]));
    });
});
server.listen(process.env.PORT, "127.0.0.1");
"#;

#[tokio::test]
async fn a_browser_opens_a_web_socket_on_the_http2_connection_of_the_page() {
    let authority = Authority::new();
    let service = format!(
        "[[services]]\nhost = \"a.test\"\ntype = \"process\"\ncommand = [\"node\", \"-e\", '''{APPLICATION}''']\n"
    );
    let agimo = serving(&authority, &service).start().await;
    let port = agimo.tls_address().port();
    // The browser does not know the authority of the test.
    let arguments = ["--ignore-certificate-errors", "--host-resolver-rules=MAP a.test 127.0.0.1"];
    let mut browser = Chromium::start_with(&arguments).await;
    browser.open(&format!("https://a.test:{port}/")).await;
    browser.wait_for("document.title == 'page'").await;
    let protocol =
        browser.wait_for("performance.getEntriesByType('navigation')[0].nextHopProtocol").await;
    assert_eq!(protocol, json!("h2"));
    browser
        .wait_for(
            "(window.socket = new WebSocket('wss://' + location.host), window.received = [], \
             socket.onopen = () => socket.send('hello'), socket.onmessage = ({ data }) => received.push(data), true)",
        )
        .await;
    let received = browser.wait_for("received[0]").await;
    assert_eq!(received, json!("2.0 hello"), "the handshake came over HTTP/2");
    assert_eq!(agimo.metric("agimo_active_requests{host=\"a.test\"}").await, Some(1.0));
    browser.wait_for("(socket.onclose = () => window.isClosed = true, socket.close(), true)").await;
    browser.wait_for("window.isClosed").await;
    agimo.until_metric("agimo_active_requests{host=\"a.test\"}", 0.0).await;
}
