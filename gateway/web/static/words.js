// Numbers and errors in the words of a person.

const two = (value) => String(value).padStart(2, "0");

/** 83.4 -> "1:23". */
export const clock = (seconds) => `${Math.floor(seconds / 60)}:${two(Math.floor(seconds % 60))}`;

/** 83.42 -> "01:23.4". */
export function stopwatch(seconds) {
  const tenths = Math.floor(Math.max(0, seconds) * 10);
  return `${two(Math.floor(tenths / 600))}:${two(Math.floor(tenths / 10) % 60)}.${tenths % 10}`;
}

export const exact = (seconds) => `${seconds.toFixed(2)} s`;

export const brief = (seconds) =>
  seconds < 60
    ? `${(Math.floor(Math.max(0, seconds) * 10) / 10).toFixed(1)} s`
    : seconds < 3_600 ? clock(seconds) : `${(seconds / 3_600).toFixed(1)} h`;

export function megabytes(bytes) {
  const size = bytes / 2 ** 20;
  return size < 1 ? `${Math.ceil(bytes / 1024)} KiB` : `${size.toFixed(size < 10 ? 1 : 0)} MiB`;
}

export function ago(ms) {
  const seconds = ms / 1000;
  if (seconds < 45) return "just now";
  if (seconds < 3_600) return `${Math.max(1, Math.round(seconds / 60))} min ago`;
  if (seconds < 86_400) return `${Math.round(seconds / 3_600)} h ago`;
  return new Date(Date.now() - ms).toLocaleDateString();
}

/** fal's complaints about an input in one line, each with the name of what it is about. */
export function complaintsIn(fields) {
  const about = (loc) => (Array.isArray(loc) ? loc : []).filter((part) => part !== "body").join(".");
  return fields.slice(0, 12).map(({ loc, msg }) => [about(loc), msg].filter(Boolean).join(": ")).join("; ");
}

// error_type -> [what happened, what to do]; `null` keeps the gateway's own words.
const KNOWN = {
  endpoint_not_allowed: [
    "Your plan does not include this endpoint",
    "Ask whoever runs this gateway to allow fal-ai/stable-audio-25/** (GATEWAY_ENDPOINTS, or the plan's endpoints).",
  ],
  origin_not_allowed: [
    "This page may not act for you here",
    "Open the playground at the gateway's own address, the one that it printed at its start.",
  ],
  outcome_unknown: [
    "Nobody knows yet whether fal took this job",
    "Do not submit it again. The gateway finds out by itself, and this page shows it.",
  ],
  upstream_unreachable: [
    "fal could not be reached",
    "Nothing was sent, so nothing was paid. Try again in a moment.",
  ],
  upstream_key_refused: [
    "fal does not accept the gateway's key",
    "Whoever runs this gateway should check FAL_KEY and the account's balance.",
  ],
  upload_failed: [
    "The upload did not arrive",
    "Storage cut it short or turned it away. Your clip is still here: try again.",
  ],
  expired: ["The job was lost sight of", "fal never told how it ended. Run the clip again."],
  result_gone: ["The result is no longer kept", "Run the clip again."],
  job_not_found: [
    "No such job",
    "It is older than the gateway's memory, or it belongs to somebody else.",
  ],
  body_too_large: ["This is more than the gateway takes", "Use a shorter clip or a shorter prompt."],
  store_unavailable: ["The gateway's ledger is away", "Nothing was lost. Try again in a moment."],
  content_policy_violation: ["The model declined this prompt or clip", "Change the prompt, then try again."],
  file_download_error: ["fal could not fetch the clip", "Try again: it is uploaded anew."],
};

const BY_STATUS = {
  0: ["The gateway did not answer", "Check that it runs and that you are online, then try again."],
  402: ["The budget is spent", null],
  403: ["Not allowed", null],
  422: ["The model did not accept the input", "Change the fields that are marked in the form, then transform again."],
  429: ["Too many requests at once", null],
  500: ["Something broke on the way", null],
  502: ["fal could not be asked", "Nothing is lost. Try again in a moment."],
  503: ["Busy just now", "Try again in a moment."],
  504: ["It took too long", "fal gave up on this run. Try again, perhaps with a shorter clip."],
};

const ELSEWHERE = "Send it again with these put right.";

/**
 * What happened and what to do about it, for an ApiError or an error of a job.
 * `marked`: are the fields that fal did not like marked in the form?
 */
export function explain(error) {
  const status = error.status ?? 500;
  const known = KNOWN[error.type] ?? KNOWN[error.fields?.[0]?.type] ?? BY_STATUS[status] ?? [];
  const own = error.message && !/^(HTTP \d+|No answer)$/.test(error.message) ? error.message : null;
  const wait = error.retryAfter ? `Free again in about ${error.retryAfter} s.` : null;
  return {
    title: known[0] ?? error.title ?? "This did not work",
    detail: own === known[0] ? null : own,
    advice: wait ?? (known === BY_STATUS[422] && !error.marked ? ELSEWHERE : known[1]) ?? null,
  };
}

/** What a stage is called when nothing has changed for long. */
export const STILL = {
  queue: "Still in fal's queue",
  running: "Still running",
  unknown: "Still no word from fal",
};

export const STAGES = {
  idle: "Ready when you are",
  upload: "Uploading",
  submit: "Submitting",
  queue: "In fal's queue",
  running: "Running",
  fetch: "Fetching the result",
  done: "Done",
  failed: "Failed",
  cancelled: "Cancelled",
  expired: "Expired",
  unknown: "Waiting for word from fal",
};
