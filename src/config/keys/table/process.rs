//! The keys of local processes.

use crate::config::keys::{Key, KeyDefault, Place, ValueKind};

pub(super) const NAME: Key = Key {
    name: "name",
    aliases: &[],
    place: Place::Processes,
    kind: ValueKind::Text,
    default: KeyDefault::Described("the host, followed by the path prefix"),
    description: "The name of the processes, in the log and in the status. Services with the same `name` lead to the \
                  same processes, which then run as long as any of them needs them.",
    example: "name = \"shop\"",
};

pub(super) const COMMAND: Key = Key {
    name: "command",
    aliases: &[],
    place: Place::Processes,
    kind: ValueKind::Command,
    default: KeyDefault::Required,
    description: "The program and its arguments. No shell is involved unless the command names one. `{port}` stands \
                  for the port that the process must listen on, `{host}` for 127.0.0.1. The program must stay in \
                  the foreground. All that it starts is stopped with it.",
    example: "command = [\"python3\", \"-m\", \"http.server\", \"{port}\"]",
};

pub(super) const ENV: Key = Key {
    name: "env",
    aliases: &[],
    place: Place::Processes,
    kind: ValueKind::Environment,
    default: KeyDefault::Value("{}"),
    description: "Environment variables in addition to agimo's own. Their values are never logged or shown. \
                  `{port}` and `{host}` are replaced as in `command`. agimo sets `PORT` itself.",
    example: "env = { DATABASE_URL = \"postgres://localhost/shop\" }",
};

pub(super) const WORKDIR: Key = Key {
    name: "workdir",
    aliases: &[],
    place: Place::Processes,
    kind: ValueKind::Directory,
    default: KeyDefault::Described("the working directory of agimo"),
    description: "The working directory of the processes.",
    example: "workdir = \"/srv/shop\"",
};

pub(super) const PORT: Key = Key {
    name: "port",
    aliases: &[],
    place: Place::Processes,
    kind: ValueKind::Number { least: 1, most: 65535 },
    default: KeyDefault::Described("agimo chooses a free port"),
    description: "The port that a process listens on, at 127.0.0.1 or ::1. agimo always passes the port in the \
                  variable `PORT`. A fixed port serves one process: leave it out when `replicas` is above 1.",
    example: "port = 3000",
};

pub(super) const READINESS: Key = Key {
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
};

pub(super) const START_TIMEOUT: Key = Key {
    name: "start_timeout",
    aliases: &[],
    place: Place::TopAndProcesses,
    kind: ValueKind::Duration { off: false, zero: false },
    default: KeyDefault::Value("\"60s\""),
    description: "Maximum time from the start of a process until it is ready. Beyond it the wake fails.",
    example: "start_timeout = \"2m\"",
};

pub(super) const STOP_GRACE: Key = Key {
    name: "stop_grace",
    aliases: &[],
    place: Place::TopAndProcesses,
    kind: ValueKind::Duration { off: false, zero: true },
    default: KeyDefault::Value("\"10s\""),
    description: "Time a process has to end after SIGTERM. After that it is killed, with all that it has started. A \
                  new process is started only when the old one has ended.",
    example: "stop_grace = \"30s\"",
};

pub(super) const REPLICAS: Key = Key {
    name: "replicas",
    aliases: &[],
    place: Place::TopAndProcesses,
    kind: ValueKind::Number { least: 1, most: 1000 },
    default: KeyDefault::Value("1"),
    description: "How many processes run while the service is awake.",
    example: "replicas = 2",
};
