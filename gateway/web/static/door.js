// Signing in and out.

import * as api from "./api.js";
import { fieldError } from "./form.js";

const by = (id) => document.getElementById(id);

const WHY = {
  first: "The gateway printed one in the terminal when it started, next to a link that signs you in at once.",
  ended: "Your session has ended. Paste a token to go on: your clip, your settings and your jobs are still here.",
  left: "You are signed out. Paste a token to come back.",
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
    });
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
    by("work").hidden = by("sign-out").hidden = false;
  }

  /** Ask for a token. `why` is "first", "ended" or "left". */
  show(why) {
    by("door-why").textContent = WHY[why];
    by("sign-in-card").hidden = false;
    by("work").hidden = by("sign-out").hidden = true;
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

/** The token in `#token=...`, which leaves the address bar and the history at once. */
function tokenInAddress() {
  const token = /^#token=([^&]+)$/.exec(location.hash)?.[1];
  if (location.hash.startsWith("#token=")) history.replaceState(null, "", location.pathname);
  return token;
}
