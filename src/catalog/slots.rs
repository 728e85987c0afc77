//! Small numbers for routes, so that each core can keep its own state of a route in a vector.

/// Numbers that are in use, and those that are free again.
#[derive(Debug, Default)]
pub struct Slots {
    next: usize,
    free: Vec<usize>,
}

// === impl Slots ===

impl Slots {
    /// A number that no one else has.
    pub fn take(&mut self) -> usize {
        self.free.pop().unwrap_or_else(|| {
            self.next += 1;
            self.next - 1
        })
    }

    pub fn free(&mut self, slot: usize) {
        self.free.push(slot);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_is_used_again_only_after_it_was_freed() {
        let mut slots = Slots::default();
        assert_eq!([slots.take(), slots.take(), slots.take()], [0, 1, 2]);
        slots.free(1);
        assert_eq!([slots.take(), slots.take()], [1, 3]);
    }
}
