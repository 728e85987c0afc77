//! The shortest path through agimo: one request wakes the application, which answers it.

use crate::support::agimo::Agimo;
use crate::support::application::ScriptedServer;

#[tokio::test]
async fn a_request_wakes_the_application_and_is_answered() {
    let server = ScriptedServer::answering("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi").await;
    let agimo = Agimo::with(server.service("a.test", "")).start().await;
    let response = agimo.get("a.test", "/").await;
    assert_eq!((response.status, response.text().as_str()), (200, "hi"));
    assert_eq!(
        agimo.metric("agimo_wakes_total{host=\"a.test\",result=\"ready\"}").await,
        Some(1.0)
    );
}
