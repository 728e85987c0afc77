//! A cluster with far more EndpointSlices than concern agimo.

use agimo::kubernetes::client;
use agimo::net::dns::Resolver;
use futures_util::StreamExt;
use futures_util::stream;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::Api;
use kube::api::{DeleteParams, ListParams, PostParams};
use serde_json::json;

use crate::fixtures::{Namespace, SampleRequest, start_agimo};

/// A large cluster. The API server takes them within a dozen seconds.
const SLICES: u16 = 10_000;
/// So many are made at once.
const AT_ONCE: usize = 16;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thousands_of_slices_are_no_burden() {
    let namespace = Namespace::exclusive("many").await;
    let web = namespace.deployment("web").apply().await;
    let (client, _) = client::find(None, Resolver::default()).await.unwrap().unwrap();
    let api: Api<EndpointSlice> = Api::namespaced(client, &namespace.name);
    let began = std::time::Instant::now();
    let made = stream::iter(0..SLICES).map(|number| {
        let api = api.clone();
        async move { api.create(&PostParams::default(), &slice(number)).await.map(drop) }
    });
    let made: Vec<_> = made.buffer_unordered(AT_ONCE).collect().await;
    assert!(made.iter().all(Result::is_ok), "{made:?}");
    println!("{SLICES} slices made in {:?}", began.elapsed());

    let agimo = start_agimo(&web.service_config("web.test", "scaler = \"agimo\"")).await;
    println!("ready {:?} after the first, with {} KiB", began.elapsed(), agimo.resident());
    SampleRequest::get("web.test").send_once(agimo.address).await;
    println!("{} KiB after a wake", agimo.resident());
    // A leak or a copy for every slice would show; what the lists themselves take does not.
    assert!(agimo.resident() < 200 * 1024);
    let made = ListParams::default().labels("many");
    api.delete_collection(&DeleteParams::default(), &made).await.unwrap();
    SampleRequest::get("web.test").send_once(agimo.address).await;
}

/// A slice of a Service that does not exist, with ten endpoints.
fn slice(number: u16) -> EndpointSlice {
    let [high, low] = number.to_be_bytes();
    let endpoints: Vec<_> = (0..10)
        .map(|last| json!({ "addresses": [format!("10.{high}.{low}.{last}")], "conditions": { "ready": true } }))
        .collect();
    serde_json::from_value(json!({
        "metadata": {
            "name": format!("many-{number}"),
            "labels": { "many": "", "kubernetes.io/service-name": format!("many-{}", number / 2) },
        },
        "addressType": "IPv4",
        "ports": [{ "name": "http", "port": 8080 }],
        "endpoints": endpoints,
    }))
    .unwrap()
}
