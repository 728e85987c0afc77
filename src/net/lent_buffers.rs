//! Buffers that each core lends for one synchronous step, so that no connection holds buffers of its own.

use std::cell::RefCell;

/// Bytes of one read: what a socket delivers at a time at full speed, and still small enough for the processor's cache.
pub const READ_BYTES: usize = 64 * 1024;

thread_local! {
    static READ_BUFFER: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ_BYTES].into_boxed_slice());
    static WRITE_BUFFER: RefCell<Vec<u8>> = RefCell::new(Vec::with_capacity(READ_BYTES + 4096));
}

/// Lends the buffer that reads fill. Steps never nest.
pub fn with_read_buffer<T>(step: impl FnOnce(&mut [u8]) -> T) -> T {
    READ_BUFFER.with_borrow_mut(|buffer| step(buffer))
}

/// Lends an empty buffer in which a write is composed. Steps never nest; one may run inside a step with the read buffer.
pub fn with_write_buffer<T>(step: impl FnOnce(&mut Vec<u8>) -> T) -> T {
    WRITE_BUFFER.with_borrow_mut(|buffer| {
        buffer.clear();
        step(buffer)
    })
}
