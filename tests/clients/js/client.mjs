// What the scripts share: fal's own client behind the gateway. Told on stdin, telling on stdout.

import { openAsBlob } from "node:fs";
import { json } from "node:stream/consumers";
import { ApiError, fal } from "@fal-ai/client";

export { fal };

export const given = await json(process.stdin);

fal.config({
  proxyUrl: { url: given.proxy, when: "always" },
  ...(given.token && { credentials: given.token }), // else it looks into the environment
});

export const clip = async () =>
  new File([await openAsBlob(given.clip)], "clip.wav", { type: "audio/wav" });

/** What `promise` gave, or all that the client tells of the error. */
export async function outcome(promise) {
  try {
    return { value: await promise };
  } catch (error) {
    const { name, message, status, body, requestId, fieldErrors } = error;
    return { error: { name, message, status, body, requestId, fieldErrors, api: error instanceof ApiError } };
  }
}

export const tell = (told) => console.log(JSON.stringify(told));
