//! `/api/v1` on the admin port, and the commands that read it.

use std::io::Write;
use std::process::{Output, Stdio};

use serde_json::Value;
use tokio::process::Command;

use crate::support::agimo::Agimo;
use crate::support::python::PythonApplication;
use crate::support::{eventually, within};

const AGIMO: &str = env!("CARGO_BIN_EXE_agimo");

/// An agimo whose application was woken by a request with curl's name, and put to sleep again.
async fn woken_once(key: &str) -> Agimo {
    let application = PythonApplication::new("a.test").key("sleep_after = \"50ms\"");
    let agimo = Agimo::with(format!("{key}\n{}", application.service())).start().await;
    let mut client = agimo.connect().await;
    client
        .send("GET /cart?secret=1 HTTP/1.1\r\nHost: a.test\r\nUser-Agent: curl/8.14.1\r\n\r\n")
        .await;
    assert_eq!(client.response().await.status, 200);
    agimo.until_sleep_count("a.test", 1).await;
    agimo
}

async fn json(agimo: &Agimo, path: &str) -> Value {
    let response = agimo.admin(path).await;
    assert_eq!(response.status, 200, "{}", response.text());
    assert_eq!(response.header("content-type"), Some("application/json"));
    serde_json::from_str(&response.text()).unwrap()
}

/// The records of a.test once there are so many, newest first.
async fn records(agimo: &Agimo, count: usize) -> Vec<Value> {
    eventually("the records", || async {
        let answer = json(agimo, "/api/v1/wakes?host=a.test").await;
        let records = answer["records"].as_array().unwrap().clone();
        (records.len() == count).then_some(records)
    })
    .await
}

async fn command(agimo: &Agimo, arguments: &[&str]) -> Output {
    let mut command = Command::new(AGIMO);
    command.args(arguments).args(["--admin", &format!("http://{}", agimo.admin)]);
    within("the command to end", command.stdin(Stdio::null()).output()).await.unwrap()
}

#[tokio::test]
async fn a_wake_is_recorded_with_its_request_and_its_phases() {
    let agimo = woken_once("").await;
    let records = records(&agimo, 2).await;
    assert_eq!((&records[0]["kind"], &records[0]["by"]), (&"sleep".into(), &"idle".into()));
    let wake = &records[1];
    assert_eq!((&wake["kind"], &wake["outcome"]), (&"wake".into(), &"answered".into()));
    let request = &wake["cause"]["request"];
    assert_eq!(
        (&request["method"], &request["path"], &request["network"], &request["client_kind"]),
        (&"GET".into(), &"/cart".into(), &"127.0.0.0/24".into(), &"command line".into())
    );
    let phases: Vec<_> =
        wake["phases"].as_array().unwrap().iter().map(|phase| &phase["phase"]).collect();
    assert_eq!(phases, ["started", "ready", "connected", "forwarded", "answered"]);
    let times = wake["phases"].as_array().unwrap().iter();
    let times: Vec<_> = times.map(|phase| phase["after_ms"].as_f64().unwrap()).collect();
    assert!(times.is_sorted() && times[0] > 0.0, "{times:?}");
}

#[tokio::test]
async fn a_wake_is_recorded_without_its_request_where_the_configuration_says_so() {
    let agimo = woken_once("record_requests = false").await;
    let wake = &records(&agimo, 2).await[1];
    assert_eq!(wake["cause"]["service"], "a.test");
    assert_eq!(wake["cause"]["request"], Value::Null);
    let everything = agimo.log().join("\n") + &agimo.admin("/api/v1/wakes").await.text();
    assert!(everything.contains("waking the workload"));
    assert!(!everything.contains("/cart"), "{everything}");
}

#[tokio::test]
async fn a_failed_wake_is_recorded_with_the_reason() {
    let application = PythonApplication::new("a.test").env("EXIT", 7);
    let agimo = Agimo::with(application.service()).start().await;
    assert_eq!(agimo.get("a.test", "/").await.status, 503);
    let records = records(&agimo, 1).await;
    assert_eq!(records[0]["outcome"], "failed");
    assert_eq!(records[0]["failure"]["reason"], "wake-exited");
    let services = json(&agimo, "/api/v1/services").await;
    let service = &services["services"][0];
    assert_eq!((&service["host"], &service["state"]), (&"a.test".into(), &"failing".into()));
    assert_eq!(service["last_failure"]["reason"], "wake-exited");
    assert_eq!(service["last_wake"]["outcome"], "failed");
}

