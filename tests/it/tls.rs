//! TLS from clients and to applications. The clients and the applications are Node's, curl and OpenSSL.

use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::process::Command;

use crate::support::agimo::{Agimo, AgimoBuilder};
use crate::support::application::ScriptedServer;
use crate::support::python::PythonApplication;
use crate::support::tls::Authority;
use crate::support::{eventually, within};

mod applications;
mod browser;
mod client_certificates;
mod proxy_protocol;

const HI: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";

/// An agimo that serves `a.test` over TLS, with the services of this configuration.
fn serving(authority: &Authority, services: &str) -> AgimoBuilder {
    authority.issue("a", &["a.test"]);
    Agimo::with(format!("{services}\n{}", authority.table("a"))).with_tls()
}

#[tokio::test]
async fn a_sleeping_application_is_woken_by_https_in_both_versions_of_http() {
    let authority = Authority::new();
    let application = PythonApplication::new("a.test");
    let agimo = serving(&authority, &application.service()).start().await;
    let address = agimo.tls_address();
    for (version, expected) in [("--http1.1", "1.1"), ("--http2", "2")] {
        let mut curl = Command::new("curl");
        let (url, to) = (format!("https://a.test:{}/", address.port()), address.port());
        curl.args(["--silent", "--show-error", version, "--cacert", &authority.path("ca.crt")])
            .args([
                "--resolve",
                &format!("a.test:{to}:127.0.0.1"),
                "--write-out",
                " %{http_version}",
            ])
            .arg(url);
        let output = within("curl", curl.output()).await.unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert_eq!(text, format!("hi {expected}"), "{}", String::from_utf8_lossy(&output.stderr));
    }
    agimo.until_metric("agimo_active_requests{host=\"a.test\"}", 0.0).await;
    assert_eq!(agimo.metric("agimo_requests_total{host=\"a.test\"}").await, Some(2.0));
}

#[tokio::test]
async fn applications_are_told_the_scheme_of_the_client() {
    let authority = Authority::new();
    let (server, record) = ScriptedServer::recording(HI).await;
    let agimo = serving(&authority, &server.service("a.test", "")).start().await;
    let script = "print((await request({ headers: { 'x-forwarded-proto': 'http' } })).status);
        const session = http2.connect('https://127.0.0.1:' + port, { ca, servername: 'a.test' });
        const stream = session.request({ ':path': '/', ':authority': 'a.test' });
        stream.on('response', (head) => print(head[':status']));
        await new Promise((resolve) => stream.on('close', resolve).resume());";
    let printed = authority.run_client(agimo.tls_address(), script).await;
    assert_eq!(printed, [json!(200), json!(200)]);
    assert_eq!(agimo.get("a.test", "/").await.status, 200);
    let record = String::from_utf8(record.lock().unwrap().clone()).unwrap();
    let heads: Vec<_> = record.split_terminator("\r\n\r\n").collect();
    for (head, proto) in heads.iter().zip(["https", "https", "http"]) {
        assert!(head.contains(&format!("X-Forwarded-Proto: {proto}\r\n")), "{head}");
        assert!(head.contains(&format!("host=a.test;proto={proto}\r\n")), "{head}");
    }
    assert_eq!(heads.len(), 3);
}

#[tokio::test]
async fn the_host_decides_which_certificate_is_shown() {
    let authority = Authority::new();
    for (name, hosts) in [("one", &["one.test", "www.one.test"][..]), ("all", &["*.one.test"])] {
        authority.issue(name, hosts);
    }
    authority.issue("a", &["a.test"]);
    let tables = ["a", "one", "all"].map(|name| authority.table(name)).concat();
    let config = PythonApplication::new("*").service() + &tables;
    let agimo = Agimo::with(config).with_tls().start().await;
    let script = "
        for (const servername of ['a.test', 'one.test', 'www.one.test', 'x.one.test', 'other.test', '']) {
            const found = await connect({ servername, checkServerIdentity: () => {} });
            print([found.name, found.alpn]);
        }
        for (const ALPNProtocols of [['h2', 'http/1.1'], ['http/1.1']]) print((await connect({ ALPNProtocols })).alpn);
        print((await connect({ ALPNProtocols: ['spdy/1'] })).error);";
    let printed = authority.run_client(agimo.tls_address(), script).await;
    let names = ["a.test", "one.test", "one.test", "*.one.test", "a.test", "a.test"];
    let mut expected: Vec<Value> = names.iter().map(|name| json!([name, false])).collect();
    expected.extend([
        json!("h2"),
        json!("http/1.1"),
        json!("ERR_SSL_TLSV1_ALERT_NO_APPLICATION_PROTOCOL"),
    ]);
    assert_eq!(printed, expected);
}

