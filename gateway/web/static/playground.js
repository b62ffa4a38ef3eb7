// The page: signing in, choosing a clip, running it, and coming back to it.

import * as api from "./api.js";
import { NotAClip, fromFile, record, sample } from "./clip.js";
import { follow, hasEnded } from "./follow.js";
import { Track, oneAtATime } from "./player.js";
import { showRecent } from "./recent.js";
import { Run } from "./run.js";
import { channelsOf, decode, draw, peaksOf } from "./wave.js";
import { exact } from "./words.js";
import { snippetFor } from "./snippet.js";

const by = (id) => document.getElementById(id);
const on = (id, name, action) => by(id).addEventListener(name, action);

const RECENT = 12;
const FIELDS = {
  prompt: "prompt", audio_url: "clip", strength: "strength",
  total_seconds: "seconds", seed: "seed", num_inference_steps: "steps",
};

const run = new Run();
const input = new Track(by("in-track"));
const page = { clip: null, taking: null, jobId: null, unfollow: null, abort: null, before: null, turn: 0 };

// ---- signing in ----

const WHY = {
  first: by("door-why").textContent,
  ended: "Your session has ended. Paste a token to go on: your clip, your settings and your jobs are still here.",
  left: "You are signed out. Paste a token to come back.",
  refused: "This token is not valid: perhaps it has expired, or a part of it is missing.",
};

function showDoor(why) {
  stopWatching();
  by("door-why").textContent = WHY[why];
  by("sign-in-card").hidden = false;
  by("work").hidden = by("sign-out").hidden = true;
  by("token").focus();
}

async function enter(token) {
  by("sign-in").disabled = true;
  fieldError("token", "");
  try {
    await api.signIn(token);
    by("token").value = "";
    await openPage();
  } catch (error) {
    showDoor("first");
    const offline = error.status === 0 ? "The gateway did not answer. Is it running?" : error.message;
    fieldError("token", error.status === 401 ? WHY.refused : offline);
  } finally {
    by("sign-in").disabled = false;
  }
}

async function openPage() {
  const { jobs } = await api.jobs(RECENT);
  by("sign-in-card").hidden = true;
  by("work").hidden = by("sign-out").hidden = false;
  listRecent(jobs);
  if (run.busy && page.jobId === null) return;
  const wanted = page.jobId ?? /^#job=([0-9a-f-]{36})$/.exec(location.hash)?.[1];
  const job = wanted ? jobs.find((one) => one.id === wanted) : jobs.find((one) => !hasEnded(one.status));
  if (job) openJob(job);
  else if (wanted) api.job(wanted).then(openJob, trouble);
}

/** The token in `#token=...`, which leaves the address bar and the history at once. */
function tokenInAddress() {
  const token = /^#token=(.+)$/.exec(location.hash)?.[1];
  if (token) history.replaceState(null, "", location.pathname);
  return token && decodeURIComponent(token);
}

async function arrive() {
  const token = tokenInAddress();
  if (token) return enter(token);
  try {
    await openPage();
  } catch (error) {
    if (error.status === 401) return showDoor("first");
    notice("The gateway does not answer. Trying again…");
    setTimeout(() => (notice(""), arrive()), 3_000);
  }
}

// ---- the clip ----

async function take(make) {
  fieldError("clip", "");
  by("drop").classList.add("working");
  try {
    page.clip = await make();
    input.load(page.clip);
    by("in-name").textContent = page.clip.name;
    by("in-duration").textContent = exact(page.clip.seconds);
    by("in-duration").dataset.seconds = page.clip.seconds.toFixed(3);
    by("drop").classList.add("filled");
  } catch (error) {
    const odd = "This clip could not be read. Try another file.";
    fieldError("clip", error instanceof NotAClip ? error.message : odd);
  } finally {
    by("drop").classList.remove("working");
  }
}

async function toggleRecording() {
  if (page.taking) return page.taking.stop();
  const meter = by("meter");
  const levels = new Float32Array(160);
  try {
    page.taking = await record((level) => {
      levels.copyWithin(0, 1);
      levels[levels.length - 1] = level;
      draw(meter, levels, 1);
    });
  } catch (error) {
    return fieldError("clip", error.message);
  }
  recording(true);
  await take(() => page.taking.take);
  page.taking = null;
  recording(false);
}

