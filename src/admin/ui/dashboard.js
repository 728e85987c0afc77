// The table of services, live. The state of each service comes from /api/v1/services/changes.

import { ago, blocker, cause, duration, failure, hasFailed, phases, plural, scaler, seconds, serviceName, stateName, wakeDuration } from "./text.js";
import { closeService, openService, refreshService, serviceChanged } from "./service.js";

const at = (id) => document.getElementById(id);
const rows = at("services").tBodies[0];
const template = at("row").content.firstElementChild;

/** Services by host and path prefix, each with its row. */
const known = new Map();
/** What the clock of agimo is ahead of the one of the browser, in seconds. */
let clockOffset = 0;
let filter = "";
let words = [];
let opened = null;

export const now = () => Date.now() / 1_000 + clockOffset;

// --- the stream

/** A message comes every second, or less often where looking costs much. */
const SILENCE = 20_000;
let stream = null;
let heard = 0;

function connect() {
  stream?.close();
  stream = new EventSource("/api/v1/services/changes");
  heard = Date.now();
  // A delay makes the clock of agimo look late, and never early.
  let isFirst = true;
  stream.addEventListener("message", ({ data }) => {
    heard = Date.now();
    const message = JSON.parse(data);
    const offset = message.now_unix - heard / 1_000;
    clockOffset = isFirst ? offset : Math.max(clockOffset, offset);
    isFirst = false;
    if (message.is_complete) {
      const present = new Set(message.services.map(key));
      message.removed = [...known.keys()].filter((name) => !present.has(name));
    }
    message.removed.forEach(remove);
    message.services.forEach(update);
    if (message.is_complete || message.removed.length > 0 || message.services.length > 0) summarize();
    if (show("live", "Live")) refreshService();
  });
  stream.addEventListener("error", () => show("lost", "Connection lost"));
}

/** Returns whether that is news. */
function show(connection, text) {
  const isNews = document.body.dataset.connection !== connection;
  document.body.dataset.connection = connection;
  write(at("connection"), text);
  return isNews;
}

// A browser keeps few connections to one host: a tab that nobody sees needs none.
document.addEventListener("visibilitychange", () => {
  if (!document.hidden) return connect();
  stream?.close();
  stream = null;
});
setInterval(() => {
  if (stream && (stream.readyState === EventSource.CLOSED || Date.now() - heard > SILENCE)) {
    show("lost", "Connection lost");
    connect();
  }
}, 3_000);

const key = (service) => service.host + service.path_prefix;

function remove(name) {
  known.get(name)?.row.remove();
  known.delete(name);
  if (name === opened) serviceChanged(null);
}

function update(service) {
  const name = key(service);
  let entry = known.get(name);
  if (!entry) {
    const row = template.cloneNode(true);
    const cells = {};
    for (const part of ["host", "workload", "state", "reason", "ready", "open", "held", "sockets", "sleep", "scaler", "wake", "bar", "wake-text"]) {
      cells[part] = row.querySelector(`.${part}`);
    }
    cells.host.href = `#/${encodeURIComponent(name)}`;
    entry = { row, cells };
    known.set(name, entry);
    rows.append(row);
  }
  entry.service = service;
  fill(entry);
  if (name === opened) serviceChanged(service);
}

// --- rows

function fill(entry) {
  const { row, cells, service } = entry;
  const load = service.workload_load;
  row.dataset.state = service.state;
  write(cells.host, serviceName(service));
  write(cells.workload, service.workload);
  write(cells.state, stateName(service.state));
  const problem = service.state === "failing" ? service.last_failure : service.state === "waking" ? service.not_ready : null;
  write(cells.reason, problem?.reason ?? "");
  cells.reason.title = problem?.detail ?? "";
  number(cells.ready, service.ready_endpoints);
  number(cells.open, load.open_requests);
  number(cells.sockets, load.open_tunnels);
  write(cells.scaler, scaler(service));
  cells.scaler.title = service.scaler?.detail ?? "";
  showBar(entry);
  tick({ cells, service });
  row.hidden = !matches(service);
}

/** The phases of the last wake. */
function showBar(entry) {
  const { cells, service: { last_wake: wake } } = entry;
  const text = JSON.stringify(wake);
  if (entry.wake === text) return;
  entry.wake = text;
  cells.wake.classList.toggle("empty", !wake);
  if (!wake) write(cells["wake-text"], "");
  cells.bar.replaceChildren(...(wake ? phases(wake) : []).map(({ name, group, from, to }) => {
    const part = document.createElement("i");
    part.className = hasFailed(wake) ? "failed" : `phase-${group}`;
    part.style.setProperty("--part", Math.max(0, to - from));
    part.title = `${name}: ${duration(to - from)}`;
    return part;
  }));
}

/** What changes with time alone. */
function tick({ cells, service }) {
  const held = service.workload_load.held_requests;
  number(cells.held, held);
  cells.held.classList.toggle("waiting", held > 0);
  if (held > 0 && service.oldest_held_at_unix) {
    const age = document.createElement("small");
    age.textContent = `oldest ${seconds(Math.round(now() - service.oldest_held_at_unix))}`;
    cells.held.append(age);
  }
  write(cells.sleep, sleepText(service));
  const wake = service.last_wake;
  if (wake) {
    const failed = failure(wake);
    const took = failed || (wake.phases.length > 0 ? duration(wakeDuration(wake)) : "");
    cells["wake-text"].classList.toggle("failure", hasFailed(wake));
    write(cells["wake-text"], `${took && `${took}, `}${ago(now() - wake.at_unix)}, by ${cause(wake.cause)}`);
  }
}

