//! Requests that arrive at exactly the moment at which their workload falls asleep: none is lost, whichever comes first.

use std::time::Duration;

use futures_util::future::join_all;

use crate::fixtures::{Namespace, Question, agimo};
use crate::support::agimo::Agimo;

const SERVICES: usize = 5;
const ROUNDS: u64 = 20;
const SLEEP_AFTER: Duration = Duration::from_millis(200);

#[tokio::test]
async fn a_hundred_requests_at_the_moment_of_falling_asleep_are_answered() {
    let namespace = Namespace::new("moment").await;
    let mut services = String::new();
    for number in 0..SERVICES {
        let sample = match number {
            0 => namespace.stateful_set("set"),
            number => namespace.deployment(&format!("web-{number}")),
        };
        let keys = format!("scaler = \"agimo\"\nsleep_after = \"{}ms\"", SLEEP_AFTER.as_millis());
        services += &sample.apply().await.service(&host(number), &keys);
    }
    let agimo = agimo(&services).await;
    join_all((0..SERVICES).map(|number| rounds(&agimo, host(number)))).await;
    let mut wakes = 0.0;
    for number in 0..SERVICES {
        wakes += agimo.wakes(&host(number)).await;
    }
    // Where the request came first there is no wake. Half of the rounds wait until it sleeps.
    let rounds = SERVICES as f64 * ROUNDS as f64;
    assert!(wakes >= rounds / 2.0 && wakes <= rounds, "{wakes} wakes");
    println!("{wakes} wakes in {rounds} rounds");
}

fn host(number: usize) -> String {
    format!("s{number}.test")
}

async fn rounds(agimo: &Agimo, host: String) {
    let questions = [Question::get(&host), Question::post(&host, "a body that is sent once")];
    let mut client = agimo.connect().await;
    for round in 0..ROUNDS {
        questions[round as usize % 2].ask(&mut client).await;
        if round % 4 < 2 {
            agimo.until_state(&host, "asleep").await;
        } else {
            // From a little before the first look that may find it idle for long enough to after the last.
            let around = Duration::from_millis(round * 60 / ROUNDS);
            tokio::time::sleep(SLEEP_AFTER + around).await;
        }
    }
}
