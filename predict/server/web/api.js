// The server's endpoints that the page uses. Errors carry the server's own words.

export async function listModels() {
  return (await ask("v1/models")).models;
}

/** Reads a picture: a PNG or JPEG Blob. */
export function readBlob(model, blob, signal) {
  const query = new URLSearchParams({ model, inputs: "true" });
  const headers = { "Content-Type": blob.type };
  return ask(`v1/read?${query}`, { method: "POST", headers, body: blob, signal });
}

/** Reads a picture that the server fetches; the answer holds the picture too. */
export function readUrl(model, url, signal) {
  return postJson("v1/read", { model, url, inputs: true, picture: true }, signal);
}

/** Keeps a correction; `input` is a digit's data URL as `readBlob` gave it. */
export function sendFeedback(model, input, label) {
  const b64 = input.slice(input.indexOf(",") + 1);
  return postJson("v1/feedback", { model, image: { b64 }, label });
}

function postJson(path, value, signal) {
  const headers = { "Content-Type": "application/json" };
  return ask(path, { method: "POST", headers, body: JSON.stringify(value), signal });
}

async function ask(path, options) {
  let response;
  try {
    response = await fetch(path, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error("The server does not answer. Is it still running?");
  }
  const answer = await response.json().catch(() => ({}));
  if (response.ok) return answer;
  const error = new Error(answer.error ?? `The server answered ${response.status}.`);
  error.status = response.status;
  throw error;
}