function recording(isOn) {
  by("record").setAttribute("aria-pressed", isOn);
  by("record").querySelector(".record-words").textContent = isOn ? "Stop" : "Record";
  by("meter").hidden = !isOn;
  if (isOn) input.clear();
  else if (page.clip) by("in-track").hidden = false;
  by("drop").classList.toggle("recording", isOn);
}

// ---- the form ----

function fieldError(name, words) {
  by(`${name}-error`).textContent = words;
  const field = by(name === "clip" ? "file" : name);
  if (words) field.setAttribute("aria-invalid", "true");
  else field.removeAttribute("aria-invalid");
}

function checkForm() {
  const wrong = {
    clip: page.clip ? "" : "Choose a clip first, or use the sample.",
    prompt: by("prompt").value.trim() ? "" : "Say what the clip should become.",
    seconds: by("seconds").validity.valid ? "" : "A whole number of seconds, 1 or more.",
    seed: /^(0|[1-9]\d{0,19})?$/.test(by("seed").value.trim()) ? "" : "A whole number, or nothing.",
    steps: by("steps").validity.valid ? "" : "A whole number, 1 or more.",
  };
  for (const [name, words] of Object.entries(wrong)) fieldError(name, words);
  if (wrong.steps) by("advanced").open = true;
  const first = Object.keys(wrong).find((name) => wrong[name]);
  if (first) by(first === "clip" ? "sample" : first).focus();
  return !first;
}

function inputOf(audioUrl) {
  const fields = {
    prompt: by("prompt").value.trim(), audio_url: audioUrl, strength: by("strength").valueAsNumber,
  };
  if (by("seconds").value) fields.total_seconds = by("seconds").valueAsNumber;
  if (by("steps").value) fields.num_inference_steps = by("steps").valueAsNumber;
  return fields;
}

function markFields(details) {
  for (const { loc, msg } of details) {
    const name = FIELDS[loc?.find((part) => part in FIELDS)];
    if (name) fieldError(name, msg);
    if (name === "steps") by("advanced").open = true;
    if (name === "clip" && page.clip) page.clip.url = null; // fal could not use it: upload anew
  }
}

function showStrength() {
  by("strength-value").textContent = by("strength").valueAsNumber.toFixed(2);
  by("strength").style.setProperty("--share", by("strength").value);
}

// ---- a run ----

function stopWatching() {
  page.turn += 1;
  page.unfollow?.();
  page.unfollow = null;
}

async function begin() {
  if (page.abort || by("work").hidden || !checkForm()) return;
  stopWatching();
  run.reset();
  remember(null);
  page.before = page.clip;
  const abort = (page.abort = new AbortController());
  busy(true);
  try {
    run.job(null);
    await send(page.clip, abort.signal);
  } catch (error) {
    if (abort.signal.aborted) run.to("cancelled");
    else if (error.jobStatus === "unknown" && error.requestId) watch(error.requestId);
    else refused(error);
  } finally {
    page.abort = null;
    busy(false);
  }
}

async function send(clip, signal) {
  run.to("upload");
  if (matchMedia("(max-width: 60rem)").matches) by("run").scrollIntoView({ block: "start" });
  const seed = by("seed").value.trim();
  const fields = inputOf(clip.url);
  const onProgress = (share) => run.progress(share);
  clip.url ??= await api.upload(clip.blob, clip.name, { signal, onProgress });
  run.progress(1);
  run.to("submit");
  const notes = {
    prompt: fields.prompt.slice(0, 120), clip: clip.name.slice(0, 120),
    audio_url: clip.url, seconds: clip.seconds.toFixed(3),
  };
  const job = await api.submit({ ...fields, audio_url: clip.url }, seed, notes, signal);
  watch(job.id);
}

function refused(error) {
  run.to("failed");
  markFields(error.fields);
  trouble(error);
}

