//! Connections below HTTP: streams, the buffers that a core lends, deadlines, DNS.

pub mod dns;
pub mod scratch;
pub mod stream;
pub mod timer;
