//! What one HTTP/2 connection may cost, whatever its peer does.

/// Requests of a client that are open at once on one connection (SETTINGS_MAX_CONCURRENT_STREAMS).
pub const MOST_STREAMS: u32 = 100;
/// Streams on one connection to an endpoint, also where its server would accept more: a single connection is served
/// by a single thread of most servers.
pub const MOST_UPSTREAM_STREAMS: usize = 100;
/// Bytes of one body that a peer may send before agimo has read them. A held request keeps at most so much.
pub const STREAM_WINDOW: u32 = 128 * 1024;
/// The same over all bodies of a connection: enough for each, so that bodies that are not read hold up no other.
pub const CONNECTION_WINDOW: u32 = MOST_STREAMS * STREAM_WINDOW;
/// Bytes of one body that agimo keeps for a peer that does not read.
pub const SEND_BUFFER: usize = 64 * 1024;
/// Informational responses to one request; others are left out. They are not subject to flow control.
pub const MOST_INFORMATIONAL: usize = 16;
/// Memory for DATA frames of a client that agimo has not read, beyond what they carry: a frame below 256 bytes costs the
/// difference. With more, the connection is closed with ENHANCE_YOUR_CALM.
pub const CLIENT_FRAME_BUDGET: usize = 4 * 1024 * 1024;
/// The same for frames of an endpoint, which may stream small messages to clients that read slowly.
pub const ENDPOINT_FRAME_BUDGET: usize = 64 * 1024 * 1024;
/// Streams that a client has opened and reset before agimo has looked at them; with more, the connection is closed with
/// ENHANCE_YOUR_CALM ("rapid reset", CVE-2023-44487).
pub const MOST_EARLY_RESETS: usize = 20;
/// Streams that agimo has refused or reset because of errors of the client; with more, the connection is closed. A client
/// may open more than `MOST_STREAMS` before it has read that limit.
pub const MOST_ERRORS: usize = 1000;
