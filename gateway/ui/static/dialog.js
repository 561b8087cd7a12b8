// Dialogs: the browser's own, so that focus stays in them and Escape closes them.
import { freshId, h } from "./dom.js";

/** Show a dialog with a title. Returns it; close() ends it. */
export function dialog(title, ...content) {
  const id = freshId();
  const box = h("dialog", { "aria-labelledby": id }, h("h2", { id }, title), content);
  box.addEventListener("close", () => box.remove());
  document.body.append(box);
  box.showModal();
  return box;
}

/** A line for what went wrong. It is read out when it changes. */
export function problemLine() {
  return h("p", { class: "problem", role: "alert" });
}

/** A label above a control. The control gets an id; `hint` is said under it. */
export function labelled(text, control, hint) {
  control.id = freshId();
  const said = hint ? h("span", { class: "hint", id: freshId() }, hint) : null;
  if (said) control.setAttribute("aria-describedby", said.id);
  return h("div", { class: "field" }, h("label", { for: control.id }, text), control, said);
}

/** A choice between words. */
export function choice(words, chosen) {
  const select = h("select", {}, words.map((one) => (Array.isArray(one) ? one : [one, one])).map(([value, text]) => h("option", { value }, text)));
  select.value = chosen;
  return select;
}

/** A form in a dialog: `send` is awaited and the dialog closed, or what it throws is shown. */
export function formDialog(title, fields, verb, send) {
  const problem = problemLine();
  const button = h("button", { class: "main" }, verb);
  const form = h("form", { novalidate: true, onsubmit: async (event) => {
    event.preventDefault();
    problem.textContent = "";
    button.disabled = true;
    try {
      await send();
      box.close();
    } catch (error) {
      problem.textContent = error.message;
      button.disabled = false;
    }
  } }, fields, problem, h("div", { class: "row" }, button, h("button", { type: "button", onclick: () => box.close() }, "Cancel")));
  const box = dialog(title, form);
  const first = form.querySelector("input, select, textarea");
  if (first) first.focus();
  return box;
}

/** Ask whether something is meant. `act` is awaited and the dialog closed, or what it throws is shown. */
export function confirmed(title, text, verb, act, keep = "Cancel") {
  const problem = problemLine();
  const box = dialog(title, h("p", {}, text), problem, h("div", { class: "row" },
    h("button", { type: "button", class: "danger", onclick: async () => {
      try {
        await act();
        box.close();
      } catch (error) {
        problem.textContent = error.message;
      }
    } }, verb), h("button", { type: "button", onclick: () => box.close() }, keep)));
  return box;
}
