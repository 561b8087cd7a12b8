// The transports of upstreams, as the admin API describes them: no page knows one by its name.
import * as api from "./api.js";

let known = null;

/** All transports: {name, title, key, runsProcess}. None if the gateway does not say. */
export async function transports() {
  known ??= await api.get("transports").catch(() => null);
  return known ?? [];
}

/** Whether upstreams of this transport are processes of the gateway. */
export async function runsProcess(name) {
  return (await transports()).some((one) => one.name === name && one.runsProcess);
}
