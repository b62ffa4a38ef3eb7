// The card that takes the input clip: sample, file, drop or microphone.

import { clipAt } from "./api.js";
import { NotAClip, fromFile, record, sample } from "./clip.js";
import { fieldError } from "./form.js";
import { Track } from "./player.js";
import { draw } from "./wave.js";
import { exact } from "./words.js";

const by = (id) => document.getElementById(id);

export class Intake {
  #track = new Track(by("in-track"));
  #recorder = null;
  /** The chosen clip: `{blob, name, seconds, peaks, url}`; `url` once it is uploaded. */
  clip = null;

  constructor() {
    by("sample").addEventListener("click", () => this.#take(sample));
    by("record").addEventListener("click", () => this.#toggleRecording());
    by("file").addEventListener("change", async ({ target }) => {
      const [file] = target.files;
      if (file) await this.#take(() => fromFile(file));
      target.value = ""; // so that the same file can be chosen again
    });
    for (const name of ["dragenter", "dragover", "dragleave", "drop"]) {
      document.addEventListener(name, (event) => this.#drag(event));
    }
  }

  /** Take the clip that is stored at `url`, where it can be read and none was chosen. */
  async restore(url, name) {
    const blob = await clipAt(url);
    const clip = blob && (await fromFile(blob, name).catch(() => null));
    if (!clip || this.clip || this.#recorder) return;
    this.clip = { ...clip, url };
    this.#show();
  }

  #drag(event) {
    event.preventDefault(); // a file dropped beside the card must not replace the page
    const over = event.type === "dragenter" || event.type === "dragover";
    by("drop").classList.toggle("over", over);
    const [file] = event.type === "drop" ? event.dataTransfer.files : [];
    if (file && !by("work").hidden) this.#take(() => fromFile(file));
  }

  async #take(make) {
    fieldError("clip", "");
    by("drop").classList.toggle("working", !this.#recorder);
    try {
      this.clip = await make();
      this.#show();
    } catch (error) {
      const odd = "This clip could not be read. Try another file.";
      fieldError("clip", error instanceof NotAClip ? error.message : odd);
    } finally {
      by("drop").classList.remove("working");
    }
  }

  #show() {
    this.#track.load(this.clip);
    by("in-name").textContent = this.clip.name;
    by("in-duration").textContent = exact(this.clip.seconds);
    by("in-duration").dataset.seconds = this.clip.seconds.toFixed(3);
    by("drop").classList.add("filled");
  }

  async #toggleRecording() {
    if (this.#recorder) return this.#recorder.stop();
    fieldError("clip", "");
    const levels = new Float32Array(160);
    try {
      this.#recorder = await record((level) => {
        levels.copyWithin(0, 1);
        levels[levels.length - 1] = level;
        draw(by("meter"), levels, 1);
      });
    } catch (error) {
      return fieldError("clip", error.message);
    }
    this.#recording(true);
    await this.#take(() => this.#recorder.take);
    this.#recorder = null;
    this.#recording(false);
  }

  #recording(isOn) {
    by("record").setAttribute("aria-pressed", isOn);
    by("record").querySelector(".record-words").textContent = isOn ? "Stop" : "Record";
    by("meter").hidden = !isOn;
    by("drop").classList.toggle("recording", isOn);
    by("in-track").hidden = isOn || !this.clip;
  }
}
