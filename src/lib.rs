//! agimo: an HTTP proxy that lets services sleep at zero replicas and wakes them on the first request.

// Ground.
pub mod http1;
pub mod resolve;
pub mod shutdown;
pub mod telemetry;

// Model.
pub mod backend;
pub mod config;
pub mod routing;
pub mod traffic;

// Engine.
pub mod activation;
pub mod catalog;
pub mod cli;
pub mod process;

// Edges.
pub mod admin;
pub mod kubernetes;
pub mod prometheus;
pub mod proxy;
pub mod reload;

// Composition.
pub mod app;
pub mod demo;