/** An error of a call: to the door when the session is over, else onto the run's card. */
function trouble(error, options) {
  if (error.status === 401) return showDoor("ended");
  run.error(error, options);
}

function busy(isOn) {
  by("submit").disabled = isOn;
  by("submit").textContent = isOn ? "Sending…" : "Transform";
}

function remember(id) {
  page.jobId = id;
  history.replaceState(null, "", id ? `#job=${id}` : location.pathname);
}

function openJob(job) {
  if (page.abort) return; // an upload is under way: it may not be lost by a click
  stopWatching();
  run.reset();
  const { audio_url: url, seconds } = job.metadata ?? {};
  page.before = typeof url === "string" ? { url, seconds: Number(seconds) || null } : null;
  if (page.clip?.url && page.clip.url === url) page.before = page.clip;
  watch(job.id);
}

function watch(id) {
  stopWatching();
  const turn = page.turn;
  remember(id);
  run.job(id);
  refreshRecent();
  const link = (state) =>
    notice(state === "lost" ? "The connection was lost. The job goes on; this page catches up…" : "");
  const failed = (error) => {
    if (error.status !== 401) run.to("failed");
    trouble(error, { retry: false });
  };
  page.unfollow = follow(id, {
    event: (name, data) => happened(turn, id, name, data),
    snapshot: (job) => caughtUp(turn, job),
    link,
    failed,
  });
}

function happened(turn, id, name, data) {
  const at = Date.parse(data.at) || api.now();
  if (name === "created") run.to("queue", at);
  else if (name === "log") run.log(data.log);
  else if (name === "unknown") run.to("unknown", at);
  else if (name === "started") run.to("running", at);
  else if (name === "queued") queued(data.queue_position ?? null, at);
  else ended(turn, { id, status: data.status ?? name, error: data.error }, at);
}

function queued(position, at) {
  run.to("queue", at);
  run.position(position);
}

function caughtUp(turn, job) {
  run.to("queue", Date.parse(job.created_at));
  if (job.started_at) run.to("running", Date.parse(job.started_at));
  if (hasEnded(job.status)) ended(turn, job, Date.parse(job.ended_at) || api.now());
  else if (job.status === "queued") queued(job.queue_position ?? null, Date.parse(job.created_at));
  else if (job.status === "unknown") run.to("unknown");
}

async function ended(turn, { id, status, error }, at) {
  notice("");
  refreshRecent();
  if (status === "cancelled" || status === "expired") run.to(status, at);
  if (status === "expired") run.error({ type: "expired", message: error?.message, status: 410 });
  if (status === "failed") await failure(turn, id, error ?? {}, at);
  if (status === "completed") await success(turn, id, at);
}

async function failure(turn, id, error, at) {
  run.to("failed", at);
  // A refused input names its fields only in the result.
  const inner = error.status === 422 ? await api.result(id).catch((problem) => problem) : null;
  if (turn !== page.turn) return;
  const fields = inner?.fields ?? [];
  markFields(fields);
  const message = fields.length ? fields.map(({ msg }) => msg).join(". ") : error.message;
  run.error({ status: error.status, type: error.type, message, fields });
}

async function success(turn, id, at) {
  run.to("fetch", at);
  try {
    const result = await api.result(id);
    const [blob, before] = await Promise.all([result.url && api.clipAt(result.url), original()]);
    if (turn !== page.turn) return;
    await run.outcome(result, blob, before);
    if (turn === page.turn) run.to("done", at);
  } catch (error) {
    if (turn !== page.turn) return;
    run.to("done", at);
    trouble(error);
  }
}

/** The clip that the shown job was made from, with its sound where storage lets us read it. */
async function original() {
  const before = page.before;
  if (!before || before.blob) return before;
  const blob = await api.clipAt(before.url);
  const sound = blob && (await decode(await blob.arrayBuffer()).catch(() => null));
  if (!sound) return before;
  return { ...before, blob, peaks: peaksOf(channelsOf(sound)[0]), seconds: sound.duration };
}

