//! HTTP messages that no version of HTTP shows in, and the codecs that read and write them.

pub mod body;
pub mod codec;
mod content_length;
pub mod fields;
pub mod forwarded;
pub mod grpc;
pub mod http1;
pub mod http2;
pub mod message;
pub mod outgoing;
mod request_rules;
pub mod trace_context;
pub mod user_agent;
mod websocket;
