//! Writes `docs/configuration.md` from the table of keys. It is called to make and to compare that file, never to serve.

use super::table::TABLE;
use super::{Fallback, Key, Place};

const OPENING: &str = "\
# Configuration

<!-- Written by `agimo schema --markdown` from the table of keys; a test compares the two. -->

agimo reads one TOML file, named by `--conf` or `AGIMO_CONF`. A few keys at the top are for the whole file; each
`[[services]]` is a host (and path prefix) with the workload behind it. Many keys of a service may also stand at the top:
there they are the default of all services.

`agimo check --conf config.toml` says everything that is wrong with a file at once, each with its line, what is wrong and
what to write, and ends with exit status 1. Unknown keys are refused. `agimo schema` prints the JSON Schema, which is also
in [configuration.schema.json](configuration.schema.json); editors that know Taplo take it from a first line
`#:schema ./configuration.schema.json`.

## How values are written

- A **duration** is a string of numbers with units: `\"500ms\"`, `\"5s\"`, `\"1m30s\"`, `\"2h\"`; at most a year.
- A **size** is a number of bytes, or a string with a unit: `65536`, `\"64KiB\"`, `\"10MB\"` (B, kB, MB, GB, KiB, MiB, GiB).
- `\"off\"` switches off what a key limits, where its type says so.

## A complete example

```toml
";

/// Uses every kind of service; a test reads it.
const EXAMPLE: &str = "\
# For the whole file.
max_held_total = 20000
trusted_proxies = [\"10.0.0.0/8\", \"2001:db8::/32\"]
max_head = \"64KiB\"

# Defaults of all services.
timeout = '5s'
sleep_after = \"15m\"

# A Deployment in Kubernetes.
[[services]]
host = \"example.com\"
type = \"deploy\" # deployment | deploy | statefulset | sts | process
namespace = \"default\"
name = \"example\"
service_name = \"example\"
service_port = 80 # or its name
scaler = \"agimo\" # agimo itself writes replicas; without it, whatever reads its metrics

# A program on this machine, for some paths of the same host.
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

# Any host of one label below example.com that is not named elsewhere.
[[services]]
host = \"*.example.com\"
type = \"process\"
command = [\"/usr/local/bin/tenants\"]
timeout = \"1m\"
";

const RELOAD: &str = "\
## Reload

The file is read again when it changes, when the directory's symlink is swapped (as Kubernetes does with a mounted
ConfigMap), and on SIGHUP. No connection is touched: requests, streams and tunnels that are open go on under the values
they began with.

A wrong file changes nothing. The configuration that was read before goes on serving, the log names each problem as
`file:line:column: what is wrong; what to write`, and the metric `agimo_config_last_reload_successful` is 0 until a file
was right again.

A service that is no longer in the file is taken no more: requests held for it are answered 503, streams that run end by
themselves, and then its processes are stopped.

What is in force, every default filled in and the values of environment variables masked, is at `/config` of the admin
port.
";

/// The headings, in the order of the file.
const SECTIONS: &[(&str, &str, &[Place])] = &[
    ("For the whole file", "These stand above the first `[[services]]`.", &[Place::Top]),
    (
        "For every service, or at the top as default",
        "A service's own value goes before that at the top.",
        &[Place::TopAndServices],
    ),
    (
        "In `[[services]]`",
        "At least one service must be there. Two services cannot have the same `host` and `path_prefix`.",
        &[Place::Services],
    ),
    (
        "With `type = \"deployment\"` or `\"statefulset\"`",
        "Several services may name the same workload.",
        &[Place::Kubernetes],
    ),
    (
        "With `type = \"deployment\"` or `\"statefulset\"`, or at the top as default",
        "At the top they are the default of all services of these types.",
        &[Place::TopAndKubernetes],
    ),
    (
        "With `type = \"process\"`",
        "Local processes, started by agimo in a process group of their own.",
        &[Place::Processes],
    ),
    (
        "With `type = \"process\"`, or at the top as default",
        "At the top they are the default of all services of this type.",
        &[Place::TopAndProcesses],
    ),
];

pub(super) fn write() -> String {
    let mut manual = format!("{OPENING}{EXAMPLE}```\n\n");
    for (heading, words, places) in SECTIONS {
        manual.push_str(&format!("## {heading}\n\n{words}\n\n"));
        for key in TABLE.iter().filter(|key| places.contains(&key.place)) {
            manual.push_str(&entry(key));
        }
    }
    manual + RELOAD
}

fn entry(key: &Key) -> String {
    let fallback = match key.fallback {
        Fallback::Required => "none: it must be there".to_owned(),
        Fallback::Absent(words) => words.to_owned(),
        Fallback::Value(value) => format!("`{value}`"),
    };
    let Key { name, kind, meaning, example, .. } = key;
    format!(
        "### `{name}`\n\n{meaning}\n\n- Type: {}\n- Default: {fallback}\n- Example: `{example}`\n\n",
        kind.words()
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
    fn the_complete_example_is_right() {
        assert_eq!(parse(EXAMPLE).unwrap().services.len(), 3);
    }

    #[test]
    fn every_example_is_right_where_it_belongs() {
        const KUBERNETES: &str = "host = 'a'\ntype = 'sts'\nnamespace = 'n'\nname = 'n'\nservice_name = 's'\nservice_port = 1\n";
        const PROCESS: &str = "host = 'a'\ntype = 'process'\ncommand = ['x']\n";
        for key in TABLE {
            let below = |service: &str| {
                let own = |line: &&str| line.split(' ').next() != Some(key.name);
                let others: Vec<_> = service.lines().filter(own).collect();
                format!("[[services]]\n{}\n{}\n", key.example, others.join("\n"))
            };
            let top = format!("{}\n[[services]]\n{PROCESS}", key.example);
            let files = match key.place {
                Place::Top => vec![top],
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
