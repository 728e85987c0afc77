//! Certificates of clients: who is served, and what applications are told.

use serde_json::json;

use super::{HI, serving};
use crate::support::application::ScriptedServer;
use crate::support::tls::Authority;

#[tokio::test]
async fn clients_are_served_by_their_certificates_and_applications_know_them() {
    let (authority, other) = (Authority::new(), Authority::new());
    authority.issue("client", &["client.test"]);
    other.issue("stranger", &["client.test"]);
    for name in ["stranger.crt", "stranger.key"] {
        std::fs::copy(other.path(name), authority.path(name)).unwrap();
    }
    for (presence, without) in [("required", None), ("optional", Some(200))] {
        let (server, record) = ScriptedServer::recording(HI).await;
        let keys = format!(
            "client_ca = '{}'\nclient_certificate = '{presence}'\n",
            authority.path("ca.crt")
        );
        let services = keys + &server.service("a.test", "");
        let agimo = serving(&authority, &services).start().await;
        let script = "
            const headers = { 'x-forwarded-client-cert': 'Subject=\"CN=admin\"' };
            const certificate = (name) => ({ cert: read(name + '.crt'), key: read(name + '.key'), headers });
            print((await request(certificate('client'))).status);
            print((await request({ headers })).status ?? null);
            print((await request(certificate('stranger'))).status ?? null);";
        let printed = authority.run_client(agimo.tls_address(), script).await;
        assert_eq!(printed, [json!(200), json!(without), json!(null)], "{presence}");
        let record = String::from_utf8(record.lock().unwrap().clone()).unwrap();
        let told: Vec<_> =
            record.lines().filter(|line| line.to_lowercase().contains("client-cert")).collect();
        assert_eq!(told.len(), 1, "{record}");
        assert!(told[0].starts_with("X-Forwarded-Client-Cert: Hash="), "{told:?}");
        assert!(told[0].contains(";Subject=\"CN=client.test\";DNS=\"client.test\""), "{told:?}");
    }
}

/// A ticket of a client without a certificate is worth nothing where certificates have become required, not even at a replica
/// with the same key.
#[tokio::test]
async fn a_resumed_session_proves_no_more_than_a_new_one() {
    let authority = Authority::new();
    authority.write("ticket.key", &"secret".repeat(8));
    let keys = |presence: &str| {
        format!(
            "client_ca = '{}'\nclient_certificate = '{presence}'\nticket_key = '{}'\n",
            authority.path("ca.crt"),
            authority.path("ticket.key")
        )
    };
    let (server, _) = ScriptedServer::recording(HI).await;
    let mut replicas = Vec::new();
    for presence in ["optional", "required"] {
        let services = keys(presence) + &server.service("a.test", "");
        replicas.push(serving(&authority, &services).start().await);
    }
    let port = replicas[1].tls_address().port();
    let script = format!(
        "for (const version of ['TLSv1.2', 'TLSv1.3']) {{
            const options = {{ minVersion: version, maxVersion: version }};
            const first = await connect(options);
            first.socket.resume();
            const session = await first.session;
            print((await connect({{ ...options, session }})).reused);
            print((await request({{ ...options, port: {port}, session }})).status ?? null);
        }}"
    );
    let printed = authority.run_client(replicas[0].tls_address(), &script).await;
    assert_eq!(printed, [json!(true), json!(null), json!(true), json!(null)]);
}
