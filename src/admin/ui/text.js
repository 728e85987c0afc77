// How states, times and causes are written for people. Nothing here touches the page.

/** A time in milliseconds, short enough for a table. */
export function duration(ms) {
  if (ms < 10) return `${ms.toFixed(1)} ms`;
  if (ms < 1_000) return `${Math.round(ms)} ms`;
  if (ms < 60_000) return `${(ms / 1_000).toFixed(ms < 10_000 ? 2 : 1)} s`;
  return seconds(ms / 1_000);
}

/** A time in seconds, in its two largest units. */
export function seconds(value) {
  if (value > 0 && value < 1) return duration(value * 1_000);
  const whole = Math.max(0, Math.round(value));
  const units = [[86_400, "d"], [3_600, "h"], [60, "min"], [1, "s"]];
  const first = units.findIndex(([size]) => whole >= size);
  if (first < 0) return "0 s";
  const parts = [];
  let rest = whole;
  for (const [size, name] of units.slice(first, first + 2)) {
    const count = Math.floor(rest / size);
    rest -= count * size;
    if (count > 0) parts.push(`${count} ${name}`);
  }
  return parts.join(" ");
}

/** How long ago, in the largest unit. */
export function ago(since) {
  if (since < 1) return "just now";
  const [count, unit] = seconds(since).split(" ");
  return `${count} ${unit} ago`;
}

export function plural(count, one, many) {
  return `${count.toLocaleString("en")} ${count === 1 ? one : many}`;
}

/** Host and path prefix, as people write them. */
export function serviceName(service) {
  return service.host + service.path_prefix.replace(/\/$/, "");
}

const STATES = { awake: "Awake", waking: "Waking", asleep: "Asleep", failing: "Failing", "no-backend": "No backend" };

export function stateName(state) {
  return STATES[state] ?? state;
}

const BLOCKERS = {
  external: "not by agimo",
  peers: "a replica is silent",
  rollout: "after the rollout",
  pin: "pinned awake",
  schedule: "by schedule",
};

/** Why the workload stays awake, for the column of the countdown. */
export function blocker(name) {
  return BLOCKERS[name] ?? name;
}

const AUTHORITIES = { report: "another scaler", wake: "agimo wakes only", sleep: "agimo, 0 to 1", scale: "agimo" };

export function scaler(service) {
  return service.authority ? AUTHORITIES[service.authority] ?? service.authority : "none";
}

/** Who caused a wake. */
export function cause(cause) {
  switch (cause.by) {
    case "request": {
      if (!cause.request) return `a request for ${cause.service}`;
      const { method, path, network, client_kind } = cause.request;
      return `${method} ${cause.service.split("/", 1)[0]}${path}${network ? ` from ${network}` : ""} (${client_kind})`;
    }
    case "directive": return cause.directive.startsWith("scheduled") ? "a schedule" : "a pin";
    case "operator": return cause.name;
    default: return "another scaler or a person";
  }
}

/** One record of the ledger in a sentence. */
export function record(record) {
  const problem = (reason) => (reason ? `: ${reason.reason}${reason.detail ? `, ${reason.detail}` : ""}` : "");
  switch (record.kind) {
    case "wake": {
      const outcomes = {
        underway: "not ready yet", ready: "ready", answered: "answered", cancelled: "no request waits any more",
        "given-up": "given up, it never became ready", interrupted: "interrupted before it was ready",
        failed: `failed${problem(record.failure)}`,
      };
      const obstacle = record.obstacle ? `; was not ready because of ${problem(record.obstacle).slice(2)}` : "";
      return `Wake by ${cause(record.cause)}: ${outcomes[record.outcome] ?? record.outcome}${obstacle}`;
    }
    case "sleep": {
      const idle = record.idle_ms === null ? "" : ` after ${duration(record.idle_ms)} without a request`;
      const by = { pin: " by a pin", elsewhere: " by another scaler or a person", operator: ` by ${record.name}` };
      return `Put to sleep${by[record.by] ?? ""}${record.by === "operator" ? "" : idle}`;
    }
    case "wake_observed": return `Observed: agimo would have scaled to ${record.replicas}`;
    case "sleep_observed": return `Observed: agimo would have scaled to zero after ${duration(record.idle_ms)} without a request`;
    case "failure": return `Failure: ${record.what}${record.detail ? `: ${record.detail}` : ""}`;
    default: return "Something that only a newer agimo explains";
  }
}

const PHASES = {
  scale_written: ["replicas written", 1], pod_scheduled: ["pod scheduled", 1], image_pulled: ["image pulled", 2], container_started: ["container started", 2],
  started: ["process started", 2], probes_passed: ["probes passed", 3], pod_ready: ["pod ready", 3],
  endpoint_slice_ready: ["endpoint listed", 3], ready: ["ready", 3], connected: ["connected", 4],
  forwarded: ["forwarded", 4], answered: ["answered", 4],
};

/** The phases of a wake with where each begins and ends, in milliseconds after the beginning of the wake. */
export function phases(wake) {
  let before = 0;
  return wake.phases.map(({ phase, after_ms }) => {
    const [name, group] = PHASES[phase] ?? [phase.replaceAll("_", " "), 4];
    // Phases at different places may be noticed in another order.
    const from = Math.min(before, after_ms);
    before = Math.max(before, after_ms);
    return { name, group, from, to: after_ms };
  });
}

/** Whether the workload did not become ready, although it was waited for. */
export function hasFailed(wake) {
  return wake.outcome === "failed" || wake.outcome === "given-up";
}

/** How a wake ended that did not end well, in a word; empty for the others. */
export function failure(wake) {
  const words = { failed: `failed: ${wake.failure?.reason ?? "unknown"}`, "given-up": "never became ready", cancelled: "cancelled", interrupted: "interrupted" };
  return words[wake.outcome] ?? "";
}

/** How long the wake took, up to the last phase that was reached. */
export function wakeDuration(wake) {
  return Math.max(0, ...wake.phases.map(({ after_ms }) => after_ms));
}
