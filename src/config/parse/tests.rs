//! Tests of `parse` with whole files: valid ones, invalid ones, and arbitrary text.

use std::time::Duration;

use proptest::prelude::*;

use super::parse;
use crate::config::report::{line_column, one_line, render};
use crate::config::scaling::{AutoscalingConfig, Mode, Scaler};
use crate::config::{
    Config, KubernetesConfig, KubernetesKind, ReadinessCheck, ServicePort, Via, WorkloadConfig,
};

const SEED: &str = r#"timeout = '5s'
[[services]]
host = "example.com"
type = "deploy" # deployment | deploy | statefulset | sts | process
namespace = "default"
name = "example"
service_name = "example"
service_port = 80
"#;

const PROCESS: &str = "[[services]]\nhost = 'a'\ntype = 'process'\ncommand = ['x']\n";

/// A valid file that contains every kind of value; the mutation test starts from it.
const RICH: &str = r#"trusted_proxies = ["10.0.0.1/8", "::1"]
max_head = "64KiB"
max_body = 1000
readiness = "/up"
[[services]]
host = "*.Example.com."
path_prefix = "/api//"
type = "process"
command = ["sh", '-c', "exec app \u0021"]
env = { A = "b", "C.d" = '''e''' }
workdir = "/srv"
response_timeout = "1m 30s"
max_body = "off"
stop_grace = "0s"
replicas = 0x02
[[services]]
host = "[2001:DB8:0::1]"
type = "process"
command = ["x"]
name = "six"
readiness = "tcp"
port = 3_000
"#;

fn valid(text: &str) -> Config {
    parse(text)
        .unwrap_or_else(|problems| panic!("{}", render("config.toml", text, &problems, false)))
}

/// Each problem as `line: message; help`.
fn problems_of(text: &str) -> Vec<String> {
    let problems = parse(text).expect_err("an invalid file");
    assert!(problems.iter().all(|problem| !problem.help.is_empty()));
    problems
        .iter()
        .map(|problem| one_line("", text, problem))
        .map(|line| line[1..].to_owned())
        .collect()
}

/// The only problem of a process service that has this line.
fn problem_of_key(line: &str) -> String {
    let text = format!("[[services]]\n{line}\n");
    let needed = ["host = 'a'", "type = 'process'", "command = ['x']"];
    let name = line.split(' ').next();
    let others = needed.iter().filter(|other| other.split(' ').next() != name);
    let text = others.fold(text, |text, other| format!("{text}{other}\n"));
    let mut found = problems_of(&text);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].starts_with("2:"), "{found:?}");
    found.remove(0)
}

#[test]
fn the_first_documented_file_is_accepted_unchanged() {
    let config = valid(SEED);
    let [service] = &config.services[..] else { panic!("one service") };
    assert_eq!((service.host.as_str(), service.path_prefix.as_str()), ("example.com", "/"));
    assert_eq!(service.hold_timeout, Duration::from_secs(5));
    let expected = KubernetesConfig {
        autoscaling: AutoscalingConfig::default(),
        kind: KubernetesKind::Deployment,
        namespace: "default".to_owned(),
        name: "example".to_owned(),
        service_name: "example".to_owned(),
        service_port: ServicePort::Number(80),
        scaler: Scaler::External,
        mode: Mode::Enforce,
        via: Via::Pod,
        early_ready: false,
        cluster_names: false,
    };
    assert_eq!(service.workload, WorkloadConfig::Kubernetes(expected));
    for (spelling, kind) in [
        ("deployment", KubernetesKind::Deployment),
        ("statefulset", KubernetesKind::StatefulSet),
        ("sts", KubernetesKind::StatefulSet),
    ] {
        let config = valid(&SEED.replace("\"deploy\"", &format!("'{spelling}'")));
        let WorkloadConfig::Kubernetes(found) = &config.services[0].workload else {
            panic!("{spelling}")
        };
        assert_eq!(found.kind, kind);
    }
}

