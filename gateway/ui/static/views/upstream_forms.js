// Dialogs about an upstream: adding, changing, beginning anew, draining and disabling, removing.
import * as api from "../api.js";
import { choice, confirmed, formDialog, labelled } from "../dialog.js";
import { h } from "../dom.js";
import { me } from "../me.js";
import { runsProcess, transports } from "../transports.js";

const path = (id) => `servers/${encodeURIComponent(id)}`;
const words = (list) => (list || []).join("\n");
const area = (value) => h("textarea", { class: "code short", spellcheck: "false", value });
const ISOLATION = [["auto", "as the upstream needs it"], ["shared", "one session for all clients"], ["client", "a session for each client"]];
const PINS = [["off", "shown as they are"], ["warn", "shown, with a warning"], ["block", "held back until somebody approves them"]];

/** Words on lines as a list. */
export function listed(text) {
  return text.split("\n").map((one) => one.trim()).filter((one) => one);
}

function object(text, what) {
  let value;
  try {
    value = JSON.parse(text || "{}");
  } catch (error) {
    throw new Error(`${what}: is no JSON: ${error.message}`);
  }
  if (!value || typeof value !== "object" || Array.isArray(value)) throw new Error(`${what}: must be a JSON object`);
  return value;
}

export async function adding() {
  const byUrl = (await transports()).filter((one) => one.key === "url");
  const id = h("input", { required: true, autocomplete: "off" });
  const where = h("input", { type: "url", required: true, autocomplete: "off" });
  const group = h("input", { autocomplete: "off" });
  const kind = choice([["", "find out"], ...byUrl.map((one) => [one.name, one.title])], "");
  const command = h("input", { autocomplete: "off", spellcheck: "false" });
  formDialog("Add an upstream", [
    labelled("Id", id), labelled("URL", where), labelled("Transport", kind), labelled("Group (default: the id)", group),
    me.commands ? labelled("Or a command, with its arguments", command, "Words are separated by spaces; one with a space in it is quoted.") : h("p", { class: "soft" }, "Commands are added with ", h("code", {}, "gateway servers add ID -- COMMAND"), "."),
  ], "Add", async () => {
    const [name, ...args] = quoted(command.value);
    const connection = name ? { command: name, args } : { url: where.value, ...(kind.value ? { type: kind.value } : {}) };
    await api.change("POST", "servers", { id: id.value, connection, ...(group.value ? { name: group.value } : {}) });
    location.hash = `#/upstreams/${encodeURIComponent(id.value)}`;
  });
}

/** The words of a line: those in quotes are one, quotes in words are none. */
export function quoted(line) {
  return [...line.matchAll(/"([^"]*)"|'([^']*)'|(\S+)/g)].map(([, one, other, plain]) => one ?? other ?? plain);
}

/** What PATCH needs to make `now` into `wanted`: only what differs. An empty list of tools to show means all. */
export function changes(now, wanted) {
  const same = (one, other) => JSON.stringify(one) === JSON.stringify(other);
  const found = {};
  for (const name of ["weight", "isolation", "pin", "metadata", "settings", "connection"]) {
    if (!same(now[name], wanted[name])) found[name] = wanted[name];
  }
  if (wanted.balancer && wanted.balancer !== now.balancer) found.balancer = wanted.balancer;
  if (!same(now.excludeTools, wanted.excludeTools)) found.excludeTools = wanted.excludeTools;
  const shown = wanted.includeTools.length ? wanted.includeTools : now.includeTools ? ["*"] : null;
  if (!same(now.includeTools, shown)) found.includeTools = shown;
  return found;
}

export function editing(now, done) {
  const weight = h("input", { type: "number", min: "1", max: "1000", value: String(now.weight) });
  const isolation = choice(ISOLATION, now.isolation);
  const balancer = h("input", { autocomplete: "off", value: now.balancer || "" });
  const pin = choice(PINS, now.pin);
  const include = area(words(now.includeTools));
  const exclude = area(words(now.excludeTools));
  const connection = area(JSON.stringify(now.connection, null, 2));
  const settings = area(JSON.stringify(now.settings, null, 2));
  const metadata = area(JSON.stringify(now.metadata, null, 2));
  formDialog(`Change ${now.id}`, [
    now.source === "file" ? h("p", { class: "note" }, "The gateway's file declares this upstream. A change made here lasts until the gateway reads the file again.") : null,
    labelled("Weight", weight, "Its share of the calls, from 1 to 1000."),
    labelled("Tools that change", pin),
    labelled("Show only these tools", include, "A name on each line, in which * stands for any text. Empty: all."),
    labelled("Hide these tools", exclude),
    labelled("Sessions", isolation), labelled("Balancer of its group", balancer, "Empty: as the gateway's settings say."),
    h("details", {}, h("summary", {}, "Connection, settings and metadata"),
      labelled("Connection (JSON)", connection, "Secrets are shown as a mask. A mask that stays means: as it was."),
      labelled("Settings of its own (JSON)", settings), labelled("Metadata (JSON)", metadata)),
  ], "Save", async () => {
    await api.change("PATCH", path(now.id), changes(now, {
      weight: Number(weight.value), isolation: isolation.value, balancer: balancer.value.trim(), pin: pin.value,
      includeTools: listed(include.value), excludeTools: listed(exclude.value),
      connection: object(connection.value, "Connection"), settings: object(settings.value, "Settings"), metadata: object(metadata.value, "Metadata"),
    }));
    done();
  });
}

export async function restarting(now, done) {
  confirmed(`Restart ${now.id}?`, await runsProcess(now.transport)
    ? "Its process is ended and started anew. Calls that it is working on fail."
    : "Every worker opens new connections and sessions to it. Calls under way are still answered.",
  "Restart", async () => {
    await api.change("POST", `${path(now.id)}/restart`);
    done();
  });
}

const DUTIES = {
  draining: ["Drain", "It gets no new calls, only those of client sessions and tasks that it has already. It stays connected.", "It drains."],
  disabled: ["Disable", "It is stopped once its calls are over, and nothing of it is listed, until somebody enables it again.", "It is disabled."],
  active: ["Enable", "", "It takes calls."],
};

/** The button that drains, disables or enables an upstream. Only what takes something away is asked about. */
export function onDuty(now, duty, after) {
  const [verb, text, said] = DUTIES[duty];
  async function change() {
    await api.change("PUT", `${path(now.id)}/duty`, { duty });
    after(said)();
  }
  return h("button", { type: "button", onclick: () => {
    if (text) confirmed(`${verb} ${now.id}?`, text, verb, change);
    else change().catch((error) => after(error.message)());
  } }, verb);
}

export function removing(id) {
  confirmed(`Remove ${id}?`, "Its tools leave the lists, and calls under way are still answered. An entry of a configuration file has to be removed there.", "Remove", async () => {
    await api.change("DELETE", path(id));
    location.hash = "#/upstreams";
  }, "Keep");
}
