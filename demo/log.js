// The list of scans: the event id of each scan; the request, answer and time of each attempt.
import { IDENTITY_KEYS } from "./gate.js";

const MAX_ENTRIES = 20;
const STATUS = { 200: "OK", 400: "Bad Request", 401: "Unauthorized", 429: "Too Many Requests", 500: "Internal Server Error" };
const at = (id) => document.getElementById(id);

// Adds an entry to the list. Returns functions that add attempts, a note and the gate's decision to it.
export function begin({ shopper, store, location, id, isRepeated }) {
  const title = make("h3", "Asking the connector …");
  const note = make("p", "", "note");
  const attempts = make("ol", "", "attempts");
  const where = location === "EXIT" ? "Exit" : "Entry";
  const who = make("p", `${shopper}, ${where}, ${store}`);
  const eventId = make("p", isRepeated ? "Same event " : "Event ", "event");
  eventId.append(make("code", id));
  const body = make("div");
  body.append(title, who, eventId, note, attempts);
  const entry = make("li", "", "scan");
  const time = new Date().toLocaleTimeString();
  entry.append(make("time", time), body);
  at("no-scans").hidden = true;
  at("scans").prepend(entry);
  while (at("scans").children.length > MAX_ENTRIES) at("scans").lastChild.remove();
  return {
    time,
    add: (attempt, wait) => attempts.append(describe(attempt, attempts.children.length + 1, wait)),
    decide: (opens, words) => Object.assign(title, { textContent: words, className: opens ? "good" : "bad" }),
    note: (text) => (note.textContent = text),
  };
}

function describe({ request, status, message, answer, ms }, number, wait) {
  const summary = make("summary");
  const result = status === null ? "No answer" : `${status} ${STATUS[status] ?? ""}`.trim();
  const parts = [make("b", `Attempt ${number}`), make("b", result, status === 200 ? "good" : "bad")];
  if (message && message.toLowerCase() !== STATUS[status]?.toLowerCase()) parts.push(make("span", message));
  parts.push(make("span", `${ms < 10 ? ms.toFixed(1) : Math.round(ms)} ms`, "ms"));
  if (wait !== null) parts.push(make("span", `next attempt in ${Math.round(wait)} ms`, "faint"));
  summary.append(...parts.flatMap((part) => [part, " "]));
  const details = make("details");
  const exchange = make("div", "", "exchange");
  exchange.append(shown(`Request: POST ${IDENTITY_KEYS}`, request), shown(`Answer: ${result}`, pretty(answer) || message));
  details.append(summary, exchange);
  const item = make("li");
  item.append(details);
  return item;
}

function shown(title, text) {
  const part = make("div");
  part.append(make("h4", title), make("pre", text));
  return part;
}

function pretty(answer) {
  try {
    return JSON.stringify(JSON.parse(answer), null, 2);
  } catch {
    return answer;
  }
}

function make(name, text = "", className = "") {
  return Object.assign(document.createElement(name), { textContent: text, className });
}
