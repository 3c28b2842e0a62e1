// What all pages share: asking the API, and building elements out of text. Nothing is ever parsed as markup.

/** An element with attributes and children; children that are no elements become text. */
export function el(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (key in element && key !== "list" && key !== "role") element[key] = value;
    else element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

export const $ = (selector) => document.querySelector(selector);
export const number = (value, digits = 0) => value === null || value === undefined ? "–" : value.toLocaleString("en", {
  minimumFractionDigits: digits,
  maximumFractionDigits: digits
});
export const words = (name) => name.replace(/([a-z0-9])([A-Z])/g, "$1 $2").replaceAll("_", " ").toLowerCase();
export const plural = (count, thing) => `${number(count)} ${thing}${count === 1 ? "" : "s"}`;
export const shortened = (text, length = 300) => text.length > length ? `${text.slice(0, length)}…` : text;
export const itemUrl = (id) => `/item?id=${encodeURIComponent(id)}`;
export const lineageUrl = (id) => `/lineage?id=${encodeURIComponent(id)}`;

class ApiError extends Error {
  constructor(status, message, hint) {
    super(message);
    this.status = status;
    this.hint = hint;
  }
}

/** Ask the API; an answer that is an error is thrown with its message and hint. */
export async function ask(path, {
  parameters = {},
  body,
  method,
  signal
} = {}) {
  const query = new URLSearchParams(Object.entries(parameters).filter(([, value]) => value !== null && value !==
    undefined && value !== ""));
  const options = {
    method: method ?? (body === undefined ? "GET" : "POST"),
    signal
  };
  if (body instanceof Blob) {
    options.body = body;
    options.headers = {
      "content-type": body.type || "application/octet-stream"
    };
  } else if (body !== undefined) {
    options.body = JSON.stringify(body);
    options.headers = {
      "content-type": "application/json"
    };
  }
  let response;
  try {
    response = await fetch(`/api${path}${query.size ? `?${query}` : ""}`, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(0, "The server does not answer.", "Is it still running?");
  }
  const answer = await response.json().catch(() => ({}));
  if (!response.ok) throw new ApiError(response.status, answer.message ?? `The server answered ${response.status}.`,
    answer.hint);
  return answer;
}

export function announce(text) {
  $("#announce").textContent = text;
}

/** Show what went wrong; null takes it away. */
export function trouble(error) {
  const box = $("#trouble");
  box.hidden = error === null;
  if (error === null) return;
  if (error.name === "AbortError") {
    box.hidden = true;
    return;
  }
  if (!(error instanceof ApiError)) console.error(error);
  box.replaceChildren(el("b", {}, shortened(error.message)), error.hint ? `\n${error.hint}` : "");
}

/** Run what a user asked for, and show what goes wrong in it. */
export async function attempt(work) {
  try {
    const result = await work();
    trouble(null);
    return result;
  } catch (error) {
    trouble(error);
    return undefined;
  }
}

export function later(work, milliseconds = 180) {
  let timer;
  return (...values) => {
    clearTimeout(timer);
    timer = setTimeout(() => work(...values), milliseconds);
  };
}

/** An item's image, or that it has none. Its place is there before it is. */
export function picture(item, size, attributes = {}) {
  if (!item.image_hash) return el("span", {
    className: "no-image"
  }, "no image");
  return el("img", {
    src: `/images/${size}/${item.image_hash}`,
    alt: attributes.alt ?? "",
    loading: "lazy",
    decoding: "async",
    className: attributes.className ?? "thumb"
  });
}

export const titleOf = (item) => item.title || item.name || item.id;

export function tile(item) {
  return el("a", {
    className: "tile",
    href: itemUrl(item.id)
  }, picture(item, 192), el("span", {
    className: "name",
    dir: "auto"
  }, shortened(titleOf(item), 160)));
}

export const generatedImage = (id, alt) => el("img", {
  src: `/images/generated/${id}.png`,
  alt,
  decoding: "async",
  loading: "lazy",
  className: "square"
});

export function download(name, type, text) {
  const url = URL.createObjectURL(new Blob([text], {
    type
  }));
  el("a", {
    href: url,
    download: name
  }).click();
  setTimeout(() => URL.revokeObjectURL(url), 1000);
}

export const parameter = (name) => new URLSearchParams(location.search).get(name);
