//! A large cluster: many Services with EndpointSlices, all of them in the configuration of agimo.

use std::fmt::Debug;

use agimo::kube_client;
use agimo::net::dns::Resolver;
use futures_util::{StreamExt, stream};
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::Api;
use kube::api::{DeleteParams, ListParams, PostParams};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::fixtures::{Namespace, SampleRequest, start_agimo};

/// Services in the cluster, each with one EndpointSlice, all in the configuration of agimo. The API server creates them
/// within half a minute.
const SERVICES: u16 = 10_000;
const CONCURRENT_CREATES: usize = 16;
/// KiB of resident memory, without the program itself, of the debug build, whose futures are larger than those of a release:
/// 38 KiB for each service with its ten endpoints, its counters and its idle connection.
const MAX_RESIDENT: u64 = 380 * 1024;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_ten_thousand_services_agimo_serves_wakes_and_sleeps_within_its_memory_bound() {
    let namespace = Namespace::exclusive("large").await;
    let cold = namespace.deployment("cold").apply().await;
    let warm = namespace.deployment("warm").replicas(1).apply().await;
    warm.until_ready(1).await;
    let path = "jsonpath={.items[0].status.podIP}";
    let pod_address = warm.kubectl(&["get", "pods", "-l", "app=warm", "-o", path]).await;

    let (client, _) = kube_client::find(None, Resolver::default()).await.unwrap().unwrap();
    let services: Api<Service> = Api::namespaced(client.clone(), &namespace.name);
    let slices: Api<EndpointSlice> = Api::namespaced(client, &namespace.name);
    create_all(&services, service).await;
    create_all(&slices, |number| slice(number, &pod_address)).await;

    let mut config = cold.service_config("cold.test", "scaler = \"agimo\"\nsleep_after = \"1s\"");
    for number in 0..SERVICES {
        // The Deployment of this name does not exist: agimo does not scale it, and serves by the slice alone.
        let sample = namespace.deployment(&name(number));
        config += &sample.service_config(&host(number), "");
    }
    let agimo = start_agimo(&config).await;

    let mut connection = agimo.connect().await;
    for number in 0..SERVICES {
        SampleRequest::get(&host(number)).send(&mut connection).await;
    }
    SampleRequest::get("cold.test").send_once(agimo.address).await;
    cold.until_asleep().await;
    let resident = agimo.memory("RssAnon:");
    assert!(resident < MAX_RESIDENT, "{resident} KiB with all services");

    let of_test = ListParams::default().labels(LABEL);
    slices.delete_collection(&DeleteParams::default(), &of_test).await.unwrap();
    services.delete_collection(&DeleteParams::default(), &of_test).await.unwrap();
    for number in [0, SERVICES / 2, SERVICES - 1] {
        agimo.until_ready_endpoints(&host(number), 0).await;
    }
    SampleRequest::get("cold.test").send_once(agimo.address).await;
    cold.until_asleep().await;
    let resident = agimo.memory("RssAnon:");
    assert!(resident < MAX_RESIDENT, "{resident} KiB after all services were deleted");
}

/// The label of every object that the test creates in large numbers.
const LABEL: &str = "large-cluster";

async fn create_all<K>(api: &Api<K>, object: impl Fn(u16) -> Value)
where
    K: Clone + Debug + Serialize + DeserializeOwned,
{
    let creates = stream::iter(0..SERVICES).map(|number| {
        let object: K = serde_json::from_value(object(number)).unwrap();
        async move { api.create(&PostParams::default(), &object).await.map(drop) }
    });
    let results: Vec<_> = creates.buffer_unordered(CONCURRENT_CREATES).collect().await;
    let errors: Vec<_> = results.into_iter().filter_map(Result::err).collect();
    assert!(errors.is_empty(), "{} creates failed, the first with {:?}", errors.len(), errors[0]);
}

fn name(number: u16) -> String {
    format!("service-{number}")
}

fn host(number: u16) -> String {
    format!("{}.test", name(number))
}

/// A headless Service without a selector: no controller writes its endpoints.
fn service(number: u16) -> Value {
    json!({
        "metadata": { "name": name(number), "labels": { LABEL: "" } },
        "spec": { "clusterIP": "None", "ports": [{ "name": "http", "port": 80 }] },
    })
}

/// Its EndpointSlice: one ready endpoint at this address and nine that are not ready.
fn slice(number: u16, ready: &str) -> Value {
    let [high, low] = number.to_be_bytes();
    let endpoint = |address: &str, ready: bool| json!({ "addresses": [address], "conditions": { "ready": ready } });
    let mut endpoints = vec![endpoint(ready, true)];
    endpoints.extend((1..10).map(|last| endpoint(&format!("10.{high}.{low}.{last}"), false)));
    // kube-proxy skips slices with the headless label (EndpointSlice concepts, labels).
    json!({
        "metadata": {
            "name": name(number),
            "labels": {
                LABEL: "",
                "kubernetes.io/service-name": name(number),
                "service.kubernetes.io/headless": "",
            },
        },
        "addressType": "IPv4",
        "ports": [{ "name": "http", "port": 8080 }],
        "endpoints": endpoints,
    })
}
