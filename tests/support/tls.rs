//! Certificates of the tests, and programs in Node that use them: clients, and an application that agimo starts.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::SystemTime;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair,
};
use serde_json::Value;
use tempfile::TempDir;
use tokio::process::Command;

use super::within;

/// An authority that issues certificates into a folder of the test.
pub(crate) struct Authority {
    folder: TempDir,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// What every client has: `request(options)`, an HTTPS request on a connection of its own, and `connect(options)`, a connection
/// over TLS; both resolve to what they found or to the code of the error. `ca` is the authority; `print(value)` passes a value to
/// the test.
const CLIENT: &str = r#"
const [address, folder] = process.argv.slice(1);
const port = Number(address.split(":").pop()), host = address.slice(0, address.lastIndexOf(":"));
const fs = require("fs"), https = require("https"), http2 = require("http2"), tls = require("tls");
const read = (name) => fs.readFileSync(folder + "/" + name);
const ca = read("ca.crt");
const print = (value) => console.log(JSON.stringify(value));
const request = (options) => new Promise((resolve) => {
    const { body, ...rest } = options;
    const all = { host, port, ca, servername: "a.test", agent: false, ...rest, headers: { host: "a.test", ...rest.headers } };
    const sent = https.request(all, (response) => {
        let text = "";
        response.setEncoding("utf8");
        response.on("data", (part) => text += part);
        response.on("error", (error) => resolve({ error: error.code }));
        response.on("end", () => resolve({ status: response.statusCode, headers: response.headers, body: text }));
    });
    sent.on("error", (error) => resolve({ error: error.code }));
    sent.end(body);
});
const connect = (options) => new Promise((resolve) => {
    // Resolves to a ticket, which comes with the handshake (TLS 1.2) or after it.
    let arrived;
    const session = new Promise((resolve) => arrived = resolve);
    const socket = tls.connect({ host, port, ca, servername: "a.test", ...options }, () => {
        const found = { session, version: socket.getProtocol(), alpn: socket.alpnProtocol, name: socket.getPeerCertificate().subject?.CN, reused: socket.isSessionReused() };
        resolve({ ...found, socket });
    });
    socket.on("session", arrived);
    socket.on("error", (error) => resolve({ error: error.code }));
});
"#;

/// An application that is served over TLS with the certificate `app`, with HTTP/2 and HTTP/1.1 or with what `VERSIONS` names. It
/// answers with what it knows of the connection and the request, as JSON; `/echo` returns the body, an upgrade returns what follows.
/// With `CLIENT_CA` it demands a certificate of the client.
const APPLICATION: &str = r#"
const fs = require("fs"), http2 = require("http2"), https = require("https");
const folder = process.env.FOLDER, versions = process.env.VERSIONS || "h2,http/1.1";
const read = (name) => fs.readFileSync(folder + "/" + name);
const options = { key: read("app.key"), cert: read("app.crt"), allowHTTP1: versions.includes("http/1.1") };
if (process.env.CLIENT_CA) Object.assign(options, { ca: read("ca.crt"), requestCert: true, rejectUnauthorized: true });
const answer = (request, response) => {
    if (request.url == "/echo") return request.pipe(response);
    const socket = request.stream ? request.stream.session.socket : request.socket;
    const peer = socket.getPeerCertificate();
    const about = { version: request.httpVersion, name: socket.servername, reused: socket.isSessionReused(), client: peer && peer.subject && peer.subject.CN };
    response.end(JSON.stringify({ ...about, scheme: request.headers[":scheme"], proto: request.headers["x-forwarded-proto"] }));
};
const server = versions.includes("h2") ? http2.createSecureServer(options, answer) : https.createServer(options, answer);
server.on("upgrade", (request, socket) => {
    socket.on("error", () => {});
    socket.write("HTTP/1.1 101 Switching Protocols\r\nUpgrade: " + request.headers.upgrade + "\r\nConnection: Upgrade\r\n\r\n");
    socket.pipe(socket);
});
server.on("tlsClientError", () => {});
server.listen(process.env.PORT, "127.0.0.1");
"#;

/// Authorities that have been made: each has a name of its own.
static MADE: AtomicUsize = AtomicUsize::new(0);

// === impl Authority ===

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::default();
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        params.distinguished_name.push(DnType::CommonName, format!("authority {number} of a test"));
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("ca.crt"), issuer.pem()).unwrap();
        Self { folder, issuer }
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The path of a file, as it is written in a configuration.
    pub(crate) fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    /// Writes `NAME.crt` and `NAME.key`, a certificate for these hosts; the first one is the common name.
    pub(crate) fn issue(&self, name: &str, hosts: &[&str]) {
        let hosts: Vec<String> = hosts.iter().map(ToString::to_string).collect();
        let mut params = CertificateParams::new(hosts.clone()).unwrap();
        params.distinguished_name.push(DnType::CommonName, hosts[0].as_str());
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        self.write(&format!("{name}.key"), &key.serialize_pem());
        self.write(&format!("{name}.crt"), &certificate.pem());
    }

    /// Writes a file, so that its time of modification differs from the one before.
    pub(crate) fn write(&self, name: &str, text: &str) {
        let path: PathBuf = self.folder.path().join(name);
        let before = std::fs::metadata(&path).and_then(|found| found.modified()).ok();
        std::fs::write(&path, text).unwrap();
        let file = std::fs::File::options().append(true).open(&path).unwrap();
        let now = SystemTime::now();
        let next = before.map(|before| before + std::time::Duration::from_secs(1));
        file.set_modified(next.map_or(now, |next| next.max(now))).unwrap();
    }

    /// The lines of a configuration for a certificate of this name.
    pub(crate) fn table(&self, name: &str) -> String {
        let (certificate, key) =
            (self.path(&format!("{name}.crt")), self.path(&format!("{name}.key")));
        format!("[[tls]]\ncertificate = '{certificate}'\nkey = '{key}'\n")
    }

    /// The configuration of a service with the application over TLS; `more` are further keys.
    pub(crate) fn application(&self, host: &str, more: &str) -> String {
        self.application_with(host, &[], more)
    }

    /// The same with further variables of its environment.
    pub(crate) fn application_with(&self, host: &str, env: &[(&str, &str)], more: &str) -> String {
        let env: String =
            env.iter().map(|(name, value)| format!(", {name} = \"{value}\"")).collect();
        let folder = self.folder.path().display();
        format!(
            "[[services]]\nhost = \"{host}\"\ntype = \"process\"\n\
             command = [\"node\", \"-e\", '''{APPLICATION}''']\nenv = {{ FOLDER = \"{folder}\"{env} }}\n{more}\n"
        )
    }

    /// What a client with this script prints, a value a line.
    pub(crate) async fn run_client(&self, address: SocketAddr, script: &str) -> Vec<Value> {
        let program = format!("{CLIENT}\n(async () => {{\n{script}\nprocess.exit(0);\n}})();");
        let mut command = Command::new("node");
        command.args(["-e", &program, "--", &address.to_string()]).arg(self.folder());
        let client = command.stdout(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
        let output = within("the client to end", client.wait_with_output()).await.unwrap();
        assert!(output.status.success(), "{}", output.status);
        let text = String::from_utf8(output.stdout).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}
