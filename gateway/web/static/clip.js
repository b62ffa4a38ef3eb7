// Where an input clip comes from: a file, the microphone, or a melody made here.

import { RATE, channelsOf, decode, isPlainWav, peaksOf, wavOf } from "./wave.js";
import { clock, megabytes } from "./words.js";

export const LIMIT = 90 * 2 ** 20; // fal takes more only in parts
const LONGEST = LIMIT / (RATE * 4); // seconds of 16-bit stereo
const LONGEST_TAKE = 120_000;

/** A reason, in words for the person, why something is not a clip. */
export class NotAClip extends Error {}

function clipOf(blob, name, buffer) {
  const [left] = channelsOf(buffer);
  return { blob, name, seconds: buffer.duration, peaks: peaksOf(left), url: null };
}

/** A file of any format this browser decodes, as a WAV clip. */
export async function fromFile(file, name = file.name) {
  if (file.size === 0) throw new NotAClip("This file is empty.");
  if (file.size > LIMIT) throw tooLarge(file.size);
  // Asked first, since a long compressed file would fill the memory once it is decoded.
  const seconds = await length(file);
  if (seconds > LONGEST) {
    throw new NotAClip(`This clip runs ${clock(seconds)}; at most ${clock(LONGEST)} fit. Please cut it.`);
  }
  const bytes = await file.arrayBuffer();
  const plain = isPlainWav(bytes);
  const buffer = await decode(bytes).catch(() => {
    throw new NotAClip(
      "Your browser cannot read this as audio. WAV, MP3, M4A, OGG and FLAC work nearly everywhere.",
    );
  });
  const blob = plain ? new Blob([file], { type: "audio/wav" }) : wavOf(channelsOf(buffer));
  if (blob.size > LIMIT) throw tooLarge(blob.size);
  return clipOf(blob, `${name.replace(/\.[^.]+$/, "")}.wav`, buffer);
}

const tooLarge = (size) =>
  new NotAClip(`This clip is ${megabytes(size)}; the limit is ${megabytes(LIMIT)}. Please cut it.`);

function length(file) {
  return new Promise((resolve) => {
    const audio = new Audio();
    const done = () => {
      const { duration } = audio;
      URL.revokeObjectURL(audio.src);
      resolve(Number.isFinite(duration) ? duration : 0);
    };
    audio.preload = "metadata";
    audio.onloadedmetadata = audio.onerror = done;
    setTimeout(done, 3_000);
    audio.src = URL.createObjectURL(file);
  });
}

// A phrase in D minor: [start in beats, MIDI note, loudness]; four beats a second.
const MELODY = [
  [0, 62, 0.9], [1, 69, 0.7], [2, 72, 0.75], [3, 76, 0.8], [4, 74, 0.9], [5, 69, 0.6],
  [6, 65, 0.7], [7, 69, 0.65], [8, 67, 0.8], [9, 70, 0.7], [10, 74, 0.95],
  [0, 38, 0.8], [4, 41, 0.7], [8, 43, 0.75],
];

/** Three seconds of plucked strings, so that nobody needs a file to begin. */
export async function sample() {
  const sides = [new Float32Array(3 * RATE), new Float32Array(3 * RATE)];
  MELODY.forEach(([beat, note, loudness], i) => {
    const pan = note < 50 ? 0.5 : 0.3 + 0.4 * (i % 2);
    pluck(sides, Math.round((beat / 4) * RATE), 440 * 2 ** ((note - 69) / 12), loudness, pan);
  });
  for (const side of sides) fadeOut(side, 0.15 * RATE);
  const blob = wavOf(sides);
  return clipOf(blob, "sample melody.wav", await decode(await blob.arrayBuffer()));
}

function pluck([left, right], start, pitch, loudness, pan) {
  for (let i = 0; start + i < left.length; i++) {
    const t = i / RATE;
    let level = 0;
    for (let n = 1; n <= 7; n++) {
      level += (Math.sin(2 * Math.PI * pitch * n * t) / n ** 1.4) * Math.exp(-t * (1.6 + 1.3 * n));
    }
    level *= loudness * 0.24 * Math.min(1, t * 250);
    left[start + i] += level * (1 - pan);
    right[start + i] += level * pan;
  }
}

function fadeOut(side, frames) {
  for (let i = 0; i < frames; i++) side[side.length - 1 - i] *= i / frames;
}

/** Record until `stop()`; `onLevel(0..1)` about 30 times a second. `take` is the finished clip. */
export async function record(onLevel) {
  if (!navigator.mediaDevices || !window.MediaRecorder) {
    throw new NotAClip("This browser records only on https or on localhost. Choose a file instead.");
  }
  const stream = await microphone();
  const context = new AudioContext();
  const meter = context.createAnalyser();
  context.createMediaStreamSource(stream).connect(meter);
  const samples = new Float32Array(meter.fftSize);
  const recorder = new MediaRecorder(stream);
  const parts = [];
  const ended = new Promise((resolve) => (recorder.onstop = resolve));
  recorder.ondataavailable = (event) => parts.push(event.data);
  recorder.start();
  const stop = () => recorder.state === "recording" && recorder.stop();
  const timer = setTimeout(stop, LONGEST_TAKE);
  const ticks = setInterval(() => {
    meter.getFloatTimeDomainData(samples);
    onLevel(Math.min(1, 2.5 * samples.reduce((top, level) => Math.max(top, Math.abs(level)), 0)));
  }, 33);
  const take = ended.then(() => {
    clearTimeout(timer);
    clearInterval(ticks);
    stream.getTracks().forEach((track) => track.stop());
    context.close();
    return fromFile(new Blob(parts, { type: recorder.mimeType }), "recording.wav");
  });
  return { stop, take };
}

async function microphone() {
  try {
    return await navigator.mediaDevices.getUserMedia({ audio: true });
  } catch (error) {
    if (error.name === "NotFoundError") throw new NotAClip("No microphone was found.");
    throw new NotAClip("The microphone is blocked. Allow it in the address bar, or choose a file.");
  }
}