#[tokio::test]
async fn old_versions_of_tls_are_refused_and_sessions_are_resumed() {
    let authority = Authority::new();
    let agimo = serving(&authority, &PythonApplication::new("a.test").service()).start().await;
    let script = "
        for (const version of ['TLSv1.1', 'TLSv1.2', 'TLSv1.3']) {
            const options = { minVersion: version, maxVersion: version };
            const first = await connect(options);
            if (first.error) { print([version, first.error != undefined]); continue; }
            first.socket.resume();
            const session = await first.session;
            const second = await connect({ ...options, session });
            print([version, first.version, first.reused, second.reused]);
        }";
    let printed = authority.run_client(agimo.tls_address(), script).await;
    let resumed = |version| json!([version, version, false, true]);
    assert_eq!(printed, [json!(["TLSv1.1", true]), resumed("TLSv1.2"), resumed("TLSv1.3")]);
}

#[tokio::test]
async fn a_session_is_resumed_at_another_replica_that_has_the_same_key() {
    let authority = Authority::new();
    authority.write("ticket.key", &"secret".repeat(8));
    let application = PythonApplication::new("a.test").service();
    let with_key = format!("ticket_key = '{}'\n{application}", authority.path("ticket.key"));
    let mut replicas = Vec::new();
    for services in [&with_key, &with_key, &application] {
        replicas.push(serving(&authority, services).start().await);
    }
    let ports: Vec<_> = replicas.iter().map(|replica| replica.tls_address().port()).collect();
    let script = format!(
        "const ports = {ports:?};
        for (const version of ['TLSv1.2', 'TLSv1.3']) {{
            const options = {{ minVersion: version, maxVersion: version }};
            const first = await connect(options);
            first.socket.resume();
            const session = await first.session;
            const reused = [];
            for (const port of ports.slice(1)) reused.push((await connect({{ ...options, port, session }})).reused);
            print(reused);
        }}"
    );
    let printed = authority.run_client(replicas[0].tls_address(), &script).await;
    assert_eq!(printed, [json!([true, false]), json!([true, false])]);
}

#[tokio::test]
async fn a_renewed_certificate_is_used_and_a_broken_one_changes_nothing() {
    let authority = Authority::new();
    let agimo = serving(&authority, &PythonApplication::new("a.test").service()).start().await;
    let name = "print((await connect({ checkServerIdentity: () => {} })).name);";
    let shown = || async { authority.run_client(agimo.tls_address(), name).await };
    assert_eq!(shown().await, [json!("a.test")]);
    authority.issue("a", &["new.test", "a.test"]);
    eventually("the new certificate", || async {
        (shown().await == [json!("new.test")]).then_some(())
    })
    .await;
    authority.write("a.crt", "-----BEGIN CERTIFICATE-----\nx");
    let told = agimo.until_logged("stays in use").await;
    assert!(told.contains("a.crt") && told.contains("\"ERROR\""), "{told}");
    assert_eq!(shown().await, [json!("new.test")]);
    let expiry = "agimo_tls_certificate_expiry_timestamp_seconds";
    let sample = format!("{expiry}{{file=\"{}\"}}", authority.path("a.crt"));
    assert!(agimo.metric(&sample).await.is_some_and(|at| at > 1.0e9));
}

#[tokio::test]
async fn a_configuration_with_a_certificate_that_cannot_be_used_is_refused() {
    let authority = Authority::new();
    let application = PythonApplication::new("a.test").service();
    let agimo = serving(&authority, &application).start().await;
    let broken = format!("{application}\n{}", authority.table("missing"));
    agimo.reconfigure(&broken);
    let told = agimo.until_logged("was not reloaded").await;
    assert!(told.contains("missing.crt: No such file"), "{told}");
    assert!(told.contains(":15: "), "the place in the file: {told}");
    agimo.reconfigure(&application);
    agimo.until_logged("--tls-port is set, and there is no [[tls]]").await;
    let printed =
        authority.run_client(agimo.tls_address(), "print((await request({})).body);").await;
    assert_eq!(printed, [json!("hi")]);
}

