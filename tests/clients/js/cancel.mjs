// fal.queue.cancel of a job that runs, then of one that has ended.

import { fal, given, outcome, tell } from "./client.mjs";

const { request_id: requestId } = await fal.queue.submit(given.endpoint, { input: {} });
await fal.queue.cancel(given.endpoint, { requestId });
const done = await fal.queue.subscribeToStatus(given.endpoint, { requestId, pollInterval: 50 });
const result = await outcome(fal.queue.result(given.endpoint, { requestId }));
const again = await outcome(fal.queue.cancel(given.endpoint, { requestId }));
tell({ requestId, done, result, again });
