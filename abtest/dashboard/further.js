// What some experiments have beside: novelty, interleaved lists, other policies.

import { card, h, table } from "./dom.js";
import { count, ends, percent, pValue, writer } from "./format.js";

/** Cards of what there is; null where there is nothing. */
export function further(report) {
  const parts = [novelty(report), interleaving(report), policies(report)].filter(Boolean);
  return parts.length ? h("div", { class: parts.length > 1 ? "two" : "" }, parts) : null;
}

function novelty(report) {
  if (!report.novelty.length) return null;
  return card("Novelty", { lead: "Whether the effect changes with the days a user has been exposed." },
    report.novelty.map((found) => h("p", null, h("b", null, found.variant), ": ",
      found.fades ? "the effect fades; less than what is shown above may stay"
        : found.grows ? "the effect grows; more than what is shown above may come" : "no sign that the effect fades or grows",
      h("span", { class: "soft" }, ` (slope p = ${pValue(found.p_value)})`))));
}

function interleaving(report) {
  const found = report.interleaving;
  if (!found) return null;
  const { preference: told, a, b } = found;
  return card("Interleaving", { lead: `${count(told.units)} users got lists merged of both bundles; each item is credited to the one that put it there.` },
    table("Credits of the interleaved bundles", [
      { title: "Bundle" }, { title: "Clicked", number: true }, { title: "Bought", number: true }, { title: "Users who took more", number: true },
    ], [
      [a, count(found.clicks_a), count(found.purchases_a), count(told.wins_a)],
      [b, count(found.clicks_b), count(found.purchases_b), count(told.wins_b)],
    ]),
    told.share_a !== null && h("p", null, `Of the users who took more from one, ${percent(told.share_a, { decimals: 1 })} took it from ${a}`,
      h("span", { class: "soft" }, ` (${ends(told.share_interval, (share) => percent(share, { decimals: 1 }))}, p = ${pValue(told.p_value)})`)));
}

function policies(report) {
  if (!report.off_policy.length) return null;
  const metric = report.metrics[report.primary_metric];
  const shown = report.off_policy.map(({ policy, value }) => {
    const write = writer(metric, report.currency, [value.snips ?? 1]);
    return [
      h("div", null, policy, value.warnings.map((warning) => h("span", { class: "soft small block" }, warning))),
      value.snips === null ? "cannot be told" : write.value(value.snips), ends(value.interval, write.value), count(value.effective_units),
    ];
  });
  return card("Other policies", { lead: `${metric.title} that another way to choose would have earned.` },
    table("Other policies", [
      { title: "Policy" }, { title: "Estimate", number: true }, { title: "95 %", number: true }, { title: "Effective units", number: true },
    ], shown));
}
