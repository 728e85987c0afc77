//! Follows the lifecycle events of an agimo: a client of `/events` on its admin port.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

/// The events that an agimo has published since the start of this value.
pub(crate) struct Events {
    received: Arc<Mutex<Vec<Value>>>,
}

/// How long agimo may take to accept the subscription.
const SUBSCRIBE_TIMEOUT: Duration = Duration::from_secs(5);

// === impl Events ===

impl Events {
    /// Subscribes. A thread reads the events until agimo ends.
    pub(crate) fn follow(admin: SocketAddr) -> io::Result<Self> {
        let mut stream = TcpStream::connect_timeout(&admin, SUBSCRIBE_TIMEOUT)?;
        stream.set_read_timeout(Some(SUBSCRIBE_TIMEOUT))?;
        stream.write_all(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n")?;
        let mut lines = BufReader::new(stream.try_clone()?).lines();
        // A comment line shows that every event from now on is sent.
        loop {
            let line = lines.next().ok_or(io::ErrorKind::UnexpectedEof)??;
            if line.starts_with(':') {
                break;
            }
        }
        stream.set_read_timeout(None)?;
        let received = Arc::<Mutex<Vec<Value>>>::default();
        let sink = received.clone();
        thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let event = line.strip_prefix("data: ").map(serde_json::from_str);
                if let Some(Ok(event)) = event {
                    sink.lock().unwrap_or_else(PoisonError::into_inner).push(event);
                }
            }
        });
        Ok(Self { received })
    }

    /// Forgets what has been received.
    pub(crate) fn clear(&self) {
        self.lock().clear();
    }

    /// When the first event of this name was published, in microseconds since the Unix epoch.
    pub(crate) fn time_of(&self, name: &str) -> Option<u64> {
        self.lock().iter().find(|event| event["event"] == name)?["at_unix_us"].as_u64()
    }

    /// The same, for an event that may still be on its way.
    pub(crate) fn wait_for(&self, name: &str, limit: Duration) -> io::Result<u64> {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(time) = self.time_of(name) {
                return Ok(time);
            }
            if Instant::now() > deadline {
                return Err(io::Error::other(format!("agimo published no event `{name}`")));
            }
            thread::sleep(Duration::from_millis(2));
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Value>> {
        self.received.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_an_event_is_that_of_the_first_with_its_name() {
        let received = [("scale_written", 3), ("ready", 5), ("ready", 7)]
            .map(|(name, time)| serde_json::json!({ "event": name, "at_unix_us": time }));
        let events = Events { received: Arc::new(Mutex::new(received.to_vec())) };
        assert_eq!(events.time_of("ready"), Some(5));
        assert_eq!(events.time_of("asleep"), None);
        assert!(events.wait_for("asleep", Duration::ZERO).is_err());
        events.clear();
        assert_eq!(events.time_of("ready"), None);
    }
}