#[test]
fn values_come_from_the_service_then_the_top_then_the_defaults() {
    let config = valid(RICH);
    assert_eq!(config.trusted_proxies, ["10.0.0.0/8".parse().unwrap(), "::1/128".parse().unwrap()]);
    assert_eq!((config.client.max_head, config.client.max_uri), (65536, 8192));
    let [first, second] = &config.services[..] else { panic!("two services") };
    assert_eq!((first.host.as_str(), first.path_prefix.as_str()), ("*.example.com", "/api"));
    assert_eq!((first.max_body, second.max_body), (None, Some(1000)));
    assert_eq!(first.response_timeout, Some(Duration::from_secs(90)));
    assert_eq!(second.response_timeout, None);
    let (WorkloadConfig::Process(one), WorkloadConfig::Process(other)) =
        (&first.workload, &second.workload)
    else {
        panic!("two processes")
    };
    assert_eq!(one.command, ["sh", "-c", "exec app !"]);
    assert_eq!(one.env["C.d"].0, "e");
    assert_eq!((one.name.as_str(), other.name.as_str()), ("*.example.com/api", "six"));
    assert_eq!(
        (&one.readiness, &other.readiness),
        (&ReadinessCheck::Http("/up".to_owned()), &ReadinessCheck::Tcp)
    );
    assert_eq!((one.replicas, one.port, other.replicas, other.port), (2, None, 1, Some(3000)));
    assert_eq!((one.stop_grace, other.stop_grace), (Duration::ZERO, Duration::from_secs(10)));
    assert_eq!(second.host, "[2001:db8::1]");
}

#[test]
fn all_problems_are_reported_at_once_with_their_line() {
    let text = r#"timeout = 5
max_hed = "64KiB"
trusted_proxies = ["10.0.0.0/8", "10.0.0.0/99"]
[[services]]
host = "Example.com."
type = "process"
command = "python3 -m http.server"
namespace = "x"
port = 3000
replicas = 2
[[services]]
host = "example.com"
type = "deploy"
name = "example"
service_name = "example"
service_port = 99999
sleep_after = "0s"
"#;
    let expected = [
        "1:11: `timeout` = 5 has no unit; write \"5s\"",
        "2:1: unknown key `max_hed`; did you mean `max_head`?",
        "3:34: `trusted_proxies`: \"10.0.0.0/99\" is neither a network nor an address",
        "7:11: `command` must be an array of strings, not a string; write command = [\"python3\", \"-m\", \"http.server\"]",
        "8:1: unknown key `namespace`; `namespace` is only for type = \"deployment\"",
        "9:8: 2 processes cannot share one `port`",
        "11:1: this service has no `namespace`; write, for example, namespace = \"default\"",
        "12:8: host \"example.com\" with path_prefix \"/\" is already used by the service in line 5",
        "16:16: `service_port` = 99999 is out of range; write a number from 1 to 65535",
        "17:15: `sleep_after`: \"0s\" is zero",
    ];
    let found = problems_of(text);
    assert_eq!(found.len(), expected.len(), "{found:#?}");
    for (found, expected) in found.iter().zip(expected) {
        assert!(found.starts_with(expected), "{found}\n{expected}");
    }
}

#[test]
fn an_invalid_value_is_reported_with_its_fix() {
    for (line, part) in [
        ("timeout = '5x'", "is not a duration; write a number and a unit"),
        ("timeout = 'off'", "is not a duration"),
        ("timeout = 1.5", "must be a duration such as"),
        ("idle_timeout = 'of'", "or \"off\""),
        ("idle_timeout = 0", "write \"off\""),
        ("idle_timeout = '0s'", "is zero; write a longer time, such as \"5s\", or \"off\""),
        ("idle_timeout = '1000years'", "is more than a year"),
        ("max_body = 0", "is out of range; write at least 1 byte, or \"off\""),
        ("max_body = -1", "`max_body`: -1 is out of range"),
        ("max_body = '1.5MB'", "write a whole number and a unit"),
        ("max_body = '99999999999GiB'", "is not a size"),
        ("max_held = 0", "write a number from 1 to 1000000"),
        ("max_held = 99999999999999999999999", "is out of range"),
        ("host = 'http://[::1]:80/'", "write only the host: \"[::1]\""),
        ("host = 'a.b/c/'", "write host = \"a.b\" and path_prefix = \"/c\""),
        ("host = 'a.b:80'", "has a port; write \"a.b\""),
        ("host = '::1'", "write \"[::1]\""),
        ("host = '[::1]:80'", "write \"[::1]\""),
        ("host = '[x]'", "is not an IPv6 address"),
        ("host = 'a.*.b'", "the * stands for one whole label"),
        ("readiness = 'http://localhost:3000/healthz?x'", "write only the path: \"/healthz?x\""),
        ("readiness = 'http://localhost'", "write only the path: \"/\""),
        ("keep_alive = 0", "write a number from 1 to"),
        ("affinity = 'ip'", "write \"off\" or \"cookie\" or \"host\""),
        ("affinity = 'host'", "write type = \"statefulset\", or affinity = \"cookie\""),
        ("max_held_per_address = 'none'", "or \"off\""),
        ("strip_prefix = 'yes'", "must be true or false"),
        ("host = 'a.*'", "the * stands for one whole label"),
        ("host = 'bücher.example'", "xn--"),
        ("host = '1.2.3.999'", "is not an IPv4 address"),
        ("host = 'a..b'", "is not a host name"),
        ("host = ''", "is not a host name"),
        ("host = 80", "`host` must be a host name"),
        ("path_prefix = 'api'", "write \"/api\""),
        ("path_prefix = '/a b'", "%20"),
        ("path_prefix = '/a?b'", "has a query or fragment"),
        ("path_prefix = '/a/../b'", "contains a segment . or .."),
        ("type = 'Deploy'", "write type = \"deploy\""),
        ("command = []", "names no program"),
        ("command = ['']", "names no program"),
        ("command = ['x', 1]", "an argument must be a string, not an integer"),
        ("env = { PORT = '1' }", "`PORT` is set by agimo"),
        ("env = { A = 8080 }", "put the value between quotes"),
        ("env = { 'A=B' = '' }", "is not the name of a variable"),
        ("readiness = 'http'", "write \"/http\", or \"tcp\""),
        ("workdir = ''", "write workdir = \"/srv/shop\""),
        ("port = 0", "write a number from 1 to 65535"),
        ("port = '80'", "`port` must be a number from 1 to 65535, not a string"),
        ("max_head = '1KiB'", "write it above the first [[services]]"),
        ("service_port = 80", "remove it"),
        ("scaler = 'agimo'", "remove it"),
    ] {
        let found = problem_of_key(line);
        assert!(found.contains(part), "{line}\n{found}");
    }
}

