// A list of which only the rows in sight exist, so that ten thousand scroll as ten do.
import { fill, h } from "./dom.js";

const PAGE = 200;
const AROUND = 12;

/** The rows that exist when `height` pixels are in sight from `top` on: [first, after the last]. */
export function inSight(top, height, row, total) {
  const first = Math.max(Math.floor(top / row) - AROUND, 0);
  return [Math.min(first, total), Math.min(Math.ceil((top + height) / row) + AROUND, total)];
}

/** The pages on which the rows from `first` to before `after` are. */
export function pagesOf(first, after) {
  const found = [];
  for (let page = Math.floor(first / PAGE); page * PAGE < after; page += 1) found.push(page);
  return found;
}

/** A list with rows of one height. `fetchPage(offset, limit)` gives {items, total}, `make(item)` what stands in a row.
 * Returns {element, reload(), refresh(), each(f)}: f gets every row that exists, and its item. */
export function virtualList(label, fetchPage, make, kind = "") {
  const list = h("ul", { "aria-label": label });
  const element = h("div", { class: `virtual ${kind}` }, list);
  let rows = new Map();
  let pages = new Map();
  let total = 0;
  let generation = 0;
  let drawing = 0;
  const row = () => parseFloat(getComputedStyle(element).getPropertyValue("--row")) || 56;

  function item(at) {
    const page = pages.get(Math.floor(at / PAGE));
    return page instanceof Array ? page[at % PAGE] : undefined;
  }

  async function need(page) {
    if (pages.has(page)) return;
    const mine = generation;
    pages.set(page, "asked");
    try {
      const found = await fetchPage(page * PAGE, PAGE);
      if (mine !== generation) return;
      pages.set(page, found.items);
      if (found.total !== total) grow(found.total);
      draw();
    } catch {
      if (mine === generation) pages.delete(page); // asked for again when it is in sight next
    }
  }

  function grow(to) {
    total = to;
    list.style.height = `${total * row()}px`;
    for (const [at, made] of rows) {
      if (at < total) made.element.setAttribute("aria-setsize", total);
      else drop(at);
    }
  }

  function drop(at) {
    rows.get(at).element.remove();
    rows.delete(at);
  }

  function draw() {
    const size = row();
    const [first, after] = inSight(element.scrollTop, element.clientHeight, size, total);
    for (const at of rows.keys()) {
      if ((at < first || at >= after) && !rows.get(at).element.contains(document.activeElement)) drop(at);
    }
    let next = null;
    for (let at = after - 1; at >= first; at -= 1) {
      const found = item(at);
      const made = rows.get(at);
      if (made) {
        if (made.item === undefined && found !== undefined) {
          made.item = found;
          fill(made.element, make(found));
        }
        next = made.element;
        continue;
      }
      const line = h("li", { "aria-setsize": total, "aria-posinset": at + 1 }, found === undefined ? null : make(found));
      line.style.transform = `translateY(${at * size}px)`;
      rows.set(at, { element: line, item: found });
      list.insertBefore(line, next);
      next = line;
    }
    for (const page of pagesOf(first, after)) need(page);
  }

  /** Make the rows that exist anew. Whoever has the focus in one keeps it. */
  function redraw() {
    for (const [at, made] of rows) {
      const found = item(at);
      if (found === undefined) continue;
      const focused = made.element.contains(document.activeElement);
      made.item = found;
      fill(made.element, make(found));
      if (focused) made.element.querySelector("a")?.focus({ preventScroll: true });
    }
  }

  element.addEventListener("scroll", () => {
    if (!drawing) drawing = requestAnimationFrame(() => { drawing = 0; draw(); });
  }, { passive: true });
  new ResizeObserver(() => { if (total) { list.style.height = `${total * row()}px`; draw(); } }).observe(element);

  return {
    element,
    /** Show from the top what fits now. Returns how many there are; throws what fetchPage throws. */
    async reload() {
      generation += 1;
      const mine = generation;
      const found = await fetchPage(0, PAGE);
      if (mine !== generation) return null;
      pages = new Map([[0, found.items]]);
      rows = new Map();
      fill(list);
      element.scrollTop = 0;
      grow(found.total);
      draw();
      return found.total;
    },
    /** Look again at what is in sight, where it is. Returns how many there are, or null if that is outdated already;
     * throws what fetchPage throws. */
    async refresh() {
      const mine = generation;
      const [first, after] = inSight(element.scrollTop, element.clientHeight, row(), total);
      const looked = pagesOf(first, Math.max(after, 1));
      const found = await Promise.all(looked.map((page) => fetchPage(page * PAGE, PAGE)));
      if (mine !== generation) return null;
      pages = new Map(looked.map((page, at) => [page, found[at].items])); // others are asked for when they are in sight
      grow(found[0].total);
      redraw();
      draw();
      return total;
    },
    each(take) {
      for (const made of rows.values()) if (made.item !== undefined) take(made.element, made.item);
    },
  };
}
