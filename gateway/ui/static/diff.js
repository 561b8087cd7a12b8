// The difference of two JSON values, line by line. Pure.
const MOST_CELLS = 4_000_000;

/** A JSON value as lines, members in order of their names, so that their order makes no difference. */
export function lines(value) {
  return value === null || value === undefined ? [] : JSON.stringify(ordered(value), null, 2).split("\n");
}

function ordered(value) {
  if (Array.isArray(value)) return value.map(ordered);
  if (!value || typeof value !== "object") return value;
  return Object.fromEntries(Object.entries(value).sort(([one], [other]) => (one < other ? -1 : 1)).map(([name, part]) => [name, ordered(part)]));
}

/** What became of lines: [{sign: " " | "-" | "+", text}]. Texts that are very long and differ throughout are shown one
 * after the other. */
export function difference(before, after) {
  let start = 0;
  while (start < before.length && start < after.length && before[start] === after[start]) start += 1;
  let end = 0;
  while (end < before.length - start && end < after.length - start && before[before.length - 1 - end] === after[after.length - 1 - end]) end += 1;
  const was = before.slice(start, before.length - end);
  const is = after.slice(start, after.length - end);
  const same = (text) => ({ sign: " ", text });
  return [...before.slice(0, start).map(same), ...middle(was, is), ...before.slice(before.length - end).map(same)];
}

function middle(was, is) {
  const removed = (text) => ({ sign: "-", text });
  const added = (text) => ({ sign: "+", text });
  if (!was.length || !is.length || was.length * is.length > MOST_CELLS) return [...was.map(removed), ...is.map(added)];
  const width = is.length + 1;
  const longest = new Uint32Array((was.length + 1) * width);
  for (let a = was.length - 1; a >= 0; a -= 1) {
    for (let b = is.length - 1; b >= 0; b -= 1) {
      longest[a * width + b] = was[a] === is[b] ? longest[(a + 1) * width + b + 1] + 1 : Math.max(longest[(a + 1) * width + b], longest[a * width + b + 1]);
    }
  }
  const found = [];
  let a = 0;
  let b = 0;
  while (a < was.length && b < is.length) {
    if (was[a] === is[b]) {
      found.push({ sign: " ", text: was[a] });
      a += 1;
      b += 1;
    } else if (longest[(a + 1) * width + b] >= longest[a * width + b + 1]) {
      found.push(removed(was[a]));
      a += 1;
    } else {
      found.push(added(is[b]));
      b += 1;
    }
  }
  return [...found, ...was.slice(a).map(removed), ...is.slice(b).map(added)];
}
