// fal.queue.submit, perhaps with a webhookUrl.

import { fal, given, outcome, tell } from "./client.mjs";

const { input, webhookUrl } = given;
tell(await outcome(fal.queue.submit(given.endpoint, { input, ...(webhookUrl && { webhookUrl }) })));