#[tokio::test]
async fn services_are_found_by_host_and_path() {
    let service = |host: &str, prefix: &str| {
        PythonApplication::new(host).key(&format!("path_prefix = '{prefix}'")).service()
    };
    let configuration = [("a.test", "/"), ("a.test", "/api"), ("*.b.test", "/")]
        .map(|(host, prefix)| service(host, prefix))
        .concat();
    let agimo = Agimo::with(configuration).start().await;
    let found = async |wanted: &str| {
        let answer = json(&agimo, &format!("/api/v1/services?host={wanted}")).await;
        let name = |service: &Value| {
            [&service["host"], &service["path_prefix"]].map(|part| part.as_str().unwrap()).concat()
        };
        answer["services"].as_array().unwrap().iter().map(name).collect::<Vec<_>>()
    };
    assert_eq!(found("A.test").await, ["a.test/", "a.test/api"]);
    assert_eq!(found("a.test/api/x").await, ["a.test/api"]);
    assert_eq!(found("a.test/x").await, ["a.test/"]);
    assert_eq!(found("x.b.test").await, ["*.b.test/"]);
    for (path, status, problem) in [
        ("services?host=c.test", 404, "no service of the configuration has the host `c.test`"),
        ("services?limit=1", 400, "`limit` is no parameter of this path; write host"),
        ("wakes?limit=0", 400, "`limit` is a number from 1 to 10000, not `0`"),
        (
            "config?host=a.test",
            400,
            "`host` is no parameter of this path; nothing is asked for here",
        ),
        ("nothing", 404, "there are /api/v1/services"),
    ] {
        let response = agimo.admin(&format!("/api/v1/{path}")).await;
        let answer: Value = serde_json::from_str(&response.text()).unwrap();
        let error = answer["error"].as_str().unwrap();
        assert!((response.status, error.starts_with(problem)) == (status, true), "{path}: {error}");
    }
}

#[tokio::test]
async fn status_shows_each_service_and_what_woke_it_last() {
    let agimo = woken_once("").await;
    records(&agimo, 2).await;
    let output = command(&agimo, &["status"]).await;
    let text = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split("   ").collect()).collect();
    let cells = |line: usize| {
        lines[line]
            .iter()
            .map(|cell| cell.trim())
            .filter(|cell| !cell.is_empty())
            .collect::<Vec<_>>()
    };
    let heading = ["HOST", "STATE", "READY", "OPEN", "HELD", "SLEEP AFTER", "SCALER", "LAST WAKE"];
    assert_eq!(cells(0), heading, "{text}");
    assert_eq!(cells(1)[..5], ["a.test", "asleep", "0", "0", "0"], "{text}");
    assert!(cells(1)[7].contains(" ago, "), "{text}");
    let output = command(&agimo, &["status", "--output", "json"]).await;
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(answer["services"][0]["host"], "a.test");
}

#[tokio::test]
async fn why_explains_a_cold_start_phase_by_phase() {
    let agimo = woken_once("").await;
    records(&agimo, 2).await;
    let output = command(&agimo, &["why", "a.test"]).await;
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("process a.test  put to sleep after "), "{text}");
    let woken = "woken by GET /cart from 127.0.0.0/24 (command line) for a.test: answered";
    assert!(text.contains(woken), "{text}");
    let phases = text.lines().filter(|line| line.contains('█'));
    let phases: Vec<_> = phases.map(|line| line.split_whitespace().next().unwrap()).collect();
    assert_eq!(phases, ["started", "ready", "connected", "forwarded", "answered"], "{text}");
}

#[tokio::test]
async fn savings_count_replicas_that_did_not_run_while_a_workload_was_asleep() {
    let asleep = PythonApplication::new("asleep.test").service();
    let awake = PythonApplication::new("awake.test").service();
    let agimo = Agimo::with(asleep + &awake).start().await;
    assert_eq!(agimo.get("awake.test", "/").await.status, 200);
    let saved = eventually("the first count", || async {
        let saved = json(&agimo, "/api/v1/savings").await;
        (saved["total"]["replica_hours"].as_f64() > Some(0.0)).then_some(saved)
    })
    .await;
    let of = |host: &str, field: &str| {
        let workloads = saved["workloads"].as_array().unwrap();
        let found = workloads.iter().find(|saved| saved["workload"] == format!("process {host}"));
        found.unwrap()[field].as_f64().unwrap()
    };
    assert_eq!((of("asleep.test", "asleep_share"), of("awake.test", "asleep_share")), (1.0, 0.0));
    assert_eq!(
        (of("awake.test", "replica_hours"), of("asleep.test", "cpu_core_hours")),
        (0.0, 0.0)
    );
    let labels = "{kind=\"process\",namespace=\"\",name=\"asleep.test\"}";
    let seconds =
        agimo.metric(&format!("agimo_saved_replica_seconds_total{labels}")).await.unwrap();
    assert!(seconds >= of("asleep.test", "replica_hours") * 3_600.0 - 0.01, "{seconds}");
    let output = command(&agimo, &["savings", "asleep.test"]).await;
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("process asleep.test   100 %"), "{text}");
    assert!(!text.contains("awake.test") && text.contains("requests of pods that did not run"));
}

