//! Writes `docs/configuration.md` from the table of keys.

use super::table::TABLE;
use super::{Key, KeyDefault, Place};

const OPENING: &str = "\
# Configuration

<!-- Written by `agimo schema --markdown` from the table of keys; a test compares the two. -->

agimo reads one TOML file, given by `--conf` or `AGIMO_CONF`. Some keys at the top of the file apply to the whole file.
Each `[[services]]` table is a host (and path prefix) with the workload behind it. Many keys of a service may also be set
at the top of the file, as the default for all services.

`agimo check --conf config.toml` reports every problem of a file at once, each with its line, what is wrong and what to
write, and exits with status 1 if there is one. Unknown keys are errors. `agimo schema` prints the JSON Schema, which is
also in [configuration.schema.json](configuration.schema.json). Editors that use Taplo read it when the file begins with
the line `#:schema ./configuration.schema.json`.

## Values

- A **duration** is a string of numbers with units: `\"500ms\"`, `\"5s\"`, `\"1m30s\"`, `\"2h\"`. The maximum is one year.
- A **size** is a number of bytes, or a string with a unit: `65536`, `\"64KiB\"`, `\"10MB\"` (B, kB, MB, GB, KiB, MiB, GiB).
- `\"off\"` disables a limit, for the keys whose type allows it.

## A complete example

```toml
";

/// Contains every type of service; a test parses it.
const EXAMPLE: &str = "\
# Applies to the whole file.
max_held_total = 20000
trusted_proxies = [\"10.0.0.0/8\", \"2001:db8::/32\"]
max_head = \"64KiB\"

# Defaults for all services.
hold_timeout = \"1m\"
sleep_after = \"15m\"

# A Deployment in Kubernetes.
[[services]]
host = \"example.com\"
type = \"deploy\" # deployment | deploy | statefulset | sts | process
namespace = \"default\"
name = \"example\"
service_name = \"example\"
service_port = 80 # or its name
scaler = \"agimo\" # agimo writes replicas; by default another scaler does, on agimo's metrics

# A local process, for some paths of the same host.
[[services]]
host = \"example.com\"
path_prefix = \"/shop\"
type = \"process\"
command = [\"python3\", \"app.py\"]
workdir = \"/srv/shop\"
env = { DATABASE_URL = \"postgres://localhost/shop\" }
readiness = \"/healthz\"
replicas = 2
max_body = \"100MiB\"

# Any host directly below example.com that no other service names.
[[services]]
host = \"*.example.com\"
type = \"process\"
command = [\"/usr/local/bin/tenants\"]
hold_timeout = \"2m\"
";

const RELOAD: &str = "\
## Reload

agimo reloads the file when it changes, when a symlink on its path is replaced (as Kubernetes does with a mounted
ConfigMap), and on SIGHUP. No connection is closed: open requests, streams and tunnels keep the values they started with.

An invalid file changes nothing. agimo keeps the previous configuration, logs each problem as
`file:line:column: what is wrong; what to write`, and sets the metric `agimo_config_last_reload_successful` to 0 until a
reload succeeds.

When a service is removed from the file, new requests for it are answered with 404, held requests with 503, and open
requests, streams and tunnels finish. Then its processes are stopped.

`/config` on the admin port shows the configuration in use, with every default filled in and the values of environment
variables masked.
";

/// Heading, introduction and places of each section, in the order of the manual.
const SECTIONS: &[(&str, &str, &[Place])] = &[
    (
        "At the top of the file",
        "These keys apply to the whole file. Write them above the first `[[services]]`.",
        &[Place::Top],
    ),
    (
        "In `[[tls]]`",
        "Each table is a certificate with which agimo serves clients over TLS, on the port that `--tls-port` names. The host that the \
         client names decides which one is used; the first one serves all other clients. The files are read again when they \
         change. A file that cannot be used changes nothing: the previous certificate stays in use, and the log says why.",
        &[Place::Tls],
    ),
    (
        "In `[[services]]`, or at the top of the file as default",
        "The value in a service takes precedence over the value at the top.",
        &[Place::TopAndServices],
    ),
    (
        "In `[[services]]`",
        "A file needs at least one service. Two services cannot have the same `host` and `path_prefix`.",
        &[Place::Services],
    ),
    (
        "With `type = \"deployment\"` or `\"statefulset\"`",
        "Several services may lead to the same workload: each of them wakes it, and requests of any of them keep it awake. The \
         longest `sleep_after` of them applies. They must have the same `scaler`.",
        &[Place::Kubernetes],
    ),
    (
        "With `type = \"deployment\"` or `\"statefulset\"`, or at the top of the file as default",
        "At the top of the file they are the default for all services of these types.",
        &[Place::TopAndKubernetes],
    ),
    (
        "With `type = \"process\"`",
        "agimo starts each process in its own process group.",
        &[Place::Processes],
    ),
    (
        "With `type = \"process\"`, or at the top of the file as default",
        "At the top of the file they are the default for all services of this type.",
        &[Place::TopAndProcesses],
    ),
];

