// What is polled, and the rates made of it. One store for all pages, so that charts go on when the page changes.
import * as api from "./api.js";
import { quantile } from "./words.js";

const EVERY_MS = 2000;
const KEPT = 150;
const MOST_EVENTS = 300;

class Store extends EventTarget {
  overview = null;
  samples = [];
  events = [];
  problem = null;
  #before = null;
  #timer = 0;
  #following = null;

  start() {
    this.stop();
    this.#following = new AbortController();
    api.follow((event) => this.#happened(event), this.#following.signal);
    this.#poll();
  }

  stop() {
    clearTimeout(this.#timer);
    if (this.#following) this.#following.abort();
  }

  async #poll() {
    clearTimeout(this.#timer);
    if (!document.hidden) {
      try {
        this.overview = await api.get("overview");
        this.problem = null;
        this.#sample();
        this.dispatchEvent(new Event("overview"));
      } catch (error) {
        this.problem = error;
        this.dispatchEvent(new Event("problem"));
        if (error.status === 401) return;
      }
    }
    this.#timer = setTimeout(() => this.#poll(), EVERY_MS);
  }

  /** Look again at once. */
  refresh() {
    this.#poll();
  }

  #happened(event) {
    const same = (one) => one.at === event.at && one.kind === event.kind && one.id === event.id;
    if (this.events.slice(0, 20).some(same)) return;
    this.events.unshift(event);
    this.events.length = Math.min(this.events.length, MOST_EVENTS);
    this.dispatchEvent(new Event("events"));
  }

  /** Add what happened since the last poll. Counters of each front end start at zero, so each is compared with itself. */
  #sample() {
    const now = performance.now() / 1000;
    const counts = new Map(this.overview.frontends.map((one) => [one.id, one]));
    if (this.#before) {
      const past = this.#before;
      const span = now - past.now;
      let calls = 0;
      let errors = 0;
      const buckets = [];
      for (const [id, one] of counts) {
        const old = past.counts.get(id) || { calls: 0, errors: 0, failures: {}, buckets: [] };
        calls += Math.max(one.calls - old.calls, 0);
        errors += Math.max(failed(one) - failed(old), 0);
        one.buckets.forEach((count, at) => { buckets[at] = (buckets[at] || 0) + Math.max(count - (old.buckets[at] || 0), 0); });
      }
      this.samples.push({
        at: Date.now() / 1000,
        calls: calls / span,
        errors: errors / span,
        inFlight: this.overview.frontends.reduce((sum, one) => sum + one.inFlight, 0),
        p50: quantile(buckets, 0.5),
        p99: quantile(buckets, 0.99),
      });
      if (this.samples.length > KEPT) this.samples.shift();
    }
    this.#before = { now, counts };
  }
}

function failed(frontend) {
  return frontend.errors + Object.values(frontend.failures).reduce((sum, one) => sum + one, 0);
}

export const store = new Store();
