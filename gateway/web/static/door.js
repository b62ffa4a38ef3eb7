// Signing in and out.

import * as api from "./api.js";
import { fieldError } from "./form.js";

const by = (id) => document.getElementById(id);

const WHY = {
  first: "The gateway printed one in the terminal when it started, next to a link that signs you in at once.",
  ended: "Your session has ended. Paste a token to go on: your clip, your settings and your jobs are still here.",
  left: "You are signed out. Paste a token to come back.",
  leftOpen: "You are signed out. Paste a token to come back; or reload the page to go on as anyone on this machine, with other jobs.",
  other: "Each user has jobs of their own. The gateway printed a token in the terminal when it started; reload the page to go on without.",
};
const REFUSED = "This token is not valid: perhaps it has expired, or a part of it is missing.";
const SILENT = "The gateway did not answer. Is it running?";

export class Door {
  #enter;

  /** `enter()` shows the page to somebody who has a session; `leave()` clears it. */
  constructor(enter, leave) {
    this.#enter = enter;
    by("sign-in-form").addEventListener("submit", (event) => {
      event.preventDefault();
      const token = by("token").value.trim();
      if (token) this.#signIn(token);
      else fieldError("token", "Paste a token first.");
    });
    by("sign-out").addEventListener("click", async () => {
      // Whatever the answer: nobody should find the page open after this.
      await api.signOut().catch(() => {});
      leave();
      this.show("left");
      if (await isAnyone()) by("door-why").textContent = WHY.leftOpen;
    });
    by("use-token").addEventListener("click", () => this.show("other"));
    addEventListener("hashchange", () => {
      const token = tokenInAddress();
      if (token) this.#signIn(token);
    });
  }

  /** Come in with the token in the address, or the session that is there; throws if neither is. */
  async arrive() {
    const token = tokenInAddress();
    await (token ? this.#signIn(token) : this.#enter());
  }

  open() {
    by("sign-in-card").hidden = true;
    by("work").hidden = false;
    this.#whoIsIt();
  }

  /** Offer to sign out to whom that would shut out, and tell others why they are in. */
  async #whoIsIt() {
    const anyone = await isAnyone();
    if (by("work").hidden) return;
    by("anyone").hidden = !anyone;
    by("sign-out").hidden = anyone;
  }

  /** Ask for a token. `why` is a name in `WHY`. */
  show(why) {
    by("door-why").textContent = WHY[why];
    by("sign-in-card").hidden = false;
    by("work").hidden = by("sign-out").hidden = by("anyone").hidden = true;
    by("token").focus();
  }

  async #signIn(token) {
    by("sign-in").disabled = true;
    fieldError("token", "");
    try {
      await api.signIn(token);
      by("token").value = "";
      await this.#enter();
    } catch (error) {
      this.show("first");
      fieldError("token", { 401: REFUSED, 0: SILENT }[error.status] ?? error.message);
    } finally {
      by("sign-in").disabled = false;
    }
  }
}

/** Is this page let in without a credential, as whatever runs on this machine? */
const isAnyone = () =>
  api.principal().then((name) => /^anonymous:/.test(name), () => false);

/** The token in `#token=...`, which leaves the address bar and the history at once. */
function tokenInAddress() {
  const token = /^#token=([^&]+)$/.exec(location.hash)?.[1];
  if (location.hash.startsWith("#token=")) history.replaceState(null, "", location.pathname);
  return token;
}
