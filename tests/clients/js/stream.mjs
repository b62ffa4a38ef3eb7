// fal.stream: every event as it comes, and the last one as the output.

import { fal, given, outcome, tell } from "./client.mjs";

const stream = await fal.stream(given.endpoint, { input: given.input });
const done = outcome(stream.done());
const events = [];
for await (const event of stream) events.push(event);
tell({ events, requestId: stream.requestId, ...(await done) });
