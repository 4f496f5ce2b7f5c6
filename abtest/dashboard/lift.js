// Lift over time: where the primary metric stood each day, with both intervals.

import { legend, lineChart } from "./chart.js";
import { card, h, table } from "./dom.js";
import { axisWriter, count, date, ends, pValue, writer } from "./format.js";

/** A chart for each variant that is compared with the control. */
export function lift(report) {
  const metric = report.metrics[report.primary_metric];
  const title = "Lift over time";
  const lead = `${metric.title}: difference from ${report.control}, cumulative.`;
  if (!report.days.length) {
    return card(title, { lead }, h("p", { class: "empty soft" }, report.sample_ratio.ok
      ? "Shown once there are a few users with revenue in each variant."
      : "Not shown: the sample ratio check failed, so no effect may be read."));
  }
  const variants = [...new Set(report.days.map(({ variant }) => variant))];
  return card(title, { lead }, planned(report, metric), variants.map((variant) => one(report, variant, metric, variants.length > 1)));
}

/** What the fixed horizon said on the one day on which it is read. */
function planned(report, metric) {
  return report.planned.map((effect) => {
    const write = writer(metric, report.currency, [effect.absolute]);
    return h("p", { class: "planned" }, `Read on ${date(report.planned_day)}, at the planned units: `, h("b", null, effect.variant, " ", write.change(effect.absolute)),
      ` (${ends(effect.interval, write.change)}), p = ${pValue(effect.p_adjusted ?? effect.p_value)}`);
  });
}

function one(report, variant, metric, many) {
  const days = report.days.filter((found) => found.variant === variant);
  const arm = report.arms.findIndex(({ name }) => name === variant) % 6;
  const { absolute, interval } = days.at(-1);
  const sizes = [[absolute, interval.low, interval.high], (interval.high - interval.low) / 2];
  const write = writer(metric, report.currency, ...sizes);
  const bare = writer(metric, null, ...sizes);
  const tell = (n) => [
    `${variant} ${write.change(days[n].absolute)}`,
    `fixed horizon ${ends(days[n].interval, bare.change)}`,
    `always valid ${ends(days[n].always_valid, bare.change)}`,
    `${count(days[n].units)} units`,
  ];
  return h("div", { class: "lift" },
    many && h("h3", null, variant),
    lineChart({
      id: `lift-${arm}`, label: `Lift of ${variant} over ${report.control} by day. Arrow keys move between days.`,
      days: days.map(({ day }) => day), zero: true, write: axisWriter(metric, true), tell,
      series: [{
        name: variant, arm, values: days.map(({ absolute }) => absolute),
        bands: [
          { kind: "outer", intervals: days.map(({ always_valid: found }) => found) },
          { kind: "inner", intervals: days.map(({ interval }) => interval) },
        ],
      }],
    }),
    legend([
      { name: variant, arm }, { name: "fixed horizon, 95 %", arm, kind: "inner" },
      { name: "always valid, 95 %", arm, kind: "outer" },
    ]),
    h("p", { class: "soft small" }, "Read the dark band once, at the planned units. The light band holds however often you look."),
    h("details", { id: `lift-table-${arm}` }, h("summary", null, "As a table"),
      table(`Lift of ${variant} by day`, [
        { title: "Day" }, { title: "Lift", number: true }, { title: "Fixed horizon", number: true },
        { title: "Always valid", number: true }, { title: "That day", number: true }, { title: "Units", number: true },
      ], days.map((found) => [
        date(found.day), write.change(found.absolute), ends(found.interval, bare.change), ends(found.always_valid, bare.change),
        found.that_day === null ? "n/a" : bare.change(found.that_day), count(found.units),
      ]))));
}
