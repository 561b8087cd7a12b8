// A form made of a JSON Schema. What has no control of its own is typed as JSON, so every schema can be filled in.
import { freshId, h } from "./dom.js";

const DEEPEST = 4;
const TYPES = { date: "date", "date-time": "text", email: "email", uri: "url", time: "time" };

/** A form for `schema` (of an object). Returns {element, read()}; read() returns {value, problems}, and shows problems. */
export function schemaForm(schema) {
  return objectField(plain(schema, schema), schema, 0);
}

/** The schema behind references and alternatives with null, so far as that is simple. */
function plain(schema, root, depth = 0) {
  if (!schema || typeof schema !== "object" || depth > 8) return {};
  if (typeof schema.$ref === "string" && schema.$ref.startsWith("#/")) {
    let target = root;
    for (const part of schema.$ref.slice(2).split("/")) {
      const name = part.replaceAll("~1", "/").replaceAll("~0", "~");
      target = target && typeof target === "object" && Object.hasOwn(target, name) ? target[name] : undefined;
    }
    const { $ref, ...others } = schema;
    return { ...plain(target, root, depth + 1), ...others };
  }
  const choices = schema.anyOf || schema.oneOf;
  if (Array.isArray(choices)) {
    const others = choices.filter((one) => one && one.type !== "null");
    if (others.length === 1) return { ...plain(others[0], root, depth + 1), ...without(schema, "anyOf", "oneOf") };
    if (others.length && others.every((one) => one && Object.hasOwn(one, "const"))) {
      return { ...without(schema, "anyOf", "oneOf"), options: others.map((one) => [one.const, one.title ?? String(one.const)]) };
    }
  }
  if (Array.isArray(schema.type)) {
    const types = schema.type.filter((one) => one !== "null");
    if (types.length === 1) return { ...schema, type: types[0] };
  }
  return schema;
}

function without(object, ...names) {
  return Object.fromEntries(Object.entries(object).filter(([name]) => !names.includes(name)));
}

function objectField(schema, root, depth) {
  const required = new Set(Array.isArray(schema.required) ? schema.required : []);
  const fields = Object.entries(schema.properties || {}).map(([name, part]) => [name, field(name, plain(part, root), root, required.has(name), depth + 1)]);
  return {
    element: h("div", {}, fields.map(([, one]) => one.element)),
    read() {
      const entries = [];
      const problems = [];
      for (const [name, one] of fields) {
        const found = one.read();
        problems.push(...found.problems.map((text) => (text.startsWith(name) ? text : `${name}: ${text}`)));
        if (found.value !== undefined) entries.push([name, found.value]);
      }
      return { value: Object.fromEntries(entries), problems };
    },
  };
}

function field(name, schema, root, required, depth) {
  if (schema.type === "object" && schema.properties && depth < DEEPEST) return nested(name, schema, root, required, depth);
  if (Array.isArray(schema.enum) && schema.enum.every((one) => one === null || typeof one !== "object")) {
    return choice(name, { ...schema, options: schema.enum.map((one) => [one, String(one)]) }, required);
  }
  if (schema.options) return choice(name, schema, required);
  if (schema.type === "boolean") return choice(name, { ...schema, options: [[true, "yes"], [false, "no"]] }, required);
  if (schema.type === "array") {
    const items = plain(schema.items, root);
    const options = items.options || (Array.isArray(items.enum) ? items.enum.map((one) => [one, String(one)]) : null);
    if (options) return choice(name, { ...schema, options }, required, true);
    if (items.type === "string") return lines(name, schema, required);
  }
  if (schema.type === "string") return text(name, schema, required);
  if (schema.type === "integer" || schema.type === "number") return numeric(name, schema, required);
  return json(name, schema, required);
}

function nested(name, schema, root, required, depth) {
  const inner = objectField(schema, root, depth);
  const element = h("fieldset", {}, h("legend", {}, title(name, schema), required ? "" : " (optional)"), hint(schema), inner.element);
  return {
    element,
    read() {
      const found = inner.read();
      const empty = Object.keys(found.value).length === 0;
      return empty && !required ? { value: undefined, problems: [] } : found;
    },
  };
}

function title(name, schema) {
  return typeof schema.title === "string" && schema.title.toLowerCase() !== name.toLowerCase() ? `${name} – ${schema.title}` : name;
}

