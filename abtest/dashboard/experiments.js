// All experiments: what runs, on how much traffic, and what was found so far.

import { find, get } from "./api.js";
import { card, h, table } from "./dom.js";
import { ago, count, date, moment, part } from "./format.js";
import { callChip, holds, placed, shareBar, slotShare, splits, stateChip, variantName } from "./state.js";

const EXAMPLE = `[[layers]]
name = "model"
seed = "2026"

[[layers.experiments]]
key = "new-vs-old"
revision = 1
state = "draft"
hypothesis = "The new model earns more, because …"
control = "old"
variants = [
    { name = "old", weight = 0.5, params = { bundle = "old" } },
    { name = "new", weight = 0.5, params = { bundle = "new" } },
]`;

const ORDER = ["running", "aa", "paused", "draft", "shipped", "killed"];

export function openExperiments() {
  return {
    load: async () => {
      const [now, reports] = await Promise.all([get("/v1/experiments"), find("/v1/experiments/reports")]);
      return { now, reports: reports?.reports ?? reports ?? [] };
    },
    draw: ({ now, reports }) => {
      const found = new Map(reports.map((report) => [report.key, report]));
      const all = placed(now.config);
      return [
        h("h1", null, "Experiments"),
        inForce(now),
        now.fault && h("p", { class: "banner bad", role: "alert" }, h("b", null, "The newest file is not in force: "), now.fault),
        all.length ? list(all, found, now.config) : howToStart(),
        now.config.holdouts.length > 0 && holdouts(now.config.holdouts, found),
      ];
    },
  };
}

/** Which configuration is in force and since when. */
export function inForce(now) {
  return h("p", { class: "soft under" }, `Revision ${now.revision} of the configuration · changed by ${now.by} · `,
    h("time", { datetime: now.at, title: moment(now.at) }, ago(now.at)), " · ", h("a", { href: "#/changes" }, "all changes"));
}

function list(all, found, config) {
  const many = config.domains.length > 1;
  const layers = [...new Set(all.map(({ layer }) => layer))];
  return layers.map((layer) => all.filter((each) => each.layer === layer)).map((group) => {
    const { domain, layer } = group[0];
    const title = many ? `${domain.name} / ${layer.name}` : `Layer ${layer.name}`;
    const sorted = group.toSorted((a, b) => ORDER.indexOf(a.experiment.state) - ORDER.indexOf(b.experiment.state));
    const split = layer.unit === "user_id" ? "users" : layer.unit;
    return card(title, { id: `layer-${domain.name}-${layer.name}`, class: "flush", aside: h("span", { class: "soft" }, `splits ${split}`) },
      table(title, [
        { title: "Experiment" }, { title: "State" }, { title: "Traffic" }, { title: "Variants" },
        { title: "Units so far", number: true }, { title: "Decision" },
      ], sorted.map(({ experiment }) => row(experiment, found.get(experiment.key))), { class: "list" }));
  });
}

function row(experiment, report) {
  const told = report && report.revision === experiment.revision ? report : null;
  return [
    what(experiment, told), stateChip(experiment.state),
    shareBar(slotShare(experiment), holds(experiment) && splits(experiment)),
    arms(experiment.variants.map(({ name, weight }) => [name, weight])),
    units(told), call(told, splits(experiment) ? "after the first events are archived" : "none"),
  ];
}

function what({ key, hypothesis, revision, start }, report) {
  const since = report?.first_day ? ` · since ${date(report.first_day)}` : start ? ` · from ${date(start)}` : "";
  return h("div", { class: "what" },
    h("a", { id: `to-${key}`, href: `#/experiments/${key}` }, key),
    hypothesis && h("span", { class: "soft clip" }, hypothesis),
    h("span", { class: "soft small" }, `revision ${revision}${since}`));
}

const arms = (all) => h("div", { class: "arms" }, all.map(([name, weight], n) =>
  h("span", null, variantName(name, n), h("span", { class: "soft tabular" }, ` ${part(weight)}`))));

const units = (report) => (report ? count(report.units) : h("span", { class: "soft" }, "none yet"));

function call(report, otherwise) {
  if (!report) return h("span", { class: "soft" }, otherwise);
  return h("div", { class: "call" }, callChip(report.call), h("span", { class: "clip" }, report.headline));
}

function holdouts(all, found) {
  return card("Holdouts", { class: "flush", lead: "Users whom no experiment touches and nothing shipped reaches: the effect of everything together." },
    table("Holdouts", [
      { title: "Holdout" }, { title: "State" }, { title: "Held back" }, { title: "Variants" },
      { title: "Units so far", number: true }, { title: "Decision" },
    ], all.map((holdout) => {
      const report = found.get(holdout.key);
      return [
        what(holdout, report), stateChip("holdout"), shareBar(holdout.share),
        arms([["held", holdout.share], ["open", 1 - holdout.share]]), units(report), call(report, "after the first events are archived"),
      ];
    }), { class: "list" }));
}

function howToStart() {
  return card("No experiments yet", { class: "narrow" },
    h("p", null, "An experiment is a few lines in ", h("code", null, "experiments.toml"),
      " of the data directory. A draft changes nothing until it is started here."),
    h("pre", { tabindex: "0" }, h("code", null, EXAMPLE)),
    h("p", null, "Check it, then hand it in:"),
    h("pre", { tabindex: "0" }, h("code", null, "cascade experiments check experiments.toml\ncascade experiments apply experiments.toml")));
}