#[test]
fn conflicting_values_are_reported_with_both_places() {
    let found = problems_of(&format!("max_head = '4KiB'\n{PROCESS}"));
    assert!(found[0].starts_with("1:12: `max_uri` (8192 bytes) is not smaller"), "{found:?}");
    let found = problems_of(&format!("replicas = 3\n{PROCESS}port = 80\n"));
    assert!(found[0].starts_with("6:8: 3 processes cannot share one `port`"), "{found:?}");
    let found =
        problems_of(&format!("{PROCESS}port = 80\n{PROCESS}path_prefix = '/b'\nport = 80\n"));
    assert!(
        found[0].starts_with("11:8: port 80 is already used by the service in line 5"),
        "{found:?}"
    );
    let found =
        problems_of(&format!("{PROCESS}path_prefix = '/b'\n{PROCESS}path_prefix = '/b/'\n"));
    assert!(found[0].starts_with(
        "7:8: host \"a\" with path_prefix \"/b\" is already used by the service in line 2"
    ));
    valid(&format!("{SEED}{}", SEED[15..].replace("example.com", "example.org")));
}

#[test]
fn hold_timeout_and_its_alias_give_the_same_configuration() {
    let file = |top: &str, service: &str| format!("{top} = '7s'\n{PROCESS}{service}");
    let names = ["hold_timeout", "timeout"];
    for name in names {
        let config = valid(&file(name, ""));
        assert_eq!(config, valid(&file("hold_timeout", "")));
        assert_eq!(config.services[0].hold_timeout, Duration::from_secs(7));
        for other in names {
            let config = valid(&file(other, &format!("{name} = '8s'\n")));
            assert_eq!(config.services[0].hold_timeout, Duration::from_secs(8), "{other} {name}");
        }
    }
    let found = problem_of_key("hold_timeout = 5");
    assert!(found.contains("`hold_timeout` = 5 has no unit"), "{found}");
}

#[test]
fn a_key_under_two_names_in_one_table_is_reported_with_both_places() {
    for (first, second) in [("hold_timeout", "timeout"), ("timeout", "hold_timeout")] {
        let both = format!("{first} = '1s'\n{second} = '2s'\n");
        let expected = |line: usize| {
            format!(
                "{}:1: `{second}` and `{first}` are the same key, which is already set in line {line}; \
                 remove one of the two",
                line + 1
            )
        };
        assert_eq!(problems_of(&format!("{both}{PROCESS}")), [expected(1)]);
        assert_eq!(problems_of(&format!("{PROCESS}{both}")), [expected(5)]);
    }
}

