// Requests to this server, with the API key of this tab where there is one.

const KEY = "cascade-api-key";

/** An answer that is none: the problem the server names. */
export class Problem extends Error {
  constructor(status, detail, body = {}) {
    super(detail);
    this.status = status;
    this.body = body; // all members of it, such as the newest revision of a 409
  }
}

export const key = {
  get: () => sessionStorage.getItem(KEY),
  set: (value) => sessionStorage.setItem(KEY, value),
  forget: () => sessionStorage.removeItem(KEY),
};

/** The JSON of an answer; status 0 stands for a server that does not answer. */
export async function ask(method, path, body) {
  const headers = { Accept: "application/json" };
  if (key.get()) headers.Authorization = `Bearer ${key.get()}`;
  if (body !== undefined) headers["Content-Type"] = "application/json";
  let response;
  try {
    response = await fetch(path, { method, headers, body: body && JSON.stringify(body), cache: "no-store" });
  } catch {
    throw new Problem(0, "The server does not answer.");
  }
  const found = await response.json().catch(() => null);
  if (response.ok) return found;
  throw new Problem(response.status, found?.detail ?? response.statusText, found ?? {});
}

export const get = (path) => ask("GET", path);

/** The answer, or null where there is nothing of that name yet. */
export async function find(path) {
  try {
    return await get(path);
  } catch (problem) {
    if (problem.status === 404) return null;
    throw problem;
  }
}

export const at = (name, rest = "") => `/v1/experiments/${encodeURIComponent(name)}${rest}`;
