// What is shown to who may not look: a question for a key, or which scope is missing.

import { key } from "./api.js";
import { card, h } from "./dom.js";

/** Ask for an API key; `had` says that the one of this tab was refused. */
export function signIn({ detail, had, again }) {
  const field = h("input", {
    id: "key", type: "password", autocomplete: "off", spellcheck: "false", required: true,
    "aria-describedby": "key-note", placeholder: "cascade_…",
  });
  const form = h("form", {
    class: "sign-in",
    onsubmit: (event) => {
      event.preventDefault();
      key.set(field.value.trim());
      again();
    },
  },
  h("label", { for: "key" }, "API key"),
  field,
  h("button", { type: "submit", class: "primary" }, "Open"));
  return [
    h("h1", null, "This server wants a key"),
    card("Sign in", { class: "narrow" },
      had && h("p", { class: "bad-text", role: "alert" }, `That key was refused: ${detail}.`),
      form,
      h("p", { id: "key-note", class: "soft" },
        "It is kept in this tab until the tab is closed, and sent to this server only. ",
        "The scope ", h("code", null, "experiments"), " shows everything here, ",
        h("code", null, "admin"), " can change it too. Make one with:"),
      h("pre", null, h("code", null, "cascade keys create NAME --scope experiments"))),
  ];
}

/** Say which scope the key lacks. */
export function forbidden({ detail, again }) {
  return [
    h("h1", null, "This key cannot see experiments"),
    card("What is missing", { class: "narrow" },
      h("p", null, `${detail}.`),
      h("button", { type: "button", class: "primary", onclick: () => { key.forget(); again(); } }, "Use another key")),
  ];
}
