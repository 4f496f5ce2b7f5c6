// The page: which of its views is shown, kept up to date, and what is said when that fails.

import { key, get } from "./api.js";
import { announce, h, redraw } from "./dom.js";
import { openChanges } from "./changes.js";
import { openExperiment } from "./experiment.js";
import { openExperiments } from "./experiments.js";
import { openTraffic } from "./traffic.js";
import { forbidden, signIn } from "./sign_in.js";

const REFRESH_MS = 5000;
const SLOW_MS = 30_000;
/** After an answer that was none. */

const main = document.getElementById("main");
const trouble = document.getElementById("trouble");
let current = null;

function route() {
  const [page = "", name] = location.hash.replace(/^#\/?/, "").split("/").map(decodeURIComponent);
  if (page === "experiments" && name) return { page: "experiments", open: openExperiment, name };
  if (page === "traffic") return { page, open: openTraffic };
  if (page === "changes") return { page, open: openChanges };
  return { page: "experiments", open: openExperiments };
}

function markPage(page) {
  for (const link of document.querySelectorAll("nav a")) {
    if (link.dataset.page === page) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
}

function complain(text) {
  trouble.textContent = text;
  trouble.hidden = !text;
}

/** One visit of a view: loads, draws, and comes back until another begins. */
class Visit {
  constructor(here) {
    this.here = here;
    this.view = null;
    this.shown = null;
    this.timer = 0;
    this.ended = false;
  }

  async load({ moved = false } = {}) {
    clearTimeout(this.timer);
    let next = REFRESH_MS;
    try {
      this.view ??= this.here.open({
        name: this.here.name,
        caller: showCaller(await get("/v1/caller")),
        refresh: () => this.load(),
      });
      const data = await this.view.load();
      if (this.ended) return;
      complain("");
      this.draw(data, moved);
    } catch (problem) {
      if (this.ended || !this.fail(problem)) return;
      next = problem.status === 429 ? SLOW_MS : REFRESH_MS;
    }
    this.timer = setTimeout(() => this.again(), next);
  }

  again() {
    if (document.hidden) this.timer = setTimeout(() => this.again(), 1000);
    else this.load();
  }

  draw(data, moved) {
    const text = JSON.stringify(data);
    if (text === this.shown) return;
    const first = this.shown === null;
    this.shown = text;
    redraw(main, this.view.draw(data));
    const heading = main.querySelector("h1");
    document.title = `${heading?.textContent ?? "Experiments"} · Cascade`;
    if (first && moved) {
      window.scrollTo(0, 0);
      heading?.setAttribute("tabindex", "-1");
      heading?.focus({ preventScroll: true });
    }
    if (!first) announce(this.view.news?.(data) ?? "The page was brought up to date.");
  }

  /** Say what went wrong; whether to try again. */
  fail(problem) {
    if (!("status" in problem)) {
      complain(`This view could not be drawn: ${problem.message}. The command line shows the same numbers.`);
      throw problem;
    }
    if (problem.status === 401 || problem.status === 403) {
      this.end();
      const asked = { detail: problem.message, again: () => start(true) };
      redraw(main, problem.status === 401 ? signIn({ ...asked, had: key.get() !== null }) : forbidden(asked));
      return false;
    }
    const kept = this.shown === null ? "" : " What is shown is from before.";
    complain(`${problem.message}${kept} Trying again in a few seconds.`);
    return true;
  }

  end() {
    this.ended = true;
    clearTimeout(this.timer);
    this.view?.close?.();
  }
}

function showCaller(caller) {
  const may = caller.scopes.includes("admin");
  document.getElementById("caller").textContent = caller.secured ? `${caller.name}${may ? "" : " · read only"}` : "";
  document.getElementById("forget").hidden = !caller.secured;
  return { ...caller, may };
}

function start(moved) {
  current?.end();
  const here = route();
  markPage(here.page);
  current = new Visit(here);
  current.load({ moved });
}

document.getElementById("forget").addEventListener("click", () => {
  key.forget();
  document.getElementById("forget").hidden = true;
  document.getElementById("caller").textContent = "";
  start(true);
});
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault();
  main.focus();
});
window.addEventListener("hashchange", () => {
  redraw(main, h("p", { class: "soft loading" }, "Loading…"));
  start(true);
});
start(false);
