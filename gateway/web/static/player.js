// A clip one can see, play and move in: a play button, a waveform and an <audio>.

import { draw } from "./wave.js";
import { brief } from "./words.js";

const STEP = 0.5; // seconds that an arrow key moves

export class Track {
  #audio;
  #button;
  #canvas;
  #slider;
  #root;
  #peaks = new Float32Array(1);
  #share = 1;
  #blobUrl = null;
  seconds = 0;

  constructor(root) {
    this.#root = root;
    this.#audio = root.querySelector("audio");
    this.#button = root.querySelector(".play");
    this.#slider = root.querySelector(".wave");
    this.#canvas = root.querySelector("canvas");
    this.#button.addEventListener("click", () => this.toggle());
    this.#slider.addEventListener("pointerdown", (event) => this.#grab(event));
    this.#slider.addEventListener("keydown", (event) => this.#key(event));
    for (const name of ["play", "pause", "ended", "seeked", "emptied"]) {
      this.#audio.addEventListener(name, () => this.#show());
    }
    new ResizeObserver(() => this.#paint()).observe(this.#slider);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.#paint());
  }

  /** Show `{blob or src, peaks, seconds}`. Without peaks the waveform is a flat line. */
  load({ blob, src, peaks, seconds }) {
    this.clear();
    if (blob) this.#blobUrl = URL.createObjectURL(blob);
    this.#audio.src = this.#blobUrl ?? src;
    this.#peaks = peaks ?? new Float32Array(200).fill(0.08);
    this.seconds = seconds;
    this.#slider.setAttribute("aria-valuemax", seconds.toFixed(2));
    this.#root.hidden = false;
    this.#show();
  }

  clear() {
    this.#audio.pause();
    this.#audio.removeAttribute("src");
    this.#audio.load();
    if (this.#blobUrl) URL.revokeObjectURL(this.#blobUrl);
    this.#blobUrl = null;
    this.seconds = 0;
    this.#root.hidden = true;
  }

  /** The address of the loaded clip, for a download. */
  get src() {
    return this.#audio.src;
  }

  get at() {
    return this.#audio.currentTime;
  }

  get playing() {
    return !this.#audio.paused && !this.#audio.ended;
  }

  /** Take `share` of the width, so that two tracks have one time scale. */
  set share(value) {
    this.#share = value;
    this.#paint();
  }

  async play(at = this.at) {
    this.seek(at >= this.seconds - 0.02 ? 0 : at);
    // Refused when the person left meanwhile; there is nothing to tell then.
    await this.#audio.play().catch(() => {});
  }

  toggle() {
    if (this.playing) this.#audio.pause();
    else this.play();
  }

  seek(at) {
    this.#audio.currentTime = Math.max(0, Math.min(at, this.seconds));
    this.#paint();
  }

  #grab(event) {
    const move = (to) => {
      const box = this.#slider.getBoundingClientRect();
      this.seek(((to.clientX - box.left) / (box.width * this.#share)) * this.seconds);
    };
    move(event);
    this.#slider.setPointerCapture(event.pointerId);
    this.#slider.addEventListener("pointermove", move);
    const drop = () => this.#slider.removeEventListener("pointermove", move);
    this.#slider.addEventListener("lostpointercapture", drop, { once: true });
  }

  #key(event) {
    const target = {
      ArrowRight: this.at + STEP, ArrowUp: this.at + STEP,
      ArrowLeft: this.at - STEP, ArrowDown: this.at - STEP,
      Home: 0, End: this.seconds,
    }[event.key];
    if (event.key === " ") this.toggle();
    else if (target === undefined) return;
    else this.seek(target);
    event.preventDefault();
  }

  #show() {
    this.#root.classList.toggle("playing", this.playing);
    const words = this.#button.getAttribute("aria-label").replace(/^(Play|Pause)/, "");
    this.#button.setAttribute("aria-label", (this.playing ? "Pause" : "Play") + words);
    this.#paint();
    if (this.playing) requestAnimationFrame(() => this.#show());
  }

  #paint() {
    const played = this.seconds ? this.at / this.seconds : 0;
    this.#slider.setAttribute("aria-valuenow", this.at.toFixed(2));
    this.#slider.setAttribute("aria-valuetext", `${brief(this.at)} of ${brief(this.seconds)}`);
    draw(this.#canvas, this.#peaks, played, this.#share);
  }
}

/** While one clip plays, the others are silent. */
export function oneAtATime(root) {
  const others = (playing) => [...root.querySelectorAll("audio")].filter((a) => a !== playing);
  root.addEventListener("play", (event) => others(event.target).forEach((a) => a.pause()), true);
}
