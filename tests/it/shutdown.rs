//! Shutdown: requests finish, tunnels stay open until the drain timeout, and processes stop.

use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, test_kill_process};
use tokio::net::TcpStream;

use crate::support::agimo::Agimo;
use crate::support::application::ScriptedServer;
use crate::support::client::Client;
use crate::support::eventually;
use crate::support::python::PythonApplication;

/// A connection that was upgraded to a tunnel.
async fn open_tunnel(agimo: &Agimo) -> Client {
    let mut client = agimo.connect().await;
    client
        .send("GET / HTTP/1.1\r\nHost: t.test\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
        .await;
    let head = client.read_until("\r\n\r\n").await;
    assert!(head.starts_with("HTTP/1.1 101"), "{head}");
    client
}

/// An application that accepts an upgrade and returns every byte that it receives.
async fn echo_server() -> ScriptedServer {
    ScriptedServer::serve(|mut client, _| async move {
        client.read_until("\r\n\r\n").await;
        let switching =
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n";
        client.send(switching).await;
        while client.read().await {
            let received = std::mem::take(&mut client.received);
            client.send(received).await;
        }
    })
    .await
}

async fn until_refused(agimo: &Agimo) {
    eventually("new connections to be refused", || async {
        TcpStream::connect(agimo.address).await.is_err().then_some(())
    })
    .await;
}

async fn pid(agimo: &Agimo) -> Pid {
    Pid::from_raw(agimo.get("a.test", "/pid").await.text().parse().unwrap()).unwrap()
}

#[tokio::test]
async fn after_a_signal_requests_finish_connections_are_refused_and_processes_stop() {
    for signal in [Signal::TERM, Signal::INT] {
        let mut agimo = Agimo::with(PythonApplication::new("a.test").service()).start().await;
        let process = pid(&agimo).await;
        let mut idle = agimo.connect().await;
        idle.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n").await;
        assert_eq!(idle.response().await.status, 200);
        let mut running = agimo.connect().await;
        running.send("GET /stream HTTP/1.1\r\nHost: a.test\r\n\r\n").await;
        running.read_until("begin").await;
        let mut slow = agimo.connect().await;
        slow.send("GET /slow/1 HTTP/1.1\r\nHost: a.test\r\n\r\n").await;
        agimo.until_metric("agimo_active_requests{host=\"a.test\"}", 2.0).await;
        agimo.signal(signal);
        until_refused(&agimo).await;
        assert!(idle.is_closed().await, "the idle connection is still open");
        let response = slow.response().await;
        assert_eq!((response.status, response.text().as_str()), (200, "hi"));
        assert!(slow.is_closed().await, "the connection is still open after its response");
        drop(running);
        assert!(agimo.wait_for_exit().await.success());
        assert!(test_kill_process(process).is_err(), "the process is still running");
    }
}

#[tokio::test]
async fn a_tunnel_stays_open_until_the_drain_timeout() {
    let server = echo_server().await;
    let mut agimo = Agimo::with(server.service("t.test", ""))
        .arguments(&["--drain-timeout", "1500ms"])
        .start()
        .await;
    let mut tunnel = open_tunnel(&agimo).await;
    let began = Instant::now();
    agimo.signal(Signal::TERM);
    until_refused(&agimo).await;
    tunnel.send("still there").await;
    assert_eq!(tunnel.read_exact(11).await, b"still there");
    assert!(tunnel.is_closed().await);
    assert!(began.elapsed() >= Duration::from_millis(1400), "{:?}", began.elapsed());
    assert!(agimo.wait_for_exit().await.success());
}

#[tokio::test]
async fn a_second_signal_ends_agimo_without_waiting_for_the_drain_timeout() {
    let server = echo_server().await;
    let config = server.service("t.test", "") + &PythonApplication::new("a.test").service();
    let mut agimo = Agimo::with(config).arguments(&["--drain-timeout", "1h"]).start().await;
    let process = pid(&agimo).await;
    let mut tunnel = open_tunnel(&agimo).await;
    agimo.signal(Signal::TERM);
    until_refused(&agimo).await;
    agimo.signal(Signal::TERM);
    agimo.wait_for_exit().await;
    assert!(tunnel.is_closed().await);
    assert!(test_kill_process(process).is_err(), "the process is still running");
}

#[tokio::test]
async fn a_second_signal_does_not_wait_for_a_process_that_ignores_sigterm() {
    let service =
        PythonApplication::new("a.test").key("stop_grace = \"1h\"").env("IGNORE_TERM", 1).service();
    let mut agimo = Agimo::with(service).start().await;
    let process = pid(&agimo).await;
    agimo.signal(Signal::TERM);
    until_refused(&agimo).await;
    agimo.signal(Signal::TERM);
    agimo.wait_for_exit().await;
    eventually("the process to end", || async {
        test_kill_process(process).is_err().then_some(())
    })
    .await;
}
