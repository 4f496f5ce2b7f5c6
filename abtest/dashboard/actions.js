// Changing an experiment: every action is tried first, shown, and done only when it is confirmed.

import { ask, at, get, Problem } from "./api.js";
import { announce, h, put } from "./dom.js";
import { differences, trail } from "./changes.js";
import { movement } from "./movement.js";
import { holds, slotShare } from "./state.js";

const AUDIT = 50;

const ACTIONS = {
  start: { title: "Start", tone: "primary", about: "Its users are split from now on, and what they do counts." },
  aa: { title: "A/A phase", tone: "", about: "Splits and logs, but everybody gets the control: a check that the platform splits evenly." },
  ramp: { title: "Ramp", tone: "primary", about: "More users take part. Those who do already stay where they are." },
  pause: { title: "Pause", tone: "", about: "Everybody gets the defaults until it is resumed." },
  kill: { title: "Stop", tone: "danger", about: "Ends the experiment for good. Everybody gets the defaults." },
  ship: { title: "Ship", tone: "good", about: "Ends the experiment. Everybody gets the winner, in its slots or not." },
};
const OFFERED = {
  draft: ["start", "aa", "ramp"], aa: ["start", "ramp", "pause", "kill"], running: ["ramp", "pause", "ship", "kill"],
  paused: ["start", "ramp", "ship", "kill"], killed: [], shipped: ["kill"],
};

/** The buttons of an experiment. */
export function actions({ experiment, caller, report, refresh, ...rest }) {
  const offered = OFFERED[experiment.state] ?? [];
  if (!offered.length) return null;
  const advised = { ship: "ship", stop: "kill" }[report?.decision.call];
  const first = offered.includes(advised) ? advised : offered[0];
  return h("div", { class: "actions", role: "group", "aria-label": "Actions" },
    offered.map((name) => h("button", {
      id: `action-${name}`, type: "button", disabled: !caller.may, "aria-describedby": caller.may ? null : "why-not",
      class: name === first ? ACTIONS[name].tone || "primary" : null,
      onclick: () => open({ name, experiment, report, refresh, ...rest }),
    }, titleOf(name, experiment.state), "…")),
    !caller.may && h("p", { id: "why-not", class: "soft small" }, "This key may read only; changes need the scope admin."));
}

function titleOf(name, state) {
  if (name === "start" && state === "paused") return "Resume";
  if (name === "ramp" && state === "draft") return "Set share";
  return name === "kill" && state === "shipped" ? "Take back" : ACTIONS[name].title;
}