function hint(schema, id) {
  const limits = ["minimum", "maximum", "minLength", "maxLength", "pattern", "format"].filter((one) => ["string", "number"].includes(typeof schema[one]))
    .map((one) => `${one} ${schema[one]}`).join(", ");
  const words = [typeof schema.description === "string" ? schema.description : "", limits].filter(Boolean).join(" · ");
  return words ? h("span", { class: "hint", id }, words) : null;
}

/** Label, control, hint and place for a problem around a control; `parse(raw)` returns a value or throws. */
function control(name, schema, required, input, parse) {
  const id = freshId();
  input.id = id;
  const help = hint(schema, `${id}-hint`);
  const problem = h("span", { class: "problem", id: `${id}-problem` });
  input.setAttribute("aria-describedby", `${help ? `${id}-hint ` : ""}${id}-problem`);
  if (required) input.setAttribute("aria-required", "true");
  const label = h("label", { for: id }, title(name, schema), required ? h("span", { class: "soft" }, " (required)") : null);
  return {
    element: h("div", { class: "field" }, label, input, help, problem),
    read() {
      problem.textContent = "";
      input.removeAttribute("aria-invalid");
      try {
        const value = parse(input);
        if (value === undefined && required) throw new Error("is required");
        return { value, problems: [] };
      } catch (error) {
        problem.textContent = error.message;
        input.setAttribute("aria-invalid", "true");
        return { value: undefined, problems: [`${name} ${error.message}`] };
      }
    },
  };
}

function text(name, schema, required) {
  const value = typeof schema.default === "string" ? schema.default : "";
  const large = (schema.maxLength ?? 0) > 200 || value.includes("\n") || schema.contentMediaType;
  const input = large ? h("textarea", { value }) : h("input", { type: TYPES[schema.format] || "text", value, autocomplete: "off" });
  return control(name, schema, required, input, () => (input.value === "" ? (required && (schema.minLength ?? 0) === 0 ? "" : undefined) : input.value));
}

function numeric(name, schema, required) {
  const value = typeof schema.default === "number" ? String(schema.default) : "";
  const input = h("input", { type: "text", inputmode: schema.type === "integer" ? "numeric" : "decimal", value, autocomplete: "off" });
  return control(name, schema, required, input, () => {
    const raw = input.value.trim();
    if (raw === "") return undefined;
    const found = Number(raw);
    if (!Number.isFinite(found)) throw new Error("must be a number");
    if (schema.type === "integer" && !Number.isInteger(found)) throw new Error("must be a whole number");
    if (Number.isInteger(found) && !Number.isSafeInteger(found)) throw new Error("is too large for a form: write it as JSON");
    if (typeof schema.minimum === "number" && found < schema.minimum) throw new Error(`must be at least ${schema.minimum}`);
    if (typeof schema.maximum === "number" && found > schema.maximum) throw new Error(`must be at most ${schema.maximum}`);
    return found;
  });
}

function choice(name, schema, required, several = false) {
  const chosen = several ? (Array.isArray(schema.default) ? schema.default : []) : [schema.default];
  const options = schema.options.map(([value, label], at) => h("option", { value: String(at), selected: chosen.includes(value) }, label));
  const empty = several || (required && schema.default !== undefined) ? null : h("option", { value: "" }, "–");
  const input = h("select", { multiple: several }, empty, options);
  if (!several && schema.default === undefined) input.value = "";
  return control(name, schema, required, input, () => {
    const found = [...input.selectedOptions].filter((one) => one.value !== "").map((one) => schema.options[Number(one.value)][0]);
    if (several) return found.length || required ? found : undefined;
    return found[0];
  });
}

function lines(name, schema, required) {
  const value = Array.isArray(schema.default) ? schema.default.join("\n") : "";
  const input = h("textarea", { value });
  const described = { ...schema, description: `${schema.description ?? ""} (one a line)`.trim() };
  return control(name, described, required, input, () => {
    const found = input.value.split("\n").filter((one) => one !== "");
    return found.length || required ? found : undefined;
  });
}

function json(name, schema, required) {
  const value = schema.default === undefined ? "" : JSON.stringify(schema.default, null, 2);
  const input = h("textarea", { class: "code short", value, spellcheck: "false" });
  const described = { ...schema, description: `${typeof schema.description === "string" ? schema.description : ""} (JSON)`.trim() };
  return control(name, described, required, input, () => {
    if (input.value.trim() === "") return undefined;
    try {
      return JSON.parse(input.value);
    } catch {
      throw new Error("is no JSON");
    }
  });
}
