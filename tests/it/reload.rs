//! Reloading: what changes takes effect, what has not changed is not touched, and a wrong file changes nothing.

use rustix::process::{Pid, Signal, test_kill_process};

use crate::support::agimo::Agimo;
use crate::support::client::Client;
use crate::support::eventually;
use crate::support::python::Python;

const SUCCESSFUL: &str = "agimo_config_last_reload_successful";

async fn answers(agimo: &Agimo, host: &str, status: u16) {
    eventually(&format!("{status} from {host}"), || async {
        (agimo.get(host, "/").await.status == status).then_some(())
    })
    .await;
}

/// A stream that has begun and goes on.
async fn stream(agimo: &Agimo, host: &str) -> Client {
    let mut client = agimo.connect().await;
    client.send(format!("GET /stream HTTP/1.1\r\nHost: {host}\r\n\r\n")).await;
    client.until("begin").await;
    client
}

async fn pid(agimo: &Agimo, host: &str) -> Pid {
    let response = agimo.get(host, "/pid").await;
    assert_eq!(response.status, 200, "{}", response.head);
    Pid::from_raw(response.text().parse().unwrap()).unwrap()
}

/// A service that never becomes ready.
fn never_ready(host: &str) -> String {
    format!(
        "[[services]]\nhost = \"{host}\"\ntype = \"process\"\ncommand = [\"sleep\", \"1000\"]\n"
    )
}

#[tokio::test]
async fn a_changed_file_is_taken_over_without_touching_what_runs() {
    let a = Python::at("a.test").service();
    let agimo = Agimo::with(a.clone()).start().await;
    let mut kept = agimo.connect().await;
    kept.send("GET /pid HTTP/1.1\r\nHost: a.test\r\n\r\n").await;
    let before = kept.response().await.text();
    let mut stream = stream(&agimo, "a.test").await;
    assert_eq!(agimo.get("b.test", "/").await.status, 404);
    agimo.reconfigure(&(a + &Python::at("b.test").service()));
    answers(&agimo, "b.test", 200).await;
    kept.send("GET /pid HTTP/1.1\r\nHost: a.test\r\n\r\n").await;
    assert_eq!(kept.response().await.text(), before, "same connection, same process");
    agimo.get("a.test", "/release").await;
    stream.until("end\n\r\n0\r\n\r\n").await;
}

#[tokio::test]
async fn a_file_written_in_place_is_taken_over_too() {
    let agimo = Agimo::with(never_ready("a.test")).start().await;
    std::fs::write(agimo.conf(), Python::at("b.test").service()).unwrap();
    answers(&agimo, "b.test", 200).await;
}

#[tokio::test]
async fn the_swapped_symlink_of_a_config_map_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let volume = folder.path();
    let version = |name: &str, config: &str| {
        std::fs::create_dir(volume.join(name)).unwrap();
        std::fs::write(volume.join(name).join("config.toml"), config).unwrap();
    };
    // As the kubelet does it: config.toml -> ..data/config.toml, ..data -> ..first, then renamed over.
    version("..first", &never_ready("a.test"));
    std::os::unix::fs::symlink("..first", volume.join("..data")).unwrap();
    std::os::unix::fs::symlink("..data/config.toml", volume.join("config.toml")).unwrap();
    let file = volume.join("config.toml");
    let agimo = Agimo::with("").reading(&file).start().await;
    assert_eq!(agimo.get("b.test", "/").await.status, 404);
    version("..second", &Python::at("b.test").service());
    std::os::unix::fs::symlink("..second", volume.join("..data_tmp")).unwrap();
    std::fs::rename(volume.join("..data_tmp"), volume.join("..data")).unwrap();
    std::fs::remove_dir_all(volume.join("..first")).unwrap();
    answers(&agimo, "b.test", 200).await;
    assert_eq!(agimo.metric(SUCCESSFUL).await, Some(1.0));
}

#[tokio::test]
async fn sighup_reloads_even_a_file_that_has_not_changed() {
    let agimo = Agimo::with(never_ready("a.test")).start().await;
    agimo.signal(Signal::HUP);
    agimo.until_logged("configuration reloaded").await;
    assert_eq!(agimo.metric(SUCCESSFUL).await, Some(1.0));
}

#[tokio::test]
async fn a_wrong_file_leaves_the_old_one_serving_and_says_where_it_is_wrong() {
    let a = Python::at("a.test").service();
    let agimo = Agimo::with(a.clone()).start().await;
    let before = pid(&agimo, "a.test").await;
    agimo.reconfigure("[[services]]\nhost = \"a.test\"\ntype = \"process\"\ncomand = [\"x\"]\n");
    let line = agimo.until_logged("was not reloaded").await;
    let place = format!("{}:4:1", agimo.conf().display());
    assert!(line.contains(&place) && line.contains("comand"), "{place} in {line}");
    assert!(line.contains("\"ERROR\""), "{line}");
    assert_eq!(agimo.metric(SUCCESSFUL).await, Some(0.0));
    assert_eq!(pid(&agimo, "a.test").await, before);
    std::fs::remove_file(agimo.conf()).unwrap();
    eventually("a second complaint", || async {
        let complaints =
            agimo.log().iter().filter(|line| line.contains("was not reloaded")).count();
        (complaints == 2).then_some(())
    })
    .await;
    assert_eq!(pid(&agimo, "a.test").await, before, "a file that is gone changes nothing either");
    agimo.reconfigure(&a);
    agimo.until_metric(SUCCESSFUL, 1.0).await;
    assert_eq!(pid(&agimo, "a.test").await, before);
}

