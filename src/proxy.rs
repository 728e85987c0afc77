//! The request path: accepts, routes, counts, holds, forwards. It reads counts of nobody and scales nothing.

pub mod accept;
pub mod answer;
pub mod client;
pub mod connection;
pub mod core;
pub mod exchange;
pub mod forward;
pub mod headers;
pub mod hold;
pub mod pump;
pub mod reject;
pub mod request;
pub mod tunnel;
pub mod upstream;
