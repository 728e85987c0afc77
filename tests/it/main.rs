//! The integration tests: the real binary, real sockets, real applications. A file a subject.

#[path = "../support.rs"]
mod support;

mod browser;
mod smoke;
mod tidy;
