// Events as they come in, asked for every two seconds while they can be seen.

import { get } from "./api.js";
import { card, h } from "./dom.js";
import { clock, number } from "./format.js";

const EVERY_MS = 2000;
const SHOWN = 50;
const WORDS = { ranking: "answered", impression: "saw", click: "clicked", conversion: "bought" };

/** A card that goes on by itself until it is closed. */
export function feed(name, may) {
  const rows = h("tbody");
  const note = h("p", { class: "soft small", id: "feed-note" });
  const node = card("Live events", { class: "flush", lead: may ? "What comes in now, newest first." : null },
    may ? [
      h("div", { class: "scroll feed", tabindex: "0", role: "region", "aria-label": "Live events" },
        h("table", { "aria-describedby": "feed-note" },
          h("caption", { class: "sr" }, "Newest events of this experiment"),
          h("thead", null, h("tr", null, ["Time", "Unit", "What", "Variant", "Item", "Detail"].map((title) => h("th", { scope: "col" }, title)))),
          rows)),
      note,
    ] : h("p", { class: "empty soft" }, "Events name users, so they are shown to keys with the scope ", h("code", null, "admin"), " only."));
  const seen = new Map();
  let timer = 0;
  let near = true;
  const watch = new IntersectionObserver(([entry]) => { near = entry.isIntersecting; }, { rootMargin: "200px" });
  const look = async () => {
    if (near && !document.hidden) {
      try {
        const found = await get(`/v1/events/recent?experiment=${encodeURIComponent(name)}&limit=${SHOWN}`);
        for (const event of found.events) seen.set(event.event_id, event);
        const newest = [...seen.values()].sort((a, b) => b.ingest_ts_us - a.ingest_ts_us).slice(0, SHOWN);
        seen.clear();
        for (const event of newest) seen.set(event.event_id, event);
        rows.replaceChildren(...newest.map(line));
        note.textContent = newest.length ? "Since this page was opened."
          : "Nothing since events were last archived. They appear here as they come in.";
      } catch (problem) {
        note.textContent = problem.message;
      }
    }
    timer = setTimeout(look, EVERY_MS);
  };
  if (may) {
    watch.observe(node);
    look();
  }
  return { node, close: () => { clearTimeout(timer); watch.disconnect(); } };
}

function line(event) {
  return h("tr", { class: event.type },
    h("td", { class: "tabular soft" }, clock(event.ingest_ts_us / 1000)),
    h("th", { scope: "row" }, event.unit),
    h("td", null, event.refund_of ? "gave back" : WORDS[event.type] ?? event.type),
    h("td", null, event.variant, event.forced && h("span", { class: "soft" }, " forced")),
    h("td", null, event.item_id === null ? "" : `${event.item_id} at ${event.position}`),
    h("td", { class: "tabular" }, detail(event)));
}

function detail(event) {
  if (event.type === "conversion") return `${number(event.revenue_micros / 1e6, 2)} ${event.currency}`;
  if (event.type !== "ranking") return "";
  const degraded = event.degraded.length ? ` · ${event.degraded.join(", ")}` : "";
  return `${event.items} items in ${number(event.latency_us / 1000, 1)} ms${degraded}`;
}
