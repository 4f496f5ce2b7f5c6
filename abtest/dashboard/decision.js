// What to do, why, and whether the comparison may be read at all.

import { h, prose } from "./dom.js";
import { ago, count, moment, percent, pValue } from "./format.js";
import { callOf } from "./state.js";

/** The decision with its reasons. */
export function decision(report) {
  const [tone, word] = callOf(report.decision.call);
  return h("section", { class: `card decision ${tone}`, "aria-labelledby": "decision-h" },
    h("h2", { id: "decision-h" }, h("span", { class: "sr" }, "Decision: "), word),
    h("p", { class: "headline" }, report.decision.headline),
    h("ul", null, report.decision.reasons.map((reason) => h("li", null, prose(reason)))),
    report.notes.map((note) => h("p", { class: "aside small" }, prose(note))));
}

/** Sample ratio, exposure and progress. */
export function health(report) {
  const { sample_ratio: ratio, exposure } = report;
  const crossed = exposure.crossed_units;
  const degraded = exposure.degraded_p_value;
  return h("section", { class: "card health", "aria-labelledby": "health-h" },
    h("h2", { id: "health-h" }, "Health"),
    h("dl", null,
      line("Sample ratio", ratio.ok ? "good" : "bad", ratio.ok ? "as configured" : "broken",
        `p = ${pValue(ratio.p_value)}`, split(report)),
      progress(report),
      line("In several variants", crossed ? "warn" : "good", count(crossed),
        crossed ? `${percent(crossed / (crossed + report.units))} of units, left out` : "none left out"),
      line("Forced units", "quiet", count(exposure.forced_units), "left out"),
      line("Unexposed feedback", "quiet", count(exposure.unexposed_feedback), "events, left out"),
      line("Degraded answers", degraded !== null && degraded < 0.001 ? "warn" : "good",
        degraded === null ? "none" : degraded < 0.001 ? "unequal" : "alike in all variants",
        degraded === null ? "" : `p = ${pValue(degraded)}`)),
    h("p", { class: "soft small" }, "Made ", h("time", { datetime: report.as_of, title: moment(report.as_of) }, ago(report.as_of)), " of all archived events."));
}

function line(title, tone, value, more, below) {
  return h("div", null,
    h("dt", null, h("span", { class: `light ${tone}`, "aria-hidden": "true" }), title),
    h("dd", null, h("span", null, value), more && h("span", { class: "soft" }, ` ${more}`), below));
}

function split(report) {
  const { expected } = report.sample_ratio;
  return h("span", { class: "soft small block" }, report.arms
    .map(({ name, units }) => `${name} ${count(units)}${expected[name] === undefined ? "" : ` of ${count(expected[name])} expected`}`)
    .join(", "));
}

function progress(report) {
  const { units, planned_units: planned } = report;
  if (!planned) return line("Units", "quiet", count(units), "no number was planned");
  const share = Math.min(1, units / planned);
  return line("Units", share < 1 ? "info" : "good", count(units), `of ${count(planned)} planned`,
    h("progress", { max: 1, value: share, "aria-label": "Share of the planned units" }));
}
