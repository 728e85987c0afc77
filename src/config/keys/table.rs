//! The table of keys, in the order of the manual. Words and ranges only; it checks nothing.

use super::{Fallback, Key, Kind, Place};
use crate::config::{Scaler, Via};

/// Every key of a configuration file.
pub const TABLE: &[Key] = &[
    // For the whole file.
    Key {
        name: "max_held_total",
        place: Place::Top,
        kind: Kind::Number { least: 1, most: 1_000_000 },
        fallback: Fallback::Value("10000"),
        meaning: "Most requests held at once over all services. Beyond it a request to a sleeping service is \
                  answered 503 with `Retry-After`.",
        example: "max_held_total = 20000",
    },
    Key {
        name: "trusted_proxies",
        place: Place::Top,
        kind: Kind::Networks,
        fallback: Fallback::Value("[]"),
        meaning: "Peers whose `X-Forwarded-For`, `X-Forwarded-Proto`, `X-Forwarded-Host` and `Forwarded` are \
                  believed and extended. From all others these fields are replaced.",
        example: "trusted_proxies = [\"10.0.0.0/8\", \"2001:db8::/32\", \"192.0.2.7\"]",
    },
    Key {
        name: "max_head",
        place: Place::Top,
        kind: Kind::Size { least: 1024, most: 1024 * 1024, off: false },
        fallback: Fallback::Value("\"32KiB\""),
        meaning: "Largest request head, request line included. Beyond it 431.",
        example: "max_head = \"64KiB\"",
    },
    Key {
        name: "max_uri",
        place: Place::Top,
        kind: Kind::Size { least: 128, most: 1024 * 1024, off: false },
        fallback: Fallback::Value("\"8KiB\""),
        meaning: "Longest request target (path and query). Beyond it 414. Must be smaller than `max_head`.",
        example: "max_uri = \"16KiB\"",
    },
    Key {
        name: "max_headers",
        place: Place::Top,
        // The parser of heads keeps its lines on the stack.
        kind: Kind::Number { least: 1, most: 256 },
        fallback: Fallback::Value("100"),
        meaning: "Most header lines in a request. Beyond it 431.",
        example: "max_headers = 64",
    },
    Key {
        name: "head_timeout",
        place: Place::Top,
        kind: Kind::Duration { off: false, zero: false },
        fallback: Fallback::Value("\"10s\""),
        meaning: "Time a client has from the first byte of a request head to its last. Beyond it 408.",
        example: "head_timeout = \"5s\"",
    },
    Key {
        name: "keep_alive_timeout",
        place: Place::Top,
        kind: Kind::Duration { off: false, zero: false },
        fallback: Fallback::Value("\"75s\""),
        meaning: "How long a client's connection is kept open between requests.",
        example: "keep_alive_timeout = \"2m\"",
    },
    // For every service, with a default at the top.
    Key {
        name: "timeout",
        place: Place::TopAndServices,
        kind: Kind::Duration { off: false, zero: false },
        fallback: Fallback::Value("\"30s\""),
        meaning: "The hold: how long a request waits for a sleeping service. Beyond it 504. It never cuts a \
                  request that has been forwarded.",
        example: "timeout = '5s'",
    },
    Key {
        name: "max_held",
        place: Place::TopAndServices,
        kind: Kind::Number { least: 1, most: 1_000_000 },
        fallback: Fallback::Value("1000"),
        meaning: "Most requests of one service held at once. Beyond it 503 with `Retry-After`.",
        example: "max_held = 200",
    },
    Key {
        name: "sleep_after",
        place: Place::TopAndServices,
        kind: Kind::Duration { off: false, zero: false },
        fallback: Fallback::Value("\"5m\""),
        meaning: "Time without an arrival and without open requests, streams or tunnels after which the workload \
                  is put to sleep.",
        example: "sleep_after = \"15m\"",
    },
    Key {
        name: "connect_timeout",
        place: Place::TopAndServices,
        kind: Kind::Duration { off: false, zero: false },
        fallback: Fallback::Value("\"5s\""),
        meaning: "Time to establish a connection to an endpoint. Beyond it the next endpoint is tried.",
        example: "connect_timeout = \"1s\"",
    },
    Key {
        name: "response_timeout",
        place: Place::TopAndServices,
        kind: Kind::Duration { off: true, zero: false },
        fallback: Fallback::Value("\"off\""),
        meaning: "Time from the request sent to the head of the response. Beyond it 504. A response that has \
                  begun is never cut by it.",
        example: "response_timeout = \"60s\"",
    },
    Key {
        name: "idle_timeout",
        place: Place::TopAndServices,
        kind: Kind::Duration { off: true, zero: false },
        fallback: Fallback::Value("\"off\""),
        meaning: "Time without a byte in either direction after which a tunnel (WebSocket) or a stream is closed.",
        example: "idle_timeout = \"1h\"",
    },
    Key {
        name: "max_body",
        place: Place::TopAndServices,
        kind: Kind::Size { least: 1, most: i64::MAX as u64, off: true },
        fallback: Fallback::Value("\"off\""),
        meaning: "Largest request body. Beyond it 413.",
        example: "max_body = \"100MiB\"",
    },
    // For every service.
    Key {
        name: "host",
        place: Place::Services,
        kind: Kind::Host,
        fallback: Fallback::Required,
        meaning: "The host that requests are for, without scheme and port. Case does not matter. `*.example.com` \
                  stands for one label; an exact host goes before it. An IPv6 address stands in brackets.",
        example: "host = \"example.com\"",
    },
    Key {
        name: "path_prefix",
        place: Place::Services,
        kind: Kind::PathPrefix,
        fallback: Fallback::Value("\"/\""),
        meaning: "The paths of the host that this service answers; whole segments, the longest prefix wins. `/api` \
                  takes `/api` and `/api/users`, not `/apis`. Trailing slashes do not matter.",
        example: "path_prefix = \"/api\"",
    },
    Key {
        name: "type",
        place: Place::Services,
        kind: Kind::Type,
        fallback: Fallback::Required,
        meaning: "What answers: a Deployment (`deployment` or `deploy`) or StatefulSet (`statefulset` or `sts`) in \
                  Kubernetes, or local processes (`process`) that agimo starts itself.",
        example: "type = \"process\"",
    },
    // For Kubernetes.
    Key {
        name: "namespace",
        place: Place::Kubernetes,
        kind: Kind::DnsLabel,
        fallback: Fallback::Required,
        meaning: "The namespace of the workload and of its Service.",
        example: "namespace = \"default\"",
    },
    Key {
        name: "name",
        place: Place::Kubernetes,
        kind: Kind::DnsName,
        fallback: Fallback::Required,
        meaning: "The name of the Deployment or StatefulSet that is scaled.",
        example: "name = \"example\"",
    },
    Key {
        name: "service_name",
        place: Place::Kubernetes,
        kind: Kind::DnsLabel,
        fallback: Fallback::Required,
        meaning: "The name of the Service whose endpoints answer.",
        example: "service_name = \"example\"",
    },
    Key {
        name: "service_port",
        place: Place::Kubernetes,
        kind: Kind::ServicePort,
        fallback: Fallback::Required,
        meaning: "The port of that Service, by its number or its name. The pods' own ports, which may differ from pod \
                  to pod, are found through it.",
        example: "service_port = 80",
    },
    Key {
        name: "scaler",
        place: Place::TopAndKubernetes,
        kind: Kind::OneOf(Scaler::SPELLINGS),
        fallback: Fallback::Value("\"external\""),
        meaning: "Who writes `replicas`. With `external` agimo only reports: KEDA, an HPA or whatever else reads its \
                  metrics wakes the workload and puts it to sleep. With `agimo` it does both itself: it wakes it on the \
                  first request and puts it to sleep after `sleep_after`. While several replicas of agimo run it wakes \
                  and does not put to sleep.",
        example: "scaler = \"agimo\"",
    },
    Key {
        name: "via",
        place: Place::TopAndKubernetes,
        kind: Kind::OneOf(Via::SPELLINGS),
        fallback: Fallback::Value("\"pod\""),
        meaning: "What requests are sent to: the address of a ready `pod`, or that of the `service`, for a service mesh \
                  that must see it. A Service's rules reach the nodes a little after its pods are ready.",
        example: "via = \"service\"",
    },
    // For processes.
    Key {
        name: "name",
        place: Place::Processes,
        kind: Kind::Text,
        fallback: Fallback::Absent("the host"),
        meaning: "Stands before each line that the processes print.",
        example: "name = \"shop\"",
    },
    Key {
        name: "command",
        place: Place::Processes,
        kind: Kind::Command,
        fallback: Fallback::Required,
        meaning: "The program and its arguments. No shell reads them: where you need one, name it.",
        example: "command = [\"python3\", \"app.py\"]",
    },
    Key {
        name: "env",
        place: Place::Processes,
        kind: Kind::Environment,
        fallback: Fallback::Value("{}"),
        meaning: "Environment variables besides agimo's own. Their values are never shown. `PORT` is set by agimo.",
        example: "env = { DATABASE_URL = \"postgres://localhost/shop\" }",
    },
    Key {
        name: "workdir",
        place: Place::Processes,
        kind: Kind::Folder,
        fallback: Fallback::Absent("the folder agimo was started in"),
        meaning: "The folder the processes are started in.",
        example: "workdir = \"/srv/shop\"",
    },
    Key {
        name: "port",
        place: Place::Processes,
        kind: Kind::Number { least: 1, most: 65535 },
        fallback: Fallback::Absent("agimo picks a free one"),
        meaning: "The port a process listens on, at 127.0.0.1. Either way it is told in the variable `PORT`. A fixed \
                  port is for one process: with `replicas` above 1 leave it out.",
        example: "port = 3000",
    },
    Key {
        name: "readiness",
        place: Place::TopAndProcesses,
        kind: Kind::Readiness,
        fallback: Fallback::Value("\"tcp\""),
        meaning: "When a process counts as ready: `tcp` when its port accepts a connection, a path when `GET` of it \
                  answers with a status from 200 to 399.",
        example: "readiness = \"/healthz\"",
    },
    Key {
        name: "start_timeout",
        place: Place::TopAndProcesses,
        kind: Kind::Duration { off: false, zero: false },
        fallback: Fallback::Value("\"60s\""),
        meaning: "Time from the start of a process to ready. Beyond it the wake has failed.",
        example: "start_timeout = \"2m\"",
    },
    Key {
        name: "stop_grace",
        place: Place::TopAndProcesses,
        kind: Kind::Duration { off: false, zero: true },
        fallback: Fallback::Value("\"10s\""),
        meaning: "Time a process has from SIGTERM to end by itself; then it is killed.",
        example: "stop_grace = \"30s\"",
    },
    Key {
        name: "replicas",
        place: Place::TopAndProcesses,
        kind: Kind::Number { least: 1, most: 1000 },
        fallback: Fallback::Value("1"),
        meaning: "How many processes run while the service is awake.",
        example: "replicas = 2",
    },
];
