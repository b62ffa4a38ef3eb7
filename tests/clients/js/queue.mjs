// fal.queue, call by call: submit, streamStatus, status, result.

import { fal, given, tell } from "./client.mjs";

const submitted = await fal.queue.submit(given.endpoint, { input: given.input });
const requestId = submitted.request_id;
const stream = await fal.queue.streamStatus(given.endpoint, { requestId, logs: true });
const streamed = [];
for await (const status of stream) streamed.push(status);
const done = await stream.done();
const status = await fal.queue.status(given.endpoint, { requestId, logs: true });
const plain = await fal.queue.status(given.endpoint, { requestId });
const result = await fal.queue.result(given.endpoint, { requestId });
tell({ submitted, streamed, done, status, plain, result });
