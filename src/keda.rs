//! The port for KEDA: an external scaler of the type `external-push` (KEDA, "External Scalers"). Every replica of agimo answers
//! with the demand at all of them.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{self, BoxStream};
use http::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::Instant;
use tonic::body::Body;
use tonic::server::Grpc;
use tonic::{Response, Status};
use tonic_prost::ProstCodec;

use crate::control_port::tls::Tls;
use crate::control_port::{ControlPort, Protocol};
use crate::scaling_signal::Signals;
use crate::shutdown::Shutdown;
use crate::workload::WorkloadId;

use self::messages::{
    GetMetricSpecResponse, GetMetricsRequest, GetMetricsResponse, IsActiveResponse, MetricSpec,
    MetricValue, SERVICE, ScaledObjectRef,
};
use self::trigger::Trigger;

pub mod messages;
pub mod trigger;

/// The workload that a ScaledObject with this namespace and name targets, as far as the cluster says.
pub type FindTarget = Arc<dyn Fn(&str, &str) -> Option<WorkloadId> + Send + Sync>;

/// What the port needs.
pub struct KedaPort {
    pub listener: TcpListener,
    pub tls: Option<Tls>,
    pub signals: Signals,
    pub find_target: FindTarget,
    pub shutdown: Shutdown,
}

/// Answers KEDA; clones share everything.
#[derive(Clone)]
struct ExternalScaler {
    signals: Signals,
    find_target: FindTarget,
    shutdown: Shutdown,
}

type ActiveStream = BoxStream<'static, Result<IsActiveResponse, Status>>;

/// One stream of pushes.
struct Pushes {
    scaler: ExternalScaler,
    object: ScaledObjectRef,
    trigger: Trigger,
    /// What was sent last, and when.
    sent: Option<(bool, Instant)>,
    demand: Option<watch::Receiver<u64>>,
}

/// KEDA may ask before the watch has read a new ScaledObject.
const TARGET_TIMEOUT: Duration = Duration::from_secs(2);
const TARGET_INTERVAL: Duration = Duration::from_millis(50);
/// How often a stream looks at the demand, besides a request that waits. KEDA may lose a push, so one that is still true is
/// repeated.
const PUSH_INTERVAL: Duration = Duration::from_secs(1);
const MOST_CONNECTIONS: usize = 256;

// === impl KedaPort ===

impl KedaPort {
    /// Serves until agimo is aborted.
    pub async fn run(self) {
        let Self { listener, tls, signals, find_target, shutdown } = self;
        let port = ControlPort {
            listener,
            name: "keda",
            protocol: Protocol::Http2,
            most_connections: MOST_CONNECTIONS,
            tls,
            shutdown: shutdown.clone(),
        };
        let scaler = ExternalScaler { signals, find_target, shutdown };
        let service = service_fn(move |request: Request<Incoming>| {
            let scaler = scaler.clone();
            async move { Ok::<_, Infallible>(scaler.respond(request.map(Body::new)).await) }
        });
        port.serve(service).await;
    }
}

// === impl ExternalScaler ===

impl ExternalScaler {
    async fn respond(self, request: Request<Body>) -> http::Response<Body> {
        let method = request.uri().path().strip_prefix(SERVICE).unwrap_or_default().to_owned();
        match method.as_str() {
            "IsActive" => {
                let method = tower::service_fn(|request: tonic::Request<ScaledObjectRef>| async {
                    self.is_active(request.into_inner()).await.map(Response::new)
                });
                Grpc::new(ProstCodec::default()).unary(method, request).await
            }
            "StreamIsActive" => {
                let method = tower::service_fn(|request: tonic::Request<ScaledObjectRef>| async {
                    self.stream_is_active(request.into_inner()).map(Response::new)
                });
                Grpc::new(ProstCodec::default()).server_streaming(method, request).await
            }
            "GetMetricSpec" => {
                let method = tower::service_fn(|request: tonic::Request<ScaledObjectRef>| async {
                    self.metric_spec(request.into_inner()).await.map(Response::new)
                });
                Grpc::new(ProstCodec::default()).unary(method, request).await
            }
            "GetMetrics" => {
                let method =
                    tower::service_fn(|request: tonic::Request<GetMetricsRequest>| async {
                        self.metrics(request.into_inner()).await.map(Response::new)
                    });
                Grpc::new(ProstCodec::default()).unary(method, request).await
            }
            // StreamMetricSpec as well: with this status KEDA goes on with GetMetricSpec.
            _ => Status::unimplemented("agimo has no such method").into_http(),
        }
    }

    async fn is_active(&self, object: ScaledObjectRef) -> Result<IsActiveResponse, Status> {
        let trigger = read_trigger(&object)?;
        let id = self.target(&object, &trigger).await?;
        let signal = self.signals.signal(&id, trigger.window);
        let signal = signal.ok_or_else(|| without_service(&id))?;
        let result = trigger.is_active(&signal);
        if !result && !self.signals.is_complete() {
            return Err(Status::unavailable(
                "another replica of agimo is silent, and may have requests for the workload",
            ));
        }
        Ok(IsActiveResponse { result })
    }

