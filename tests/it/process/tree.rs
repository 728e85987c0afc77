//! What a process has started ends with it, and with agimo.

use rustix::process::Signal;

use super::{is_running, pids, serving_pid, wait_until_ended};
use crate::support::agimo::Agimo;
use crate::support::python::PythonApplication;

#[tokio::test]
async fn sleep_stops_the_descendants_of_a_process_too() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pids");
    let program = PythonApplication::new("a.test")
        .key("sleep_after = \"100ms\"")
        .env("STARTS", file.display());
    // A shell that starts a grandchild, which ignores SIGTERM, and then the application.
    let service = program.service().replace(
        "command = [",
        &format!(
            "command = [\"sh\", \"-c\", 'sh -c \"trap : TERM; while :; do sleep 1; done\" & echo $! >> {}; \"$@\"', \"sh\", ",
            file.display()
        ),
    );
    let agimo = Agimo::with(service).start().await;
    assert_eq!(agimo.get("a.test", "/").await.status, 200);
    let started = pids(&file);
    assert_eq!(started.len(), 2, "grandchild and application");
    for pid in started {
        wait_until_ended(pid).await;
    }
    agimo.until_event("process_stopped").await;
}

#[tokio::test]
async fn a_process_ends_when_agimo_is_killed() {
    let mut agimo = Agimo::with(PythonApplication::new("a.test").service()).start().await;
    let pid = serving_pid(&agimo).await;
    assert!(is_running(pid));
    agimo.signal(Signal::KILL);
    agimo.wait_for_exit().await;
    wait_until_ended(pid).await;
}

#[tokio::test]
async fn what_a_process_starts_in_a_session_of_its_own_ends_with_it_and_with_agimo() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pids");
    let service = PythonApplication::new("a.test").key("sleep_after = \"200ms\"").service().replace(
        "command = [",
        &format!(
            "command = [\"sh\", \"-c\", 'setsid sh -c \"echo \\$\\$ >> {}; exec sleep 1000\" & \"$@\"', \"sh\", ",
            file.display()
        ),
    );
    let mut agimo = Agimo::with(service).start().await;
    let application = serving_pid(&agimo).await;
    agimo.until_event("process_stopped").await;
    wait_until_ended(application).await;
    wait_until_ended(pids(&file)[0]).await;
    let application = serving_pid(&agimo).await;
    agimo.signal(Signal::KILL);
    agimo.wait_for_exit().await;
    wait_until_ended(application).await;
    wait_until_ended(pids(&file)[1]).await;
}

#[tokio::test]
async fn a_program_that_goes_into_the_background_is_told_to_stay_in_the_foreground() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pids");
    let background = PythonApplication::new("a.test")
        .env("STARTS", file.display())
        .service()
        .replace("command = [", "command = [\"sh\", \"-c\", 'setsid \"$@\" & sleep 1', \"sh\", ")
        .replace("START_DELAY", "_");
    let service = format!("{background}\nreadiness = '/env/NOTHING'\n");
    let agimo = Agimo::with(service).start().await;
    agimo.get("a.test", "/").await;
    let line = agimo.until_logged("run in the foreground").await;
    assert!(line.contains("exit status: 0"), "{line}");
    wait_until_ended(pids(&file)[0]).await;
}
