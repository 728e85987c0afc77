//! HTTP messages that no version of HTTP shows in, and the codecs that read and write them.

pub mod body;
pub mod codec;
pub mod fields;
pub mod forwarded;
pub mod http1;
pub mod message;
