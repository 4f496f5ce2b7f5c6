// Numbers, money and times as people read them.

const MINUS = "\u2212";
const THIN = "\u202f";

/** A number with so many decimals, grouped, with a real minus sign. */
export function number(value, decimals = 0, signed = false) {
  const text = Math.abs(value).toLocaleString("en", {
    minimumFractionDigits: decimals,
    maximumFractionDigits: decimals,
  });
  const zero = Number(Math.abs(value).toFixed(decimals)) === 0;
  if (zero) return text;
  return (value < 0 ? MINUS : signed ? "+" : "") + text;
}

export function percent(share, { decimals = 2, signed = false } = {}) {
  return `${number(100 * share, decimals, signed)}${THIN}%`;
}

/** A share of traffic: no more decimals than it needs. */
export function part(share) {
  const shown = 100 * share;
  return percent(share, { decimals: Number.isInteger(Math.round(shown * 100) / 100) ? 0 : shown < 1 ? 2 : 1 });
}

/** Decimals that show a step of this size. */
function decimalsFor(size) {
  if (!(size > 0)) return 2;
  return Math.min(6, Math.max(0, 1 - Math.floor(Math.log10(size))));
}

/**
 * Writes values and changes of a metric. `beside` are amounts whose size sets the decimals of money;
 * others have those that show an interval of `width`.
 */
export function writer(metric, currency, beside = [], width = 0) {
  const sizes = beside.map(Math.abs).filter((value) => value > 0);
  const largest = sizes.length ? Math.max(...sizes) : 1;
  if (metric.format === "share") {
    const decimals = Math.max(1, Math.min(4, decimalsFor((width || largest / 10) * 100)));
    return {
      value: (value) => percent(value, { decimals }),
      change: (value) => `${number(100 * value, decimals, true)}${THIN}pp`,
    };
  }
  const decimals = metric.format === "money" ? (largest < 1 ? 4 : 2) : Math.min(4, decimalsFor(width || largest / 10));
  const unit = metric.format === "money" ? (currency ?? "") : metric.format === "ms" ? "ms" : "";
  const after = unit ? `${THIN}${unit}` : "";
  return {
    value: (value) => number(value, decimals) + after,
    change: (value) => number(value, decimals, true) + after,
  };
}

/** Writes the levels of an axis that are `step` apart, with no more decimals than that needs. */
export function axisWriter(metric, signed) {
  const factor = metric.format === "share" ? 100 : 1;
  return (value, step) => {
    let decimals = 0;
    while (decimals < 6 && Math.abs(factor * step * 10 ** decimals - Math.round(factor * step * 10 ** decimals)) > 1e-6) decimals++;
    return number(factor * value, decimals, signed) + (factor === 100 ? THIN + (signed ? "pp" : "%") : "");
  };
}

export function ends(interval, write) {
  return interval ? `${write(interval.low)} to ${write(interval.high)}` : "n/a";
}

export function pValue(p) {
  if (p === null || p === undefined) return "n/a";
  return p >= 1e-4 ? p.toFixed(4) : p.toExponential(1).replace("-", MINUS);
}

export const count = (value) => number(value, 0);

/** A day, UTC: 5 Mar. */
export function day(text) {
  return new Date(text).toLocaleDateString("en-GB", { day: "numeric", month: "short", timeZone: "UTC" });
}

export function date(text) {
  return new Date(text).toLocaleDateString("en-GB", {
    day: "numeric", month: "short", year: "numeric", timeZone: "UTC",
  });
}

/** A moment in the reader's own time zone. */
export function moment(text) {
  return new Date(text).toLocaleString("en-GB", {
    day: "numeric", month: "short", year: "numeric", hour: "2-digit", minute: "2-digit",
  });
}

/** Time of day with seconds, in the reader's own time zone. */
export function clock(ms) {
  return new Date(ms).toLocaleTimeString("en-GB");
}

/** How long ago: "3 min ago". */
export function ago(text, now = Date.now()) {
  const seconds = Math.max(0, (now - new Date(text)) / 1000);
  const steps = [[60, 1, "s"], [3600, 60, "min"], [86_400, 3600, "h"], [Infinity, 86_400, "days"]];
  const [, size, unit] = steps.find(([below]) => seconds < below);
  const whole = Math.floor(seconds / size);
  return `${whole} ${unit === "days" && whole === 1 ? "day" : unit} ago`;
}
