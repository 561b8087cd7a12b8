// Numbers and times for people, and text in which nothing is hidden.

// Control characters but line breaks and tabs, halves of characters, and what turns text or has no width (UAX 9).
const HIDDEN = /[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff]|[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]/g;

/** The text with everything that cannot be seen as \uXXXX, so that people read what is there. */
export function shown(text) {
  return text.replace(/\r\n?/g, "\n").replace(HIDDEN, (one) => `\\u${one.charCodeAt(0).toString(16).padStart(4, "0")}`);
}

/** A number with few digits. */
export function number(value, digits = 1) {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  return value.toLocaleString("en", { maximumFractionDigits: digits });
}

/** Seconds as a duration. */
export function seconds(value) {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  if (value === Infinity) return "> 30 s";
  return value < 1 ? `${number(value * 1000, value < 0.01 ? 1 : 0)} ms` : `${number(value, 2)} s`;
}

/** The time since a moment in Unix seconds. */
export function ago(at) {
  if (!at) return "";
  const s = Math.max(Date.now() / 1000 - at, 0);
  if (s < 120) return `${Math.floor(s)} s`;
  if (s < 7200) return `${Math.floor(s / 60)} min`;
  if (s < 172800) return `${Math.floor(s / 3600)} h`;
  return `${Math.floor(s / 86400)} d`;
}

/** The time of day of a moment in Unix seconds. */
export function clock(at) {
  return new Date(at * 1000).toLocaleTimeString("en-GB");
}

const LIMITS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, Infinity];

/** The quantile of a histogram with the gateway's buckets, or null for one without observations. */
export function quantile(buckets, share) {
  const total = buckets.reduce((sum, one) => sum + one, 0);
  if (!total) return null;
  let below = 0;
  for (let at = 0; at < buckets.length; at += 1) {
    if (below + buckets[at] >= share * total && buckets[at]) {
      const from = at ? LIMITS[at - 1] : 0;
      return LIMITS[at] === Infinity ? Infinity : from + (LIMITS[at] - from) * ((share * total - below) / buckets[at]);
    }
    below += buckets[at];
  }
  return null;
}
