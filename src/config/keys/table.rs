//! The table of configuration keys, in the order of the manual.

use super::{Key, KeyDefault, Place, ValueKind};
use crate::config::Affinity;
use crate::config::protocol::EndpointProtocol;

mod autoscaling;
mod kubernetes;
mod process;
mod tls;

/// Every key of a configuration file.
pub const TABLE: &[Key] = &[
    // Top of the file only.
    Key {
        name: "max_held_total",
        aliases: &[],
        place: Place::Top,
        kind: ValueKind::Number { least: 1, most: 1_000_000 },
        default: KeyDefault::Value("10000"),
        description: "Maximum number of requests held at once over all services. Beyond it a request to a sleeping \
                      service is answered with 503 and `Retry-After`.",
        example: "max_held_total = 20000",
    },
    Key {
        name: "trusted_proxies",
        aliases: &[],
        place: Place::Top,
        kind: ValueKind::Networks,
        default: KeyDefault::Value("[]"),
        description: "Client addresses whose `X-Forwarded-For`, `X-Forwarded-Proto`, `X-Forwarded-Host` and \
                      `Forwarded` fields are trusted and extended. For all other clients these fields are replaced.",
        example: "trusted_proxies = [\"10.0.0.0/8\", \"2001:db8::/32\", \"192.0.2.7\"]",
    },
    Key {
        name: "max_head",
        aliases: &[],
        place: Place::Top,
        kind: ValueKind::Size { least: 1024, most: 1024 * 1024, off: false },
        default: KeyDefault::Value("\"32KiB\""),
        description: "Maximum size of a request head, including the request line. Beyond it the answer is 431.",
        example: "max_head = \"64KiB\"",
    },
    Key {
        name: "max_uri",
        aliases: &[],
        place: Place::Top,
        kind: ValueKind::Size { least: 128, most: 1024 * 1024, off: false },
        default: KeyDefault::Value("\"8KiB\""),
        description: "Maximum length of a request target (path and query). Beyond it the answer is 414. Must be \
                      smaller than `max_head`.",
        example: "max_uri = \"16KiB\"",
    },
    Key {
        name: "max_headers",
        aliases: &[],
        place: Place::Top,
        // The head parser keeps the fields of a head on the stack.
        kind: ValueKind::Number { least: 1, most: 256 },
        default: KeyDefault::Value("100"),
        description: "Maximum number of header fields in a request. Beyond it the answer is 431.",
        example: "max_headers = 64",
    },
    Key {
        name: "head_timeout",
        aliases: &[],
        place: Place::Top,
        kind: ValueKind::Duration { off: false, zero: false },
        default: KeyDefault::Value("\"10s\""),
        description: "Maximum time from the first byte of a request head to its last. Beyond it the answer is 408.",
        example: "head_timeout = \"5s\"",
    },
    Key {
        name: "keep_alive_timeout",
        aliases: &[],
        place: Place::Top,
        kind: ValueKind::Duration { off: false, zero: false },
        default: KeyDefault::Value("\"75s\""),
        description: "How long a client connection is kept open between requests.",
        example: "keep_alive_timeout = \"2m\"",
    },
    Key {
        name: "max_head_memory",
        aliases: &[],
        place: Place::Top,
        kind: ValueKind::Size { least: 64 * 1024, most: 1 << 40, off: false },
        default: KeyDefault::Value("\"16MiB\""),
        description: "Maximum memory for request heads that have not arrived completely, over all connections. Beyond it \
                      the oldest of these requests are answered with 431.",
        example: "max_head_memory = \"64MiB\"",
    },
    Key {
        name: "max_connections",
        aliases: &[],
        place: Place::Top,
        kind: ValueKind::Count { most: 10_000_000 },
        default: KeyDefault::Value("\"off\""),
        description: "Maximum number of open client connections. Beyond it the connection that has been idle for longest is \
                      closed, or the new connection if none is idle. With \"off\" the limit is half of the file descriptors \
                      that agimo may open; the other half is reserved for connections to applications and for the admin port.",
        example: "max_connections = 20000",
    },
    Key {
        name: "record_requests",
        aliases: &[],
        place: Place::Top,
        kind: ValueKind::Boolean,
        default: KeyDefault::Value("true"),
        description: "Whether the records of wakes, the Events in Kubernetes and the line in the log say which request caused a wake: \
                      its method, its path without the query, the client (its network only, /24 or /48; the whole address in the \
                      log) and the kind of its user agent. The last 100 records of each workload are kept in memory. \
                      With `false`, `agimo tap` shows no requests either.",
        example: "record_requests = false",
    },
    Key {
        name: "max_connections_per_address",
        aliases: &[],
        place: Place::Top,
        kind: ValueKind::Count { most: 10_000_000 },
        default: KeyDefault::Value("\"off\""),
        description: "Maximum number of open connections of one client address. Beyond it new ones are closed. \
                      Addresses in `trusted_proxies` have no limit.",
        example: "max_connections_per_address = 500",
    },
    Key {
        name: "max_idle_upstream",
        aliases: &[],
        place: Place::Top,
        kind: ValueKind::Number { least: 1, most: 1_000_000 },
        default: KeyDefault::Value("4096"),
        description: "Maximum number of idle connections to applications over all services.",
        example: "max_idle_upstream = 1000",
    },
    tls::PROXY_PROTOCOL,
    tls::CLIENT_CA,
    tls::CLIENT_CERTIFICATE,
    tls::TICKET_KEY,
    // Certificates for clients.
    tls::CERTIFICATE,
    tls::KEY,
    // Every service, and the top of the file as default.
    Key {
        name: "hold_timeout",
        aliases: &["timeout"],
        place: Place::TopAndServices,
        kind: ValueKind::Duration { off: false, zero: false },
        default: KeyDefault::Value("\"30s\""),
        description: "How long a request may take from its arrival until it is sent to an endpoint: held while its \
                      service is not ready, or looking for an endpoint that accepts a connection. Beyond it the answer is \
                      504. It does not apply to a request that has been forwarded.",
        example: "hold_timeout = \"1m\"",
    },
    Key {
        name: "max_held",
        aliases: &[],
        place: Place::TopAndServices,
        kind: ValueKind::Number { least: 1, most: 1_000_000 },
        default: KeyDefault::Value("1000"),
        description: "Maximum number of requests of one service held at once. Beyond it the answer is 503 with \
                      `Retry-After`.",
        example: "max_held = 200",
    },
    Key {
        name: "max_held_per_address",
        aliases: &[],
        place: Place::TopAndServices,
        kind: ValueKind::Count { most: 1_000_000 },
        default: KeyDefault::Value("\"off\""),
        description: "Maximum number of requests of one client address held at once by a service. Beyond it \
                      the answer is 503 with `Retry-After`. Addresses in `trusted_proxies` have no limit.",
        example: "max_held_per_address = 50",
    },
    Key {
        name: "sleep_after",
        aliases: &[],
        place: Place::TopAndServices,
        kind: ValueKind::Duration { off: false, zero: false },
        default: KeyDefault::Value("\"5m\""),
        description: "Idle time after which the workload is scaled to zero: time without a new request and without \
                      open requests, streams or tunnels.",
        example: "sleep_after = \"15m\"",
    },
    Key {
        name: "awake",
        aliases: &[],
        place: Place::TopAndServices,
        kind: ValueKind::Schedules,
        default: KeyDefault::Value("[]"),
        description: "Weekly times at which the workload is kept awake, whatever its demand. Each has days, hours and a time zone. \
                      agimo wakes the workload when such a time begins. A range may extend past midnight. If several services \
                      share a workload, the times of all of them apply.",
        example: "awake = [\"Mon-Fri 08:00-18:00 Europe/Berlin\", \"Sat 22:00-02:00 UTC\"]",
    },
    Key {
        name: "connect_timeout",
        aliases: &[],
        place: Place::TopAndServices,
        kind: ValueKind::Duration { off: false, zero: false },
        default: KeyDefault::Value("\"5s\""),
        description: "Maximum time to establish a connection to an endpoint. After this time agimo tries another \
                      endpoint, and waits before it tries this one again, longer after each timeout. `hold_timeout` limits it, too.",
        example: "connect_timeout = \"1s\"",
    },
    Key {
        name: "response_timeout",
        aliases: &[],
        place: Place::TopAndServices,
        kind: ValueKind::Duration { off: true, zero: false },
        default: KeyDefault::Value("\"off\""),
        description: "Maximum time from the end of sending the request to the head of the response. Beyond it the \
                      answer is 504. A response that has begun is not cut.",
        example: "response_timeout = \"60s\"",
    },
    Key {
        name: "idle_timeout",
        aliases: &[],
        place: Place::TopAndServices,
        kind: ValueKind::Duration { off: true, zero: false },
        default: KeyDefault::Value("\"off\""),
        description: "Time without a byte in either direction after which a tunnel (WebSocket) or a stream is \
                      closed.",
        example: "idle_timeout = \"1h\"",
    },
    Key {
        name: "half_closed_timeout",
        aliases: &[],
        place: Place::TopAndServices,
        kind: ValueKind::Duration { off: true, zero: false },
        default: KeyDefault::Value("\"1m\""),
        description: "After one side of a tunnel has closed its direction: time without a byte in the other direction \
                      after which the tunnel is closed. It does not apply to a tunnel that is open in both directions.",
        example: "half_closed_timeout = \"10s\"",
    },
    Key {
        name: "body_timeout",
        aliases: &[],
        place: Place::TopAndServices,
        kind: ValueKind::Duration { off: true, zero: false },
        default: KeyDefault::Value("\"1m\""),
        description: "Maximum time without a byte of the request body from the client, before the response has begun. After \
                      this time agimo responds with 408. It applies neither to tunnels nor while agimo waits for the application.",
        example: "body_timeout = \"5m\"",
    },
    Key {
        name: "keep_alive",
        aliases: &[],
        place: Place::TopAndServices,
        kind: ValueKind::KeepAlive,
        default: KeyDefault::Value("\"1m\""),
        description: "Which idle connections to the application are kept for further requests. A duration is how long each may be \
                      idle; a number is how many may be idle for each endpoint (for one minute each); `off` keeps none. agimo \
                      detects an application that serves one connection at a time and keeps no idle connection to it.",
        example: "keep_alive = \"10s\"",
    },
    Key {
        name: "protocol",
        aliases: &[],
        place: Place::TopAndServices,
        kind: ValueKind::OneOf(EndpointProtocol::SPELLINGS),
        default: KeyDefault::Value("\"auto\""),
        description: "What agimo speaks to the application, whatever the client speaks. `h2c` is HTTP/2 without TLS, `https` HTTP/1.1 over \
                      TLS, and `h2` HTTP/2 over TLS. With `auto`, gRPC calls go over HTTP/2, and all other requests by \
                      `appProtocol` of the Service's port: HTTP/2 for `kubernetes.io/h2c` and `grpc`, TLS for `https` and \
                      `kubernetes.io/wss`, otherwise HTTP/1.1. gRPC goes over HTTP/2 with `https`, too. With HTTP/2, a \
                      WebSocket still goes over HTTP/1.1 unless the application offers extended CONNECT (RFC 8441).",
        example: "protocol = \"h2c\"",
    },
    tls::SERVER_NAME,
    tls::CA,
    tls::UPSTREAM_CERTIFICATE,
    tls::UPSTREAM_KEY,
    tls::INSECURE,
    tls::REDIRECT_TO_HTTPS,
    Key {
        name: "affinity",
        aliases: &[],
        place: Place::TopAndServices,
        kind: ValueKind::OneOf(Affinity::SPELLINGS),
        default: KeyDefault::Value("\"off\""),
        description: "Which replica a request goes to. With `cookie`, the one that served the client before, as long as it is \
                      ready: agimo sets the cookie `agimo_affinity`. With `host`, the first label of the request's host is the name \
                      of a pod of a StatefulSet, such as `web-0` in `web-0.example.com`; the key `host` must then be a wildcard. \
                      With `off`, the less loaded of two replicas.",
        example: "affinity = \"cookie\"",
    },
    Key {
        name: "max_body",
        aliases: &[],
        place: Place::TopAndServices,
        kind: ValueKind::Size { least: 1, most: i64::MAX as u64, off: true },
        default: KeyDefault::Value("\"off\""),
        description: "Maximum size of a request body. Beyond it the answer is 413.",
        example: "max_body = \"100MiB\"",
    },
    // Every service.
    Key {
        name: "host",
        aliases: &[],
        place: Place::Services,
        kind: ValueKind::Host,
        default: KeyDefault::Required,
        description: "The host of the requests for this service, without scheme and port. Case is ignored. In \
                      `*.example.com` the `*` stands for exactly one label; an exact host takes precedence over it. \
                      `*` alone is every host that no other service names. An IPv6 address is written in brackets.",
        example: "host = \"example.com\"",
    },
    Key {
        name: "path_prefix",
        aliases: &[],
        place: Place::Services,
        kind: ValueKind::PathPrefix,
        default: KeyDefault::Value("\"/\""),
        description: "The path prefix of the requests for this service. It matches whole segments, and the longest \
                      matching prefix is used: `/api` matches `/api` and `/api/users`, not `/apis`. A trailing \
                      slash is ignored. The path is compared as the client sent it: `//`, `/./` and `%61` are not resolved, \
                      and an application that resolves them may serve such a path as another one. A prefix is no access \
                      control.",
        example: "path_prefix = \"/api\"",
    },
    Key {
        name: "strip_prefix",
        aliases: &[],
        place: Place::Services,
        kind: ValueKind::Boolean,
        default: KeyDefault::Value("false"),
        description: "Whether `path_prefix` is removed from the path before the request is forwarded. agimo then sends the \
                      removed prefix to the application in `X-Forwarded-Prefix`.",
        example: "strip_prefix = true",
    },
    Key {
        name: "type",
        aliases: &[],
        place: Place::Services,
        kind: ValueKind::Type,
        default: KeyDefault::Required,
        description: "The kind of workload behind the service: a Deployment (`deployment` or `deploy`) or a \
                      StatefulSet (`statefulset` or `sts`) in Kubernetes, or local processes (`process`) that agimo \
                      starts itself.",
        example: "type = \"process\"",
    },
    // Annotated workloads.
    kubernetes::ANNOTATIONS,
    kubernetes::MANAGED_BY,
    kubernetes::ALLOWED_HOSTS,
    // Kubernetes workloads.
    kubernetes::NAMESPACE,
    kubernetes::NAME,
    kubernetes::SERVICE_NAME,
    kubernetes::SERVICE_PORT,
    kubernetes::SCALER,
    kubernetes::MODE,
    kubernetes::VIA,
    kubernetes::EARLY_READY,
    kubernetes::CLUSTER_NAMES,
    // The own scaler.
    autoscaling::TARGET_CONCURRENCY,
    autoscaling::TARGET_RATE,
    autoscaling::MIN_REPLICAS,
    autoscaling::MAX_REPLICAS,
    autoscaling::ACTIVATION_REPLICAS,
    autoscaling::STABLE_WINDOW,
    autoscaling::PANIC_WINDOW,
    autoscaling::PANIC_THRESHOLD,
    autoscaling::MAX_SCALE_UP_RATE,
    autoscaling::MAX_SCALE_DOWN_RATE,
    autoscaling::SCALE_DOWN_DELAY,
    autoscaling::SCALE_DOWN_CUTS_TUNNELS,
    // Local processes.
    process::NAME,
    process::COMMAND,
    process::ENV,
    process::WORKDIR,
    process::PORT,
    process::READINESS,
    process::START_TIMEOUT,
    process::STOP_GRACE,
    process::REPLICAS,
];