#[tokio::test]
async fn requests_held_for_a_removed_service_are_answered_503() {
    let b = Python::at("b.test").service();
    let agimo = Agimo::with(never_ready("a.test") + &b).start().await;
    let mut held = agimo.connect().await;
    held.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n").await;
    agimo.until_metric("agimo_held_requests{host=\"a.test\"}", 1.0).await;
    agimo.reconfigure(&b);
    let response = held.response().await;
    assert_eq!((response.status, response.reason()), (503, Some("service-removed")));
    assert!(response.header("retry-after").is_some());
    assert_eq!(agimo.get("a.test", "/").await.reason(), Some("unknown-host"));
}

#[tokio::test]
async fn streams_of_a_removed_service_finish_and_then_its_process_stops() {
    let folder = tempfile::tempdir().unwrap();
    let note = folder.path().join("note");
    let a = Python::at("a.test").env("NOTE", note.display()).service();
    let b = Python::at("b.test").service();
    let agimo = Agimo::with(a + &b).start().await;
    let process = pid(&agimo, "a.test").await;
    // The port is known to the test: agimo no longer leads there once the service has gone.
    let port: u16 = agimo.get("a.test", "/env/PORT").await.text().parse().unwrap();
    let mut stream = stream(&agimo, "a.test").await;
    agimo.reconfigure(&b);
    answers(&agimo, "a.test", 404).await;
    let mut direct = Client::connect(([127, 0, 0, 1], port).into()).await;
    assert!(!note.exists(), "it runs on for its stream");
    direct.send("GET /release HTTP/1.1\r\nHost: a.test\r\n\r\n").await;
    stream.until("end\n\r\n0\r\n\r\n").await;
    eventually("the end of its process", || async {
        test_kill_process(process).is_err().then_some(())
    })
    .await;
    assert_eq!(std::fs::read_to_string(note).unwrap(), "term\n");
}

#[tokio::test]
async fn a_changed_timeout_takes_effect_without_a_new_process() {
    let service = |more: &str| Python::at("a.test").key(more).service();
    let agimo = Agimo::with(service("response_timeout = \"1m\"")).start().await;
    let before = pid(&agimo, "a.test").await;
    agimo.reconfigure(&service("response_timeout = \"100ms\""));
    agimo.until_logged("configuration reloaded").await;
    eventually("the new timeout", || async {
        (agimo.get("a.test", "/slow/1").await.status == 504).then_some(())
    })
    .await;
    assert_eq!(pid(&agimo, "a.test").await, before);
}

#[tokio::test]
async fn a_changed_workload_takes_new_requests_while_the_old_one_finishes_its_streams() {
    let service = |greeting: &str| Python::at("a.test").env("GREETING", greeting).service();
    let agimo = Agimo::with(service("old")).start().await;
    let old = pid(&agimo, "a.test").await;
    let port: u16 = agimo.get("a.test", "/env/PORT").await.text().parse().unwrap();
    let mut stream = stream(&agimo, "a.test").await;
    agimo.reconfigure(&service("new"));
    eventually("the new process", || async {
        let response = agimo.get("a.test", "/env/GREETING").await;
        assert_eq!(response.status, 200, "{}", response.head);
        (response.text() == "new").then_some(())
    })
    .await;
    assert!(test_kill_process(old).is_ok(), "the old one has a stream to finish");
    let mut direct = Client::connect(([127, 0, 0, 1], port).into()).await;
    direct.send("GET /release HTTP/1.1\r\nHost: a.test\r\n\r\n").await;
    stream.until("end\n\r\n0\r\n\r\n").await;
    eventually("the end of the old process", || async {
        test_kill_process(old).is_err().then_some(())
    })
    .await;
    assert_eq!(agimo.get("a.test", "/env/GREETING").await.text(), "new");
}

#[tokio::test]
async fn a_request_held_while_its_workload_is_replaced_goes_to_the_new_one() {
    let agimo = Agimo::with(never_ready("a.test")).start().await;
    let mut held = agimo.connect().await;
    held.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n").await;
    agimo.until_metric("agimo_held_requests{host=\"a.test\"}", 1.0).await;
    agimo.reconfigure(&Python::at("a.test").service());
    assert_eq!(held.response().await.status, 200);
}

#[tokio::test]
async fn services_of_a_cluster_start_with_a_warning_and_answer_503() {
    let seed = "[[services]]\nhost = \"example.com\"\ntype = \"sts\"\nnamespace = \"default\"\n\
                name = \"example\"\nservice_name = \"example\"\nservice_port = 80\n";
    let agimo = Agimo::with(seed).start().await;
    let line = agimo.until_logged("no cluster and no Prometheus is known").await;
    assert!(line.contains("\"WARN\"") && line.contains("example.com"), "{line}");
    let response = agimo.get("example.com", "/").await;
    assert_eq!((response.status, response.reason()), (503, Some("no-backend")));
}