/** The dialog of one action. */
function open({ name, experiment, layer, now, report, refresh }) {
  const action = { ...ACTIONS[name], title: titleOf(name, experiment.state) };
  const state = { revision: now.revision, tried: 0, timer: 0 };
  const preview = h("div", { class: "preview", "aria-live": "polite", tabindex: "0", role: "region", "aria-label": "What would change" });
  const said = h("div", { role: "alert" });
  const fields = inputs(name, experiment, layer, report);
  const note = h("textarea", { id: "note", rows: 2, maxlength: 1000, placeholder: "For those who read the trail of changes" });
  const confirm = h("button", { type: "submit", class: action.tone || "primary", disabled: true }, action.title);
  const close = h("button", { type: "button", onclick: () => dialog.close() }, "Cancel");
  const dialog = h("dialog", { "aria-labelledby": "dialog-h" },
    h("form", { method: "dialog", onsubmit: (event) => { event.preventDefault(); submit(); } },
      h("div", null, h("h2", { id: "dialog-h" }, `${action.title} ${experiment.key}`), h("p", { class: "soft" }, action.about)),
      fields.nodes, h("label", { for: "note" }, "Note", note),
      said, preview, h("div", { class: "buttons" }, close, confirm)));
  const context = fulfilling(experiment.when);
  const body = () => ({ revision: state.revision, note: note.value, context, ...fields.values() });
  const post = (extra) => ask("POST", at(experiment.key, `/${name}`), { ...body(), ...extra });

  const tryIt = async () => {
    const turn = ++state.tried;
    confirm.disabled = true;
    put(preview, h("p", { class: "soft" }, "Looking at what would change…"));
    put(said);
    try {
      const found = await post({ dry_run: true });
      if (turn !== state.tried) return;
      put(preview, h("h3", null, "What changes"), differences(found.differences),
        h("h3", null, "Who moves"), movement(found.movement, context));
      confirm.disabled = false;
      confirm.textContent = fields.label() ?? action.title;
    } catch (problem) {
      if (turn === state.tried) explain(problem);
    }
  };

  const submit = async () => {
    confirm.disabled = true;
    try {
      const done = await post({ dry_run: false });
      dialog.close();
      announce(`${action.title} done: revision ${done.revision} is in force.`);
      await refresh();
    } catch (problem) {
      explain(problem);
    }
  };

  const explain = async (problem) => {
    if (!(problem instanceof Problem)) throw problem;
    put(preview, h("p", { class: "soft" }, "Nothing was changed."));
    if (problem.status !== 409) {
      put(said, h("p", { class: "banner bad" }, problem.message));
      return;
    }
    const newest = await get("/v1/experiments");
    const audit = await get(`/v1/experiments/audit?limit=${AUDIT}`);
    const since = audit.changes.filter(({ revision }) => revision > state.revision);
    const again = h("button", { type: "button", class: "primary", id: "again", onclick: () => {
      state.revision = newest.revision;
      note.focus();
      tryIt();
    } }, `Look again, from revision ${newest.revision}`);
    put(said, h("div", { class: "banner warn" },
      h("p", null, h("b", null, "The configuration was changed meanwhile.")), trail(since), again));
    again.focus();
  };

  fields.onchange(() => {
    clearTimeout(state.timer);
    confirm.disabled = true;
    state.timer = setTimeout(tryIt, 250);
  });
  const opener = document.activeElement?.id;
  dialog.addEventListener("close", () => {
    clearTimeout(state.timer);
    dialog.remove();
    (document.getElementById(opener) ?? document.getElementById("main")).focus();
  });
  document.body.append(dialog);
  dialog.showModal();
  (fields.first ?? note).focus();
  tryIt();
}

/** A context that fulfils conditions, so that the users who are tried can take part. */
function fulfilling(when) {
  const values = Object.entries(when).map(([field, { one_of: some, at_least: low, below }]) =>
    [field, some?.[0] ?? `${low ?? (below == null ? "" : below - 1)}`]);
  return Object.fromEntries(values.filter(([, value]) => value !== ""));
}

/** What an action asks for beside a note. */
function inputs(name, experiment, layer, report) {
  const none = { nodes: [], values: () => ({}), label: () => null, onchange: () => {}, first: null };
  if (name === "ramp") return ramp(experiment, layer);
  return name === "ship" ? ship(experiment, report) : none;
}

function ramp(experiment, layer) {
  const now = 100 * slotShare(experiment);
  const others = layer.experiments.filter((other) => holds(other) && other.key !== experiment.key);
  const most = Math.round(100 * (100 - others.reduce((total, other) => total + 100 * slotShare(other), 0))) / 100;
  const next = Math.min(most, [1, 5, 10, 25, 50, 100].find((share) => share > now) ?? 100);
  const share = h("input", { id: "share", type: "number", min: 0.01, max: 100, step: 0.01, value: next, required: true });
  return {
    nodes: h("label", { for: "share" }, "Share of the layer, in %", share, h("span", { class: "soft small" }, `${now} % now, at most ${most} % while others hold the rest`)),
    values: () => ({ share: Math.round(Number(share.value) * 100) / 10_000 }),
    label: () => `Set ${share.value} %`,
    onchange: (listener) => share.addEventListener("input", listener),
    first: share,
  };
}

function ship(experiment, report) {
  const better = report?.decision.variant;
  const first = better ?? experiment.variants.find(({ name }) => name !== experiment.control).name;
  const variant = h("select", { id: "variant" }, experiment.variants.map(({ name }) =>
    h("option", { value: name, selected: name === first }, name === experiment.control ? `${name} (control)` : name)));
  return {
    nodes: h("label", { for: "variant" }, "Winner", variant,
      h("span", { class: "soft small" }, better ? `The report says: ship ${better}.` : "The report does not say to ship a variant.")),
    values: () => ({ variant: variant.value }),
    label: () => `Ship ${variant.value} to everybody`,
    onchange: (listener) => variant.addEventListener("change", listener),
    first: variant,
  };
}
