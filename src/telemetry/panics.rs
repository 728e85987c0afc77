//! Logs and counts panics: a task that panics ends alone, and must not end unseen.

use std::sync::atomic::{AtomicU64, Ordering};

use tracing::error;

use super::{Exposition, Labels, MetricKind};

static PANICS: AtomicU64 = AtomicU64::new(0);

/// Has every panic of this process logged and counted, instead of printed.
pub fn observe() {
    std::panic::set_hook(Box::new(|panic| {
        PANICS.fetch_add(1, Ordering::Relaxed);
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        let reason = panic.payload_as_str().unwrap_or("unknown");
        error!(place, reason, "a task of agimo panicked; this is a defect of agimo");
    }));
}

/// Writes the number of panics.
pub fn collect(page: &mut Exposition) {
    let help = "Tasks that ended with a panic, which is a defect of agimo.";
    page.family("agimo_panics_total", MetricKind::Counter, help);
    page.sample(&Labels::default(), PANICS.load(Ordering::Relaxed));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_counted() {
        let before = std::panic::take_hook();
        observe();
        let ended = std::thread::spawn(|| assert_eq!(1, 2, "on purpose")).join();
        std::panic::set_hook(before);
        assert!(ended.is_err());
        let mut page = Exposition::default();
        collect(&mut page);
        let page = page.into_page();
        let count = page.lines().last().and_then(|line| line.rsplit(' ').next()).unwrap();
        assert!(count.parse::<u64>().unwrap() >= 1, "{page}");
    }
}
