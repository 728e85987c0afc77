//! Objects that each belong to another object of their namespace, found by that one.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;

use crate::kubernetes::objects::ObjectName;

/// Objects by what they belong to.
pub(super) struct Grouped<Parent, Object> {
    by_parent: HashMap<Parent, BTreeMap<String, Object>>,
    parents: HashMap<ObjectName, Parent>,
}

// === impl Grouped ===

impl<Parent, Object> Default for Grouped<Parent, Object> {
    fn default() -> Self {
        Self { by_parent: HashMap::new(), parents: HashMap::new() }
    }
}

impl<Parent: Clone + Eq + Hash, Object> Grouped<Parent, Object> {
    /// Stores an object, moves it to another parent, or removes it. Returns the parents whose objects have changed.
    pub(super) fn put(
        &mut self,
        name: ObjectName,
        object: Option<(Parent, Object)>,
    ) -> Vec<Parent> {
        let parent = object.as_ref().map(|(parent, _)| parent.clone());
        let before = match &parent {
            Some(parent) => self.parents.insert(name.clone(), parent.clone()),
            None => self.parents.remove(&name),
        };
        let mut changed = Vec::new();
        if let Some(before) = before.filter(|before| Some(before) != parent.as_ref()) {
            if let Some(objects) = self.by_parent.get_mut(&before) {
                objects.remove(&name.name);
                if objects.is_empty() {
                    self.by_parent.remove(&before);
                }
            }
            changed.push(before);
        }
        if let Some((parent, object)) = object {
            self.by_parent.entry(parent.clone()).or_default().insert(name.name, object);
            changed.push(parent);
        }
        changed
    }

    /// The objects of this parent, in the order of their names.
    pub(super) fn of(&self, parent: &Parent) -> impl Iterator<Item = &Object> {
        self.by_parent.get(parent).into_iter().flat_map(BTreeMap::values)
    }

    pub(super) fn parent_of(&self, name: &ObjectName) -> Option<&Parent> {
        self.parents.get(name)
    }

    /// All that have an object.
    pub(super) fn all_parents(&self) -> impl Iterator<Item = &Parent> {
        self.by_parent.keys()
    }

    /// The names of all objects.
    pub(super) fn names(&self) -> impl Iterator<Item = &ObjectName> {
        self.parents.keys()
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.by_parent.is_empty() && self.parents.is_empty()
    }
}
