// The admin API. Its token is kept in this tab alone (sessionStorage) and sent as a bearer token; there are no cookies.
const BASE = new URL("../", document.baseURI);
const KEPT = "gateway-admin-token";

/** An answer that is an error. `status` is that of HTTP, 0 if nothing answered. */
export class ApiError extends Error {
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

export function url(path) {
  return new URL(path, BASE);
}

export function setToken(token) {
  if (token) sessionStorage.setItem(KEPT, token);
  else sessionStorage.removeItem(KEPT);
}

export function hasToken() {
  return Boolean(sessionStorage.getItem(KEPT));
}

function headers(more = {}) {
  const token = sessionStorage.getItem(KEPT);
  return token ? { Authorization: `Bearer ${token}`, ...more } : more;
}

async function send(method, path, body) {
  const options = { method, headers: headers(), cache: "no-store", credentials: "omit", redirect: "error" };
  if (body !== undefined) options.body = JSON.stringify(body);
  // Also without a body: what a page of somebody else could send without asking first is refused.
  if (body !== undefined || method === "POST") options.headers["Content-Type"] = "application/json";
  let response;
  try {
    response = await fetch(url(`admin/v1/${path}`), options);
  } catch {
    throw new ApiError("the gateway does not answer", 0);
  }
  if (!response.ok) {
    let text = `HTTP ${response.status}`;
    try {
      text = (await response.json()).error || text;
    } catch { /* the status says enough */ }
    throw new ApiError(text, response.status);
  }
  return response;
}

/** The JSON of a GET. */
export async function get(path) {
  return (await send("GET", path)).json();
}

/** A page of a list: {items, total}. */
export async function page(path, query) {
  const used = Object.entries(query).filter(([, value]) => value !== "" && value !== undefined);
  const response = await send("GET", `${path}?${new URLSearchParams(used)}`);
  return { items: await response.json(), total: Number(response.headers.get("X-Total-Count")) };
}

/** A change. */
export async function change(method, path, body) {
  const response = await send(method, path, body);
  return response.status === 204 ? null : response.json();
}

/** Follow the events until `signal` aborts; `take` gets each one. Connects again by itself. */
export async function follow(take, signal) {
  let after = 0;
  let wait = 500;
  while (!signal.aborted) {
    try {
      const response = await fetch(url(`admin/v1/events?after=${after}`), {
        headers: headers({ Accept: "text/event-stream" }), cache: "no-store", credentials: "omit", signal,
      });
      if (!response.ok) throw new ApiError(`HTTP ${response.status}`, response.status);
      for await (const data of eventData(response.body)) {
        wait = 500;
        const event = JSON.parse(data);
        after = event.sequence;
        take(event);
      }
    } catch (error) {
      if (signal.aborted || error.status === 401) return;
    }
    await new Promise((done) => setTimeout(done, wait));
    wait = Math.min(wait * 2, 15000);
  }
}

/** The data of each server-sent event of a body. */
export async function* eventData(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  let data = [];
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    text += value;
    const lines = text.split(/\r\n|\n|\r(?!$)/);
    text = lines.pop();
    for (const line of lines) {
      if (line === "") {
        if (data.some((one) => one)) yield data.join("\n");
        data = [];
      } else if (line.startsWith("data:")) {
        data.push(line.slice(line[5] === " " ? 6 : 5));
      }
    }
  }
}
