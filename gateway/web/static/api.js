// The gateway's HTTP routes, as functions. Same origin; the session cookie is the credential.

export const ENDPOINT = "fal-ai/stable-audio-25/audio-to-audio";

const INITIATE = "https://rest.fal.ai/storage/upload/initiate?storage_type=fal-cdn-v3";
const PATIENCE = 75_000; // more than the longest wait the gateway grants

/** An answer that is not a success, or none at all (`status` 0). */
export class ApiError extends Error {
  constructor(status, body, { retryAfter = null, cause } = {}) {
    const detail = typeof body?.detail === "string" ? body.detail : body?.message;
    super(detail || body?.title || (status ? `HTTP ${status}` : "No answer"), { cause });
    this.status = status;
    this.title = body?.title ?? null;
    this.type = body?.error_type ?? null;
    this.requestId = body?.request_id ?? null;
    this.jobStatus = body?.job_status ?? null;
    this.fields = Array.isArray(body?.detail) ? body.detail : [];
    this.retryAfter = retryAfter;
  }
}

let skew = 0;

/** Milliseconds since the epoch by the gateway's clock. */
export const now = () => Date.now() + skew;

function noteClock(response) {
  const theirs = Date.parse(response.headers.get("date") ?? "");
  const apart = theirs - Date.now();
  // `Date` has whole seconds: a smaller difference is none.
  skew = Number.isNaN(theirs) || Math.abs(apart) < 2_000 ? 0 : apart;
}

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

async function call(method, path, { body, headers = {}, signal } = {}) {
  const limits = [AbortSignal.timeout(PATIENCE), ...(signal ? [signal] : [])];
  let response, text;
  try {
    const type = body === undefined ? {} : { "Content-Type": "application/json" };
    const all = { Accept: "application/json", ...type, ...headers };
    const abort = AbortSignal.any ? AbortSignal.any(limits) : limits.at(-1);
    response = await fetch(path, { method, body, headers: all, signal: abort, cache: "no-store" });
    text = await response.text();
  } catch (cause) {
    if (signal?.aborted) throw cause;
    throw new ApiError(0, null, { cause });
  }
  noteClock(response);
  if (response.ok) return { text, data: parsed(text) };
  const retryAfter = Number(response.headers.get("retry-after")) || null;
  throw new ApiError(response.status, parsed(text), { retryAfter });
}

export const signIn = (token) =>
  call("POST", "/v1/session", { headers: { Authorization: `Bearer ${token}` } });
export const signOut = () => call("DELETE", "/v1/session");

/** `{simulated, version}` of the gateway; no credential is needed. */
export const about = async () => (await call("GET", "/playground/about.json")).data;
/** Who the gateway takes this page for, as `kind:name`. The answer to a pass says it. */
export const principal = async () => (await call("POST", "/v1/stream-passes")).data?.principal;

export const jobs = async (limit) => (await call("GET", `/v1/jobs?limit=${limit}`)).data;
export const job = async (id) => (await call("GET", `/v1/jobs/${id}`)).data;
export const nextChange = async (id, after, signal) =>
  (await call("GET", `/v1/jobs/${id}?wait=30&after=${encodeURIComponent(after)}`, { signal })).data;
export const cancel = (id) => call("POST", `/v1/jobs/${id}/cancel`);

/** The result of a job: `raw` text, and what this page reads from it. */
export async function result(id) {
  const { text, data } = await call("GET", `/v1/jobs/${id}/result`);
  const url = typeof data?.audio === "string" ? data.audio : data?.audio?.url;
  // From the text: fal's seeds can be larger than a JavaScript number holds.
  const seed = /"seed"\s*:\s*(-?\d+)/.exec(text)?.[1] ?? null;
  return { raw: text, url: url ?? null, seed };
}

/** Queue a job. `seed` is a string of digits, written into the JSON as it stands. */
export async function submit(input, seed, metadata, signal) {
  const fields = JSON.stringify(input).slice(1, -1) + (seed ? `,"seed":${seed}` : "");
  const rest = JSON.stringify({ endpoint: ENDPOINT, metadata }).slice(1, -1);
  return (await call("POST", "/v1/jobs", { body: `{${rest},"input":{${fields}}}`, signal })).data;
}

/** Store a file with fal, as fal's own client does, and give its URL. */
export async function upload(blob, name, { signal, onProgress }) {
  const { data } = await call("POST", "/api/fal/proxy", {
    body: JSON.stringify({ content_type: blob.type, file_name: name }),
    headers: { "x-fal-target-url": INITIATE },
    signal,
  });
  if (!data?.upload_url || !data.file_url) throw new ApiError(502, { error_type: "upload_failed" });
  await put(data.upload_url, blob, { signal, onProgress });
  return data.file_url;
}

// XMLHttpRequest, because fetch does not tell how much of a body has left.
function put(url, blob, { signal, onProgress }) {
  return new Promise((resolve, reject) => {
    const failed = (status) => () => reject(new ApiError(status, { error_type: "upload_failed" }));
    const request = new XMLHttpRequest();
    request.open("PUT", url);
    request.setRequestHeader("Content-Type", blob.type);
    request.timeout = 15 * 60_000;
    request.upload.onprogress = (event) => onProgress(event.loaded / (event.total || blob.size));
    request.onload = () => (request.status < 300 ? resolve() : failed(request.status)());
    request.onerror = request.ontimeout = failed(0);
    request.onabort = () => reject(new DOMException("Cancelled", "AbortError"));
    signal.addEventListener("abort", () => request.abort(), { once: true });
    if (signal.aborted) return request.onabort();
    request.send(blob);
  });
}

/** The bytes behind a result's URL; `null` where its host does not let a page read them. */
export async function clipAt(url) {
  if (url.startsWith("data:")) return dataBlob(url);
  try {
    const response = await fetch(url, { signal: AbortSignal.timeout(120_000), credentials: "omit" });
    return response.ok ? await response.blob() : null;
  } catch {
    return null;
  }
}

function dataBlob(url) {
  const [, type, encoded] = /^data:([^;,]*)[^,]*;base64,(.*)$/s.exec(url) ?? [];
  if (!encoded) return null;
  return new Blob([Uint8Array.from(atob(encoded), (char) => char.charCodeAt(0))], { type });
}
