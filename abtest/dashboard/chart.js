// A chart over days, drawn at the size it is shown in. Every day can be reached by keyboard.

import { h, s } from "./dom.js";
import { day } from "./format.js";

const TOP = 10;
const BOTTOM = 26;
const RIGHT = 14;

/** Round values that cut a range into about `wanted` parts. */
export function ticks(low, high, wanted = 5) {
  const rough = (high - low) / wanted || 1;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].map((part) => part * power).find((size) => size >= rough * 0.999);
  const found = [];
  for (let n = Math.ceil(low / step - 1e-9); n * step <= high + step * 1e-9; n++) found.push(n * step);
  return found;
}

/** What is shown of the values: all lines, and of the bands what is not far outside of them. */
export function range(series, zero) {
  const all = [];
  for (const { values, bands } of series) {
    all.push(...values.filter((value) => value !== null));
    for (const band of bands ?? []) {
      // The first days know little: their wide intervals would flatten all that comes later.
      const late = band.intervals.slice(Math.floor(band.intervals.length / 3));
      for (const interval of late) if (interval) all.push(interval.low, interval.high);
    }
  }
  if (zero) all.push(0);
  const [low, high] = [Math.min(...all), Math.max(...all)];
  const room = (high - low || Math.abs(high) || 1) * 0.06;
  return [low === 0 && !series.some((each) => each.bands) ? 0 : low - room, high + room];
}

function path(points) {
  return points.map(([x, y], n) => `${n ? "L" : "M"}${x.toFixed(1)} ${y.toFixed(1)}`).join("");
}

function bandPath(intervals, x, y) {
  const known = intervals.map((interval, n) => [interval, n]).filter(([interval]) => interval);
  const upper = known.map(([interval, n]) => [x(n), y(interval.high)]);
  const lower = known.map(([interval, n]) => [x(n), y(interval.low)]).reverse();
  return known.length ? `${path([...upper, ...lower])}Z` : "";
}

/**
 * A chart of lines with bands around them: `series` of {name, arm, values, bands: {kind, intervals}},
 * one value a day. `write(value, step)` writes levels of the axis, `tell(n)` lines about day `n`.
 */
export function lineChart({ id, label, days, series, write, tell, zero = false, height = 250 }) {
  const tip = h("div", { class: "tip", hidden: true, "aria-hidden": "true" });
  const box = h("div", { class: "chart", style: { height: `${height}px` } }, tip);
  let drawn = null;
  let last = days.length - 1; // the one point in the order of tabs; arrows move it
  const draw = (width) => {
    const again = box.contains(document.activeElement);
    drawn?.remove();
    const point = (n) => { last = n; };
    drawn = picture({ id, label, days, series, write, tell, zero, width, height, tip, last, point });
    box.prepend(drawn);
    if (again) drawn.querySelector('[tabindex="0"]')?.focus();
  };
  new ResizeObserver(([entry]) => {
    const width = Math.floor(entry.contentRect.width);
    if (width > 0 && drawn?.getAttribute("width") !== String(width)) draw(width);
  }).observe(box);
  return box;
}

function picture({ id, label, days, series, write, tell, zero, width, height, tip, last, point }) {
  const [low, high] = range(series, zero);
  const levels = ticks(low, high);
  const step = levels.length > 1 ? levels[1] - levels[0] : high - low;
  const left = 12 + 6.6 * Math.max(...levels.map((level) => write(level, step).length));
  const inner = Math.max(10, width - left - RIGHT);
  const x = (n) => left + (days.length > 1 ? (n / (days.length - 1)) * inner : inner / 2);
  const y = (value) => TOP + ((high - value) / (high - low)) * (height - TOP - BOTTOM);
  const frame = s("svg", { width, height, role: "group", "aria-label": label });
  frame.append(
    s("clipPath", { id: `${id}-clip` },
      s("rect", { x: left - 4, y: TOP, width: inner + 8, height: height - TOP - BOTTOM })),
    ...levels.flatMap((level) => [
      s("line", { class: "grid", x1: left, x2: width - RIGHT, y1: y(level), y2: y(level) }),
      s("text", { class: "tick", x: left - 8, y: y(level) + 4, "text-anchor": "end" }, write(level, step)),
    ]),
    ...dayTicks(days, inner, x, height),
  );
  if (zero && low < 0 && high > 0) {
    frame.append(s("line", { class: "zero", x1: left, x2: width - RIGHT, y1: y(0), y2: y(0) }));
  }
  const lines = s("g", { "clip-path": `url(#${id}-clip)` });
  for (const { values, bands, arm } of series) {
    for (const { kind, intervals } of bands ?? []) {
      lines.append(s("path", { class: `band ${kind} arm-${arm}`, d: bandPath(intervals, x, y) }));
    }
    const known = values.map((value, n) => [value, n]).filter(([value]) => value !== null);
    lines.append(s("path", { class: `line arm-${arm}`, d: path(known.map(([value, n]) => [x(n), y(value)])) }));
    const [value, n] = known.at(-1) ?? [];
    if (n !== undefined) lines.append(s("circle", { class: `dot arm-${arm}`, cx: x(n), cy: y(value), r: 3.5 }));
  }
  frame.append(lines, stops({ id, days, series, x, y, inner, left, height, width, tip, tell, last, point }));
  return frame;
}