#[tokio::test]
async fn a_bug_report_has_what_a_maintainer_asks_for_and_no_secret() {
    let application = PythonApplication::new("a.test").env("PASSWORD", "hunter2");
    let agimo = Agimo::with(application.service()).start().await;
    assert_eq!(agimo.get("a.test", "/cart?token=hunter2").await.status, 200);
    let file = agimo.folder.path().join("report.json");
    let output = command(&agimo, &["bugreport", "--output", file.to_str().unwrap()]).await;
    let notice = String::from_utf8(output.stdout).unwrap();
    assert!(notice.contains("Look at it before you send it."), "{notice}");
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(!text.contains("hunter2"), "{text}");
    let report: Value = serde_json::from_str(&text).unwrap();
    let pages = report["pages"].as_object().unwrap();
    assert_eq!(pages["/api/v1/services"]["services"][0]["state"], "awake");
    assert!(pages["/metrics"].as_str().unwrap().contains("agimo_build_info"));
    assert!(pages.values().all(|page| page["problem"].is_null()), "{text}");
}

#[tokio::test]
async fn tap_shows_requests_as_they_end_without_their_secrets() {
    let services =
        [PythonApplication::new("a.test").service(), PythonApplication::new("b.test").service()];
    let mut token = tempfile::NamedTempFile::new().unwrap();
    token.write_all(b"the token of the operators").unwrap();
    let token = token.path().to_str().unwrap();
    let agimo = Agimo::with(services.concat()).arguments(&["--admin-tokens", token]).start().await;
    assert_eq!(agimo.admin("/api/v1/requests").await.status, 401);
    let mut tap = Command::new(AGIMO);
    tap.args(["tap", "a.test", "--status", "2xx", "--number", "2", "--token-file", token]);
    tap.args(["--admin", &format!("http://{}", agimo.admin)]);
    tap.stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true);
    let tap = tap.spawn().unwrap();
    // Requests that end before the command watches are not shown.
    let tapped = tokio::spawn(tap.wait_with_output());
    let output = within("two requests to be shown", async {
        while !tapped.is_finished() {
            assert_eq!(agimo.get("b.test", "/").await.status, 200);
            let mut client = agimo.connect().await;
            client
                .send("GET /cart?secret=1 HTTP/1.1\r\nHost: a.test\r\nUser-Agent: curl/8.14.1\r\n\r\n")
                .await;
            assert_eq!(client.response().await.status, 200);
        }
        tapped.await.unwrap().unwrap()
    })
    .await;
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(text.lines().count(), 2, "{text}");
    for line in text.lines() {
        let parts = ["  200  ", " GET a.test/cart  ", "from 127.0.0.0/24 (command line)"];
        assert!(parts.iter().all(|part| line.contains(part)), "{text}");
    }
    assert!(!text.contains("secret"), "{text}");

    let agimo = Agimo::with("record_requests = false\n".to_owned() + &services[0]);
    let agimo = agimo.arguments(&["--admin-tokens", token]).start().await;
    let refused = command(&agimo, &["tap", "--token-file", token]).await;
    let error = String::from_utf8(refused.stderr).unwrap();
    assert!(error.contains("`record_requests = false` is configured"), "{error}");
}

#[tokio::test]
async fn bash_completes_commands_and_the_hosts_of_a_running_agimo() {
    let services = ["shop.test", "shop-admin.test", "blog.test"]
        .map(|host| PythonApplication::new(host).service());
    let agimo = Agimo::with(services.concat()).start().await;
    let folder = std::path::Path::new(AGIMO).parent().unwrap();
    let complete = async |words: &str| {
        let script = format!(
            "PATH={}:$PATH; source <(agimo completions bash); COMP_WORDS=({words}); \
             COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); COMP_TYPE=9; \
             _clap_complete_agimo agimo \"${{COMP_WORDS[COMP_CWORD]}}\" agimo; echo \"${{COMPREPLY[*]}}\"",
            folder.display()
        );
        let mut bash = Command::new("bash");
        bash.args(["-c", &script]).env("AGIMO_ADMIN", format!("http://{}", agimo.admin));
        let output = within("bash", bash.output()).await.unwrap();
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    assert_eq!(complete("agimo stat").await, "status");
    assert_eq!(complete("agimo why shop").await, "shop.test shop-admin.test");
    assert_eq!(complete("agimo wake b").await, "blog.test");
    assert_eq!(complete("agimo why x").await, "");
}

#[tokio::test]
async fn a_command_that_finds_no_agimo_or_no_such_host_says_so() {
    let agimo = Agimo::with(PythonApplication::new("a.test").service()).start().await;
    let output = command(&agimo, &["why", "b.test"]).await;
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(error, "agimo: no service of the configuration has the host `b.test`\n");
    assert!(!output.status.success() && output.stdout.is_empty());
    let port = super::process::free_port();
    let address = format!("http://127.0.0.1:{port}");
    let output = Command::new(AGIMO).args(["status", "--admin", &address]).output().await.unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.contains(&address) && error.contains("--admin"), "{error}");
    assert!(!output.status.success());
}
