//! HTTP messages: field lines as they came, and the codecs that read and write them.

pub mod fields;
pub mod http1;