pub(super) fn write() -> String {
    let mut manual = format!("{OPENING}{EXAMPLE}```\n\n");
    for (heading, introduction, places) in SECTIONS {
        manual.push_str(&format!("## {heading}\n\n{introduction}\n\n"));
        for key in TABLE.iter().filter(|key| places.contains(&key.place)) {
            manual.push_str(&entry(key));
        }
    }
    manual + RELOAD
}

fn entry(key: &Key) -> String {
    let default = match key.default {
        KeyDefault::Required => "none, the key is required".to_owned(),
        KeyDefault::Described(text) => text.to_owned(),
        KeyDefault::Value(value) => format!("`{value}`"),
    };
    let Key { name, kind, example, .. } = key;
    let description = key.full_description();
    format!(
        "### `{name}`\n\n{description}\n\n- Type: {}\n- Default: {default}\n- Example: `{example}`\n\n",
        kind.description()
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse::parse;

    #[test]
    fn the_committed_manual_is_current() {
        let committed = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/configuration.md"));
        assert!(
            committed == write(),
            "run `cargo run -- schema --markdown > docs/configuration.md`"
        );
    }

    #[test]
    fn every_key_is_in_the_manual_once() {
        let manual = write();
        for key in TABLE {
            let entries = manual.matches(&entry(key)).count();
            assert_eq!(entries, 1, "{}", key.name);
        }
    }

    #[test]
    fn the_complete_example_is_valid() {
        assert_eq!(parse(EXAMPLE).unwrap().services.len(), 3);
    }

    #[test]
    fn every_example_is_valid_where_its_key_is_allowed() {
        const KUBERNETES: &str = "host = 'a'\ntype = 'sts'\nnamespace = 'n'\nname = 'n'\nservice_name = 's'\nservice_port = 1\n";
        const PROCESS: &str = "host = 'a'\ntype = 'process'\ncommand = ['x']\n";
        let with_certificate =
            |file: &str| format!("{file}[[tls]]\ncertificate = 'c'\nkey = 'k'\n");
        for key in TABLE {
            // These two need each other.
            let missing = match key.name {
                "tls_certificate" => "tls_key = 'k'\n",
                "tls_key" => "tls_certificate = 'c'\n",
                _ => "",
            };
            let below = |service: &str| {
                let own = |line: &&str| line.split(' ').next() != Some(key.name);
                let others: Vec<_> = service.lines().filter(own).collect();
                format!("[[services]]\n{}\n{missing}{}\n", key.example, others.join("\n"))
            };
            let top = format!("{}\n{missing}[[services]]\n{PROCESS}", key.example);
            let files = match key.place {
                Place::Top => vec![with_certificate(&top)],
                Place::Tls => vec![with_certificate(&format!("[[services]]\n{PROCESS}"))],
                Place::TopAndServices => vec![top, below(KUBERNETES), below(PROCESS)],
                Place::TopAndProcesses => vec![top, below(PROCESS)],
                Place::Services if key.name == "type" => vec![below(PROCESS)],
                Place::Services => vec![below(KUBERNETES), below(PROCESS)],
                Place::Kubernetes => vec![below(KUBERNETES)],
                Place::TopAndKubernetes => vec![top, below(KUBERNETES)],
                Place::Processes => vec![below(PROCESS)],
            };
            for file in files {
                assert!(parse(&file).is_ok(), "{file}\n{:?}", parse(&file));
            }
        }
    }
}
