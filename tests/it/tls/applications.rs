//! TLS to applications: versions of HTTP, what agimo verifies and presents, and what it says when that fails.

use serde_json::{Value, json};

use super::serving;
use crate::support::agimo::Agimo;
use crate::support::tls::Authority;

/// A service whose application has a certificate for `localhost`; `more` are further keys.
fn verified(authority: &Authority, more: &str) -> String {
    authority.issue("app", &["localhost", "app.test"]);
    let ca = authority.path("ca.crt");
    authority.application("a.test", &format!("tls_ca = '{ca}'\n{more}"))
}

async fn about(agimo: &Agimo) -> Value {
    let text = agimo.get("a.test", "/").await.text();
    serde_json::from_str(&text).unwrap_or(Value::String(text))
}

#[tokio::test]
async fn an_application_is_reached_over_tls_in_both_versions_of_http() {
    let authority = Authority::new();
    for (protocol, version, scheme) in [("https", "1.1", None), ("h2", "2.0", Some("https"))] {
        let service = verified(&authority, &format!("protocol = '{protocol}'"));
        let agimo = Agimo::with(service).start().await;
        let found = about(&agimo).await;
        assert_eq!(found["version"], version, "{found}");
        assert_eq!(found["scheme"], json!(scheme), "{found}");
        assert_eq!((&found["name"], &found["proto"]), (&json!("localhost"), &json!("http")));
    }
}

#[tokio::test]
async fn a_connection_over_tls_serves_many_requests_with_large_bodies() {
    let authority = Authority::new();
    for protocol in ["https", "h2"] {
        let service = verified(&authority, &format!("protocol = '{protocol}'"));
        let agimo = serving(&authority, &service).start().await;
        let script = "
            const body = 'x'.repeat(3 << 20);
            for (let at = 0; at < 3; at++) {
                const found = await request({ path: '/echo', method: 'POST', body });
                print([found.status, found.body == body]);
            }";
        let printed = authority.run_client(agimo.tls_address(), script).await;
        assert_eq!(printed, vec![json!([200, true]); 3], "{protocol}");
    }
}

#[tokio::test]
async fn an_upgrade_goes_over_http1_even_where_the_application_offers_http2() {
    let authority = Authority::new();
    let agimo = serving(&authority, &verified(&authority, "protocol = 'h2'")).start().await;
    let mut client = agimo.connect().await;
    let upgrade = "GET / HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n";
    client.send(upgrade).await;
    assert_eq!(client.response().await.status, 101);
    client.send("hello").await;
    assert_eq!(client.read_exact(5).await, b"hello");
}

#[tokio::test]
async fn a_certificate_that_is_not_valid_is_told_to_the_operator_and_to_the_client() {
    let (authority, other) = (Authority::new(), Authority::new());
    authority.issue("app", &["localhost"]);
    let wrong_ca = format!("tls_ca = '{}'", other.path("ca.crt"));
    let right_ca = format!("tls_ca = '{}'", authority.path("ca.crt"));
    let wrong_name = format!("{right_ca}\ntls_server_name = 'app.test'");
    for (keys, part) in [
        (wrong_ca.as_str(), "invalid peer certificate: UnknownIssuer"),
        (&wrong_name, "certificate not valid for name \"app.test\""),
        ("", "invalid peer certificate: UnknownIssuer"),
    ] {
        let service = authority.application("a.test", &format!("protocol = 'https'\n{keys}"));
        let agimo = Agimo::with(service).start().await;
        let response = agimo.get("a.test", "/").await;
        let reason = response.header("x-agimo-reason");
        assert_eq!((response.status, reason), (502, Some("endpoint-tls")), "{keys}");
        assert!(response.text().contains(part), "{}", response.text());
        agimo.until_logged(part.split('"').next().unwrap()).await;
    }
    let service = authority.application("a.test", "protocol = 'https'\ntls_insecure = true");
    let agimo = Agimo::with(service).start().await;
    assert_eq!(about(&agimo).await["version"], "1.1");
    let warning = agimo.until_logged("is not verified (`tls_insecure`)").await;
    assert!(warning.contains("\"WARN\"") && warning.contains("a.test"), "{warning}");
}

#[tokio::test]
async fn agimo_presents_its_certificate_to_an_application_that_asks() {
    let authority = Authority::new();
    authority.issue("app", &["localhost"]);
    authority.issue("agimo", &["agimo.test"]);
    let path = |name: &str| authority.path(name);
    let own =
        format!("tls_certificate = '{}'\ntls_key = '{}'", path("agimo.crt"), path("agimo.key"));
    for (keys, client) in [(own.as_str(), Some("agimo.test")), ("", None)] {
        let keys = format!("protocol = 'https'\ntls_ca = '{}'\n{keys}", path("ca.crt"));
        for (protocol, versions) in [("https", "http/1.1"), ("h2", "h2")] {
            let keys = keys.replace("'https'", &format!("'{protocol}'"));
            let env = [("CLIENT_CA", "1"), ("VERSIONS", versions)];
            let service = authority.application_with("a.test", &env, &keys);
            let agimo = Agimo::with(service).start().await;
            match client {
                Some(client) => assert_eq!(about(&agimo).await["client"], client),
                None => {
                    let response = agimo.get("a.test", "/").await;
                    let (reason, text) = (response.header("x-agimo-reason"), response.text());
                    assert_eq!((response.status, reason), (502, Some("endpoint-tls")), "{text}");
                    assert!(text.contains("demands a certificate of agimo"), "{text}");
                }
            }
        }
    }
}

#[tokio::test]
async fn an_application_without_http2_or_without_tls_is_named_as_such() {
    let authority = Authority::new();
    authority.issue("app", &["localhost"]);
    let keys = format!("protocol = 'h2'\ntls_ca = '{}'", authority.path("ca.crt"));
    let only_http1 = authority.application_with("a.test", &[("VERSIONS", "http/1.1")], &keys);
    let cleartext = crate::support::node::web_socket_application("a.test", "protocol = 'https'");
    for (service, part) in [
        (only_http1, "does not offer this version of HTTP over TLS (ALPN)"),
        (cleartext, "corrupt message"),
    ] {
        let agimo = Agimo::with(service).start().await;
        let response = agimo.get("a.test", "/").await;
        assert_eq!(response.header("x-agimo-reason"), Some("endpoint-tls"));
        assert!(response.text().contains(part), "{}", response.text());
    }
}
