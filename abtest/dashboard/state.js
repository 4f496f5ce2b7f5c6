// States, calls and shares of experiments, as words and colours.

import { h } from "./dom.js";
import { part } from "./format.js";

export const SLOTS = 10_000;

const TONES = {
  draft: "quiet", aa: "info", running: "info", paused: "warn", killed: "bad", shipped: "good", holdout: "quiet",
};
const NAMES = {
  draft: "Draft", aa: "A/A", running: "Running", paused: "Paused", killed: "Stopped", shipped: "Shipped", holdout: "Holdout",
};
const CALLS = {
  ship: ["good", "Ship"], stop: ["bad", "Stop"], wait: ["info", "Wait"], hold: ["warn", "Hold"], blocked: ["bad", "Blocked"],
};

export const stateChip = (state) => h("span", { class: `chip ${TONES[state] ?? "quiet"}` }, NAMES[state] ?? state);

/** Tone and word of a decision's call. */
export const callOf = (call) => CALLS[call] ?? ["quiet", call];

export function callChip(call) {
  const [tone, word] = callOf(call);
  return h("span", { class: `chip strong ${tone}` }, word);
}

/** Slots of an experiment, as a share of its layer. */
export const slotShare = (experiment) =>
  experiment.slots.reduce((total, [first, end]) => total + end - first, 0) / SLOTS;

export const holds = (experiment) => experiment.state !== "draft";

export const splits = (experiment) => experiment.state === "running" || experiment.state === "aa";

/** Every experiment with where it lies. */
export function placed(config) {
  return config.domains.flatMap((domain) =>
    domain.layers.flatMap((layer) => layer.experiments.map((experiment) => ({ domain, layer, experiment }))));
}

/** A share of traffic as a bar with its number. */
export function shareBar(share, live = true) {
  return h("span", { class: "share" },
    h("span", { class: "track", "aria-hidden": "true" },
      h("span", { class: `fill${live ? "" : " off"}`, style: { width: `${100 * share}%` } })),
    h("span", { class: "tabular" }, part(share)));
}

export const variantName = (name, arm) =>
  h("span", { class: "variant" }, h("span", { class: `swatch solid arm-${arm % 6}`, "aria-hidden": "true" }), name);
