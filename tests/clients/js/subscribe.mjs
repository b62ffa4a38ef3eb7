// fal.subscribe, with a File in the input where the test names a clip.

import { clip, fal, given, outcome, tell } from "./client.mjs";

const updates = [];
let enqueued;
const subscribed = fal.subscribe(given.endpoint, {
  input: { ...given.input, ...(given.clip && { audio_url: await clip() }) },
  logs: true,
  ...given.options,
  onEnqueue: (requestId) => (enqueued = requestId),
  onQueueUpdate: (update) => updates.push(structuredClone(update)),
});
tell({ ...(await outcome(subscribed)), enqueued, updates });
