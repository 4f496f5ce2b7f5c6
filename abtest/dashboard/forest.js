// Forest plot: an interval a row, all on one scale, beside the numbers of a table.

import { h, s } from "./dom.js";
import { percent } from "./format.js";
import { ticks } from "./chart.js";

const WIDTH = 236;
const EDGE = 20;

/** The scale of relative intervals, with 0 in it; null where there is nothing to show. */
export function scale(intervals) {
  const ends = intervals.filter(Boolean).flatMap(({ low, high }) => [low, high]).sort((a, b) => a - b);
  if (!ends.length) return null;
  // One very wide interval is cut off, with an arrow, rather than make all others points.
  const sizes = ends.map(Math.abs).sort((a, b) => a - b);
  const usual = sizes[Math.floor(sizes.length / 2)];
  const limit = Math.max(4 * usual, sizes[0]);
  const low = Math.max(Math.min(0, ends[0]), -limit);
  const high = Math.min(Math.max(0, ends.at(-1)), limit);
  const room = (high - low || 1) * 0.06;
  return { low: low - room, high: high + room };
}

const place = ({ low, high }, value) => EDGE + ((value - low) / (high - low)) * (WIDTH - 2 * EDGE);

/** Ticks above the rows. */
export function axis(found) {
  if (!found) return "";
  const marks = ticks(found.low, found.high, 3);
  const decimals = Math.min(2, Math.max(0, -Math.floor(Math.log10(100 * (marks[1] - marks[0] || 1)) + 1e-9)));
  return s("svg", { width: WIDTH, height: 16, class: "forest", "aria-hidden": "true" }, marks.map((mark) =>
    s("text", { class: "tick", x: place(found, mark), y: 12, "text-anchor": "middle" },
      mark === 0 ? "0" : percent(mark, { decimals, signed: true }))));
}

/** One row on a scale: an interval, the wider always-valid one, and the value between. */
export function row(found, { value, interval, outer, tone }) {
  if (!found || !interval) return h("span", { class: "soft" }, "n/a");
  const inside = (end) => Math.max(found.low, Math.min(found.high, end));
  const bar = ({ low, high }, shape) =>
    s("line", { class: shape, x1: place(found, inside(low)), x2: place(found, inside(high)), y1: 11, y2: 11 });
  return s("svg", { width: WIDTH, height: 22, class: `forest ${tone}`, "aria-hidden": "true" },
    s("line", { class: "zero", x1: place(found, 0), x2: place(found, 0), y1: 0, y2: 22 }),
    outer && bar(outer, "outer"),
    bar(interval, "inner"),
    interval.low < found.low && s("path", { class: "arrow", d: `M${EDGE - 8} 6L${EDGE - 14} 11L${EDGE - 8} 16Z` }),
    interval.high > found.high && s("path", { class: "arrow", d: `M${WIDTH - EDGE + 8} 6L${WIDTH - EDGE + 14} 11L${WIDTH - EDGE + 8} 16Z` }),
    value !== null && value >= found.low && value <= found.high
      && s("circle", { class: "point", cx: place(found, value), cy: 11, r: 4 }));
}
