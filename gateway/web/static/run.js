// The card that shows one run: its stage, progress, log, errors and outcome.

import { now } from "./api.js";
import { channelsOf, decode, peaksOf } from "./wave.js";
import { Track } from "./player.js";
import { STAGES, STILL, ago, brief, exact, explain, stopwatch } from "./words.js";

const STEPS = ["upload", "queue", "running", "done"];
const STEP_OF = { submit: "upload", unknown: "queue", fetch: "done" };
const ENDS = new Set(["done", "failed", "cancelled", "expired"]);
const MOST_LINES = 1_000;
const CANCEL_SOON = 10_000;
const NEWS_SOON = 120_000;
const ASKED = "fal was asked to cancel. It decides, and may finish all the same: then the result is shown here.";

const by = (id) => document.getElementById(id);

/** Only a change is written: what is written is read aloud. */
function say(id, words) {
  if (by(id).textContent !== words) by(id).textContent = words;
}

function setSeconds(element, seconds) {
  element.textContent = seconds === null ? "" : exact(seconds);
  if (seconds === null) delete element.dataset.seconds;
  else element.dataset.seconds = seconds.toFixed(3);
}

export class Run {
  #stage = "idle";
  #began = {}; // step -> when, by the gateway's clock
  #ended = null;
  #ticking = null;
  #heard = null; // when the last news came of a job that was taken up; null where we sent it
  #asked = null; // when fal was asked to cancel
  #lines = new Set();
  #before = new Track(by("before-track"));
  #after = new Track(by("out-track"));

