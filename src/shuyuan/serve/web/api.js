// Talks to this server and to no other. The session's cookie goes along by itself; the token stays in this page's memory.

let session = null;
let routes = {};

/** What the server refused, or that it did not answer (status 0). */
export class Refusal extends Error {
  constructor(status, code, message, seconds) {
    super(message);
    Object.assign(this, { status, code, seconds });
  }
}

/** A response; whatever is no success is thrown. */
export async function call(method, path, body, signal) {
  const headers = {};
  if (body !== undefined) headers["Content-Type"] = "application/json";
  if (session?.token) headers["X-CSRF-Token"] = session.token;
  let response;
  try {
    response = await fetch(path, { method, headers, signal, body: body && JSON.stringify(body), redirect: "error" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refusal(0, "network", error.message);
  }
  if (!response.ok) throw await refusal(response);
  return response;
}

/** What a response holds, as JSON. */
export async function ask(method, path, body, signal) {
  return (await call(method, path, body, signal)).json();
}

/** The chunks of a streamed response. */
export async function* stream(path, body, signal) {
  const asked = { ...body, stream: true, stream_options: { include_usage: true } };
  const response = await call("POST", path, asked, signal);
  for await (const line of events(response.body)) {
    if (line === "[DONE]") return;
    const chunk = JSON.parse(line);
    if (chunk.error) throw refused(200, chunk.error);
    yield chunk;
  }
  throw new Refusal(0, "network", "The answer was broken off.");
}

async function* events(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let held = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const whole = (held + value).split("\n\n");
    held = whole.pop();
    for (const event of whole) yield event.replace(/^data: /, "");
  }
}

async function refusal(response) {
  const table = await response.json().catch(() => ({}));
  return refused(response.status, table.error ?? {}, response.headers.get("Retry-After"));
}

function refused(status, problem, seconds = null) {
  const gone = problem.code === "serve.no-key";
  if (gone) session = null;
  return new Refusal(gone ? 401 : status, problem.code ?? "unknown", problem.message ?? `HTTP ${status}`, seconds);
}

/** Exchanges a key for a session. */
export async function login(key) {
  session = await ask("POST", "/session", { key });
  return opened();
}

/** The session that there is already; null: none. */
export async function resume() {
  try {
    session = await ask("GET", "/session");
  } catch (error) {
    if (error.status === 401) return null;
    throw error;
  }
  return opened();
}

/** Ends the session. */
export async function logout() {
  await call("DELETE", "/session");
  session = null;
}

async function opened() {
  routes = (await ask("GET", "/openapi.json")).paths;
  return session;
}

/** Whether the session's role may take a route, such as "GET /admin/keys", by the server's own table. */
export function may(route) {
  const [method, path] = route.split(" ");
  return session !== null && routes[path][method.toLowerCase()]["x-roles"].includes(session.role);
}
