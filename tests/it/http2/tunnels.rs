//! WebSockets over HTTP/2 (RFC 8441) and their translation to HTTP/1.1 and back.

use futures_util::{SinkExt, StreamExt};
use serde_json::json;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

use super::with_http2_application;
use crate::support::agimo::Agimo;
use crate::support::application::ScriptedServer;
use crate::support::node::{run_client, web_socket_application};
use crate::support::within;

/// Opens a WebSocket on a stream, sends one masked text, and prints what comes back up to the end of the tunnel.
const CLIENT: &str = "
    const head = { ':method': 'CONNECT', ':protocol': 'websocket', 'sec-websocket-version': '13',
        'sec-websocket-protocol': 'chat', ':path': '/socket', ':scheme': 'http' };
    const stream = open(head, { endStream: false });
    const [response] = [await until(stream, 'response')];
    print([response[':status'], response['sec-websocket-protocol'], response['sec-websocket-accept'] || null]);
    stream.write(Buffer.from([0x81, 0x82, 0, 0, 0, 0, 0x68, 0x69]));
    const received = await until(stream, 'data');
    print(received.toString('hex'));";

#[tokio::test]
async fn a_websocket_over_http2_becomes_an_upgrade_to_a_sleeping_application() {
    let agimo = Agimo::with(web_socket_application("a.test", "")).start().await;
    let script = [
        "await until(session, 'remoteSettings'); print(session.remoteSettings.enableConnectProtocol);",
        CLIENT,
        // A close frame; the application answers it and closes its side.
        "stream.end(Buffer.from([0x88, 0x80, 0, 0, 0, 0]));
         print((await until(stream, 'data')).toString('hex'));
         await until(stream, 'close'); print(stream.rstCode);",
    ]
    .concat();
    let printed = run_client(agimo.address, &script).await;
    let expected =
        [json!(true), json!([200, "chat", null]), json!("81026869"), json!("8800"), json!(0)];
    assert_eq!(printed, expected);
    agimo.until_metric("agimo_active_requests{host=\"a.test\"}", 0.0).await;
}

#[tokio::test]
async fn a_client_that_is_gone_after_it_has_ended_its_side_ends_the_tunnel() {
    let server = ScriptedServer::serve(|mut client, _| async move {
        client.read_until("\r\n\r\n").await;
        client
            .send("HTTP/1.1 101 Switching Protocols\r\nUpgrade: own\r\nConnection: Upgrade\r\n\r\n")
            .await;
        // It never closes its side.
        std::future::pending::<()>().await;
    })
    .await;
    let agimo =
        Agimo::with(server.service("a.test", "half_closed_timeout = \"off\"")).start().await;
    let script = "
        await until(session, 'remoteSettings');
        const stream = open({ ':method': 'CONNECT', ':protocol': 'own', ':scheme': 'http' }, { endStream: false });
        stream.on('error', () => {});
        print((await until(stream, 'response'))[':status']);
        stream.end();
        await until(stream, 'finish');
        session.destroy();";
    assert_eq!(run_client(agimo.address, script).await, [json!(200)]);
    agimo.until_metric("agimo_active_requests{host=\"a.test\"}", 0.0).await;
}

#[tokio::test]
async fn a_websocket_stays_http2_where_the_application_offers_it() {
    let agimo = with_http2_application("").await;
    let script = ["await until(session, 'remoteSettings');", CLIENT, "stream.end();"].concat();
    let printed = run_client(agimo.address, &script).await;
    // The application returns the bytes as they are.
    assert_eq!(printed, [json!([200, "chat", null]), json!("8182000000006869")]);
}

#[tokio::test]
async fn an_upgrade_of_http1_becomes_a_stream_of_http2() {
    let agimo = with_http2_application("").await;
    let mut request = format!("ws://{}/socket", agimo.address).into_client_request().unwrap();
    request.headers_mut().insert("host", "a.test".parse().unwrap());
    let stream = agimo.connect().await.stream;
    let connect = tokio_tungstenite::client_async(request, stream);
    // It checks Sec-WebSocket-Accept.
    let (mut socket, response) = within("the upgrade", connect).await.unwrap();
    assert_eq!(response.status().as_u16(), 101);
    agimo.until_metric("agimo_active_requests{host=\"a.test\"}", 1.0).await;
    socket.send(Message::Ping("x".into())).await.unwrap();
    // The application returns the frame with its mask, which only a server would send without one.
    let returned = within("the frame", socket.next()).await.unwrap();
    assert!(returned.is_err_and(|error| error.to_string().contains("masked")));
    drop(socket);
    agimo.until_metric("agimo_active_requests{host=\"a.test\"}", 0.0).await;
}
