// The page: one clip in, one job at a time in view, one clip out.

import * as api from "./api.js";
import { Door } from "./door.js";
import { follow, hasEnded } from "./follow.js";
import { fillForm, inputFor, isGood, markFields, notesOf, seed, useSeed, wireForm } from "./form.js";
import { Intake } from "./intake.js";
import { oneAtATime } from "./player.js";
import { showRecent } from "./recent.js";
import { Run } from "./run.js";
import { channelsOf, decode, peaksOf } from "./wave.js";
import { complaintsIn } from "./words.js";

const by = (id) => document.getElementById(id);
const on = (id, name, action) => by(id).addEventListener(name, action);

const RECENT = 8;
const wide = matchMedia("(min-width: 60.0625rem)");

const run = new Run();
const intake = new Intake();
const door = new Door(openPage, leave);

let listed = []; // recent jobs
let jobId = null; // the job in view
let before = null; // the clip it was made from
let untouched = true; // is the form as it was when the page was loaded?
let fresh = false; // was it sent by the form as it stands?
let sending = null; // AbortController of an upload and submit
let unfollow = () => {};
let turn = 0; // grows with each job in view: an answer for an older one is dropped

// ---- coming and going ----

async function openPage() {
  const { jobs } = await api.jobs(RECENT);
  door.open();
  list(jobs);
  if (sending) return;
  const wanted = jobId ?? /^#job=([0-9a-f-]{36})$/.exec(location.hash)?.[1];
  const job = jobs.find((one) => (wanted ? one.id === wanted : !hasEnded(one.status)));
  if (job) takeUp(job);
  else if (wanted) api.job(wanted).then(takeUp, (error) => trouble(error, { retry: false }));
}

/** Show a job as the page did before it was reloaded, with the form that it came from. */
function takeUp(job) {
  if (!untouched) return open(job);
  untouched = false;
  const notes = job.metadata ?? {};
  fillForm(notes);
  if (isUrl(notes.audio_url)) intake.restore(notes.audio_url, `${notes.clip ?? "clip.wav"}`);
  open(job);
}

const isUrl = (value) => typeof value === "string" && /^https?:/.test(value);

async function arrive() {
  api.about().then(introduce, () => {}); // the page works without
  try {
    await door.arrive();
  } catch (error) {
    if (error.status === 401) return door.show("first");
    notice("The gateway does not answer. Trying again…");
    setTimeout(() => (notice(""), arrive()), 3_000);
  }
}

/** Say which gateway this is, and so whether what it makes is real. */
function introduce({ simulated, version }) {
  by("version").textContent = version;
  for (const each of document.querySelectorAll(".simulated")) each.hidden = !simulated;
}

function leave() {
  sending?.abort();
  clear();
}

/** Nothing in view: the job that was goes on by itself. */
function clear() {
  drop();
  run.reset();
  remember(null);
}

function newClip() {
  clear();
  by("sample").focus();
  by("form").scrollIntoView({ block: "nearest" });
}

/** Stop watching the job in view. */
function drop() {
  turn += 1;
  unfollow();
  unfollow = () => {};
}

function remember(id) {
  jobId = id;
  history.replaceState(null, "", id ? `#job=${id}` : location.pathname);
  list(listed);
}

// ---- sending ----

async function begin() {
  if (sending || by("work").hidden || !isGood(intake.clip)) return;
  clear();
  before = intake.clip;
  fresh = true;
  sending = new AbortController();
  busy(true);
  try {
    const id = await send(intake.clip, sending.signal);
    watch(id);
  } catch (error) {
    refused(error, sending.signal.aborted);
  } finally {
    sending = null;
    busy(false);
  }
}

async function send(clip, signal) {
  run.job(null);
  run.to("upload");
  inView();
  const onProgress = (share) => run.progress(share);
  const fields = inputFor(clip.url);
  const digits = seed();
  clip.url ??= await api.upload(clip.blob, clip.name, { signal, onProgress });
  run.progress(1);
  run.to("submit");
  const notes = {
    ...notesOf(fields, digits), clip: clip.name.slice(0, 120),
    audio_url: clip.url, seconds: clip.seconds.toFixed(3),
  };
  return (await api.submit({ ...fields, audio_url: clip.url }, digits, notes, signal)).id;
}

