// One experiment: what to do first, then what it rests on.

import { at, get } from "./api.js";
import { actions } from "./actions.js";
import { arms, funnel, latency } from "./arms.js";
import { trail } from "./changes.js";
import { decision, health } from "./decision.js";
import { card, h, prose, table } from "./dom.js";
import { effects, guardrails, segments } from "./effects.js";
import { feed } from "./feed.js";
import { count, date, moment, part } from "./format.js";
import { further } from "./further.js";
import { lift } from "./lift.js";
import { holds, placed, shareBar, slotShare, splits, stateChip, variantName } from "./state.js";

const AUDIT = 200;

export function openExperiment({ name, caller, refresh }) {
  const events = feed(name, caller.may);
  return {
    load: async () => {
      const [now, report, audit] = await Promise.all([
        get("/v1/experiments"), get(at(name, "/report")).then((report) => ({ report }), missing), get(`/v1/experiments/audit?limit=${AUDIT}`),
      ]);
      return { now, ...report, changes: audit.changes };
    },
    draw: (data) => page(name, data, { caller, refresh, events }),
    news: ({ report }) => report && `The report was brought up to date: ${report.decision.headline}`,
    close: events.close,
  };
}

/** Why there is no report, where that is what the server says. */
function missing(problem) {
  if (problem.status !== 404) throw problem;
  return { report: null, why: problem.message };
}

function page(name, { now, report, why, changes }, { caller, refresh, events }) {
  const here = placed(now.config).find(({ experiment }) => experiment.key === name);
  const holdout = now.config.holdouts.find(({ key }) => key === name);
  if (!here && !holdout && !report) return unknown(name);
  const experiment = here?.experiment;
  const told = report && (!experiment || report.revision === experiment.revision) ? report : null;
  return [
    h("nav", { class: "crumbs", "aria-label": "Breadcrumb" }, h("a", { id: "up", href: "#/" }, "Experiments"), " / ", name),
    h("div", { class: "title" },
      h("div", null,
        h("h1", null, name),
        h("p", { class: "soft under" }, stateChip(experiment?.state ?? (holdout ? "holdout" : report.state)), " ", facts(here, holdout, told))),
      experiment && actions({ experiment, layer: here.layer, now, report: told, caller, refresh })),
    hypothesis(experiment, told),
    told ? findings(told) : noReport(experiment, report, why),
    events.node,
    experiment ? configuration(here) : holdout && holdoutFacts(holdout),
    history(name, changes),
  ];
}

function facts(here, holdout, report) {
  const found = [];
  if (here) found.push(`layer ${here.layer.name}`, `revision ${here.experiment.revision}`, `${part(slotShare(here.experiment))} of the layer`);
  if (holdout) found.push(`revision ${holdout.revision}`, `${part(holdout.share)} of all users held back`);
  if (report) found.push(`${date(report.exposure.first_day)} to ${date(report.exposure.last_day)} (UTC)`);
  return found.join(" · ");
}

function hypothesis(experiment, report) {
  const text = experiment?.hypothesis || report?.hypothesis;
  return text ? h("p", { class: "hypothesis" }, h("span", { class: "sr" }, "Hypothesis: "), text) : null;
}

function findings(report) {
  const blocked = !report.sample_ratio.ok;
  return [
    h("div", { class: "lead-grid" }, decision(report), health(report)),
    h("div", { class: "two wide-first" }, lift(report), arms(report)),
    blocked ? null : [
      effects(report),
      guardrails(report),
      segments(report),
    ],
    h("div", { class: "two" }, funnel(report), latency(report)),
    further(report),
  ];
}

function noReport(experiment, older, why) {
  const words = !experiment || splits(experiment)
    ? "A report is made soon after the first events are archived. This page looks every few seconds."
    : experiment.state === "draft"
      ? "A draft splits nobody. Start it, or give it an A/A phase first, which shows whether the platform splits evenly."
      : "Nobody was split under this revision.";
  return card("No report yet", { class: "narrow" },
    older && h("p", null, `The report at hand is of revision ${older.revision}; revision ${experiment.revision} begins anew.`),
    h("p", null, words),
    why && h("p", { class: "soft small" }, "The server says: ", prose(why), "."));
}

function unknown(name) {
  return [
    h("h1", null, "No such experiment"),
    card("What now", { class: "narrow" }, h("p", null, "The configuration in force names no ", h("code", null, name), "."), h("a", { href: "#/" }, "All experiments")),
  ];
}

function configuration({ experiment, layer, domain }) {
  const names = [...new Set(experiment.variants.flatMap(({ params }) => Object.keys(params)))].sort();
  return card("Configuration", {},
    table("Variants and their parameters", [{ title: "Variant" }, { title: "Weight", number: true }, ...names.map((title) => ({ title }))],
      experiment.variants.map((variant, n) => [
        [variantName(variant.name, n), variant.name === experiment.control && h("span", { class: "soft" }, " control")],
        part(variant.weight), ...names.map((each) => each in variant.params ? h("code", null, JSON.stringify(variant.params[each])) : h("span", { class: "soft" }, "default")),
      ])),
    h("dl", { class: "facts" }, [
      ["Traffic", shareBar(slotShare(experiment), holds(experiment) && splits(experiment))],
      ["Layer", `${layer.name} of ${domain.name}, splits ${layer.unit === "user_id" ? "users" : layer.unit}`],
      ["Slots", experiment.slots.map(([first, end]) => `${count(first)}–${count(end - 1)}`).join(", ")],
      ["Only where", conditions(experiment.when)],
      ["Start", experiment.start && moment(experiment.start)],
      ["End", experiment.end && moment(experiment.end)],
      ["Sticky", experiment.sticky && "users keep the variant they first got"],
      ["Switchback", experiment.switchback && `everybody alike for ${experiment.switchback.period_min} min`],
      ["Primary metric", h("code", null, experiment.primary_metric)],
      ["Planned units", experiment.planned_units && count(experiment.planned_units)],
      ["Forced units", Object.keys(experiment.force).length && Object.entries(experiment.force).map(([unit, variant]) => `${unit}: ${variant}`).join(", ")],
      ["Winner", experiment.winner],
    ].filter(([, value]) => value).map(([title, value]) => h("div", null, h("dt", null, title), h("dd", null, value)))));
}

function conditions(when) {
  return Object.entries(when).map(([field, { one_of: some, none_of: none, at_least: low, below }]) =>
    [field, some && `is ${some.join(" or ")}`, none && `is not ${none.join(" or ")}`,
      low != null && `is at least ${low}`, below != null && `is below ${below}`].filter(Boolean).join(" ")).join("; ");
}

function holdoutFacts(holdout) {
  return card("Configuration", {}, h("p", null, `${part(holdout.share)} of all users get the bare defaults, whatever runs or was shipped; the report compares them with all others.`));
}

function history(name, changes) {
  const mine = changes
    .map((change) => ({ ...change, differences: change.differences.filter((line) => line.split(":")[0].split(".").includes(name)) }))
    .filter((change) => change.differences.length);
  return card("Changes of this experiment", {}, trail(mine) ?? h("p", { class: "soft" }, "None since the server first started."));
}

