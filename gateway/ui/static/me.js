// Who uses the dashboard, and what they may do here. The admin API decides; this only keeps useless buttons away.
import * as api from "./api.js";

export const me = { principal: "", rights: "read", commands: false, roles: [], keys: false, audit: false };

/** Ask the gateway. Throws an ApiError if it does not say. */
export async function load() {
  Object.assign(me, await api.get("me"));
}

/** Whether they may change anything. */
export function mayWrite() {
  return me.rights === "write";
}

/** What is shown to those who may change something, else nothing. `make` is called only then. */
export function forWriters(make) {
  return mayWrite() ? make() : null;
}

/** Their name, for people. */
export function myName() {
  return me.principal || "anybody on this machine";
}
