// fal.storage.upload of `given.size` bytes, no two MiB of them alike.

import { createHash } from "node:crypto";
import { fal, given, tell } from "./client.mjs";

const bytes = Buffer.alloc(given.size);
for (let at = 0; at < bytes.length; at += 2 ** 20) {
  bytes.fill(1 + (at / 2 ** 20) % 251, at, Math.min(at + 2 ** 20, bytes.length));
}
const url = await fal.storage.upload(new File([bytes], "upload.bin", { type: "audio/x-test" }));
tell({ url, sha256: createHash("sha256").update(bytes).digest("hex") });
