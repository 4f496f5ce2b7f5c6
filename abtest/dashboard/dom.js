// Elements, made without markup in strings: what the server sends is text and stays text.

const SVG = "http://www.w3.org/2000/svg";

function fill(element, props, children) {
  for (const [name, value] of Object.entries(props ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "style") {
      for (const [key, text] of Object.entries(value)) element.style.setProperty(key, text);
    } else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** An HTML element; `on…` are listeners, `style` an object, null children are left out. */
export function h(tag, props, ...children) {
  return fill(document.createElement(tag), props, children);
}

export function s(tag, props, ...children) {
  return fill(document.createElementNS(SVG, tag), props, children);
}

export function put(node, ...children) {
  node.replaceChildren();
  return fill(node, null, children);
}

/** Replace what is in a node, and keep focus, opened details and scroll position. */
export function redraw(node, ...children) {
  const focused = node.contains(document.activeElement) ? document.activeElement.id : "";
  const open = new Set([...node.querySelectorAll("details[open]")].map((found) => found.id));
  const [left, top] = [window.scrollX, window.scrollY];
  put(node, children);
  for (const found of node.querySelectorAll("details")) {
    if (open.has(found.id)) found.open = true;
  }
  if (focused) document.getElementById(focused)?.focus({ preventScroll: true });
  window.scrollTo(left, top);
}

/** Text in which `backticks` stand for code. */
export function prose(text) {
  return text.split("`").map((part, n) => (n % 2 ? h("code", null, part) : part));
}

/** Tell a screen reader something that has changed. */
export function announce(text) {
  document.getElementById("announce").textContent = text;
}

/** A card with a heading; `aside` stands beside the heading. */
export function card(title, props, ...children) {
  const { id, aside, lead, ...rest } = props ?? {};
  const name = id ?? title.toLowerCase().replaceAll(/[^a-z0-9]+/g, "-");
  return h(
    "section",
    { ...rest, class: `card ${rest.class ?? ""}`.trim(), "aria-labelledby": `${name}-h` },
    h("div", { class: "card-head" }, h("h2", { id: `${name}-h` }, title), aside),
    lead && h("p", { class: "soft lead" }, lead),
    ...children,
  );
}

/** A table that scrolls in its own box. Columns are {title, number}; cells nodes or text. */
export function table(caption, columns, rows, props) {
  const cell = (content, column, index) =>
    h(
      index === 0 ? "th" : "td",
      { scope: index === 0 ? "row" : null, class: column.number ? "number" : null, "data-label": column.title },
      content,
    );
  return h(
    "div",
    { class: "scroll", tabindex: "0", role: "region", "aria-label": caption },
    h(
      "table",
      props,
      h("caption", { class: "sr" }, caption),
      h("thead", null, h("tr", null, columns.map((column) =>
        h("th", { scope: "col", class: column.number ? "number" : null }, column.head ?? column.title)))),
      h("tbody", null, rows.map((row) => h("tr", null, row.map((content, index) => cell(content, columns[index], index))))),
    ),
  );
}
