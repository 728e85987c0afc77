//! The buffers that each core lends while bytes move. Nothing is kept in them between two polls.

use std::cell::RefCell;

/// One core's buffers.
pub struct Scratch {
    /// Filled by a read.
    pub input: Box<[u8]>,
    /// Composed for a write; empty when lent.
    pub output: Vec<u8>,
}

/// Bytes of one read: what a socket's buffer gives at a time at full speed, and still cache-friendly.
pub const INPUT_BYTES: usize = 64 * 1024;

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::new(Scratch {
        input: vec![0; INPUT_BYTES].into_boxed_slice(),
        output: Vec::with_capacity(INPUT_BYTES + 4096),
    });
}

/// Lends this core's buffers for one synchronous step; steps never nest.
pub fn lend<T>(step: impl FnOnce(&mut Scratch) -> T) -> T {
    SCRATCH.with_borrow_mut(|scratch| {
        scratch.output.clear();
        step(scratch)
    })
}
