//! What the clients of each row speak, and how much they ask for.

/// What the clients of one table speak, and to which application.
#[derive(Clone, Copy)]
pub(super) struct Scenario {
    pub(super) title: &'static str,
    pub(super) client: ClientProtocol,
    /// nginx with HTTP/2 or with large bodies; otherwise the small origin with HTTP/1.1.
    pub(super) application: Application,
    pub(super) path: &'static str,
    /// Of the request, in bytes.
    pub(super) body: usize,
    pub(super) loads: &'static [Load],
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum ClientProtocol {
    Http1,
    Http2,
    HttpsWithHttp1,
    HttpsWithHttp2,
    /// gRPC calls over HTTP/2.
    Grpc,
    /// TLS 1.3 without a request.
    Handshake,
    /// TLS 1.2 with a session of before, without a request. OpenSSL's client gets no ticket of TLS 1.3 without a request.
    ResumedHandshake,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Application {
    Small,
    Nginx,
    NginxWithHttp2,
}

/// The client of one row.
#[derive(Clone, Copy, Debug)]
pub(super) struct Load {
    pub(super) connections: u32,
    /// Requests that are open at once on each connection.
    pub(super) streams: u32,
    pub(super) requests: u32,
    /// Requests per second on each connection; without it, as many as there are responses.
    pub(super) rate: Option<u32>,
}

const fn load(connections: u32, streams: u32, requests: u32) -> Load {
    Load { connections, streams, requests, rate: None }
}

/// Few connections with many streams, as of a proxy in front, and many with one, as of browsers.
pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        title: "HTTP/1.1",
        client: ClientProtocol::Http1,
        application: Application::Small,
        path: "/",
        body: 0,
        loads: &[load(1, 1, 5_000), load(64, 1, 30_000), load(512, 1, 30_000)],
    },
    Scenario {
        title: "HTTP/2",
        client: ClientProtocol::Http2,
        application: Application::Small,
        path: "/",
        body: 0,
        loads: &[load(1, 1, 5_000), load(8, 32, 30_000), load(64, 1, 30_000), load(512, 1, 30_000)],
    },
    Scenario {
        title: "HTTPS, HTTP/1.1",
        client: ClientProtocol::HttpsWithHttp1,
        application: Application::Small,
        path: "/",
        body: 0,
        loads: &[load(1, 1, 5_000), load(64, 1, 30_000), load(512, 1, 30_000)],
    },
    Scenario {
        title: "HTTPS, HTTP/2",
        client: ClientProtocol::HttpsWithHttp2,
        application: Application::Small,
        path: "/",
        body: 0,
        loads: &[load(1, 1, 5_000), load(8, 32, 30_000), load(64, 1, 30_000), load(512, 1, 30_000)],
    },
    Scenario {
        title: "TLS 1.3 handshakes",
        client: ClientProtocol::Handshake,
        application: Application::Small,
        path: "/",
        body: 0,
        loads: &[load(1, 1, 0), load(64, 1, 0)],
    },
    Scenario {
        title: "resumed TLS 1.2 handshakes",
        client: ClientProtocol::ResumedHandshake,
        application: Application::Small,
        path: "/",
        body: 0,
        loads: &[load(1, 1, 0), load(64, 1, 0)],
    },
    Scenario {
        title: "unary gRPC calls, application with HTTP/2",
        client: ClientProtocol::Grpc,
        application: Application::NginxWithHttp2,
        path: "/grpc.Service/Call",
        body: 21,
        loads: &[load(1, 1, 5_000), load(8, 32, 30_000), load(64, 1, 30_000), load(512, 1, 30_000)],
    },
    Scenario {
        title: "responses of 1 MiB, HTTP/1.1",
        client: ClientProtocol::Http1,
        application: Application::Nginx,
        path: "/mebibyte",
        body: 0,
        loads: &[load(1, 1, 500), load(64, 1, 1_000), load(512, 1, 1_024)],
    },
    Scenario {
        title: "responses of 1 MiB, HTTP/2",
        client: ClientProtocol::Http2,
        application: Application::Nginx,
        path: "/mebibyte",
        body: 0,
        loads: &[load(1, 1, 500), load(64, 1, 1_000), load(512, 1, 1_024)],
    },
    Scenario {
        title: "responses of 1 MiB, HTTPS, HTTP/1.1",
        client: ClientProtocol::HttpsWithHttp1,
        application: Application::Nginx,
        path: "/mebibyte",
        body: 0,
        loads: &[load(1, 1, 250), load(64, 1, 512), load(512, 1, 1_024)],
    },
    Scenario {
        title: "requests of 1 MiB, HTTP/1.1",
        client: ClientProtocol::Http1,
        application: Application::Nginx,
        path: "/upload",
        body: 1 << 20,
        loads: &[load(1, 1, 250), load(64, 1, 512), load(512, 1, 1_024)],
    },
    Scenario {
        title: "requests of 1 MiB, HTTP/2",
        client: ClientProtocol::Http2,
        application: Application::Nginx,
        path: "/upload",
        body: 1 << 20,
        loads: &[load(1, 1, 250), load(64, 1, 512), load(512, 1, 1_024)],
    },
];

// === impl Scenario ===

impl Scenario {
    pub(super) fn has_requests(&self) -> bool {
        !matches!(self.client, ClientProtocol::Handshake | ClientProtocol::ResumedHandshake)
    }
}

// === impl Load ===

impl Load {
    /// The same load with about so many requests per second in all, for about a second.
    pub(super) fn at_rate(self, rate: f64) -> Self {
        let each = (rate / f64::from(self.connections)).floor().max(1.0) as u32;
        let requests = self.requests.min(each * self.connections);
        Self { requests, rate: Some(each), ..self }
    }
}

impl std::fmt::Display for Load {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} x {}", self.connections, self.streams)?;
        match self.rate {
            Some(rate) => write!(f, " at {}/s", rate * self.connections),
            None => Ok(()),
        }
    }
}
