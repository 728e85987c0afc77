//! The kubelet's event about an image that it pulled for a pod. Pure.

use std::time::{Duration, SystemTime};

use k8s_openapi::api::core::v1::Event;

use super::warning_events::{CLOCK_TOLERANCE, occurred};

/// An image that was pulled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImagePull {
    pub pod: String,
    pub image: String,
    /// Until the image was unpacked, without the time that the pull waited for others.
    pub took: Duration,
    pub at: Option<SystemTime>,
}

/// The reason of the kubelet's events about images that it has pulled, or found on the node.
pub const REASON: &str = "Pulled";

// === impl ImagePull ===

impl ImagePull {
    /// `None` where the image was on the node already, or the event is another one.
    pub fn read(event: &Event) -> Option<Self> {
        if event.reason.as_deref() != Some(REASON) {
            return None;
        }
        let (image, took) = parse(event.message.as_deref()?)?;
        let pod = event.involved_object.name.clone().unwrap_or_default();
        Some(Self { pod, image, took, at: occurred(event) })
    }

    /// Whether it belongs to a wake that began at this time; the clocks of the node and of agimo may differ a little.
    pub fn is_since(&self, wake: SystemTime) -> bool {
        self.at.is_none_or(|at| at + CLOCK_TOLERANCE >= wake)
    }
}

/// `Successfully pulled image "web:1" in 1.2s (1.3s including waiting). Image size: 5 bytes.` (kubelet, `image_manager.go`).
fn parse(message: &str) -> Option<(String, Duration)> {
    let rest = message.strip_prefix("Successfully pulled image \"")?;
    let (image, rest) = rest.split_once("\" in ")?;
    let took = rest.split(' ').next()?;
    Some((image.to_owned(), go_duration(took.trim_end_matches('.'))?))
}

/// A duration as Go writes it, such as `1m2.5s` or `812ms` (package `time`, `Duration.String`).
fn go_duration(text: &str) -> Option<Duration> {
    let mut total = 0.0;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        let end = rest[digits..].find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len() - digits);
        let seconds = match &rest[digits..digits + end] {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            "µs" => 1e-6,
            "ns" => 1e-9,
            _ => return None,
        };
        total += number * seconds;
        rest = &rest[digits + end..];
    }
    Duration::try_from_secs_f64(total).ok().filter(|_| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(reason: &str, message: &str) -> Option<ImagePull> {
        let event = json!({
            "metadata": {}, "involvedObject": { "kind": "Pod", "name": "web-1" },
            "reason": reason, "message": message, "lastTimestamp": "2026-01-01T00:00:01Z",
        });
        ImagePull::read(&serde_json::from_value(event).unwrap())
    }

    #[test]
    fn the_duration_of_a_pull_is_read_from_the_kubelets_message() {
        for (took, millis) in [("812ms", 812), ("1.23s", 1_230), ("1m2.5s", 62_500), ("2s", 2_000)]
        {
            for message in [
                format!(
                    "Successfully pulled image \"r.test/web:1\" in {took} (9s including waiting). Image size: 5 bytes."
                ),
                format!("Successfully pulled image \"r.test/web:1\" in {took}"),
            ] {
                let pull = read(REASON, &message).unwrap();
                assert_eq!(
                    (pull.image.as_str(), pull.took.as_millis()),
                    ("r.test/web:1", millis),
                    "{message}"
                );
            }
        }
        assert_eq!(read(REASON, "Container image \"web:1\" already present on machine"), None);
        let pull = read(REASON, "Successfully pulled image \"web:1\" in 1s").unwrap();
        let at = pull.at.unwrap();
        assert!(
            pull.is_since(at + Duration::from_secs(4))
                && !pull.is_since(at + Duration::from_secs(60))
        );
        assert_eq!(read("Pulling", "Successfully pulled image \"web:1\" in 1s"), None);
        assert_eq!(read(REASON, "Successfully pulled image \"web:1\" in a moment"), None);
    }
}
