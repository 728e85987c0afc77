//! Reload of the configuration: changes take effect, unchanged services are not interrupted, and an invalid file changes
//! nothing.

use rustix::process::{Pid, Signal, test_kill_process};

use crate::support::agimo::Agimo;
use crate::support::application::ScriptedServer;
use crate::support::client::Client;
use crate::support::eventually;
use crate::support::python::PythonApplication;

const SUCCESSFUL: &str = "agimo_config_last_reload_successful";

/// Waits until requests to this host get this status.
async fn until_status(agimo: &Agimo, host: &str, status: u16) {
    eventually(&format!("{status} from {host}"), || async {
        (agimo.get(host, "/").await.status == status).then_some(())
    })
    .await;
}

/// A streaming response that has begun and has not ended.
async fn open_stream(agimo: &Agimo, host: &str) -> Client {
    let mut client = agimo.connect().await;
    client.send(format!("GET /stream HTTP/1.1\r\nHost: {host}\r\n\r\n")).await;
    client.read_until("begin").await;
    client
}

/// The process that answers a request.
async fn serving_pid(agimo: &Agimo, host: &str) -> Pid {
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
async fn a_changed_file_is_applied_without_interrupting_unchanged_services() {
    let a = PythonApplication::new("a.test").service();
    let agimo = Agimo::with(a.clone()).start().await;
    let mut persistent = agimo.connect().await;
    persistent.send("GET /pid HTTP/1.1\r\nHost: a.test\r\n\r\n").await;
    let before = persistent.response().await.text();
    let mut stream = open_stream(&agimo, "a.test").await;
    assert_eq!(agimo.get("b.test", "/").await.status, 404);
    agimo.reconfigure(&(a + &PythonApplication::new("b.test").service()));
    until_status(&agimo, "b.test", 200).await;
    persistent.send("GET /pid HTTP/1.1\r\nHost: a.test\r\n\r\n").await;
    assert_eq!(persistent.response().await.text(), before, "the service was restarted");
    agimo.get("a.test", "/release").await;
    stream.read_until("end\n\r\n0\r\n\r\n").await;
}

#[tokio::test]
async fn a_file_written_in_place_is_applied() {
    let agimo = Agimo::with(never_ready("a.test")).start().await;
    std::fs::write(agimo.config_file(), PythonApplication::new("b.test").service()).unwrap();
    until_status(&agimo, "b.test", 200).await;
}

#[tokio::test]
async fn the_replaced_symlink_of_a_config_map_volume_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let volume = folder.path();
    let version = |name: &str, config: &str| {
        std::fs::create_dir(volume.join(name)).unwrap();
        std::fs::write(volume.join(name).join("config.toml"), config).unwrap();
    };
    // As the kubelet does: config.toml -> ..data/config.toml and ..data -> ..first; a rename replaces ..data.
    version("..first", &never_ready("a.test"));
    std::os::unix::fs::symlink("..first", volume.join("..data")).unwrap();
    std::os::unix::fs::symlink("..data/config.toml", volume.join("config.toml")).unwrap();
    let file = volume.join("config.toml");
    let agimo = Agimo::with("").with_config_file(&file).start().await;
    assert_eq!(agimo.get("b.test", "/").await.status, 404);
    version("..second", &PythonApplication::new("b.test").service());
    std::os::unix::fs::symlink("..second", volume.join("..data_tmp")).unwrap();
    std::fs::rename(volume.join("..data_tmp"), volume.join("..data")).unwrap();
    std::fs::remove_dir_all(volume.join("..first")).unwrap();
    until_status(&agimo, "b.test", 200).await;
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
async fn an_invalid_file_is_logged_with_its_position_and_the_old_configuration_stays() {
    let a = PythonApplication::new("a.test").service();
    let agimo = Agimo::with(a.clone()).start().await;
    let before = serving_pid(&agimo, "a.test").await;
    agimo.reconfigure("[[services]]\nhost = \"a.test\"\ntype = \"process\"\ncomand = [\"x\"]\n");
    let line = agimo.until_logged("was not reloaded").await;
    let place = format!("{}:4:1", agimo.config_file().display());
    assert!(line.contains(&place) && line.contains("comand"), "{place} in {line}");
    assert!(line.contains("\"ERROR\""), "{line}");
    assert_eq!(agimo.metric(SUCCESSFUL).await, Some(0.0));
    assert_eq!(serving_pid(&agimo, "a.test").await, before);
    std::fs::remove_file(agimo.config_file()).unwrap();
    eventually("a second error in the log", || async {
        let errors = agimo.log().iter().filter(|line| line.contains("was not reloaded")).count();
        (errors == 2).then_some(())
    })
    .await;
    assert_eq!(
        serving_pid(&agimo, "a.test").await,
        before,
        "a missing file changes nothing either"
    );
    agimo.reconfigure(&a);
    agimo.until_metric(SUCCESSFUL, 1.0).await;
    assert_eq!(serving_pid(&agimo, "a.test").await, before);
}

#[tokio::test]
async fn requests_held_for_a_removed_service_get_503() {
    let b = PythonApplication::new("b.test").service();
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
async fn the_process_of_a_removed_service_stops_after_its_streams_have_ended() {
    let folder = tempfile::tempdir().unwrap();
    let note = folder.path().join("note");
    let a = PythonApplication::new("a.test").env("NOTE", note.display()).service();
    let b = PythonApplication::new("b.test").service();
    let agimo = Agimo::with(a + &b).start().await;
    let process = serving_pid(&agimo, "a.test").await;
    // After the removal the test reaches the process through its port, because agimo no longer routes to it.
    let port: u16 = agimo.get("a.test", "/env/PORT").await.text().parse().unwrap();
    let mut stream = open_stream(&agimo, "a.test").await;
    agimo.reconfigure(&b);
    until_status(&agimo, "a.test", 404).await;
    let mut direct = Client::connect(([127, 0, 0, 1], port).into()).await;
    assert!(!note.exists(), "the process got SIGTERM while its stream was open");
    direct.send("GET /release HTTP/1.1\r\nHost: a.test\r\n\r\n").await;
    stream.read_until("end\n\r\n0\r\n\r\n").await;
    eventually("the process to end", || async {
        test_kill_process(process).is_err().then_some(())
    })
    .await;
    assert_eq!(std::fs::read_to_string(note).unwrap(), "term\n");
}

#[tokio::test]
async fn a_changed_timeout_takes_effect_without_a_restart() {
    let service = |more: &str| PythonApplication::new("a.test").key(more).service();
    let agimo = Agimo::with(service("response_timeout = \"1m\"")).start().await;
    let before = serving_pid(&agimo, "a.test").await;
    agimo.reconfigure(&service("response_timeout = \"100ms\""));
    agimo.until_logged("configuration reloaded").await;
    eventually("the new timeout", || async {
        (agimo.get("a.test", "/slow/1").await.status == 504).then_some(())
    })
    .await;
    assert_eq!(serving_pid(&agimo, "a.test").await, before);
}

#[tokio::test]
async fn a_changed_command_starts_a_new_process_while_the_old_one_finishes_its_streams() {
    let service =
        |greeting: &str| PythonApplication::new("a.test").env("GREETING", greeting).service();
    let agimo = Agimo::with(service("old")).start().await;
    let old = serving_pid(&agimo, "a.test").await;
    let port: u16 = agimo.get("a.test", "/env/PORT").await.text().parse().unwrap();
    let mut stream = open_stream(&agimo, "a.test").await;
    agimo.reconfigure(&service("new"));
    eventually("an answer of the new process", || async {
        let response = agimo.get("a.test", "/env/GREETING").await;
        assert_eq!(response.status, 200, "{}", response.head);
        (response.text() == "new").then_some(())
    })
    .await;
    assert!(test_kill_process(old).is_ok(), "the old process ended before its stream");
    let mut direct = Client::connect(([127, 0, 0, 1], port).into()).await;
    direct.send("GET /release HTTP/1.1\r\nHost: a.test\r\n\r\n").await;
    stream.read_until("end\n\r\n0\r\n\r\n").await;
    eventually("the old process to end", || async {
        test_kill_process(old).is_err().then_some(())
    })
    .await;
    assert_eq!(agimo.get("a.test", "/env/GREETING").await.text(), "new");
}

#[tokio::test]
async fn a_request_held_during_the_replacement_of_its_workload_goes_to_the_new_one() {
    let agimo = Agimo::with(never_ready("a.test")).start().await;
    let mut held = agimo.connect().await;
    held.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n").await;
    agimo.until_metric("agimo_held_requests{host=\"a.test\"}", 1.0).await;
    agimo.reconfigure(&PythonApplication::new("a.test").service());
    assert_eq!(held.response().await.status, 200);
}

#[tokio::test]
async fn kubernetes_services_without_a_cluster_are_logged_as_a_warning_and_get_503() {
    let seed = "[[services]]\nhost = \"example.com\"\ntype = \"sts\"\nnamespace = \"default\"\n\
                name = \"example\"\nservice_name = \"example\"\nservice_port = 80\n";
    let agimo = Agimo::with(seed).start().await;
    let line = agimo.until_logged("no cluster and no Prometheus is known").await;
    assert!(line.contains("\"WARN\"") && line.contains("example.com"), "{line}");
    let response = agimo.get("example.com", "/").await;
    assert_eq!((response.status, response.reason()), (503, Some("no-backend")));
}

#[tokio::test]
async fn changed_trusted_proxies_apply_to_open_connections() {
    let server = ScriptedServer::responding(|request| {
        let proto = request.header("x-forwarded-proto").unwrap();
        format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{proto}", proto.len())
    })
    .await;
    let service = server.service("a.test", "");
    let agimo = Agimo::with(service.clone()).start().await;
    let mut client = agimo.connect().await;
    let mut ask = async || {
        client.send("GET / HTTP/1.1\r\nHost: a.test\r\nX-Forwarded-Proto: https\r\n\r\n").await;
        client.response().await.text()
    };
    assert_eq!(ask().await, "http");
    agimo.reconfigure(&format!("trusted_proxies = ['127.0.0.1']\n{service}"));
    agimo.until_logged("reloaded").await;
    for _ in 0..500 {
        if ask().await == "https" {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("the open connection is still not trusted");
}

#[tokio::test]
async fn a_process_that_changes_in_the_configuration_is_not_said_to_be_removed() {
    let agimo = Agimo::with(PythonApplication::new("a.test").service()).start().await;
    let before = serving_pid(&agimo, "a.test").await;
    agimo.reconfigure(&PythonApplication::new("a.test").env("NEW", 1).service());
    agimo.until_event("replaced").await;
    assert_ne!(serving_pid(&agimo, "a.test").await, before);
    let log = agimo.log();
    assert!(!log.iter().any(|line| line.contains("removed from the configuration")), "{log:?}");
}
