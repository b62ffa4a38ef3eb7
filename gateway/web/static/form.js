// The fields of the form: what they hold, and what is wrong with them.

import { snippetFor } from "./snippet.js";

const by = (id) => document.getElementById(id);

// fal's name of an input -> ours of its field
const FIELDS = new Map([
  ["prompt", "prompt"], ["audio_url", "clip"], ["strength", "strength"],
  ["total_seconds", "seconds"], ["seed", "seed"], ["num_inference_steps", "steps"],
]);
const PROMPT_KEPT = 500; // of what a job's metadata may hold
const NAMES = new Set(FIELDS.values());

/** Say what is wrong with a field, or with "" that nothing is. */
export function fieldError(name, words) {
  by(`${name}-error`).textContent = words;
  const field = by(name === "clip" ? "file" : name);
  if (words) field.setAttribute("aria-invalid", "true");
  else field.removeAttribute("aria-invalid");
  if (words && name === "steps") by("advanced").open = true;
}

/** Are all fields good? The first bad one gets the focus. */
export function isGood(clip) {
  const wrong = {
    clip: clip ? "" : "Choose a clip first, or use the sample.",
    prompt: by("prompt").value.trim() ? "" : "Say what the clip should become.",
    seconds: by("seconds").validity.valid ? "" : "A whole number of seconds, 1 or more.",
    seed: /^(0|[1-9]\d{0,19})?$/.test(seed()) ? "" : "A whole number, or nothing.",
    steps: by("steps").validity.valid ? "" : "A whole number, 1 or more.",
    strength: "",
  };
  for (const [name, words] of Object.entries(wrong)) fieldError(name, words);
  const first = Object.keys(wrong).find((name) => wrong[name]);
  if (first) by(first === "clip" ? "sample" : first).focus();
  return !first;
}

/** The seed as digits: it may be larger than a JavaScript number holds. */
export const seed = () => by("seed").value.trim();

/** The input of the model, but for the seed. */
export function inputFor(audioUrl) {
  const fields = {
    prompt: by("prompt").value.trim(), audio_url: audioUrl, strength: by("strength").valueAsNumber,
  };
  if (by("seconds").value) fields.total_seconds = by("seconds").valueAsNumber;
  if (by("steps").value) fields.num_inference_steps = by("steps").valueAsNumber;
  return fields;
}

/** Put fal's complaints at the fields they are about, and give these fields' names. */
export function markFields(complaints) {
  return complaints.map(({ loc, msg }) => {
    const part = Array.isArray(loc) ? loc.find((one) => FIELDS.has(one)) : undefined;
    if (part) fieldError(FIELDS.get(part), msg);
    return FIELDS.get(part);
  });
}

/** What a job's metadata keeps of the form, so that the page can fill it again. */
export function notesOf(fields, digits) {
  const { strength, total_seconds, num_inference_steps } = fields;
  const prompt = fields.prompt.slice(0, PROMPT_KEPT);
  return { prompt, strength, total_seconds, num_inference_steps, seed: digits || undefined };
}

/** Fill the form from `notesOf`, as far as there are any. */
export function fillForm(notes) {
  const { prompt } = notes;
  if (typeof prompt === "string" && prompt && prompt.length < PROMPT_KEPT) by("prompt").value = prompt;
  const rest = ["strength", "total_seconds", "num_inference_steps", "seed"];
  for (const name of rest.filter((one) => ["number", "string"].includes(typeof notes[one]))) {
    by(FIELDS.get(name)).value = notes[name];
  }
  if (by("steps").value) by("advanced").open = true;
  show();
}

export function useSeed(digits) {
  by("seed").value = digits;
  by("seed").focus();
  show();
}

/** Wire the fields; `submit()` is called when the form is sent. */
export function wireForm(submit) {
  by("form").addEventListener("submit", (event) => {
    event.preventDefault();
    submit();
  });
  by("form").addEventListener("input", ({ target }) => {
    if (NAMES.has(target.id)) fieldError(target.id, "");
    show();
  });
  for (const chip of document.querySelectorAll("[data-prompt]")) {
    chip.addEventListener("click", () => {
      by("prompt").value = chip.dataset.prompt;
      fieldError("prompt", "");
      show();
    });
  }
  show();
}

function show() {
  by("strength-value").textContent = by("strength").valueAsNumber.toFixed(2);
  by("strength").style.setProperty("--share", by("strength").value);
  by("snippet").textContent = snippetFor(location.origin, inputFor("…"), seed());
}
