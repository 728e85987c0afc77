//! Requests that arrive while agimo decides to put their workload to sleep: none is lost, whichever comes first.

use std::time::Duration;

use futures_util::future::join_all;

use crate::fixtures::{Namespace, SampleRequest, start_agimo};
use crate::support::agimo::Agimo;

const SERVICES: usize = 5;
/// Requests to each service, one after the other.
const ROUNDS: u64 = 20;
const SLEEP_AFTER: Duration = Duration::from_millis(200);

#[tokio::test]
async fn a_hundred_requests_around_the_decision_to_sleep_are_answered() {
    let namespace = Namespace::new("decision").await;
    let mut services = String::new();
    for number in 0..SERVICES {
        let sample = match number {
            0 => namespace.stateful_set("set"),
            number => namespace.deployment(&format!("web-{number}")),
        };
        let keys = format!("scaler = \"agimo\"\nsleep_after = \"{}ms\"", SLEEP_AFTER.as_millis());
        services += &sample.apply().await.service_config(&host(number), &keys);
    }
    let agimo = start_agimo(&services).await;
    join_all((0..SERVICES).map(|number| send_rounds(&agimo, host(number)))).await;
    let mut wakes = 0.0;
    for number in 0..SERVICES {
        wakes += agimo.successful_wakes(&host(number)).await;
    }
    // A request that arrives before the decision causes no wake. Half of the rounds wait until the workload is asleep.
    let rounds = SERVICES as f64 * ROUNDS as f64;
    assert!(wakes >= rounds / 2.0 && wakes <= rounds, "{wakes} wakes in {rounds} rounds");
}

fn host(number: usize) -> String {
    format!("s{number}.test")
}

async fn send_rounds(agimo: &Agimo, host: String) {
    let requests =
        [SampleRequest::get(&host), SampleRequest::post(&host, "a body that is sent once")];
    let mut client = agimo.connect().await;
    for round in 0..ROUNDS {
        requests[round as usize % 2].send(&mut client).await;
        if round % 4 < 2 {
            agimo.until_state(&host, "asleep").await;
        } else {
            // agimo decides within two looks, an eighth of `sleep_after` each, after `sleep_after`. The pauses spread the
            // requests over that time.
            let after_earliest_decision = Duration::from_millis(round * 60 / ROUNDS);
            tokio::time::sleep(SLEEP_AFTER + after_earliest_decision).await;
        }
    }
}