function refused(error, byUs) {
  if (byUs) return run.to("cancelled");
  if (error.status === 401) {
    run.reset();
    return trouble(error);
  }
  // fal may have it all the same: the gateway will know, so that job is watched.
  if (error.jobStatus === "unknown" && error.requestId) return watch(error.requestId);
  run.to("failed");
  error.marked = mark(error.fields);
  if (error.fields.length) error.message = complaintsIn(error.fields);
  trouble(error);
}

/** Mark the fields of the form that the job came from. Are all of them on the form? */
function mark(complaints) {
  const names = fresh ? markFields(complaints) : [];
  if (names.includes("clip") && before) before.url = null; // fal could not use it: upload anew
  return names.length > 0 && names.every(Boolean);
}

function busy(isOn) {
  by("submit").disabled = isOn;
  by("submit").textContent = isOn ? "Sending…" : "Transform";
}

/** On a small screen the run is below the form. */
function inView() {
  if (matchMedia("(max-width: 60rem)").matches) by("run").scrollIntoView({ block: "start" });
}

async function cancel() {
  if (sending) return sending.abort();
  run.cancelling();
  try {
    await api.cancel(jobId);
  } catch (error) {
    if (error.status === 0 || error.status >= 500) run.cancelling(null);
    // Another 4xx: it ended a moment before, and its end is on the way to this page.
    if ([0, 401].includes(error.status) || error.status >= 500) trouble(error, { retry: false });
  }
}

// ---- watching ----

/** Show a job of the list. */
function open(job) {
  if (sending) return; // an upload may not be lost by a click
  drop();
  run.reset();
  const { audio_url: url, seconds } = job.metadata ?? {};
  fresh = false;
  before = typeof url === "string" ? { url, seconds: Number(seconds) || null } : null;
  if (intake.clip?.url && intake.clip.url === url) before = intake.clip;
  watch(job.id);
  run.resumed(Date.parse(job.started_at ?? job.created_at));
  if (job.cancel_requested) run.cancelling(0);
}

function watch(id) {
  drop();
  const mine = turn;
  remember(id);
  run.job(id);
  if (fresh) inView();
  refresh();
  unfollow = follow(id, {
    event: (name, data) => happened(mine, name, data),
    snapshot: (job) => caughtUp(mine, job),
    link: (state) =>
      notice(state === "lost" ? "The connection was lost. The job goes on; this page catches up…" : ""),
    failed(error) {
      if (error.status !== 401) run.to("failed");
      trouble(error, { retry: false });
    },
  });
}

function happened(mine, name, data) {
  const at = Date.parse(data.at) || api.now();
  run.news(at);
  if (name === "created") run.to("queue", at);
  else if (name === "queued") queued(data.queue_position ?? null, at);
  else if (name === "started") started(at);
  else if (name === "log") data.log && run.log(data.log);
  else if (name === "unknown") run.to("unknown", at);
  else ended(mine, name, data.error, at);
}

function queued(position, at) {
  run.to("queue", at);
  run.position(position);
}

function started(at) {
  run.to("running", at);
  list(listed.map((job) => (job.id === jobId && job.status === "queued" ? { ...job, status: "running" } : job)));
}

function caughtUp(mine, job) {
  const created = Date.parse(job.created_at);
  queued(job.status === "queued" ? (job.queue_position ?? null) : null, created);
  if (job.started_at && job.status !== "queued") run.to("running", Date.parse(job.started_at));
  if (job.status === "unknown") run.to("unknown");
  if (hasEnded(job.status)) ended(mine, job.status, job.error, Date.parse(job.ended_at) || api.now());
}

async function ended(mine, status, error, at) {
  notice("");
  refresh();
  if (status === "completed") return success(mine, at);
  if (status === "failed") return failure(mine, error ?? {}, at);
  run.to(status, at);
  if (status === "expired") {
    run.error({ type: "expired", message: error?.message, status: 410 }, { retry: fresh });
  }
}