async function cancel() {
  if (page.abort) return page.abort.abort();
  run.cancelling();
  try {
    await api.cancel(page.jobId);
  } catch (error) {
    // 4xx: it ended a moment before, and its end is on the way to this page.
    if (error.status === 401 || error.status === 0 || error.status >= 500) trouble(error);
  }
}

// ---- the list, notices, and the rest ----

function listRecent(jobs) {
  showRecent(by("recent"), by("recent-none"), jobs, page.jobId, openJob);
}

async function refreshRecent() {
  try {
    listRecent((await api.jobs(RECENT)).jobs);
  } catch (error) {
    if (error.status === 401) showDoor("ended");
  }
}

function notice(words) {
  by("notice").textContent = words;
  by("notice").hidden = !words;
}

async function copy(button, text) {
  const before = button.textContent;
  const done = await navigator.clipboard?.writeText(text).then(() => true, () => false);
  button.textContent = done ? "Copied" : "Press Ctrl C";
  setTimeout(() => (button.textContent = before), 1_500);
}

function showSnippet() {
  by("snippet").textContent = snippetFor(location.origin, inputOf("…"), by("seed").value.trim());
}

function onShortcut(event) {
  if ((event.ctrlKey || event.metaKey) && event.key === "Enter") return begin();
  const typing = event.target.matches("input, textarea, select");
  if (!typing && !event.ctrlKey && !event.metaKey && !event.altKey && /^[ab]$/.test(event.key)) {
    run.hear(event.key);
  }
}

function wireClip() {
  on("sample", "click", () => take(sample));
  on("file", "change", async () => {
    const [file] = by("file").files;
    if (file) await take(() => fromFile(file));
    by("file").value = ""; // so that the same file can be chosen again
  });
  on("record", "click", toggleRecording);
  for (const name of ["dragenter", "dragover", "dragleave", "drop"]) {
    document.addEventListener(name, (event) => {
      event.preventDefault();
      by("drop").classList.toggle("over", name === "dragenter" || name === "dragover");
    });
  }
  document.addEventListener("drop", ({ dataTransfer }) => {
    const [file] = dataTransfer.files;
    if (file && !by("work").hidden) take(() => fromFile(file));
  });
}

function wireForm() {
  on("form", "submit", (event) => (event.preventDefault(), begin()));
  on("form", "input", (event) => {
    if (event.target.id in Object.fromEntries(Object.values(FIELDS).map((id) => [id, 1]))) {
      fieldError(event.target.id, "");
    }
    showStrength();
    showSnippet();
  });
  for (const chip of document.querySelectorAll("[data-prompt]")) {
    chip.addEventListener("click", () => {
      by("prompt").value = chip.dataset.prompt;
      fieldError("prompt", "");
      showSnippet();
    });
  }
  on("copy-code", "click", () => copy(by("copy-code"), by("snippet").textContent));
}

function wireRun() {
  on("cancel", "click", cancel);
  on("retry", "click", begin);
  on("copy-id", "click", () => copy(by("copy-id"), by("job-id").textContent));
  on("reuse", "click", () => {
    by("seed").value = by("used-seed").textContent;
    by("seed").focus();
    showSnippet();
  });
}

function wirePage() {
  on("sign-in-form", "submit", (event) => {
    event.preventDefault();
    const token = by("token").value.trim();
    if (token) enter(token);
    else fieldError("token", "Paste a token first.");
  });
  on("sign-out", "click", async () => {
    await api.signOut().catch(() => {});
    page.abort?.abort();
    run.reset();
    remember(null);
    showDoor("left");
  });
  addEventListener("hashchange", () => {
    const token = tokenInAddress();
    if (token) enter(token);
  });
  addEventListener("offline", () => notice("You are offline. A job that runs goes on without you."));
  addEventListener("online", () => notice(""));
  addEventListener("beforeunload", (event) => page.abort && event.preventDefault());
  document.addEventListener("keydown", onShortcut);
  document.addEventListener("visibilitychange", () => {
    if (!document.hidden && !by("work").hidden) refreshRecent();
  });
  oneAtATime(document);
}

wireClip();
wireForm();
wireRun();
wirePage();
showStrength();
showSnippet();
arrive();
