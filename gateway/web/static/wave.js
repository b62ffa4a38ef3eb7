// Sound as numbers: WAV files in and out, and the picture of a waveform.

export const RATE = 44_100;

/** A 16-bit PCM WAV file of the given channels (`Float32Array`s of equal length). */
export function wavOf(channels, rate = RATE) {
  const frames = channels[0].length;
  const frame = channels.length * 2;
  const view = new DataView(new ArrayBuffer(44 + frames * frame));
  const text = (at, word) => [...word].forEach((c, i) => view.setUint8(at + i, c.charCodeAt(0)));
  text(0, "RIFF");
  view.setUint32(4, 36 + frames * frame, true);
  text(8, "WAVEfmt ");
  view.setUint32(16, 16, true);
  view.setUint16(20, 1, true); // PCM
  view.setUint16(22, channels.length, true);
  view.setUint32(24, rate, true);
  view.setUint32(28, rate * frame, true);
  view.setUint16(32, frame, true);
  view.setUint16(34, 16, true);
  text(36, "data");
  view.setUint32(40, frames * frame, true);
  const samples = new Int16Array(view.buffer, 44);
  channels.forEach((channel, c) => {
    for (let i = 0; i < frames; i++) {
      const level = Math.max(-1, Math.min(1, channel[i]));
      samples[i * channels.length + c] = Math.round(level * 32_767);
    }
  });
  return new Blob([view.buffer], { type: "audio/wav" });
}

/** Is this the start of a 16-bit PCM WAV with one or two channels, good to send as it is? */
export function isPlainWav(bytes) {
  if (bytes.byteLength < 44) return false;
  const view = new DataView(bytes);
  const word = (at) => String.fromCharCode(...new Uint8Array(bytes, at, 4));
  return (
    word(0) === "RIFF" && word(8) === "WAVE" && word(12) === "fmt " &&
    view.getUint16(20, true) === 1 && view.getUint16(34, true) === 16 &&
    [1, 2].includes(view.getUint16(22, true))
  );
}

/** Any format the browser knows, as an AudioBuffer. The bytes are used up. */
export function decode(bytes) {
  return new OfflineAudioContext(1, 1, RATE).decodeAudioData(bytes);
}

/** One or two channels of an AudioBuffer. */
export function channelsOf(buffer) {
  const count = Math.min(2, buffer.numberOfChannels);
  return Array.from({ length: count }, (_, i) => buffer.getChannelData(i));
}

/** The loudest sample of each of `count` equal slices, 0 to 1, the loudest of all being 1. */
export function peaksOf(channel, count = 600) {
  const peaks = new Float32Array(count);
  const width = channel.length / count;
  for (let p = 0; p < count; p++) {
    const end = Math.min(channel.length, Math.ceil((p + 1) * width));
    for (let i = Math.floor(p * width); i < end; i++) {
      const level = Math.abs(channel[i]);
      if (level > peaks[p]) peaks[p] = level;
    }
  }
  const top = Math.max(0.01, ...peaks);
  return peaks.map((level) => level / top);
}

const BAR = 3;
const GAP = 2;

/**
 * Draw `peaks` as bars: played ones in the canvas's `color`, the rest in its `--wave-rest`.
 * `share` is how much of the width the clip takes, so that two clips have one time scale.
 */
export function draw(canvas, peaks, played = 0, share = 1) {
  const scale = window.devicePixelRatio || 1;
  const { clientWidth: width, clientHeight: height } = canvas;
  if (!width) return;
  canvas.width = Math.round(width * scale);
  canvas.height = Math.round(height * scale);
  const style = getComputedStyle(canvas);
  const rest = style.getPropertyValue("--wave-rest");
  const pen = canvas.getContext("2d");
  pen.scale(scale, scale);
  const bars = Math.max(1, Math.floor((width * share) / (BAR + GAP)));
  for (let b = 0; b < bars; b++) {
    const from = Math.floor((b / bars) * peaks.length);
    const to = Math.max(from + 1, Math.floor(((b + 1) / bars) * peaks.length));
    const level = Math.max(...peaks.subarray(from, to));
    const tall = Math.max(BAR, level * (height - 4));
    pen.fillStyle = (b + 0.5) / bars <= played ? style.color : rest;
    pen.beginPath();
    if (pen.roundRect) pen.roundRect(b * (BAR + GAP), (height - tall) / 2, BAR, tall, BAR / 2);
    else pen.rect(b * (BAR + GAP), (height - tall) / 2, BAR, tall);
    pen.fill();
  }
}
