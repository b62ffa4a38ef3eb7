// A job, watched to its end: server-sent events, and long polls where these do not get through.

import * as api from "./api.js";

const ENDS = ["completed", "failed", "cancelled", "expired"];
const NAMES = ["created", "queued", "started", "log", "unknown", ...ENDS];
const FIRST_EVENT = 6_000; // history is replayed at once; silence means a proxy holds it back
const TRIES = 4;

export const hasEnded = (status) => ENDS.includes(status);

const pause = (ms, signal) =>
  new Promise((resolve) => {
    const timer = setTimeout(resolve, ms);
    signal.addEventListener("abort", () => (clearTimeout(timer), resolve()), { once: true });
  });

/**
 * Watch the job `id`. `on` holds what to tell:
 * `event(name, data)`, `snapshot(job)`, `link("live" | "lost" | "polling")`, `failed(ApiError)`.
 * Nothing is told after an end or after the function that this returns was called.
 */
export function follow(id, on) {
  const stop = new AbortController();
  stream(id, on, stop);
  return () => stop.abort();
}

function stream(id, on, stop) {
  const source = new EventSource(`/v1/jobs/${id}/events`);
  const silence = setTimeout(fallBack, FIRST_EVENT);
  let losses = 0;

  function close() {
    clearTimeout(silence);
    source.close();
  }

  function fallBack() {
    close();
    if (!stop.signal.aborted) poll(id, on, stop);
  }

  function tell(name, message) {
    if (stop.signal.aborted) return;
    clearTimeout(silence);
    losses = 0;
    if (ENDS.includes(name)) close();
    on.event(name, JSON.parse(message.data));
  }

  stop.signal.addEventListener("abort", close, { once: true });
  source.onopen = () => on.link("live");
  source.onerror = () => {
    losses += 1;
    if (source.readyState === EventSource.CLOSED || losses >= TRIES) return fallBack();
    on.link("lost"); // the browser tries again by itself
  };
  for (const name of NAMES) source.addEventListener(`job.${name}`, (event) => tell(name, event));
  source.addEventListener("gap", () => {
    clearTimeout(silence);
    api.job(id).then((job) => {
      if (stop.signal.aborted) return;
      if (hasEnded(job.status)) close();
      on.snapshot(job);
    }, on.failed);
  });
}

async function poll(id, on, stop) {
  let version = null;
  let losses = 0;
  while (!stop.signal.aborted) {
    try {
      const job = await (version ? api.nextChange(id, version, stop.signal) : api.job(id));
      if (stop.signal.aborted) return;
      losses = 0;
      version = job.version;
      on.link("polling");
      on.snapshot(job);
      if (hasEnded(job.status)) return;
      await pause(250, stop.signal);
    } catch (error) {
      if (stop.signal.aborted) return;
      if (error.status >= 400 && error.status < 500 && error.status !== 429) return on.failed(error);
      on.link("lost");
      losses += 1;
      await pause((error.retryAfter ?? Math.min(2 ** losses, 15)) * 1_000, stop.signal);
    }
  }
}