/** When the workload sleeps, or why it does not. */
export function sleepText(service) {
  if (service.sleep_after_seconds === null) return "–";
  if (service.kept_awake_by === "external") return blocker("external");
  if (service.state !== "awake") return service.directive === "pinned-asleep" ? "pinned asleep" : `after ${seconds(service.sleep_after_seconds)} idle`;
  if (service.kept_awake_by) return blocker(service.kept_awake_by);
  if (service.sleeps_at_unix) return `in ${seconds(Math.ceil(Math.max(0, service.sleeps_at_unix - now())))}`;
  return service.workload_load.open_requests > 0 ? "not while in use" : `after ${seconds(service.sleep_after_seconds)} idle`;
}

function write(cell, text) {
  if (cell.textContent !== text) cell.textContent = text;
}

function number(cell, value) {
  write(cell, value.toLocaleString("en"));
  cell.classList.toggle("zero", value === 0);
}

// --- the whole

function summarize() {
  const counts = { "": known.size };
  for (const { service } of known.values()) {
    const state = group(service);
    counts[state] = (counts[state] ?? 0) + 1;
  }
  for (const button of at("filters").children) {
    button.querySelector("b").textContent = (counts[button.dataset.filter] ?? 0).toLocaleString("en");
  }
  const awake = counts.awake ?? 0;
  at("headline").textContent = known.size === 0 ? "No service is configured." : `${plural(known.size, "service", "services")}, ${awake.toLocaleString("en")} awake.`;
  noteNothing();
}

/** A service that cannot run is one of those that fail. */
const group = ({ state }) => (state === "no-backend" ? "failing" : state);

function matches(service) {
  if (filter && group(service) !== filter) return false;
  const text = `${serviceName(service)} ${service.workload}`.toLowerCase();
  return words.every((word) => text.includes(word));
}

function narrow() {
  for (const entry of known.values()) {
    entry.row.hidden = !matches(entry.service);
    if (!entry.row.hidden) tick(entry);
  }
  noteNothing();
}

function noteNothing() {
  const isEmpty = known.size > 0 && [...known.values()].every(({ row }) => row.hidden);
  at("nothing").hidden = !isEmpty;
  at("nothing").textContent = "No service matches.";
}

at("filters").addEventListener("click", ({ target }) => {
  const button = target.closest("button");
  if (!button) return;
  filter = button.dataset.filter;
  for (const other of at("filters").children) other.setAttribute("aria-pressed", String(other === button));
  narrow();
});

at("search").addEventListener("input", () => {
  words = at("search").value.toLowerCase().split(/\s+/).filter(Boolean);
  narrow();
});

// --- one service

/** Where the table was before a service was opened. */
let place = 0;

function route() {
  const before = opened;
  opened = serviceOfHash();
  if (opened === null && before === null) return;
  if (before === null) place = window.scrollY;
  at("overview").hidden = opened !== null;
  at("service").hidden = opened === null;
  if (opened !== null) {
    openService(opened, known.get(opened)?.service ?? null);
    window.scrollTo(0, 0);
    at("service-name").focus();
    return;
  }
  closeService();
  narrow();
  window.scrollTo(0, place);
  known.get(before)?.cells.host.focus({ preventScroll: true });
}

/** The key of the service that the address names. */
function serviceOfHash() {
  try {
    const name = location.hash.startsWith("#/") ? decodeURIComponent(location.hash.slice(2)) : "";
    if (name === "") return null;
    return name.includes("/") ? name : `${name}/`;
  } catch {
    return null;
  }
}

async function about() {
  const response = await fetch("/api/v1/peers");
  if (!response.ok) return;
  const { replica, version, is_leader, peers } = await response.json();
  const silent = peers.filter(({ is_known }) => !is_known).length;
  const others = peers.length === 0 ? "the only replica" : `one of ${plural(peers.length + 1, "replica", "replicas")}${silent > 0 ? `, ${silent} silent` : ""}`;
  at("about").replaceChildren(...[`agimo ${version}`, `${replica}, ${others}${is_leader && peers.length > 0 ? ", which leads" : ""}`].map((text) => {
    const part = document.createElement("span");
    part.textContent = text;
    return part;
  }));
}

window.addEventListener("hashchange", route);
setInterval(() => {
  // Rows that do not show are filled when they change.
  for (const entry of known.values()) {
    const { service } = entry;
    if (!entry.row.hidden && opened === null && (service.sleeps_at_unix || service.oldest_held_at_unix)) tick(entry);
  }
}, 1_000);
setInterval(() => {
  if (opened === null) for (const entry of known.values()) if (!entry.row.hidden) tick(entry);
}, 30_000);
connect();
route();
about().catch(() => {});
setInterval(() => about().catch(() => {}), 30_000);
