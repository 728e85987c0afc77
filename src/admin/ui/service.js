// One service: why it is in its state, its day, its wakes phase by phase, and the buttons.

import { now, sleepText } from "./dashboard.js";
import { duration, phases, plural, record as recordText, seconds, serviceName, stateName, wakeDuration } from "./text.js";

const at = (id) => document.getElementById(id);
/** What the timeline may show, in seconds: the shortest that has every record, a day at most. */
const SPANS = [[600, "The last 10 minutes"], [3_600, "The last hour"], [21_600, "The last 6 hours"], [86_400, "The last 24 hours"]];
const TOKEN = "agimo-token";

/** The service that is shown: host and path prefix, and what is known of it. */
let name = null;
let service = null;
let records = [];
/** The last question, so that a late answer to an earlier one is dropped. */
let asked = 0;
let retry = null;

export function openService(wanted, current) {
  if (wanted !== name) {
    records = [];
    at("outcome").textContent = "";
    at("token-form").hidden = true;
    at("why").textContent = "";
    at("request-now").textContent = "";
  }
  name = wanted;
  at("service-name").textContent = current ? serviceName(current) : wanted;
  document.title = `${at("service-name").textContent} – agimo`;
  showRecords();
  serviceChanged(current);
}

export function closeService() {
  name = null;
  service = null;
  document.title = "agimo";
}

/** The service has changed; absent where it is gone or not known yet. */
export function serviceChanged(current) {
  const isNews = current === null || service === null || signature(current) !== signature(service);
  service = current;
  at("service").dataset.state = current?.state ?? "unknown";
  at("service-state").textContent = current ? stateName(current.state) : "Not known";
  at("unpin").hidden = !current?.pin?.by;
  at("wake").disabled = ["awake", "waking"].includes(current?.state);
  at("sleep").disabled = current?.state !== "awake";
  showFacts();
  if (isNews) ask();
}

/** What the explanation and the records depend on. */
function signature({ state, kept_awake_by, directive, ready_endpoints, workload_load, last_wake, not_ready, sleeps_at_unix }) {
  return JSON.stringify([state, kept_awake_by, directive, ready_endpoints, workload_load, last_wake, not_ready, sleeps_at_unix]);
}

async function ask() {
  const question = ++asked;
  const query = new URLSearchParams({ host: name });
  const get = async (path) => {
    const response = await fetch(`/api/v1/${path}?${query}`);
    if (!response.ok) throw new Error((await response.json()).error);
    return response.json();
  };
  try {
    const explanation = await get("explain");
    if (question !== asked) return;
    at("why").textContent = `${capital(stateName(explanation.service.state))}: ${explanation.why}.`;
    const { reason, detail } = explanation.request_now;
    const word = document.createElement("b");
    word.textContent = reason;
    at("request-now").replaceChildren("A request now is ", word, ` ${detail}.`);
    query.set("limit", "100");
    const wakes = await get("wakes");
    if (question !== asked) return;
    records = wakes.records;
    at("records-note").textContent = [
      records.length === 0 ? "Nothing is recorded since agimo was started." : "",
      wakes.lost_events > 0 ? `${plural(wakes.lost_events, "event was", "events were")} lost: records may be incomplete.` : "",
      ...wakes.unreachable.map((problem) => `The records of another replica are missing: ${problem}.`),
    ].filter(Boolean).join(" ");
    showRecords();
  } catch (error) {
    if (question === asked) at("why").textContent = error.message;
  }
}

const capital = (text) => text[0].toUpperCase() + text.slice(1);

// --- facts

function showFacts() {
  if (!service) return at("facts").replaceChildren();
  const load = service.workload_load;
  const facts = [
    ["Workload", service.workload],
    ["Ready endpoints", String(service.ready_endpoints)],
    ["Open", `${plural(load.open_requests, "request", "requests")}, of them ${load.held_requests} held and ${plural(load.open_tunnels, "socket", "sockets")}`],
    ["Sleep", sleepText(service)],
    ["Scaler", service.scaler ? service.scaler.detail : "none"],
  ];
  if (service.oldest_held_at_unix) facts.push(["Oldest held request", seconds(Math.round(now() - service.oldest_held_at_unix))]);
  if (service.pin) {
    const end = service.pin.until_unix ? `for another ${seconds(Math.ceil(service.pin.until_unix - now()))}` : "until it is unpinned";
    facts.push(["Pin", `${service.pin.by ? `by ${service.pin.by}` : "by an annotation"}, ${end}`]);
  }
  if (service.reverted_by) facts.push(["Undone by", `${service.reverted_by.writers.join(", ")}: ${service.reverted_by.fix}`]);
  if (service.last_failure) facts.push(["Last failure", `${service.last_failure.reason}: ${service.last_failure.detail}`]);
  at("facts").replaceChildren(...facts.map(([term, text]) => {
    const [row, dt, dd] = ["div", "dt", "dd"].map((tag) => document.createElement(tag));
    dt.textContent = term;
    dd.textContent = text;
    row.append(dt, dd);
    return row;
  }));
}

// --- records

function showRecords() {
  at("records").replaceChildren(...records.map(item));
  showDay();
}

