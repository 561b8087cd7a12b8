// Elements, made in one place. Every text becomes a text node: nothing that an upstream says is ever parsed as markup.
import { shown } from "./words.js";

const PROPERTIES = new Set(["value", "checked", "disabled", "selected", "required", "multiple", "readOnly", "hidden"]);
const URLS = new Set(["href", "src"]);

/** Make an element: h("p", {class: "soft", onclick: f}, "text", other). Children may be texts, nodes, lists, or null. */
export function h(name, properties = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (PROPERTIES.has(key)) element[key] = value;
    else if (URLS.has(key)) setUrl(element, key, String(value));
    else element.setAttribute(key, value === true ? "" : shown(String(value)));
  }
  add(element, children);
  return element;
}

function setUrl(element, key, value) {
  const safe = key === "href" ? /^(#|https?:\/\/)/ : /^data:(image\/(png|jpeg|gif|webp)|audio\/(wav|mpeg|ogg|webm|mp4));base64,[A-Za-z0-9+/=]*$/;
  if (safe.test(value)) element.setAttribute(key, value);
}

/** Add children as h() takes them. */
export function add(element, children) {
  for (const child of [children].flat(Infinity)) {
    if (child === null || child === undefined || child === false) continue;
    element.append(child instanceof Node ? child : document.createTextNode(shown(String(child))));
  }
  return element;
}

/** Replace what an element contains. */
export function fill(element, ...children) {
  element.replaceChildren();
  return add(element, children);
}

/** A table: columns are {label, number?, cell(row), header?}; rows are anything. */
export function table(caption, columns, rows) {
  const head = h("tr", {}, columns.map((one) => h("th", { scope: "col", class: one.number ? "number" : null }, one.label)));
  const body = rows.map((row) =>
    h("tr", {}, columns.map((one) => {
      const kind = one.header ? "th" : "td";
      const options = { class: one.number ? "number" : null, scope: one.header ? "row" : null };
      if (!one.header) options["data-label"] = one.label;
      return h(kind, options, one.cell(row));
    })),
  );
  return h("table", { class: "wide" }, h("caption", { class: "hidden" }, caption), h("thead", {}, head), h("tbody", {}, body));
}

/** Pairs of what and value. */
export function facts(pairs) {
  return h("dl", { class: "facts" }, pairs.filter(([, value]) => value !== null && value !== undefined && value !== "")
    .map(([what, value]) => [h("dt", {}, what), h("dd", {}, value)]));
}

/** A status word with its colour. */
export function chip(word, kind = word) {
  return h("span", { class: `chip ${/^[a-z]+$/.test(kind) ? kind : ""}` }, word);
}

let numbers = 0;
/** An id for a label and its control. */
export function freshId() {
  numbers += 1;
  return `id-${numbers}`;
}