#[tokio::test]
async fn requests_in_cleartext_are_redirected_where_the_service_says_so() {
    let authority = Authority::new();
    let redirecting = PythonApplication::new("a.test").service() + "\nredirect_to_https = 443\n";
    let other = PythonApplication::new("b.test").service() + "\nredirect_to_https = 8443\n";
    let services = format!("trusted_proxies = ['127.0.0.1']\n{redirecting}{other}");
    let agimo = serving(&authority, &services).start().await;
    for (host, location) in
        [("a.test:80", "https://a.test/x?y=1"), ("B.test", "https://B.test:8443/x?y=1")]
    {
        let response = agimo.get(host, "/x?y=1").await;
        assert_eq!((response.status, response.header("location")), (308, Some(location)));
    }
    assert_eq!(agimo.metric("agimo_requests_total{host=\"a.test\"}").await, Some(0.0));
    let mut client = agimo.connect().await;
    client.send("GET / HTTP/1.1\r\nHost: a.test\r\nX-Forwarded-Proto: https\r\n\r\n").await;
    assert_eq!(client.response().await.status, 200);
    let printed =
        authority.run_client(agimo.tls_address(), "print((await request({})).body);").await;
    assert_eq!(printed, [json!("hi")]);
}

#[tokio::test]
async fn silent_and_broken_handshakes_block_nobody_and_end() {
    let authority = Authority::new();
    let agimo = serving(&authority, &PythonApplication::new("a.test").service())
        .arguments(&["--threads", "1"])
        .start()
        .await;
    let mut silent = Vec::new();
    for _ in 0..100 {
        silent.push(TcpStream::connect(agimo.tls_address()).await.unwrap());
    }
    let mut broken = TcpStream::connect(agimo.tls_address()).await.unwrap();
    broken.write_all(b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n").await.unwrap();
    let printed =
        authority.run_client(agimo.tls_address(), "print((await request({})).body);").await;
    assert_eq!(printed, [json!("hi")]);
    agimo.until_logged("the TLS handshake failed").await;
    let mut end = [0; 1];
    let ended = async { silent[0].peek(&mut end).await };
    assert!(
        within("a silent connection to be closed", ended).await.is_ok_and(|length| length == 0)
    );
}

#[tokio::test]
async fn a_web_socket_over_tls_outlives_its_timeouts_and_carries_large_messages() {
    let authority = Authority::new();
    let service = crate::support::node::web_socket_application("a.test", "");
    let agimo = serving(&authority, &service).start().await;
    let script = "
        const { socket } = await connect({ ALPNProtocols: ['http/1.1'] });
        const key = Buffer.from('0123456789abcdef').toString('base64');
        socket.write('GET / HTTP/1.1\\r\\nHost: a.test\\r\\nConnection: Upgrade\\r\\nUpgrade: websocket\\r\\nSec-WebSocket-Version: 13\\r\\nSec-WebSocket-Protocol: echo\\r\\nSec-WebSocket-Key: ' + key + '\\r\\n\\r\\n');
        const head = String(await new Promise((resolve) => socket.once('data', resolve)));
        print(head.startsWith('HTTP/1.1 101'));
        socket.write(Buffer.from([0x81, 0x82, 0, 0, 0, 0, 0x68, 0x69]));
        print([...await new Promise((resolve) => socket.once('data', resolve))]);
        socket.write(Buffer.from([0x88, 0x80, 0, 0, 0, 0]));
        await new Promise((resolve) => socket.once('end', resolve).resume());
        print('ended');";
    let printed = authority.run_client(agimo.tls_address(), script).await;
    assert_eq!(printed, [json!(true), json!([0x81, 2, 0x68, 0x69]), json!("ended")]);
    agimo.until_metric("agimo_active_requests{host=\"a.test\"}", 0.0).await;
}
