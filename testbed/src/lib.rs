//! A Kubernetes cluster of one node for agimo's tests: built from source, run in namespaces of its own, gone without a
//! trace. It knows nothing of agimo but the binary that it wraps into an image, and leaves the machine as it was.

pub mod addons;
pub mod build;
pub mod cluster;
pub mod faults;
pub mod folder;
pub mod image;
pub mod node;

mod files;