    async fn metric_spec(&self, object: ScaledObjectRef) -> Result<GetMetricSpecResponse, Status> {
        let trigger = read_trigger(&object)?;
        let id = self.target(&object, &trigger).await?;
        let workload = self.signals.workload(&id).ok_or_else(|| without_service(&id))?;
        let target = trigger.target(workload.autoscaling()).map_err(Status::invalid_argument)?;
        let spec = MetricSpec {
            metric_name: trigger.metric_name().to_owned(),
            target_size: target.ceil() as i64,
            target_size_float: target,
        };
        Ok(GetMetricSpecResponse { metric_specs: vec![spec] })
    }

    async fn metrics(&self, request: GetMetricsRequest) -> Result<GetMetricsResponse, Status> {
        let object = request.scaled_object_ref.unwrap_or_default();
        let trigger = read_trigger(&object)?;
        let id = self.target(&object, &trigger).await?;
        let signal = self.signals.signal(&id, trigger.window);
        let value = trigger.value(&signal.ok_or_else(|| without_service(&id))?);
        let value = MetricValue {
            metric_name: request.metric_name,
            metric_value: value.ceil() as i64,
            metric_value_float: value,
        };
        Ok(GetMetricsResponse { metric_values: vec![value] })
    }

    fn stream_is_active(&self, object: ScaledObjectRef) -> Result<ActiveStream, Status> {
        let trigger = read_trigger(&object)?;
        let pushes = Pushes { scaler: self.clone(), object, trigger, sent: None, demand: None };
        Ok(Box::pin(stream::unfold(pushes, Pushes::next)))
    }

    /// The workload of a ScaledObject.
    async fn target(
        &self,
        object: &ScaledObjectRef,
        trigger: &Trigger,
    ) -> Result<WorkloadId, Status> {
        let deadline = Instant::now() + TARGET_TIMEOUT;
        loop {
            if let Some(id) = self.target_now(object, trigger) {
                return Ok(id);
            }
            if Instant::now() >= deadline {
                return Err(Status::not_found(format!(
                    "ScaledObject {}/{} is unknown to agimo, or targets neither a Deployment nor a StatefulSet: write \
                     `workload: deployment/<name>` in the metadata of the trigger, or let agimo list and watch ScaledObjects",
                    object.namespace, object.name
                )));
            }
            tokio::time::sleep(TARGET_INTERVAL).await;
        }
    }

    fn target_now(&self, object: &ScaledObjectRef, trigger: &Trigger) -> Option<WorkloadId> {
        let found = || (self.find_target)(&object.namespace, &object.name);
        trigger.workload.clone().or_else(found)
    }
}

fn read_trigger(object: &ScaledObjectRef) -> Result<Trigger, Status> {
    Trigger::read(&object.scaler_metadata, &object.namespace).map_err(Status::invalid_argument)
}

fn without_service(id: &WorkloadId) -> Status {
    Status::not_found(format!("no service of agimo leads to {id}"))
}

// === impl Pushes ===

impl Pushes {
    /// The next push, when it is due; `None` when agimo drains, so that KEDA asks another replica.
    async fn next(mut self) -> Option<(Result<IsActiveResponse, Status>, Self)> {
        loop {
            let now = Instant::now();
            if let Some(result) = self.is_active()
                && self.sent.is_none_or(|(sent, at)| {
                    sent != result || (result && now >= at + PUSH_INTERVAL)
                })
            {
                self.sent = Some((result, now));
                return Some((Ok(IsActiveResponse { result }), self));
            }
            let shutdown = self.scaler.shutdown.clone();
            tokio::select! {
                () = shutdown.draining() => return None,
                () = tokio::time::sleep(PUSH_INTERVAL) => {}
                // Pushed at once, even if it was active already: a request waits.
                () = changed(&mut self.demand) => self.sent = None,
            }
        }
    }

    /// `None` where it is not known: a workload without a service, or a replica that is silent.
    fn is_active(&mut self) -> Option<bool> {
        let id = self.scaler.target_now(&self.object, &self.trigger)?;
        let workload = self.scaler.signals.workload(&id)?;
        // A workload that was removed and added has another activation.
        let is_same = |known: &watch::Receiver<u64>| {
            let activation = workload.activation.as_ref();
            activation.is_some_and(|activation| activation.demand_seen().same_channel(known))
        };
        if !self.demand.as_ref().is_some_and(is_same) {
            self.demand = workload.activation.as_ref().map(|activation| activation.demand_seen());
        }
        let signal = self.scaler.signals.signal(&id, self.trigger.window)?;
        let is_active = self.trigger.is_active(&signal);
        (is_active || self.scaler.signals.is_complete()).then_some(is_active)
    }
}

/// Waits for a request that waits for the workload.
async fn changed(demand: &mut Option<watch::Receiver<u64>>) {
    if let Some(demand) = demand
        && demand.changed().await.is_ok()
    {
        return;
    }
    std::future::pending().await
}
