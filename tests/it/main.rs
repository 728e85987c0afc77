//! The integration tests: the real binary, real sockets, real applications. One file per subject.

#[path = "../support.rs"]
mod support;

mod admin;
mod affinity;
mod ambiguous_requests;
mod bodies;
mod changes_api;
mod command_line;
mod conformance;
mod connection_reuse;
mod dashboard;
mod demo;
mod documentation;
mod half_closed_tunnels;
mod headers;
mod hold;
mod http2;
mod limits;
mod load_balancing;
mod logs;
mod metrics;
mod misbehaving_applications;
mod process;
mod readiness_source;
mod release;
mod reload;
mod request_heads;
mod request_path;
mod retries;
mod shutdown;
mod smoke;
mod status_api;
mod streaming;
mod third_party_servers;
mod tidy;
mod tls;
mod traces;
mod upgrades;
mod uploads;
mod via;
