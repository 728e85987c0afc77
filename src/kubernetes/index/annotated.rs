//! The workloads whose annotations make them services, with the Services that select their pods. An event costs only the
//! workloads that it concerns.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use tokio::sync::watch;

use super::{WorkloadKey, remove_from, workload_id};
use crate::config::annotations::{AnnotatedWorkload, PortOfService};
use crate::kubernetes::objects::workload::WorkloadObject;
use crate::kubernetes::objects::{ObjectName, PortObject, ServiceObject};

/// A label of a namespace's pods, as `key=value`.
type Label = (String, String);

/// The annotated workloads.
pub(super) struct Annotated {
    workloads: HashMap<WorkloadKey, Arc<AnnotatedWorkload>>,
    /// Annotated workloads by the labels of their pods, and by the Service that they name.
    by_label: HashMap<Label, BTreeSet<WorkloadKey>>,
    by_service: HashMap<ObjectName, BTreeSet<WorkloadKey>>,
    /// Services by one label that they select.
    services_by_label: HashMap<Label, BTreeSet<String>>,
    /// Counts the changes.
    changes: watch::Sender<u64>,
}

// === impl Annotated ===

impl Default for Annotated {
    fn default() -> Self {
        Self {
            workloads: HashMap::new(),
            by_label: HashMap::new(),
            by_service: HashMap::new(),
            services_by_label: HashMap::new(),
            changes: watch::Sender::new(0),
        }
    }
}

impl Annotated {
    /// Changes whenever `all` does.
    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    pub(super) fn all(&self) -> Vec<Arc<AnnotatedWorkload>> {
        self.workloads.values().cloned().collect()
    }

    /// A workload was read, or is gone. Most of its changes concern its status alone.
    pub(super) fn put_workload(
        &mut self,
        key: &WorkloadKey,
        before: Option<&WorkloadObject>,
        now: Option<&WorkloadObject>,
        services: &HashMap<ObjectName, Arc<ServiceObject>>,
    ) {
        let before = before.filter(|before| before.annotations.is_some());
        let now = now.filter(|now| now.annotations.is_some());
        if let (Some(before), Some(now)) = (before, now)
            && before.annotations == now.annotations
            && before.template.labels == now.template.labels
            && before.managed_by == now.managed_by
            && before.created == now.created
        {
            return;
        }
        if let Some(before) = before {
            for label in labels(&key.1.namespace, before) {
                remove_from(&mut self.by_label, &label, key);
            }
            if let Some(service) = named_service(&key.1.namespace, before) {
                remove_from(&mut self.by_service, &service, key);
            }
        }
        let Some(now) = now else {
            if self.workloads.remove(key).is_some() {
                self.changes.send_modify(|changes| *changes += 1);
            }
            return;
        };
        for label in labels(&key.1.namespace, now) {
            self.by_label.entry(label).or_default().insert(key.clone());
        }
        if let Some(service) = named_service(&key.1.namespace, now) {
            self.by_service.entry(service).or_default().insert(key.clone());
        }
        self.update(key, now, services);
    }

    /// A Service was read, or is gone; `services` has it as it is now.
    pub(super) fn put_service(
        &mut self,
        name: &ObjectName,
        before: Option<&ServiceObject>,
        services: &HashMap<ObjectName, Arc<ServiceObject>>,
        workloads: &HashMap<WorkloadKey, Arc<WorkloadObject>>,
    ) {
        let label = |service: &ServiceObject| {
            service.selected_label().map(|label| (name.namespace.clone(), label.to_owned()))
        };
        let before = before.and_then(label);
        let now = services.get(name).and_then(|service| label(service));
        if let Some(before) = before.as_ref().filter(|before| Some(*before) != now.as_ref()) {
            remove_from(&mut self.services_by_label, before, &name.name);
        }
        if let Some(now) = &now {
            self.services_by_label.entry(now.clone()).or_default().insert(name.name.clone());
        }
        let selected = before.iter().chain(&now).filter_map(|label| self.by_label.get(label));
        let naming = self.by_service.get(name);
        let concerned: BTreeSet<WorkloadKey> = selected.chain(naming).flatten().cloned().collect();
        for key in concerned {
            if let Some(workload) = workloads.get(&key) {
                self.update(&key, workload, services);
            }
        }
    }

    fn update(
        &mut self,
        key: &WorkloadKey,
        workload: &WorkloadObject,
        services: &HashMap<ObjectName, Arc<ServiceObject>>,
    ) {
        let (_, name) = key;
        let Some(annotations) = &workload.annotations else { return };
        let named = named_service(&name.namespace, workload);
        let is_named = named.is_some();
        let found = match named {
            Some(named) => BTreeSet::from([named.name]),
            None => labels(&name.namespace, workload)
                .filter_map(|label| self.services_by_label.get(&label))
                .flatten()
                .cloned()
                .collect(),
        };
        let services: BTreeMap<_, _> = found
            .into_iter()
            .filter_map(|service| {
                let object = services.get(&ObjectName::new(&name.namespace, &service))?;
                let selects = is_named || object.may_select(&workload.template.labels);
                let port = |port: &PortObject| PortOfService {
                    name: port.name.clone(),
                    number: port.number,
                };
                selects.then(|| (service, object.ports.iter().map(port).collect()))
            })
            .collect();
        let annotated = AnnotatedWorkload {
            id: workload_id(key),
            created: workload.created,
            managed_by: workload.managed_by.clone(),
            annotations: annotations.clone(),
            services,
        };
        if self.workloads.get(key).is_none_or(|known| **known != annotated) {
            self.workloads.insert(key.clone(), Arc::new(annotated));
            self.changes.send_modify(|changes| *changes += 1);
        }
    }
}

fn labels<'a>(
    namespace: &'a str,
    workload: &'a WorkloadObject,
) -> impl Iterator<Item = Label> + 'a {
    let labels = workload.template.labels.iter();
    labels.map(move |(key, value)| (namespace.to_owned(), format!("{key}={value}")))
}

/// The Service that the annotations name.
fn named_service(namespace: &str, workload: &WorkloadObject) -> Option<ObjectName> {
    let annotations = workload.annotations.as_ref()?;
    let name = annotations.get("service").or_else(|| annotations.get("service-name"))?;
    Some(ObjectName::new(namespace, name.trim()))
}
