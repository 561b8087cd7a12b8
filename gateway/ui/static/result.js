// What a tool gave back: text as text, images as images, everything else as JSON.
import { h } from "./dom.js";

const MOST = 200_000;

function long(text) {
  const whole = String(text);
  return whole.length > MOST ? `${whole.slice(0, MOST)}\n… ${whole.length - MOST} more characters` : whole;
}

function pretty(value) {
  return h("pre", { tabindex: "0" }, long(JSON.stringify(value, null, 2)));
}

function item(one) {
  if (!one || typeof one !== "object") return pretty(one);
  const media = typeof one.mimeType === "string" && typeof one.data === "string" ? `data:${one.mimeType};base64,${one.data}` : "";
  if (one.type === "text" && typeof one.text === "string") return h("pre", { tabindex: "0" }, long(one.text));
  if (one.type === "image" && media) {
    const image = h("img", { src: media, alt: `image of the tool, ${one.mimeType}` });
    return image.hasAttribute("src") ? image : h("p", {}, `an image of type ${one.mimeType}, which is not shown`);
  }
  if (one.type === "audio" && media) {
    const audio = h("audio", { controls: true, src: media, "aria-label": `sound of the tool, ${one.mimeType}` });
    return audio.hasAttribute("src") ? audio : h("p", {}, `a sound of type ${one.mimeType}, which is not played`);
  }
  if (one.type === "resource_link") return h("p", {}, "Resource ", h("code", {}, one.uri), one.name ? ` – ${one.name}` : "");
  if (one.type === "resource" && one.resource && typeof one.resource.text === "string") {
    return h("div", {}, h("p", {}, "Resource ", h("code", {}, one.resource.uri)), h("pre", { tabindex: "0" }, long(one.resource.text)));
  }
  return pretty(one);
}

/** The result as an element. */
export function shownResult(result) {
  const content = Array.isArray(result.content) ? result.content : [];
  const verdict = result.isError
    ? h("p", { class: "note bad" }, "The tool says that it failed.")
    : h("p", { class: "note good" }, "The tool answered.");
  const structured = result.structuredContent === undefined ? null
    : h("details", { open: content.length === 0 }, h("summary", {}, "Structured content"), pretty(result.structuredContent));
  return h("div", { class: "result" }, verdict, content.map(item), structured,
    h("details", {}, h("summary", {}, "Whole result as JSON"), pretty(result)));
}