#[test]
fn a_file_without_services_says_how_to_write_one() {
    for (text, expected) in [
        ("", "1:1: there is no service: [[services]] is missing; write [[services]], and below it"),
        ("services = []", "1:12: there is no service; write [[services]], and below it"),
        ("services = 1", "1:12: `services` must be an array of tables, not an integer"),
        (
            "[services]\nhost = 'a'",
            "1:1: `services` is one table, not an array of tables; write [[services]]",
        ),
        ("services = [1]", "1:13: a service must be a table, not an integer; begin each service"),
    ] {
        let found = problems_of(text);
        assert!(found.len() == 1 && found[0].starts_with(expected), "{found:?}");
    }
    let found = problems_of("[[service]]\nhost = 'a'");
    assert!(found.iter().any(|line| line.contains("did you mean [[services]]?")), "{found:?}");
}

#[test]
fn syntax_errors_are_reported_together_with_other_problems() {
    let text = "timeout = 5s\nmax_held = 0\n[[services]]\nhost = example.com\ntype = 'process'\ncommand = ['x' 'y']\ntype = 'sts'\n";
    let found = problems_of(text);
    let lines: Vec<_> = found.iter().filter_map(|line| line.split(':').next()).collect();
    assert_eq!(lines, ["1", "2", "4", "6", "7"], "{found:#?}");
    assert!(found[0].contains("put the value between quotes"), "{found:#?}");
    assert!(found[3].contains("comma between the elements"), "{found:#?}");
    assert!(found[4].contains("write each key once"), "{found:#?}");
    for text in [
        "host = \"a",
        "[[services]",
        "a = [1,",
        "a = '''",
        "= 1",
        "a",
        "a = 01",
        "[a",
        "a = {b = 1",
        "a = \"\\q\"",
    ] {
        assert!(problems_of(text)[0].contains("not TOML"), "{text}: {:?}", problems_of(text));
    }
}

#[test]
fn deep_nesting_is_rejected_without_recursion() {
    let text = format!("a = {}", "[".repeat(100_000));
    assert!(!problems_of(&text).is_empty());
}

#[test]
fn no_message_contains_the_value_of_an_environment_variable() {
    let found = problem_of_key("env = { A = \"hunter2\\u0000\" }");
    assert!(!found.contains("hunter2"), "{found}");
    assert!(!format!("{:?}", valid(&format!("{PROCESS}env.A = 'hunter2'\n"))).contains("hunter2"));
}

/// Problems can be rendered, and are in the order of the file.
fn check_problems(text: &str) {
    if let Err(problems) = parse(text) {
        assert!(!problems.is_empty() && !render("f", text, &problems, false).is_empty());
        let lines: Vec<_> =
            problems.iter().map(|problem| line_column(text, problem.span.start)).collect();
        assert!(lines.is_sorted(), "{lines:?}");
    }
}

proptest! {
    #[test]
    fn arbitrary_text_never_panics(text in "(?s).{0,200}") {
        check_problems(&text);
    }

    #[test]
    fn toml_like_text_never_panics(text in "([\\[\\]{}='\",.# \na-e0-9_\\\\]|services|host|type|\\[\\[services\\]\\]\n){0,60}") {
        check_problems(&text);
    }

    #[test]
    fn mutations_of_a_valid_file_never_panic(
        edits in prop::collection::vec((any::<prop::sample::Index>(), 0usize..12, "[\\PC\n]{0,4}"), 1..6),
    ) {
        let mut text: Vec<char> = RICH.chars().collect();
        for (at, removed, inserted) in edits {
            let start = at.index(text.len() + 1);
            let end = (start + removed).min(text.len());
            text.splice(start..end, inserted.chars());
        }
        check_problems(&text.into_iter().collect::<String>());
    }

    #[test]
    fn hosts_are_converted_to_one_form(labels in prop::collection::vec("[a-z0-9_]([a-z0-9-]{0,8}[a-z0-9])?", 0..4), wild: bool, dot: bool) {
        let name = format!("{}{}", if wild { "*." } else { "" }, labels.join(".") + ".Top");
        let name = name.replace("*..", "*.").trim_start_matches('.').to_owned();
        let read = super::names::host(&format!("{name}{}", if dot { "." } else { "" }));
        prop_assert_eq!(&read, &Ok(name.to_lowercase()));
        prop_assert_eq!(super::names::host(&name.to_lowercase()), read);
    }

    #[test]
    fn accepted_names_are_already_in_their_final_form(written in "[ -~é]{0,12}") {
        for read in [super::names::host(&written), super::names::path_prefix(&format!("/{written}"))].into_iter().flatten() {
            let again = if read.starts_with('/') { super::names::path_prefix(&read) } else { super::names::host(&read) };
            prop_assert_eq!(again, Ok(read));
        }
    }
}
