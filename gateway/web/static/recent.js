// The list of one's own recent jobs.

import { now } from "./api.js";
import { ago, brief } from "./words.js";

const WORDS = { queued: "in the queue", running: "running", unknown: "outcome unknown" };

/** Show `jobs`; `open(job)` is called with the one that is chosen. */
export function showRecent(list, none, jobs, current, open) {
  const focused = list.contains(document.activeElement) && document.activeElement.dataset.id;
  list.replaceChildren(...jobs.map((job) => itemOf(job, job.id === current, open)));
  none.hidden = jobs.length > 0;
  if (focused) list.querySelector(`[data-id="${CSS.escape(focused)}"]`)?.focus();
}

function itemOf(job, isCurrent, open) {
  const item = document.createElement("li");
  const button = document.createElement("button");
  button.type = "button";
  button.dataset.id = job.id;
  if (isCurrent) button.setAttribute("aria-current", "true");
  button.append(
    part("i", "", job.status),
    part("span", titleOf(job)),
    part("small", [WORDS[job.status] ?? job.status, lasted(job), whenOf(job)].filter(Boolean).join(" · ")),
  );
  button.addEventListener("click", () => open(job));
  item.append(button);
  return item;
}

function part(tag, text, status) {
  const element = document.createElement(tag);
  element.textContent = text;
  if (status) element.dataset.status = status;
  return element;
}

const titleOf = (job) =>
  typeof job.metadata?.prompt === "string" && job.metadata.prompt ? job.metadata.prompt : job.endpoint;

/** Today the time of day as well, since several jobs may be of the same minutes. */
function whenOf(job) {
  const at = new Date(job.created_at);
  const today = at.toDateString() === new Date(now()).toDateString();
  const time = at.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
  return today ? `${time}, ${ago(now() - at)}` : at.toLocaleDateString();
}

function lasted(job) {
  const seconds = (Date.parse(job.ended_at) - Date.parse(job.created_at)) / 1000;
  return Number.isNaN(seconds) ? null : brief(seconds);
}
