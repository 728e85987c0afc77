//! The table of configuration keys, in the order of the manual.

use super::{Key, KeyDefault, Place, ValueKind};
use crate::config::{Scaler, Via};

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
        example: "hold_timeout = \"5s\"",
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
        name: "connect_timeout",
        aliases: &[],
        place: Place::TopAndServices,
        kind: ValueKind::Duration { off: false, zero: false },
        default: KeyDefault::Value("\"5s\""),
        description: "Maximum time to establish a connection to an endpoint. Beyond it another endpoint is tried, and \
                      this one is left alone for longer each time. It never outlasts `hold_timeout`.",
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
                      An IPv6 address is written in brackets.",
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
                      slash is ignored.",
        example: "path_prefix = \"/api\"",
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
    // Kubernetes workloads.
    Key {
        name: "namespace",
        aliases: &[],
        place: Place::Kubernetes,
        kind: ValueKind::DnsLabel,
        default: KeyDefault::Required,
        description: "The namespace of the workload and of its Service.",
        example: "namespace = \"default\"",
    },
    Key {
        name: "name",
        aliases: &[],
        place: Place::Kubernetes,
        kind: ValueKind::DnsName,
        default: KeyDefault::Required,
        description: "The name of the Deployment or StatefulSet.",
        example: "name = \"example\"",
    },
    Key {
        name: "service_name",
        aliases: &[],
        place: Place::Kubernetes,
        kind: ValueKind::DnsLabel,
        default: KeyDefault::Required,
        description: "The name of the Service that selects the pods of the workload.",
        example: "service_name = \"example\"",
    },
    Key {
        name: "service_port",
        aliases: &[],
        place: Place::Kubernetes,
        kind: ValueKind::ServicePort,
        default: KeyDefault::Required,
        description: "The port of that Service, by number or by name. agimo looks up the matching port of each pod, \
                      which may differ from pod to pod.",
        example: "service_port = 80",
    },
    Key {
        name: "scaler",
        aliases: &[],
        place: Place::TopAndKubernetes,
        kind: ValueKind::OneOf(Scaler::SPELLINGS),
        default: KeyDefault::Value("\"external\""),
        description: "Who writes `replicas`. With `external` agimo only reports: KEDA, an HPA or another scaler \
                      reads its metrics and scales the workload. With `agimo` it scales the workload from zero on \
                      the first request, and to zero after `sleep_after`. While several replicas of agimo run, it \
                      does not scale to zero.",
        example: "scaler = \"agimo\"",
    },
    Key {
        name: "via",
        aliases: &[],
        place: Place::TopAndKubernetes,
        kind: ValueKind::OneOf(Via::SPELLINGS),
        default: KeyDefault::Value("\"pod\""),
        description: "Where requests are sent: to the address of a ready `pod`, or to the address of the `service`, \
                      for a service mesh that has to see the Service. Nodes learn of a Service's new endpoints a \
                      little after the pods are ready.",
        example: "via = \"service\"",
    },
    // Local processes.
    Key {
        name: "name",
        aliases: &[],
        place: Place::Processes,
        kind: ValueKind::Text,
        default: KeyDefault::Described("the host, followed by the path prefix"),
        description: "The name of the processes, in the log and in the status. Services with the same `name` lead to the \
                      same processes, which then run as long as any of them needs them.",
        example: "name = \"shop\"",
    },
    Key {
        name: "command",
        aliases: &[],
        place: Place::Processes,
        kind: ValueKind::Command,
        default: KeyDefault::Required,
        description: "The program and its arguments. No shell is involved unless the command names one. `{port}` stands \
                      for the port that the process must listen on, `{host}` for 127.0.0.1. The program must stay in \
                      the foreground. All that it starts is stopped with it.",
        example: "command = [\"python3\", \"-m\", \"http.server\", \"{port}\"]",
    },
    Key {
        name: "env",
        aliases: &[],
        place: Place::Processes,
        kind: ValueKind::Environment,
        default: KeyDefault::Value("{}"),
        description: "Environment variables in addition to agimo's own. Their values are never logged or shown. \
                      `{port}` and `{host}` are replaced as in `command`. agimo sets `PORT` itself.",
        example: "env = { DATABASE_URL = \"postgres://localhost/shop\" }",
    },
    Key {
        name: "workdir",
        aliases: &[],
        place: Place::Processes,
        kind: ValueKind::Directory,
        default: KeyDefault::Described("the working directory of agimo"),
        description: "The working directory of the processes.",
        example: "workdir = \"/srv/shop\"",
    },
    Key {
        name: "port",
        aliases: &[],
        place: Place::Processes,
        kind: ValueKind::Number { least: 1, most: 65535 },
        default: KeyDefault::Described("agimo chooses a free port"),
        description: "The port that a process listens on, at 127.0.0.1 or ::1. agimo always passes the port in the \
                      variable `PORT`. A fixed port serves one process: leave it out when `replicas` is above 1.",
        example: "port = 3000",
    },
    Key {
        name: "readiness",
        aliases: &[],
        place: Place::TopAndProcesses,
        kind: ValueKind::ReadinessCheck,
        default: KeyDefault::Value("\"tcp\""),
        description: "When a process counts as ready: with `tcp`, when its port accepts a connection; with a path, \
                      when `GET` of that path is answered with a status from 200 to 399. The request names the host \
                      of the service. When the process refuses connections later, it is checked again, and restarted \
                      if it does not recover within 5 seconds.",
        example: "readiness = \"/healthz\"",
    },
    Key {
        name: "start_timeout",
        aliases: &[],
        place: Place::TopAndProcesses,
        kind: ValueKind::Duration { off: false, zero: false },
        default: KeyDefault::Value("\"60s\""),
        description: "Maximum time from the start of a process until it is ready. Beyond it the wake fails.",
        example: "start_timeout = \"2m\"",
    },
    Key {
        name: "stop_grace",
        aliases: &[],
        place: Place::TopAndProcesses,
        kind: ValueKind::Duration { off: false, zero: true },
        default: KeyDefault::Value("\"10s\""),
        description: "Time a process has to end after SIGTERM. After that it is killed, with all that it has started. A \
                      new process is started only when the old one has ended.",
        example: "stop_grace = \"30s\"",
    },
    Key {
        name: "replicas",
        aliases: &[],
        place: Place::TopAndProcesses,
        kind: ValueKind::Number { least: 1, most: 1000 },
        default: KeyDefault::Value("1"),
        description: "How many processes run while the service is awake.",
        example: "replicas = 2",
    },
];
