// One service: why it is in its state, its day, its wakes phase by phase, and the buttons.

import { now, sleepText } from "./dashboard.js";
import { duration, hasFailed, phases, plural, record as recordText, seconds, serviceName, stateName, wakeDuration } from "./text.js";

const at = (id) => document.getElementById(id);
/** Failures that end what was awake. */
const ENDS = ["endpoints-lost", "process-exited", "process-unresponsive"];
/** What the timeline may show, in seconds: the shortest that has every record, a day at most. */
const SPANS = [[600, "The last 10 minutes"], [3_600, "The last hour"], [21_600, "The last 6 hours"], [86_400, "The last 24 hours"]];
const TOKEN = "agimo-token";

/** The service that is shown: host and path prefix, and what is known of it. */
let name = null;
let service = null;
let records = [];
/** The question that is not answered yet. */
let asking = null;
/** Something has changed since the last question. */
let isStale = false;
let askedAt = 0;
/** What the records depended on when they were read. */
let recordsOf = null;
let retry = null;

/** Between two questions about one service. */
const SHORTEST_GAP = 2_000;
/** Sentences name times: they are asked for again although nothing has changed. */
const LONGEST_GAP = 15_000;

export function openService(wanted, current) {
  closeService();
  name = wanted;
  for (const id of ["outcome", "why", "request-now", "records-note"]) at(id).textContent = "";
  at("token-form").hidden = true;
  showRecords();
  serviceChanged(current);
  refreshService();
}

export function closeService() {
  asking?.abort();
  [name, service, records, recordsOf, retry, asking] = [null, null, [], null, null, null];
  document.title = "agimo";
}

/** Asks again what the page says. */
export function refreshService() {
  if (name !== null) [isStale, askedAt, recordsOf] = [true, 0, null];
}

/** The service has changed; absent where it is gone or not known yet. */
export function serviceChanged(current) {
  isStale ||= current === null || service === null || signature(current) !== signature(service);
  service = current;
  const title = current ? serviceName(current) : name.replace(/\/$/, "");
  write(at("service-name"), title);
  document.title = `${title} – agimo`;
  at("service").dataset.state = current?.state ?? "unknown";
  write(at("service-state"), current ? stateName(current.state) : "Not configured");
  at("unpin").hidden = !current?.pin?.by;
  at("wake").disabled = !current || ["awake", "waking"].includes(current.state);
  at("sleep").disabled = !current || !["awake", "waking"].includes(current.state);
  at("pin").disabled = !current;
  showFacts();
}

/** What the explanation depends on. */
function signature({ state, kept_awake_by, directive, pin, authority, scaler, ready_endpoints, workload_load, last_wake, not_ready, last_failure, sleeps_at_unix }) {
  return JSON.stringify([state, kept_awake_by, directive, pin, authority, scaler, ready_endpoints, workload_load, last_wake, not_ready, last_failure, sleeps_at_unix]);
}

/** Asks when it is time, one question after the other. */
async function ask() {
  if (name === null || asking || document.hidden) return;
  const gap = Date.now() - askedAt;
  if (gap < (isStale ? SHORTEST_GAP : LONGEST_GAP)) return;
  const question = new AbortController();
  [asking, isStale, askedAt] = [question, false, Date.now()];
  const wanted = name;
  const get = async (path, parameters = {}) => {
    const query = new URLSearchParams({ host: wanted, ...parameters });
    return answerOf(await fetch(`/api/v1/${path}?${query}`, { signal: question.signal }));
  };
  try {
    const explanation = await get("explain");
    // Another service may have the host and path now.
    if (explanation.service.host + explanation.service.path_prefix !== wanted) throw new Error("No service of the configuration has this host and path.");
    write(at("why"), `${stateName(explanation.service.state)}: ${explanation.why}.`);
    const { reason, detail } = explanation.request_now;
    const word = document.createElement("b");
    word.textContent = reason;
    at("request-now").replaceChildren("A request now is ", word, ` ${detail}.`);
    const { state, last_wake, last_failure } = explanation.service;
    const version = JSON.stringify([state, last_wake, last_failure]);
    if (version !== recordsOf) {
      const wakes = await get("wakes", { limit: "100" });
      [recordsOf, records] = [version, wakes.records];
      write(at("records-note"), recordsNote(wakes));
      showRecords();
    }
  } catch (error) {
    if (question.signal.aborted) return;
    write(at("why"), error.message);
    at("request-now").textContent = "";
    refreshService();
    askedAt = Date.now();
  } finally {
    if (asking === question) asking = null;
  }
}

