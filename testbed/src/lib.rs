//! A single-node Kubernetes cluster for agimo's tests: built from source and run in namespaces of its own. It knows
//! nothing of agimo but the binary that it packs into an image, and leaves nothing behind on the machine.

pub mod addons;
pub mod build;
pub mod cluster;
pub mod cluster_folder;
pub mod faults;
pub mod image;
pub mod node;

mod files;