function item(record) {
  const [line, time, body, text] = ["li", "time", "div", "p"].map((tag) => document.createElement(tag));
  const moment = new Date(record.at_unix * 1_000);
  time.dateTime = moment.toISOString();
  time.textContent = moment.toLocaleString("en-GB", { day: "2-digit", month: "short", hour: "2-digit", minute: "2-digit", second: "2-digit" });
  text.textContent = `${recordText(record)}.`;
  body.append(text);
  if (record.kind === "wake" && record.phases.length > 0) body.append(waterfall(record));
  line.append(time, body);
  return line;
}

function waterfall(wake) {
  const whole = wakeDuration(wake) || 1;
  const grid = document.createElement("div");
  grid.className = "waterfall";
  for (const { name, group, from, to } of phases(wake)) {
    const [label, took, track, bar] = ["span", "span", "div", "i"].map((tag) => document.createElement(tag));
    label.textContent = name;
    took.textContent = duration(to);
    bar.className = wake.outcome === "failed" ? "failed" : `phase-${group}`;
    place(bar, from / whole, (to - from) / whole);
    track.append(bar);
    grid.append(label, took, track);
  }
  return grid;
}

// --- the day

function showDay() {
  const end = now();
  const oldest = records.length === 0 ? end : Math.min(...records.map(({ at_unix }) => at_unix));
  const [span, title] = SPANS.find(([length]) => oldest > end - length) ?? SPANS.at(-1);
  const start = end - span;
  at("day-title").textContent = title;
  const parts = [];
  const add = (from, to, state, title) => {
    if (to <= start || from >= end || to <= from) return;
    const part = document.createElement("i");
    part.className = state;
    part.title = title;
    const left = Math.max(0, (from - start) / span);
    place(part, left, Math.min(1, (to - start) / span) - left);
    parts.push(part);
  };
  // From the oldest record on, each lasts until the next one.
  const ordered = records.filter(({ kind }) => kind === "wake" || kind === "sleep").reverse();
  ordered.forEach((record, index) => {
    const next = ordered[index + 1]?.at_unix ?? end;
    const title = `${new Date(record.at_unix * 1_000).toLocaleTimeString("en-GB")} ${recordText(record)}`;
    if (record.kind === "sleep") return add(record.at_unix, next, "asleep", title);
    const isReady = record.outcome === "ready" || record.outcome === "answered";
    const ready = record.phases.find(({ phase }) => phase === "ready");
    const awake = isReady ? Math.min(next, record.at_unix + (ready?.after_ms ?? 0) / 1_000) : next;
    if (record.outcome === "underway") return add(record.at_unix, next, "waking", title);
    if (!isReady) {
      const failed = record.at_unix + wakeDuration(record) / 1_000;
      add(record.at_unix, Math.min(next, Math.max(failed, record.at_unix + 1)), "failed", title);
      return add(Math.max(failed, record.at_unix + 1), next, "asleep", "asleep");
    }
    add(record.at_unix, awake, "waking", title);
    add(awake, next, "awake", title);
  });
  if (ordered.length === 0 && service && ["awake", "asleep"].includes(service.state)) {
    add(end - span / 100, end, service.state, stateName(service.state));
  }
  at("day").replaceChildren(...parts);
  const wakes = ordered.filter(({ kind, at_unix }) => kind === "wake" && at_unix > start).length;
  at("day").setAttribute("aria-label", `${title}: ${plural(wakes, "wake", "wakes")}`);
  const hours = [1, 0.75, 0.5, 0.25, 0].map((part) => {
    const label = document.createElement("span");
    label.textContent = new Date((end - part * span) * 1_000).toLocaleTimeString("en-GB", { hour: "2-digit", minute: "2-digit" });
    return label;
  });
  at("hours").replaceChildren(...hours);
}

function place(element, from, width) {
  element.style.setProperty("--from", `${(from * 100).toFixed(3)}%`);
  element.style.setProperty("--width", `${(Math.max(0, width) * 100).toFixed(3)}%`);
}

// --- buttons

async function change(path, parameters = {}) {
  const token = sessionStorage.getItem(TOKEN);
  if (!token) return askForToken(() => change(path, parameters));
  const query = new URLSearchParams({ host: name, ...parameters });
  outcome("…");
  try {
    const response = await fetch(`/api/v1/${path}?${query}`, { method: "POST", headers: { Authorization: `Bearer ${token}` } });
    const answer = await response.json();
    if (response.status === 401) {
      sessionStorage.removeItem(TOKEN);
      askForToken(() => change(path, parameters));
    }
    outcome(response.ok ? `${answer.workload}: ${answer.detail}.` : `${capital(answer.error)}.`, !response.ok);
  } catch (error) {
    outcome(error.message, true);
  }
}

function outcome(text, isRefused = false) {
  at("outcome").textContent = text;
  at("outcome").classList.toggle("refused", isRefused);
}

function askForToken(next) {
  retry = next;
  at("token-form").hidden = false;
  at("token").focus();
}

at("token-form").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem(TOKEN, at("token").value.trim());
  at("token").value = "";
  at("token-form").hidden = true;
  retry?.();
});
at("wake").addEventListener("click", () => change("wake"));
at("sleep").addEventListener("click", () => change("sleep"));
at("pin").addEventListener("click", () => change("pin", { state: "awake", ...(at("pin-for").value && { for: at("pin-for").value }) }));
at("unpin").addEventListener("click", () => change("unpin"));
setInterval(() => { if (name) { showFacts(); } }, 1_000);
setInterval(() => { if (name) showDay(); }, 60_000);
