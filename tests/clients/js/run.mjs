// fal.run

import { fal, given, outcome, tell } from "./client.mjs";

tell(await outcome(fal.run(given.endpoint, { input: given.input })));
