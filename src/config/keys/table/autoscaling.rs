//! The keys of agimo's own scaler between one replica and the maximum.

use crate::config::keys::{Key, KeyDefault, Place, ValueKind};

pub(super) const TARGET_CONCURRENCY: Key = Key {
    name: "target_concurrency",
    aliases: &[],
    place: Place::TopAndKubernetes,
    kind: ValueKind::Count { most: 1_000_000 },
    default: KeyDefault::Value("\"off\""),
    description: "Requests in flight that each replica is to have. With `scaler = \"agimo\"`, agimo scales a workload that is \
                  awake between `min_replicas` and `max_replicas` by this target. Without it and `target_rate`, it leaves the \
                  number of a workload that is awake alone.",
    example: "target_concurrency = 50",
};

pub(super) const TARGET_RATE: Key = Key {
    name: "target_rate",
    aliases: &[],
    place: Place::TopAndKubernetes,
    kind: ValueKind::Count { most: 1_000_000 },
    default: KeyDefault::Value("\"off\""),
    description: "Requests per second that each replica is to have. Beside `target_concurrency`, the larger need counts.",
    example: "target_rate = 200",
};

pub(super) const MIN_REPLICAS: Key = Key {
    name: "min_replicas",
    aliases: &[],
    place: Place::TopAndKubernetes,
    kind: ValueKind::Number { least: 1, most: 10_000 },
    default: KeyDefault::Value("1"),
    description: "Fewest replicas of a workload that is awake and has a target.",
    example: "min_replicas = 2",
};

pub(super) const MAX_REPLICAS: Key = Key {
    name: "max_replicas",
    aliases: &[],
    place: Place::TopAndKubernetes,
    kind: ValueKind::Number { least: 1, most: 10_000 },
    default: KeyDefault::Value("10"),
    description: "Most replicas of a workload that has a target.",
    example: "max_replicas = 30",
};

pub(super) const ACTIVATION_REPLICAS: Key = Key {
    name: "activation_replicas",
    aliases: &[],
    place: Place::TopAndKubernetes,
    kind: ValueKind::Number { least: 1, most: 10_000 },
    default: KeyDefault::Value("1"),
    description: "Replicas that a wake of a workload with a target asks for at least.",
    example: "activation_replicas = 3",
};

pub(super) const STABLE_WINDOW: Key = Key {
    name: "stable_window",
    aliases: &[],
    place: Place::TopAndKubernetes,
    kind: ValueKind::Duration { off: false, zero: false },
    default: KeyDefault::Value("\"1m\""),
    description: "The time over which the demand is averaged to scale a workload with a target; at least 6 s.",
    example: "stable_window = \"2m\"",
};

pub(super) const PANIC_WINDOW: Key = Key {
    name: "panic_window",
    aliases: &[],
    place: Place::TopAndKubernetes,
    kind: ValueKind::Duration { off: false, zero: false },
    default: KeyDefault::Value("\"6s\""),
    description: "The time over which a sudden rise is recognised; from 1 s to `stable_window`. If the demand over it is \
                  `panic_threshold` times what the ready replicas can take, it decides, and no replica is removed until it \
                  has been lower for one `stable_window`.",
    example: "panic_window = \"10s\"",
};

pub(super) const PANIC_THRESHOLD: Key = Key {
    name: "panic_threshold",
    aliases: &[],
    place: Place::TopAndKubernetes,
    kind: ValueKind::Number { least: 2, most: 1_000 },
    default: KeyDefault::Value("2"),
    description: "See `panic_window`.",
    example: "panic_threshold = 3",
};

pub(super) const MAX_SCALE_UP_RATE: Key = Key {
    name: "max_scale_up_rate",
    aliases: &[],
    place: Place::TopAndKubernetes,
    kind: ValueKind::Number { least: 2, most: 1_000 },
    default: KeyDefault::Value("10"),
    description: "At most so many times as many replicas as are ready, in one decision; there is one each second.",
    example: "max_scale_up_rate = 2",
};

pub(super) const MAX_SCALE_DOWN_RATE: Key = Key {
    name: "max_scale_down_rate",
    aliases: &[],
    place: Place::TopAndKubernetes,
    kind: ValueKind::Number { least: 2, most: 1_000 },
    default: KeyDefault::Value("2"),
    description: "At least one in so many of the ready replicas stays, in one decision.",
    example: "max_scale_down_rate = 4",
};

pub(super) const SCALE_DOWN_DELAY: Key = Key {
    name: "scale_down_delay",
    aliases: &[],
    place: Place::TopAndKubernetes,
    kind: ValueKind::Duration { off: false, zero: true },
    default: KeyDefault::Value("\"0s\""),
    description: "Replicas of a workload with a target are removed only when they have not been needed for so long.",
    example: "scale_down_delay = \"5m\"",
};

pub(super) const SCALE_DOWN_CUTS_TUNNELS: Key = Key {
    name: "scale_down_cuts_tunnels",
    aliases: &[],
    place: Place::TopAndKubernetes,
    kind: ValueKind::Boolean,
    default: KeyDefault::Value("false"),
    description: "Whether replicas of a workload with a target are removed although WebSockets or other tunnels to it are open. \
                  Kubernetes chooses which pods end, and their tunnels end with them. By default replicas are removed only \
                  while none is open.",
    example: "scale_down_cuts_tunnels = true",
};
