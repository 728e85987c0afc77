//! The keys of workloads in Kubernetes.

use crate::config::Via;
use crate::config::keys::{Key, KeyDefault, Place, ValueKind};
use crate::config::scaling::{Mode, Scaler};

pub(super) const ANNOTATIONS: Key = Key {
    name: "annotations",
    aliases: &[],
    place: Place::Top,
    kind: ValueKind::Boolean,
    default: KeyDefault::Value("false"),
    description: "Whether Deployments and StatefulSets with the annotation `agimo.onichandame.com/host` are services as well; \
                  see [annotations.md](annotations.md). The file then needs no services, and has precedence over annotations.",
    example: "annotations = true",
};

pub(super) const MANAGED_BY: Key = Key {
    name: "managed_by",
    aliases: &[],
    place: Place::Top,
    kind: ValueKind::Text,
    default: KeyDefault::Described("only workloads without the label"),
    description: "Which annotated workloads this agimo serves: those whose label `agimo.onichandame.com/managed-by` has this value. \
                  With it, several installations of agimo share a cluster.",
    example: "managed_by = \"blue\"",
};

pub(super) const ALLOWED_HOSTS: Key = Key {
    name: "allowed_hosts",
    aliases: &[],
    place: Place::Top,
    kind: ValueKind::HostsByNamespace,
    default: KeyDefault::Described("any host"),
    description: "Which hosts the annotated workloads of each namespace may claim. `*.example.com` stands for every host below \
                  `example.com`, and `*` for every host. The namespace `\"*\"` stands for all namespaces that are not listed; without \
                  it, workloads in these namespaces may claim no host.",
    example: "allowed_hosts = { shop = [\"*.shop.example.com\"], \"*\" = [\"*.dev.example.com\"] }",
};

pub(super) const NAMESPACE: Key = Key {
    name: "namespace",
    aliases: &[],
    place: Place::Kubernetes,
    kind: ValueKind::DnsLabel,
    default: KeyDefault::Required,
    description: "The namespace of the workload and of its Service.",
    example: "namespace = \"default\"",
};

pub(super) const NAME: Key = Key {
    name: "name",
    aliases: &[],
    place: Place::Kubernetes,
    kind: ValueKind::DnsName,
    default: KeyDefault::Required,
    description: "The name of the Deployment or StatefulSet.",
    example: "name = \"example\"",
};

pub(super) const SERVICE_NAME: Key = Key {
    name: "service_name",
    aliases: &[],
    place: Place::Kubernetes,
    kind: ValueKind::DnsLabel,
    default: KeyDefault::Required,
    description: "The name of the Service that selects the pods of the workload.",
    example: "service_name = \"example\"",
};

pub(super) const SERVICE_PORT: Key = Key {
    name: "service_port",
    aliases: &[],
    place: Place::Kubernetes,
    kind: ValueKind::ServicePort,
    default: KeyDefault::Required,
    description: "The port of that Service, by number or by name. agimo looks up the matching port of each pod, \
                  which may differ from pod to pod.",
    example: "service_port = 80",
};

pub(super) const SCALER: Key = Key {
    name: "scaler",
    aliases: &[],
    place: Place::TopAndKubernetes,
    kind: ValueKind::OneOf(Scaler::SPELLINGS),
    default: KeyDefault::Value("\"external\""),
    description: "Who writes `replicas`. With `external` agimo only reports: KEDA, an HPA or another scaler \
                  reads its metrics and scales the workload. With `agimo` it scales the workload from zero on \
                  the first request, and to zero after `sleep_after`. With `auto` this depends on the scalers that target \
                  the workload. A ScaledObject: agimo only reports. An HPA with `minReplicas: 0`: agimo reports, and wakes \
                  the workload if the HPA would not do so or if the HPA reads the metrics of agimo. An HPA with \
                  `minReplicas` of 1 or more: agimo scales between zero and one. No scaler: the same as `agimo`.",
    example: "scaler = \"agimo\"",
};

pub(super) const MODE: Key = Key {
    name: "mode",
    aliases: &[],
    place: Place::TopAndKubernetes,
    kind: ValueKind::OneOf(Mode::SPELLINGS),
    default: KeyDefault::Value("\"enforce\""),
    description: "Whether agimo scales as it decides. With `observe` it decides and reports in events, metrics and log, and \
                  writes nothing: use it to see what `scaler` and the targets would do.",
    example: "mode = \"observe\"",
};

pub(super) const VIA: Key = Key {
    name: "via",
    aliases: &[],
    place: Place::TopAndKubernetes,
    kind: ValueKind::OneOf(Via::SPELLINGS),
    default: KeyDefault::Value("\"pod\""),
    description: "Where requests are sent: to the address of a ready `pod`, or to the address of the `service`, \
                  for a service mesh that has to see the Service. Nodes learn of a Service's new endpoints a \
                  little after the pods are ready.",
    example: "via = \"service\"",
};

pub(super) const EARLY_READY: Key = Key {
    name: "early_ready",
    aliases: &[],
    place: Place::TopAndKubernetes,
    kind: ValueKind::Boolean,
    default: KeyDefault::Value("false"),
    description: "Whether agimo runs the readiness probes of the pods itself while the workload wakes, every 10 ms from the moment \
                  that their containers run, and forwards requests as soon as they pass, before the kubelet reports the pod as ready. \
                  `initialDelaySeconds` and `periodSeconds` do not apply. For a pod without a probe, agimo checks that the port \
                  accepts a connection. For a pod with an `exec` probe or a readiness gate, agimo waits for the kubelet. agimo must \
                  be able to connect to the ports of the probes.",
    example: "early_ready = true",
};

pub(super) const CLUSTER_NAMES: Key = Key {
    name: "cluster_names",
    aliases: &[],
    place: Place::TopAndKubernetes,
    kind: ValueKind::Boolean,
    default: KeyDefault::Value("false"),
    description: "Whether the names of the Service in the cluster lead to this service, too: `web`, `web.shop`, `web.shop.svc` and \
                  `web.shop.svc.cluster.local` for the Service `web` of the namespace `shop`.",
    example: "cluster_names = true",
};