async function failure(mine, told, at) {
  run.to("failed", at);
  const id = jobId;
  // An event of an older gateway tells less than the job.
  const error = told.status ? told : await api.job(id).then((job) => job.error ?? told, () => told);
  // Which fields fal did not like is told only by the result.
  const inner = error.status === 422 ? await api.result(id).catch((problem) => problem) : null;
  if (mine !== turn) return;
  const fields = inner?.fields ?? [];
  const marked = mark(fields);
  const message = fields.length ? complaintsIn(fields) : error.message;
  const retry = fresh && error.status !== 422;
  run.error({ status: error.status, type: error.type, message, fields, marked }, { retry });
}

async function success(mine, at) {
  run.to("fetch", at);
  try {
    const result = await api.result(jobId);
    const [blob, source] = await Promise.all([result.url && api.clipAt(result.url), original()]);
    if (mine !== turn) return;
    await run.outcome(result, blob, source);
    if (mine === turn) run.to("done", at);
  } catch (error) {
    if (mine !== turn) return;
    run.to("done", at);
    trouble(error);
  }
}

/** The clip that the job in view was made from, with its sound where storage lets us read it. */
async function original() {
  if (!before || before.blob) return before;
  const { url, seconds } = before;
  const blob = await api.clipAt(url);
  const sound = blob && (await decode(await blob.arrayBuffer()).catch(() => null));
  return sound ? { blob, seconds: sound.duration, peaks: peaksOf(channelsOf(sound)[0]) } : { seconds };
}

// ---- the list, notices, and the rest ----

/** To the door when the session is over, else onto the run's card. */
function trouble(error, { retry = fresh && ![403, 422].includes(error.status) } = {}) {
  if (error.status !== 401) return run.error(error, { retry });
  drop();
  door.show("ended");
}

function list(jobs) {
  listed = jobs;
  showRecent(by("recent"), by("recent-none"), jobs, jobId, open);
}

async function refresh() {
  try {
    list((await api.jobs(RECENT)).jobs);
  } catch (error) {
    if (error.status === 401) trouble(error); // the list is not worth another word
  }
}

/** Below the form where there is room, else below the run, which comes first to a reader. */
function placeRecent() {
  if (wide.matches) by("left").append(by("recent-card"));
  else by("run").after(by("recent-card"));
}

function notice(words) {
  by("notice").textContent = words;
  by("notice").hidden = !words;
}

async function copy(button, source) {
  const words = button.textContent;
  const text = by(source).textContent;
  const done = await navigator.clipboard?.writeText(text).then(() => true, () => false);
  if (!done) getSelection().selectAllChildren(by(source));
  button.textContent = done ? "Copied" : "Selected";
  setTimeout(() => (button.textContent = words), 1_500);
}

function shortcut(event) {
  if ((event.ctrlKey || event.metaKey) && event.key === "Enter") return begin();
  const bare = !event.ctrlKey && !event.metaKey && !event.altKey;
  const typing = event.target.matches("input, textarea");
  if (bare && !typing && ["a", "b"].includes(event.key)) run.hear(event.key);
}

wireForm(begin);
for (const name of ["input", "click"]) on("form", name, () => (untouched = false));
placeRecent();
wide.addEventListener("change", placeRecent);
by("code").open = wide.matches;
oneAtATime(document);
on("cancel", "click", cancel);
on("retry", "click", begin);
on("new-clip", "click", newClip);
on("reuse", "click", () => useSeed(by("used-seed").textContent));
on("copy-id", "click", () => copy(by("copy-id"), "job-id"));
on("copy-code", "click", () => copy(by("copy-code"), "snippet"));
addEventListener("offline", () => notice("You are offline. A job that runs goes on without you."));
addEventListener("online", () => notice(""));
addEventListener("beforeunload", (event) => sending && event.preventDefault());
document.addEventListener("keydown", shortcut);
document.addEventListener("visibilitychange", () => {
  if (!document.hidden && !by("work").hidden) refresh();
});
arrive();