  constructor() {
    by("hear-a").addEventListener("click", () => this.hear("a"));
    by("hear-b").addEventListener("click", () => this.hear("b"));
    for (const name of ["play", "pause", "ended", "emptied"]) {
      by("outcome").addEventListener(name, () => this.#sides(), true); // these do not bubble
    }
  }

  get stage() {
    return this.#stage;
  }

  get busy() {
    return this.#stage !== "idle" && !ENDS.has(this.#stage);
  }

  #sides() {
    by("hear-a").setAttribute("aria-pressed", this.#before.playing);
    by("hear-b").setAttribute("aria-pressed", this.#after.playing);
  }

  /** Forget what was shown and begin anew. */
  reset() {
    this.#began = {};
    this.#ended = this.#heard = this.#asked = null;
    this.#lines.clear();
    this.#before.clear();
    this.#after.clear();
    by("logs").replaceChildren();
    for (const id of ["outcome", "error", "job-line", "log-box"]) by(id).hidden = true;
    this.position(null);
    this.to("idle");
  }

  /** Enter a stage, at a moment that may have passed. */
  to(stage, at = now()) {
    const before = this.#stage;
    this.#stage = stage;
    const step = STEP_OF[stage] ?? stage;
    if (step === "queue") delete this.#began.running; // fal may put a job back
    if (STEPS.includes(step)) this.#began[step] ??= at;
    if (ENDS.has(stage)) this.#ended ??= at;
    if (stage !== "queue") this.position(null);
    if (stage !== before) this.#announce(step);
    this.#tick();
    clearInterval(this.#ticking);
    if (this.busy) this.#ticking = setInterval(() => this.#tick(), 100);
  }

  /** This job was not sent just now: its last news came `at`. */
  resumed(at) {
    this.#heard = at;
    this.#tick();
  }

  /** News of the job, from a moment that may have passed. */
  news(at) {
    if (this.#heard !== null) this.#heard = Math.max(this.#heard, at);
  }

  #announce(step) {
    const words = STAGES[this.#stage];
    by("run").dataset.stage = this.#stage;
    by("stage").dataset.stage = this.#stage;
    by("idle-words").hidden = this.#stage !== "idle";
    by("cancel").hidden = !this.busy || this.#stage === "fetch";
    if (ENDS.has(this.#stage) && !by("job-id").textContent) by("job-line").hidden = true;
    document.title = `${this.#stage === "idle" ? "Playground" : words} · fal-gateway`;
    this.#bar();
    this.#steps(step);
  }

  #steps(step) {
    const lost = ["failed", "cancelled", "expired"].includes(this.#stage);
    const reached = lost ? this.#lastStep() : STEPS.indexOf(step);
    for (const item of by("steps-list").children) {
      const place = STEPS.indexOf(item.dataset.step);
      const here = lost ? "lost" : this.#stage === "done" ? "past" : "now";
      item.dataset.state = place < reached ? "past" : place > reached ? "ahead" : here;
      if (place === reached && this.busy) item.setAttribute("aria-current", "step");
      else item.removeAttribute("aria-current");
    }
  }

  #lastStep() {
    return STEPS.findLastIndex((step) => this.#began[step] !== undefined);
  }

  #bar() {
    const full = this.#stage === "done" ? 100 : this.#stage === "idle" ? 0 : null;
    if (this.#stage === "upload" || full !== null) this.progress((full ?? 0) / 100);
    else by("bar").removeAttribute("aria-valuenow");
    if (this.#stage !== "upload") by("percent").textContent = "";
  }

  /** How much of the upload has left, 0 to 1. */
  progress(share) {
    by("bar").setAttribute("aria-valuenow", Math.round(share * 100));
    by("bar").style.setProperty("--share", share);
    by("percent").textContent = this.#stage === "upload" ? `${Math.round(share * 100)} %` : "";
  }

  /** The place in fal's queue; 0 is next. */
  position(place) {
    by("position").textContent = place === null ? "" : place ? `position ${place}` : "next in line";
    if (place === null) delete by("position").dataset.position;
    else by("position").dataset.position = place;
  }

  /** Does a job that was taken up tell nothing any more? */
  get #isOld() {
    return this.#heard !== null && this.#stage in STILL && now() - this.#heard > NEWS_SOON;
  }

  #waiting() {
    const old = this.#isOld;
    const asked = this.busy && this.#asked !== null;
    const long = asked && now() - this.#asked > CANCEL_SOON;
    by("run").classList.toggle("old", old);
    say("stage", (old ? STILL : STAGES)[this.#stage]);
    say("cancel", long ? "Ask again" : asked ? "Cancelling…" : "Cancel");
    by("cancel").disabled = asked && !long;
    const age = old && `The last news came ${ago(now() - this.#heard)}. The gateway goes on watching; you need not.`;
    say("waiting-words", [age, long && ASKED].filter(Boolean).join(" "));
    by("waiting").hidden = !old && !long;
    return old;
  }

  #tick() {
    const old = this.#waiting();
    const starts = STEPS.map((step) => this.#began[step]);
    const first = starts.find((at) => at !== undefined);
    const end = this.#ended ?? now();
    const elapsed = first === undefined ? 0 : (end - first) / 1000;
    by("elapsed").textContent = old ? `sent ${ago(elapsed * 1000)}` : stopwatch(elapsed);
    by("elapsed").dataset.seconds = elapsed.toFixed(1);
    STEPS.slice(0, 3).forEach((step, i) => {
      const after = starts.slice(i + 1).find((at) => at !== undefined) ?? end;
      const open = old && after === end; // the age above says enough
      const words = starts[i] === undefined || open ? "" : brief((after - starts[i]) / 1000);
      by("steps-list").children[i].querySelector("small").textContent = words;
    });
    const total = this.#stage === "done" ? brief(elapsed) : "";
    by("steps-list").children[3].querySelector("small").textContent = total;
  }

  job(id) {
    by("job-line").hidden = false;
    by("job-id").textContent = id ?? "";
    by("job-line").classList.toggle("pending", !id);
  }

  /** fal was asked to cancel at that moment; null where that did not get through. */
  cancelling(at = now()) {
    this.#asked = at;
    this.#tick();
  }

  /** One line of fal's log. The same line twice is shown once. */
  log({ timestamp, level, message }) {
    const known = `${timestamp}\n${level}\n${message}`;
    if (this.#lines.has(known)) return;
    this.#lines.add(known);
    const box = by("logs");
    const atEnd = box.scrollHeight - box.scrollTop - box.clientHeight < 24;
    box.append(lineOf(timestamp, level ?? "INFO", message));
    if (box.childElementCount > MOST_LINES) box.firstElementChild.remove();
    by("log-box").hidden = false;
    if (atEnd) box.scrollTop = box.scrollHeight;
  }

  /** Tell what went wrong, and offer a second try where `retry`. */
  error(error, { retry }) {
    const { title, detail, advice } = explain(error);
    by("error-title").textContent = title;
    by("error-detail").textContent = detail ?? "";
    by("error-advice").textContent = advice ?? "";
    const job = by("job-id").textContent || error.requestId;
    const facts = [error.status && `HTTP ${error.status}`, error.type, job && `job ${job}`];
    by("error-facts").textContent = facts.filter(Boolean).join(" · ");
    by("retry").hidden = !retry;
    by("error").hidden = false;
  }

  /** Show a result: its sound (a Blob, or only a URL), beside the clip it was made from. */
  async outcome({ raw, url, seed }, blob, before) {
    by("response").textContent = pretty(raw);
    by("used-seed").textContent = seed ?? "";
    by("seed-line").hidden = seed === null;
    by("actions").hidden = !url && seed === null;
    by("outcome").hidden = false;
    by("outcome-head").hidden = !url;
    by("json").open = !url; // there is nothing else to see
    const sound = blob && (await decode(await blob.arrayBuffer()).catch(() => null));
    const seconds = sound?.duration ?? (url ? await lengthOf(url) : null);
    by("download").hidden = by("ab").hidden = !url;
    setSeconds(by("out-duration"), seconds);
    setSeconds(by("before-duration"), before?.seconds ?? null);
    document.querySelector(".lengths").classList.toggle("alone", !before?.seconds);
    if (!url) return;
    const peaks = sound && peaksOf(channelsOf(sound)[0]);
    this.#after.load({ blob, src: url, peaks, seconds: seconds ?? 0 });
    by("download").href = this.#after.src;
    by("download").target = blob ? "" : "_blank"; // of another host, it opens instead
    by("download").download = `transformed-${by("job-id").textContent.slice(0, 8)}.wav`;
    by("ab").hidden = !before?.blob;
    if (before?.blob) this.#beside(before);
  }

  #beside(before) {
    this.#before.load(before);
    const longest = Math.max(before.seconds, this.#after.seconds);
    this.#before.share = before.seconds / longest;
    this.#after.share = this.#after.seconds / longest;
  }

  /** Play side "a" or "b" from where the other one is. */
  hear(side) {
    if (by("outcome").hidden || by("ab").hidden) return;
    const [to, from] = side === "a" ? [this.#before, this.#after] : [this.#after, this.#before];
    if (to.playing) return to.toggle();
    to.play(from.playing ? from.at : to.at);
  }
}

function lineOf(timestamp, level, message) {
  const row = document.createElement("p");
  const at = new Date(timestamp);
  const time = document.createElement("time");
  time.textContent = Number.isNaN(at.getTime()) ? "" : at.toLocaleTimeString([], { hour12: false });
  const tag = document.createElement("b");
  tag.textContent = level.toUpperCase();
  tag.dataset.level = level.toLowerCase();
  const words = document.createElement("span");
  words.textContent = message;
  row.append(time, tag, words);
  return row;
}

function pretty(raw) {
  // Only spaced out, never parsed and written again: numbers stay as fal wrote them.
  return raw.length > 20_000 ? `${raw.slice(0, 20_000)}…` : raw.replace(/,"/g, ',\n "');
}

function lengthOf(url) {
  return new Promise((resolve) => {
    const audio = new Audio();
    const done = () => resolve(Number.isFinite(audio.duration) ? audio.duration : null);
    audio.onloadedmetadata = audio.onerror = done;
    setTimeout(done, 15_000);
    audio.src = url;
  });
}
