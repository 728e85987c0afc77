//! Releases a crowd of requests to a fresh endpoint step by step, as TCP slow start does (RFC 5681 section 3.1): a few
//! connections at once, more as long as that makes the endpoint answer more of them per second.
//!
//! A server takes in connections through a queue, which may be as short as five. More connections than that, opened at
//! once, are dropped by its kernel.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

/// The release of requests to one endpoint.
#[derive(Debug)]
pub struct Ramp {
    /// One permit for each connection that may wait for its first answer. It is fair: first come, first served.
    permits: Arc<Semaphore>,
    /// The endpoint takes any number of connections.
    is_open: AtomicBool,
    waiting: AtomicU32,
    growth: Mutex<Growth>,
}

/// A connection that may wait for its first answer. Dropping it gives its place to the next one.
#[derive(Debug)]
pub struct RampPermit {
    ramp: Arc<Ramp>,
    permit: Option<OwnedSemaphorePermit>,
}

/// A request that waits for a permit.
struct Waiting<'a>(&'a Ramp);

/// How the number of permits grows. Pure: time is passed in.
#[derive(Debug)]
struct Growth {
    window: u32,
    /// Permits that are to vanish when they are returned.
    surplus: u32,
    round: Option<Round>,
    /// Answers per second of the best round, and the window in it.
    best: Option<(f64, u32)>,
    /// Rounds without growth after a failure.
    rest: u32,
}

/// As many answers as the window is wide.
#[derive(Debug)]
struct Round {
    began: Instant,
    answers: u32,
}

/// What a round decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    None,
    Add(u32),
    Remove(u32),
}

/// Connections at first: fewer than the shortest queue of a common server.
const FIRST_WINDOW: u32 = 4;
/// An endpoint that takes so many at once takes any number.
const OPEN_WINDOW: u32 = 1024;
/// A wider window must bring so many times the answers per second to be kept.
const GAIN: f64 = 1.2;
/// After a connection that failed, the window stays as it is for so many rounds.
const REST_ROUNDS: u32 = 16;
/// An endpoint that has accepted a connection and not answered for so long may be one that lets clients wait: its place
/// goes to the next one.
pub const ANSWER_WAIT: Duration = Duration::from_millis(250);

// === impl Ramp ===

impl Default for Ramp {
    fn default() -> Self {
        Self {
            permits: Arc::new(Semaphore::new(FIRST_WINDOW as usize)),
            is_open: AtomicBool::new(false),
            waiting: AtomicU32::new(0),
            growth: Mutex::new(Growth::default()),
        }
    }
}

impl Ramp {
    /// Whether the endpoint takes any number of connections; it stays so.
    pub fn is_open(&self) -> bool {
        self.is_open.load(Ordering::Relaxed)
    }

    /// A permit, if one is free now.
    pub fn try_enter(self: &Arc<Self>) -> Option<RampPermit> {
        let permit = self.permits.clone().try_acquire_owned().ok()?;
        Some(RampPermit { ramp: self.clone(), permit: Some(permit) })
    }

    /// A permit, as soon as one is free.
    pub async fn enter(self: Arc<Self>) -> RampPermit {
        let waiting = Waiting::begin(&self);
        let permit = self.permits.clone().acquire_owned().await.ok();
        drop(waiting);
        RampPermit { ramp: self.clone(), permit }
    }

    fn open(&self) {
        if self.is_open.swap(true, Ordering::Relaxed) {
            return;
        }
        // Whoever waits may go.
        self.permits.add_permits(Semaphore::MAX_PERMITS / 2);
    }

    fn growth(&self) -> MutexGuard<'_, Growth> {
        self.growth.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl RampPermit ===

impl RampPermit {
    /// The endpoint has answered, or lets its client wait.
    pub fn served(self, now: Instant) {
        if self.ramp.is_open() {
            return;
        }
        if self.ramp.waiting.load(Ordering::Relaxed) == 0 {
            self.ramp.open();
            return;
        }
        let change = self.ramp.growth().answered(now);
        self.apply(change);
    }

    /// The connection failed.
    pub fn failed(self) {
        if !self.ramp.is_open() {
            let change = self.ramp.growth().failed();
            self.apply(change);
        }
    }

