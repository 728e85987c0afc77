//! The integration tests: the real binary, real sockets, real applications. A file a subject.

#[path = "../support.rs"]
mod support;

mod admin;
mod bodies;
mod browser;
mod choice;
mod commands;
mod headers;
mod heads;
mod hold;
mod metrics;
mod process;
mod programs;
mod reload;
mod retries;
mod shutdown;
mod smoke;
mod streams;
mod tidy;
mod unruly;
mod upgrades;
