// Effects on all metrics, on guardrails and in segments, as numbers beside small forest plots.

import { card, h, table } from "./dom.js";
import { ends, percent, pValue, writer } from "./format.js";
import { axis, row, scale } from "./forest.js";
import { variantName } from "./state.js";

const COLUMNS = [
  { title: "Metric" }, { title: "Variant" }, { title: "Control", number: true }, { title: "Value", number: true },
  { title: "Change", number: true }, { title: "Relative, 95 %", number: true },
];

/** good, bad or open: where the interval lies, by what the metric calls good. */
export function tone(effect, metric) {
  const interval = effect.relative_interval ?? effect.interval;
  if (interval.low <= 0 && interval.high >= 0) return "open";
  return (interval.low > 0) === (metric.good !== "down") ? "good" : "bad";
}

/** The primary metric and all others. */
export function effects(report) {
  const all = [...report.primary, ...report.secondary];
  if (!all.length) {
    return card("Metrics", {}, h("p", { class: "empty soft" }, "No metric could be tested yet: each variant needs a few users, and something they did."));
  }
  return forest(report, "Metrics", all, {
    lead: "Primary first. p is adjusted with Holm where several are tested.",
    columns: [...COLUMNS, { title: "p", number: true }],
    cells: (effect) => [pValue(effect.p_adjusted ?? effect.p_value)],
  });
}

/** Guardrails with the harm found. */
export function guardrails(report) {
  if (!report.guards.length) {
    return card("Guardrails", {}, h("p", { class: "empty soft" }, "None are configured. A guardrail is a metric that no variant may harm; one that is broken stops the experiment."));
  }
  return card("Guardrails", { class: "flush", lead: "A guardrail is broken when its whole always-valid interval is beyond the harm that is accepted." },
    table("Guardrails", [
      { title: "Metric" }, { title: "Variant" }, { title: "Change", number: true },
      { title: "Harm, always valid", number: true }, { title: "Accepted", number: true }, { title: "State" },
    ], report.guards.map(({ effect, harm, tolerance, broken }) => {
      const metric = report.metrics[effect.metric];
      const write = writer(metric, report.currency, [effect.control_value, effect.variant_value], wide(effect));
      return [
        metric.title, named(report, effect.variant), write.change(effect.absolute),
        ends(harm, (value) => percent(value, { signed: true })), percent(tolerance),
        h("span", { class: `chip ${broken ? "bad strong" : "good"}` }, broken ? "Broken" : "Holds"),
      ];
    })));
}

/** Effects on the primary metric among parts of the users. */
export function segments(report) {
  if (!report.segments.length) return null;
  return forest(report, "Segments", report.segments.map(({ effect }) => effect), {
    lead: `${report.metrics[report.primary_metric].title}; p is adjusted with Benjamini-Hochberg over all segments.`,
    names: report.segments.map(({ field, value }) => `${field} = ${value}`),
    columns: [{ title: "Segment" }, ...COLUMNS.slice(1), { title: "p", number: true }],
    cells: (effect) => [pValue(effect.p_adjusted ?? effect.p_value)],
  });
}

function forest(report, title, all, { lead, columns, cells, names }) {
  const found = scale(all.map((effect) => effect.relative_interval));
  const warned = all.filter((effect) => effect.warnings.length);
  return card(title, { class: "flush", lead },
    table(title, [...columns, { title: "Relative change", head: h("span", null, h("span", { class: "sr" }, "Relative change, drawn"), axis(found)) }],
      all.map((effect, n) => {
        const metric = report.metrics[effect.metric];
        const write = writer(metric, report.currency, [effect.control_value, effect.variant_value], wide(effect));
        const name = names?.[n] ?? metric.title;
        const shade = tone(effect, metric);
        return [
          h("span", { class: "metric" }, name, effect.metric === report.primary_metric && !names && h("span", { class: "tag" }, "primary"),
            effect.variance_reduction > 0.01 && h("span", { class: "soft small block" }, `CUPED took ${percent(effect.variance_reduction, { decimals: 0 })} of the variance`)),
          named(report, effect.variant), write.value(effect.control_value), write.value(effect.variant_value),
          h("span", { title: ends(effect.interval, write.change) }, write.change(effect.absolute)),
          h("span", { class: `${shade}-text` }, effect.relative === null ? "n/a" : percent(effect.relative, { signed: true }),
            effect.relative_interval && h("span", { class: "soft small block" }, ends(effect.relative_interval, (value) => percent(value, { signed: true })))),
          ...cells(effect),
          row(found, { value: effect.relative, interval: effect.relative_interval, outer: effect.always_valid_relative, tone: shade }),
        ];
      }), { class: "forests" }),
    warned.length > 0 && h("ul", { class: "warnings" }, [...new Set(warned.flatMap((effect) => effect.warnings.map((warning) =>
      `${report.metrics[effect.metric].title}: ${warning}`)))].map((text) => h("li", null, text))));
}

const wide = ({ interval }) => (interval.high - interval.low) / 2;

function named(report, variant) {
  const arm = report.arms.findIndex(({ name }) => name === variant);
  return variantName(variant, Math.max(0, arm));
}
