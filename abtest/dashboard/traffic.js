// Traffic: which experiment holds which slots of each layer.

import { get } from "./api.js";
import { card, h } from "./dom.js";
import { count, part } from "./format.js";
import { inForce } from "./experiments.js";
import { holds, SLOTS, slotShare, splits, stateChip } from "./state.js";

export function openTraffic() {
  return {
    load: () => get("/v1/experiments"),
    draw: (now) => {
      const { domains, holdouts } = now.config;
      const parted = domains.length > 1 || domains.some(({ slots }) => slots[0] !== 0 || slots[1] !== SLOTS);
      return [
        h("h1", null, "Traffic"),
        inForce(now),
        holdouts.length > 0 && card("Held back first", { lead: "Drawn by chance and apart from all else; a held user gets the defaults." },
          holdouts.map((holdout) => map(`Holdout ${holdout.key}`, [
            { name: holdout.key, slots: [[0, holdout.share * SLOTS]], tone: "quiet", href: holdout.key },
          ]))),
        parted && card("Domains", { lead: "A user is in one domain, and only its layers apply." },
          map("Domains", domains.map((domain) => ({ name: domain.name, slots: [domain.slots], tone: "info" })))),
        domains.map((domain) => card(parted ? `Layers of ${domain.name}` : "Layers", {
          id: `domain-${domain.name}`,
          lead: "Experiments of one layer exclude each other; layers are independent.",
        }, domain.layers.length ? domain.layers.map(layerMap) : h("p", { class: "soft" }, "No layers yet."))),
        defaults(now.config),
      ];
    },
  };
}

function layerMap(layer) {
  const held = layer.experiments.filter(holds).map((experiment) => ({
    name: experiment.key, slots: experiment.slots, tone: splits(experiment) ? "info" : "quiet",
    href: experiment.key, experiment,
  }));
  const free = SLOTS - held.reduce((total, { slots }) => total + size(slots), 0);
  return h("div", { class: "layer" },
    h("h3", null, layer.name, h("span", { class: "soft" }, ` splits ${layer.unit === "user_id" ? "users" : layer.unit}, ${free ? `${part(free / SLOTS)} free` : "all taken"}`)),
    map(`Slots of layer ${layer.name}`, held));
}

const size = (slots) => slots.reduce((total, [first, end]) => total + end - first, 0);

/** A strip of slots, and below it who holds which. */
function map(label, holders) {
  const strips = holders.flatMap(({ name, slots, tone }) => slots.map(([first, end]) =>
    h("span", {
      class: `slot ${tone}`, title: `${name}: ${count(first)} to ${count(end - 1)}`,
      style: { left: `${(100 * first) / SLOTS}%`, width: `${(100 * (end - first)) / SLOTS}%` },
    }, end - first > 0.12 * SLOTS ? name : "")));
  return h("div", { class: "slots" },
    h("div", { class: "strip", role: "img", "aria-label": `${label}: ${holders.map(({ name, slots }) => `${name} ${part(size(slots) / SLOTS)}`).join(", ") || "all free"}` }, strips),
    h("ul", { class: "holders" }, holders.map(({ name, slots, href, experiment }) =>
      h("li", null,
        href ? h("a", { id: `slot-${href}`, href: `#/experiments/${href}` }, name) : h("b", null, name),
        experiment && [" ", stateChip(experiment.state)],
        h("span", { class: "soft tabular" }, ` ${part(experiment ? slotShare(experiment) : size(slots) / SLOTS)} · slots `,
          slots.map(([first, end]) => `${count(first)}–${count(end - 1)}`).join(", "))))));
}

function defaults(config) {
  return card("Defaults", { lead: "What everybody gets whom no experiment decides otherwise." },
    h("dl", { class: "facts" }, Object.entries(config.defaults).map(([name, value]) =>
      h("div", null, h("dt", null, h("code", null, name)), h("dd", null, h("code", null, JSON.stringify(value)))))));
}