    fn apply(mut self, change: Change) {
        let mut growth = self.ramp.growth();
        match change {
            Change::Add(count) => self.ramp.permits.add_permits(count as usize),
            Change::Remove(count) => growth.surplus += count,
            Change::None => {}
        }
        if growth.surplus > 0
            && let Some(permit) = self.permit.take()
        {
            growth.surplus -= 1;
            permit.forget();
        }
        let is_wide = growth.window >= OPEN_WINDOW;
        drop(growth);
        if is_wide && !self.ramp.is_open() {
            self.ramp.open();
        }
    }
}

// === impl Waiting ===

impl<'a> Waiting<'a> {
    fn begin(ramp: &'a Ramp) -> Self {
        ramp.waiting.fetch_add(1, Ordering::Relaxed);
        Self(ramp)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

// === impl Growth ===

impl Default for Growth {
    fn default() -> Self {
        Self { window: FIRST_WINDOW, surplus: 0, round: None, best: None, rest: 0 }
    }
}

impl Growth {
    fn answered(&mut self, now: Instant) -> Change {
        let Some(round) = &mut self.round else {
            // The first answer after a change belongs to the time before it.
            self.round = Some(Round { began: now, answers: 0 });
            return Change::None;
        };
        round.answers += 1;
        if round.answers < self.window {
            return Change::None;
        }
        let took = now.saturating_duration_since(round.began).as_secs_f64().max(1e-6);
        let rate = f64::from(round.answers) / took;
        if self.rest > 0 {
            self.rest -= 1;
            self.round = None;
            return Change::None;
        }
        match self.best {
            Some((best, window)) if rate < best * GAIN => {
                self.round = Some(Round { began: now, answers: 0 });
                self.best = Some((best.max(rate), window.min(self.window)));
                self.set_window(window.min(self.window))
            }
            _ => {
                // Carefully at first: half of a short queue is soon reached.
                let wider = if self.best.is_none() { self.window.div_ceil(2) } else { self.window };
                let wider = self.window + wider;
                self.best = Some((rate, self.window));
                self.round = None;
                self.set_window(wider)
            }
        }
    }

    fn failed(&mut self) -> Change {
        self.round = None;
        let narrower = (self.window / 2).max(1);
        self.best = None;
        self.rest = REST_ROUNDS;
        self.set_window(narrower)
    }

    fn set_window(&mut self, window: u32) -> Change {
        let before = std::mem::replace(&mut self.window, window);
        match window.cmp(&before) {
            std::cmp::Ordering::Equal => Change::None,
            std::cmp::Ordering::Greater => Change::Add(window - before),
            std::cmp::Ordering::Less => Change::Remove(before - window),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The window after this many answers of an endpoint that serves `width` requests at once, each in a millisecond.
    fn window_of(width: u32, answers: u32) -> u32 {
        let mut growth = Growth::default();
        let mut now = Instant::now();
        for _ in 0..answers {
            // With more requests than it serves at once, an endpoint answers `width` of them per millisecond.
            now += Duration::from_millis(1) / growth.window.min(width);
            growth.answered(now);
        }
        growth.window
    }

    #[test]
    fn the_window_grows_as_long_as_that_brings_more_answers() {
        assert!(window_of(10_000, 3_000) >= OPEN_WINDOW, "{}", window_of(10_000, 3_000));
        for answers in [50, 500] {
            assert_eq!(window_of(1, answers), FIRST_WINDOW, "one request at a time");
        }
        let eight = window_of(8, 500);
        assert!((6..=12).contains(&eight), "{eight}");
    }

    #[test]
    fn a_failed_connection_halves_the_window_and_it_does_not_grow_soon() {
        let mut growth = Growth::default();
        assert_eq!(growth.failed(), Change::Remove(2));
        assert_eq!(growth.failed(), Change::Remove(1));
        assert_eq!(growth.failed(), Change::None, "one is left");
        let mut now = Instant::now();
        let mut answers = 0;
        while growth.answered(now) == Change::None {
            now += Duration::from_millis(1);
            answers += 1;
        }
        assert!((REST_ROUNDS..100).contains(&answers), "{answers}");
    }

    #[tokio::test(start_paused = true)]
    async fn permits_go_to_whoever_waits_longest_and_an_idle_ramp_opens() {
        let ramp = Arc::new(Ramp::default());
        let mut permits: Vec<_> = (0..FIRST_WINDOW).filter_map(|_| ramp.try_enter()).collect();
        assert_eq!(permits.len(), FIRST_WINDOW as usize);
        assert!(ramp.try_enter().is_none());
        let (order, held) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Mutex::new(Vec::new())));
        for number in 0..2 {
            let (ramp, order, held) = (ramp.clone(), order.clone(), held.clone());
            tokio::spawn(async move {
                let permit = ramp.enter().await;
                order.lock().unwrap().push(number);
                held.lock().unwrap().push(permit);
            });
            tokio::task::yield_now().await;
        }
        drop(permits.pop());
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert_eq!(*order.lock().unwrap(), [0]);
        assert!(!ramp.is_open());
        permits.pop().unwrap().served(Instant::now());
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert_eq!(*order.lock().unwrap(), [0, 1]);
        permits.pop().unwrap().served(Instant::now());
        assert!(ramp.is_open(), "no request waits");
        assert!((0..10_000).all(|_| ramp.try_enter().is_some()));
    }
}
