// Each variant in numbers: revenue, the funnel, and how long answers took.

import { legend, lineChart } from "./chart.js";
import { card, h, table } from "./dom.js";
import { axisWriter, count, ends, number, part, percent, writer } from "./format.js";
import { variantName } from "./state.js";

const MONEY = { format: "money" };

/** Revenue per unit of each variant: now, and over time. */
export function arms(report) {
  const values = report.arms.flatMap(({ revenue_per_unit: mean }) => mean);
  const write = writer(MONEY, report.currency, values);
  const bare = writer(MONEY, null, values);
  const days = [...new Set(report.arms.flatMap((arm) => arm.days.map(({ day }) => day)))].sort();
  const top = Math.max(...report.arms.map((arm) => arm.revenue_per_unit_interval?.high ?? arm.revenue_per_unit), 0);
  return card("Revenue per unit", { lead: "Each variant, with the 95 % interval of its mean." },
    h("ul", { class: "bars" }, report.arms.map((arm, n) => bar(arm, n, top, write, bare))),
    days.length > 1 && h("div", null,
      lineChart({
        id: "revenue", label: "Revenue per unit until each day, by variant. Arrow keys move between days.", height: 170,
        days, write: axisWriter(MONEY, false), series: report.arms.map((arm, n) => series(arm, n, days)),
        tell: (n) => report.arms.map((arm) => `${arm.name} ${write.value(at(arm, days[n]) ?? 0)}`),
      }),
      legend(report.arms.map(({ name }, n) => ({ name, arm: n % 6 })))),
    h("details", { id: "revenue-table" }, h("summary", null, "As a table"), totals(report, write, bare)));
}

const at = (arm, day) => arm.days.find((found) => found.day === day)?.revenue_per_unit ?? null;
const series = (arm, n, days) => ({ name: arm.name, arm: n % 6, values: days.map((day) => at(arm, day)) });

function bar(arm, n, top, write, bare) {
  const place = (value) => `${top > 0 ? Math.max(0, (100 * value) / top) : 0}%`;
  const interval = arm.revenue_per_unit_interval;
  return h("li", null,
    h("div", { class: "bar-label" }, variantName(arm.name, n), h("b", { class: "tabular" }, write.value(arm.revenue_per_unit))),
    h("div", { class: "bar-track", "aria-hidden": "true" },
      h("span", { class: `bar-fill arm-${n % 6}`, style: { width: place(arm.revenue_per_unit) } }),
      interval && h("span", {
        class: "whisker", style: { left: place(interval.low), width: `calc(${place(interval.high)} - ${place(interval.low)})` },
      })),
    h("span", { class: "soft small tabular" }, `${ends(interval, bare.value)} · ${count(arm.units)} units`));
}

function totals(report, write, bare) {
  const exact = (micros) => `${number(micros / 1e6, 2)}${report.currency ? `\u202f${report.currency}` : ""}`;
  return table("Variants in numbers", [{ title: "" }, ...report.arms.map(({ name }, n) => ({ title: name, head: variantName(name, n), number: true }))], [
    ["Weight", ...report.arms.map(({ weight }) => part(weight))],
    ["Units", ...report.arms.map(({ units }) => count(units))],
    ["Answers", ...report.arms.map(({ requests }) => count(requests))],
    ["Revenue", ...report.arms.map((arm) => exact(arm.revenue_micros))],
    ["Revenue per unit", ...report.arms.map((arm) => write.value(arm.revenue_per_unit))],
    ["its interval", ...report.arms.map((arm) => ends(arm.revenue_per_unit_interval, bare.value))],
    ["Revenue per 1000 items", ...report.arms.map((arm) => number(arm.revenue_per_1000_items, 2))],
    ["Bought items per answer", ...report.arms.map((arm) => number(arm.bought_per_request, 4))],
    ["Degraded answers", ...report.arms.map((arm) => percent(arm.degraded_share))],
  ]);
}

const STEPS = [
  ["Recommended", "items"], ["Seen", "seen_items"], ["Clicked", "clicked_items"], ["Bought", "bought_items"],
];

/** From recommended to bought, as shares of the step before. */
export function funnel(report) {
  return card("Funnel", { lead: "Items at each step, and their share of the recommended ones." },
    h("div", { class: "funnels" }, report.arms.map((arm, n) => h("div", null,
      h("h3", null, variantName(arm.name, n)),
      h("ol", { class: "funnel" }, STEPS.map(([title, field]) => {
        const share = arm.items ? arm[field] / arm.items : 0;
        return h("li", null,
          h("span", null, title), h("span", { class: "tabular" }, count(arm[field])),
          h("span", { class: "soft tabular" }, field === "items" ? "" : percent(share)),
          // By the root of the share: what is bought is some thousandths of what is recommended.
          h("span", { class: "bar-track thin", "aria-hidden": "true" },
            h("span", { class: `bar-fill arm-${n % 6}`, style: { width: `${100 * Math.sqrt(share)}%` } })));
      }))))),
    h("p", { class: "soft small" }, "Bars show the square root of the share, so that small ones can be seen."));
}

export function latency(report) {
  const top = Math.max(...report.arms.map(({ latency: found }) => found?.p99_ms ?? 0));
  const cell = (arm, n, field) => arm.latency
    ? h("span", { class: "lat" }, h("span", { class: "tabular" }, number(arm.latency[field], 1)),
      h("span", { class: "bar-track thin", "aria-hidden": "true" },
        h("span", { class: `bar-fill arm-${n % 6}`, style: { width: `${top ? (100 * arm.latency[field]) / top : 0}%` } })))
    : "n/a";
  return card("Latency", { lead: "Time of an answer inside the server, in milliseconds." },
    table("Latency by variant, in milliseconds", [
      { title: "Variant" }, { title: "Median" }, { title: "p95" }, { title: "p99" }, { title: "Degraded", number: true },
    ], report.arms.map((arm, n) => [
      variantName(arm.name, n), cell(arm, n, "p50_ms"), cell(arm, n, "p95_ms"), cell(arm, n, "p99_ms"), percent(arm.degraded_share),
    ])));
}