/** The object of an answer. */
async function answerOf(response) {
  const isJson = response.headers.get("content-type")?.startsWith("application/json");
  const answer = isJson ? await response.json() : { error: (await response.text()).trim() };
  if (!response.ok) throw Object.assign(new Error(sentence(answer.error)), { status: response.status });
  return answer;
}

function recordsNote({ records: found, lost_events, unreachable }) {
  return [
    found.length === 0 ? "Nothing is recorded since agimo was started." : "",
    lost_events > 0 ? `${plural(lost_events, "event was", "events were")} lost: records may be incomplete.` : "",
    ...unreachable.map((problem) => `The records of another replica are missing: ${problem}.`),
  ].filter(Boolean).join(" ");
}

function write(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

const sentence = (text) => `${capital(text)}.`;
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
  // Texts are written where they change, so that they can be selected.
  const list = at("facts");
  while (list.children.length > facts.length) list.lastChild.remove();
  facts.forEach(([term, text], index) => {
    let row = list.children[index];
    if (!row) {
      row = document.createElement("div");
      row.append(document.createElement("dt"), document.createElement("dd"));
      list.append(row);
    }
    write(row.firstChild, term);
    write(row.lastChild, text);
  });
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
    bar.className = hasFailed(wake) ? "failed" : `phase-${group}`;
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
  const spent = {};
  const add = (from, to, state, title) => {
    if (to <= start || from >= end || to <= from) return;
    spent[state] = (spent[state] ?? 0) + Math.min(to, end) - Math.max(from, start);
    const part = document.createElement("i");
    part.className = state;
    part.title = title;
    const left = Math.max(0, (from - start) / span);
    place(part, left, Math.min(1, (to - start) / span) - left);
    parts.push(part);
  };
  // From the oldest record on, each lasts until the next one, the last one until now.
  const ordered = records.filter(({ kind, what }) => kind === "wake" || kind === "sleep" || ENDS.includes(what)).reverse();
  ordered.forEach((record, index) => {
    const next = ordered[index + 1]?.at_unix ?? end;
    const title = `${new Date(record.at_unix * 1_000).toLocaleTimeString("en-GB")} ${recordText(record)}`;
    if (record.kind === "sleep") return add(record.at_unix, next, "asleep", title);
    // What was awake has ended: whether it runs again is told by the next record.
    if (record.kind === "failure") return add(record.at_unix, Math.min(next, record.at_unix + span / 200), "failed", title);
    const reached = record.phases.find(({ phase }) => phase === "ready");
    if (reached) {
      const ready = Math.min(next, record.at_unix + reached.after_ms / 1_000);
      add(record.at_unix, ready, "waking", title);
      return add(ready, next, "awake", title);
    }
    if (record.outcome === "ready") return add(record.at_unix, next, "awake", title);
    add(record.at_unix, next, hasFailed(record) ? "failed" : "waking", title);
  });
  if (ordered.length === 0 && service && ["awake", "asleep"].includes(service.state)) {
    add(end - span / 100, end, service.state, stateName(service.state));
  }
  at("day").replaceChildren(...parts);
  const wakes = ordered.filter(({ kind, at_unix }) => kind === "wake" && at_unix > start).length;
  at("day").setAttribute("aria-label", `${title}: ${plural(wakes, "wake", "wakes")}${Object.entries(spent).map(([state, time]) => `, ${state} for ${seconds(time)}`).join("")}`);
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
  const wanted = name;
  const again = () => { if (name === wanted) change(path, parameters); };
  const token = sessionStorage.getItem(TOKEN);
  if (!token) return askForToken(again);
  const query = new URLSearchParams({ host: wanted, ...parameters });
  outcome("…");
  try {
    const headers = { Authorization: `Bearer ${token}` };
    const { workload, detail, unreachable } = await answerOf(await fetch(`/api/v1/${path}?${query}`, { method: "POST", headers }));
    if (name !== wanted) return;
    const untold = unreachable.map((problem) => ` Another replica was not told: ${problem}.`).join("");
    outcome(`${workload}: ${detail}.${untold}`, untold !== "");
  } catch (error) {
    if (name !== wanted) return;
    outcome(error.message, true);
    // A conflict says nothing about the token.
    if (![400, 404, 409, 429, 503].includes(error.status)) askForToken(again);
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
  at("service-name").focus();
  retry?.();
});
at("wake").addEventListener("click", () => change("wake"));
at("sleep").addEventListener("click", () => change("sleep"));
at("pin").addEventListener("click", () => change("pin", { state: "awake", ...(at("pin-for").value && { for: at("pin-for").value }) }));
at("unpin").addEventListener("click", () => change("unpin"));
setInterval(() => {
  if (name === null || document.hidden) return;
  showFacts();
  ask();
}, 500);
setInterval(() => { if (name !== null) showDay(); }, 30_000);
