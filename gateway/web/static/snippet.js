// What the form does, as a program.

import { ENDPOINT } from "./api.js";

/** The same run with fal's own JavaScript client. */
export function snippetFor(origin, input, seed) {
  const lines = Object.entries(input)
    .filter(([name]) => name !== "audio_url")
    .map(([name, value]) => `    ${name}: ${JSON.stringify(value)},`);
  if (/^\d+$/.test(seed)) lines.push(`    seed: ${seed},`);
  return `import { fal } from "@fal-ai/client"; // npm install @fal-ai/client

fal.config({
  proxyUrl: { url: "${origin}/api/fal/proxy", when: "always" },
  credentials: token, // from your backend: POST /v1/tokens
});

const { data } = await fal.subscribe("${ENDPOINT}", {
  input: {
    audio_url: file, // a File or Blob: the client uploads it
${lines.join("\n")}
  },
  logs: true,
  onQueueUpdate: ({ status }) => console.log(status),
});
console.log(data.audio.url ?? data.audio);
`;
}
