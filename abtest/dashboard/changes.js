// Changes: who changed the configuration, when, and in what.

import { get } from "./api.js";
import { card, h } from "./dom.js";
import { ago, moment } from "./format.js";
import { inForce } from "./experiments.js";

const SHOWN = 200;

export function openChanges() {
  return {
    load: async () => {
      const [now, audit] = await Promise.all([
        get("/v1/experiments"), get(`/v1/experiments/audit?limit=${SHOWN}`),
      ]);
      return { now, changes: audit.changes };
    },
    draw: ({ now, changes }) => [
      h("h1", null, "Changes"),
      inForce(now),
      card("Who changed what", { lead: "Newest first. To go back to an older configuration, apply that version again." },
        trail(changes) ?? h("p", null, "Nothing was changed since the server first started.")),
    ],
  };
}

/** Changes as a list; null where there are none. */
export function trail(changes) {
  if (!changes.length) return null;
  return h("ol", { class: "trail" }, changes.map((change) =>
    h("li", null,
      h("div", { class: "trail-head" },
        h("span", { class: "tabular rev" }, `r${change.revision}`),
        h("b", null, who(change.by)),
        h("time", { class: "soft", datetime: change.at, title: moment(change.at) }, ago(change.at)),
        h("code", { class: "soft small" }, change.config_sha)),
      change.note && h("p", { class: "note" }, change.note),
      differences(change.differences))));
}

/** Lines of differences, `path: old -> new`. */
export function differences(lines) {
  if (!lines.length) return h("p", { class: "soft small" }, "The first version.");
  return h("ul", { class: "diff" }, lines.map((line) => {
    const [, path, old, next] = /^(.*?): (.*) -> (.*)$/s.exec(line) ?? [];
    if (path === undefined) return h("li", null, line);
    return h("li", null, h("code", null, path), " ", h("del", null, old), h("span", { class: "soft", "aria-label": "becomes" }, " → "), h("ins", null, next));
  }));
}

function who(by) {
  return by === "file" ? "experiments.toml" : by === "guardrail" ? "a guardrail" : by;
}