function dayTicks(days, inner, x, height) {
  const every = Math.max(1, Math.ceil(days.length / Math.max(2, Math.floor(inner / 68))));
  return days.map((text, n) =>
    // counted from the newest, which is the one people look for
    (days.length - 1 - n) % every ? null
      : s("text", { class: "tick", x: x(n), y: height - 6, "text-anchor": n === days.length - 1 && n ? "end" : "middle" }, day(text)),
  ).filter(Boolean);
}

/** One stop a day for mouse, finger and keyboard. */
function stops({ id, days, series, x, y, inner, left, height, width, tip, tell, last, point }) {
  const group = s("g", null);
  const step = days.length > 1 ? inner / (days.length - 1) : inner;
  const show = (n) => {
    tip.replaceChildren(h("b", null, day(days[n])), ...tell(n).map((line) => h("span", null, line)));
    tip.hidden = false;
    const wide = tip.offsetWidth;
    const near = x(n) + 14 + wide > width ? x(n) - 14 - wide : x(n) + 14;
    tip.style.left = `${Math.max(0, Math.min(near, width - wide))}px`;
    tip.style.top = `${TOP}px`;
  };
  const hide = () => { tip.hidden = true; };
  const move = (n) => {
    const next = group.children[Math.max(0, Math.min(days.length - 1, n))];
    group.children[last].setAttribute("tabindex", "-1");
    next.setAttribute("tabindex", "0");
    next.focus();
  };
  const keys = { ArrowLeft: -1, ArrowRight: 1, PageUp: -7, PageDown: 7, Home: -Infinity, End: Infinity };
  days.forEach((text, n) => {
    const from = Math.max(left - 4, x(n) - step / 2);
    group.append(
      s("g", {
        id: `${id}-${n}`, class: "stop", tabindex: n === last ? "0" : "-1", role: "img",
        "aria-label": `${day(text)}: ${tell(n).join(", ")}`,
        onpointerenter: () => show(n),
        onpointerleave: hide,
        onfocus: () => { last = n; point(n); show(n); },
        onblur: hide,
        onkeydown: (event) => {
          if (event.key === "Escape") hide();
          if (!(event.key in keys)) return;
          event.preventDefault();
          move(Math.max(0, Math.min(days.length - 1, n + keys[event.key])));
        },
      },
      s("rect", { class: "hit", x: from, y: TOP, width: Math.max(1, Math.min(step, width - RIGHT + 4 - from)), height: height - TOP - BOTTOM }),
      s("line", { class: "hair", x1: x(n), x2: x(n), y1: TOP, y2: height - BOTTOM }),
      series.filter(({ values }) => values[n] !== null).map(({ values, arm }) =>
        s("circle", { class: `mark arm-${arm}`, cx: x(n), cy: y(values[n]), r: 4 }))),
    );
  });
  return group;
}

/** What the colours of a chart mean. */
export function legend(entries) {
  return h("ul", { class: "legend" }, entries.map(({ name, arm, kind }) =>
    h("li", null, h("span", { class: `swatch ${kind ?? "solid"} arm-${arm}`, "aria-hidden": "true" }), name)));
}
