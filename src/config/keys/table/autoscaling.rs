//! The keys of agimo's own scaler between one replica and the maximum.

use crate::config::keys::{Key, KeyDefault, Place, ValueKind};

pub(super) const TARGET_CONCURRENCY: Key = Key {
    name: "target_concurrency",
    aliases: &[],
    place: Place::TopAndKubernetes,
    kind: ValueKind::Count { most: 1_000_000 },
    default: KeyDefault::Value("\"off\""),
    description: "Target number of in-flight requests per replica. With `scaler = \"agimo\"`, agimo uses it to scale a workload \
                  that is awake between `min_replicas` and `max_replicas`. If neither this key nor `target_rate` is set, agimo \
                  does not change the number of replicas while the workload is awake.",
    example: "target_concurrency = 50",
};

pub(super) const TARGET_RATE: Key = Key {
    name: "target_rate",
    aliases: &[],
    place: Place::TopAndKubernetes,
    kind: ValueKind::Count { most: 1_000_000 },
    default: KeyDefault::Value("\"off\""),
    description: "Target number of requests per second per replica. If `target_concurrency` is set too, the target that needs \
                  more replicas applies.",
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
    description: "Minimum number of replicas to which a wake scales a workload that has a target.",
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
    description: "The short window that detects a sudden rise of the demand; from 1 s to `stable_window`. If the average demand \
                  over it needs at least `panic_threshold` times the number of ready replicas, agimo scales by this window, and \
                  removes no replica until the demand has been below that threshold for one `stable_window`.",
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
    description: "Limits scaling up: one decision asks for at most the number of ready replicas multiplied by this value. agimo \
                  decides once a second.",
    example: "max_scale_up_rate = 2",
};

pub(super) const MAX_SCALE_DOWN_RATE: Key = Key {
    name: "max_scale_down_rate",
    aliases: &[],
    place: Place::TopAndKubernetes,
    kind: ValueKind::Number { least: 2, most: 1_000 },
    default: KeyDefault::Value("2"),
    description: "Limits scaling down: one decision keeps at least the number of ready replicas divided by this value, \
                  rounded down.",
    example: "max_scale_down_rate = 4",
};

pub(super) const SCALE_DOWN_DELAY: Key = Key {
    name: "scale_down_delay",
    aliases: &[],
    place: Place::TopAndKubernetes,
    kind: ValueKind::Duration { off: false, zero: true },
    default: KeyDefault::Value("\"0s\""),
    description: "How long replicas of a workload with a target must be unneeded before agimo removes them.",
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
